"""What a check ends in: all is well, or one sentence that says what to change."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """The outcome of one check. `subject` says what was looked at; `advice` is empty when that is well."""

    subject: str
    advice: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is nothing to change."""
        return not self.advice

    def __str__(self) -> str:
        """One line for a person.

        Parts of it may be a stranger's, such as the target of a redirect: what is no visible character becomes a
        question mark, so that it neither steers the terminal nor adds a line.
        """
        line = f"{self.subject}: {self.advice or 'ok'}"
        return "".join(character if character.isprintable() else "?" for character in line)
