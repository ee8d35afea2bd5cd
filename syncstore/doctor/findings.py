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
        """One line for a person."""
        return f"{self.subject}: {self.advice or 'ok'}"
