"""A headless Chromium that looks at one page at a time, with a profile that is thrown away."""

from __future__ import annotations

import os
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from syncstore.testing.servers import find_program

_DEADLINE = 90.0
_OPTIONS = (
    "--headless",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--enable-logging=stderr",  # what a page complains about comes out there, marked CONSOLE
)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Look:
    """What was seen: the page's elements as text, what its console said, and a picture (PNG)."""

    dom: str
    console: list[str]
    picture: Path

    @property
    def corner(self) -> tuple[int, int, int]:
        """Red, green and blue of the picture's first pixel: the page's background."""
        content = self.picture.read_bytes()
        assert content.startswith(_SIGNATURE)
        data, at = b"", len(_SIGNATURE)
        while at < len(content):
            length = int.from_bytes(content[at : at + 4], "big")
            if content[at + 4 : at + 8] == b"IDAT":
                data += content[at + 8 : at + 8 + length]
            at += length + 12
        # The first byte names the row's filter; none of them changes the first pixel of the first row.
        red, green, blue = zlib.decompress(data)[1:4]
        return red, green, blue


def look(url: str, picture: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> Look:
    """Open `url` in a window of this size, in pixels, and take a picture. Raises ProgramMissing."""
    program = find_program("chromium", "chromium-browser", package="chromium")
    with tempfile.TemporaryDirectory(prefix="syncstore-chromium-", ignore_cleanup_errors=True) as profile:
        # fmt: off
        result = subprocess.run(
            [
                program, *_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else []), f"--user-data-dir={profile}",
                f"--window-size={width},{height}", f"--blink-settings=preferredColorScheme={0 if dark else 1}",
                f"--screenshot={picture}", "--dump-dom", url,
            ],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_DEADLINE, check=True,
            env={**os.environ, "HOME": profile, "no_proxy": "*"},
        )
        # fmt: on
    console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    return Look(result.stdout, console, picture)
