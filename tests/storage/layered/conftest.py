"""Which of the many turns of the conformance suite the ordinary run takes; the others are left to the soak."""

from __future__ import annotations

import pytest

CHOSEN = {
    ("sqlite", "mixed"),
    ("sqlite", "cached only"),
    ("mysql", "written through"),
    ("postgresql", "cached only"),
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        spec = getattr(item, "callspec", None)
        turn = spec and (spec.params.get("database_url"), spec.params.get("kinds"))
        if turn and all(turn) and turn not in CHOSEN:
            item.add_marker(pytest.mark.soak)
