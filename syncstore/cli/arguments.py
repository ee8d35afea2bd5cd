"""Numbers on the command line, checked where they are read, so that a wrong one is told like any wrong option."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 20 and lowest <= int(text) <= highest):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {lowest} to {highest}")
        return int(text)

    return parse


def seconds(lowest: float, highest: float) -> Callable[[str], float]:
    """The type of an option that takes a number of seconds."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not lowest <= number <= highest:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a number of seconds from {lowest:g} to {highest:g}"
            )
        return number

    return parse
