"""How much a client may send at once: the six limits of info/configuration, and their overrides per collection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from syncstore.errors import ConfigError


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits, all inclusive (sync-api section 12). Bytes of payloads are bytes of UTF-8."""

    OVERRIDABLE: ClassVar = ("max_record_payload_bytes", "max_post_bytes", "max_request_bytes")

    max_request_bytes: int
    max_record_payload_bytes: int
    max_post_records: int
    max_post_bytes: int
    max_total_records: int
    max_total_bytes: int
    collections: Mapping[str, Mapping[str, int]] = {}

    def of(self, collection: str) -> Limits:
        """The limits that hold for one collection."""
        override = self.collections.get(collection)
        return self if override is None else msgspec.structs.replace(self, **override)

    @property
    def largest_body(self) -> int:
        """The most bytes that a body of any collection may have."""
        return max([self.max_request_bytes, *(self.of(name).max_request_bytes for name in self.collections)])

    def check(self) -> None:
        """Raise ConfigError when limits contradict each other: a client could not follow them all."""
        self._check("limits")
        for name in self.collections:
            self.of(name)._check(f"limits.collections: {name}")

    def _check(self, where: str) -> None:
        if not self.max_request_bytes > self.max_post_bytes >= self.max_record_payload_bytes:
            raise ConfigError(
                f"{where}: max_request_bytes ({self.max_request_bytes}) must be greater than max_post_bytes "
                f"({self.max_post_bytes}), which must not be less than max_record_payload_bytes "
                f"({self.max_record_payload_bytes})"
            )
        if self.max_total_records < self.max_post_records or self.max_total_bytes < self.max_post_bytes:
            raise ConfigError(f"{where}: the limits of a batch (max_total_*) are less than those of a POST")
