"""The keys of what a request and a user may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from syncstore.settings import values
from syncstore.settings.setting import setting


@dataclass(frozen=True, kw_only=True)
class LimitsKeys:
    """The keys of what a request and a user may have."""

    max_request_bytes: int = setting(
        "limits.max_request_bytes", values.number(1), 2_625_536, "Bytes of a request's body."
    )
    max_record_payload_bytes: int = setting(
        "limits.max_record_payload_bytes", values.number(1), 2_621_440, "Bytes of one item's payload."
    )
    max_post_records: int = setting(
        "limits.max_post_records", values.number(1, 1000), 100, "Items in one POST."
    )
    max_post_bytes: int = setting(
        "limits.max_post_bytes", values.number(1), 2_621_440, "Bytes of payload in one POST."
    )
    max_total_records: int = setting(
        "limits.max_total_records", values.number(1), 10_000, "Items in one batch."
    )
    max_total_bytes: int = setting(
        "limits.max_total_bytes", values.number(1), 262_144_000, "Bytes of payload in one batch."
    )
    limits_of_collections: Mapping[str, Mapping[str, int]] = setting(
        "limits.collections",
        values.overrides,
        MappingProxyType({}),
        'Other limits for single collections, as JSON: `{"name": {"max_record_payload_bytes": 1000000}}`.',
    )
    quota: int | None = setting(
        "quota.bytes",
        values.optional_bytes,
        None,
        "Bytes of payload that a user may store; `off` for no quota.",
        shown="`off`",
    )
    batch_enabled: bool = setting(
        "batch.enabled", values.flag, True, "Whether clients may upload in batches."
    )
    batch_lifetime: int = setting(
        "batch.lifetime", values.number(1, 10**9), 7200, "Seconds after which an open batch is forgotten."
    )
