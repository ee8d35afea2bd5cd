"""The black-box conformance suite of the storage API: protocol rules as tests, over HTTP or in process.

Against a running server: `pytest --pyargs syncstore.testing.api_suite --url http://127.0.0.1:5000
--secret S`. In process: a test module takes `suite()` into its own namespace, and overrides the fixture
`app_settings` after that. Each test names the section of the API or auth
document whose rule it proves ("section 7.1"; "auth section 6").
"""

from __future__ import annotations

import importlib
import pkgutil

_MODULES = sorted(module.name for module in pkgutil.iter_modules(__path__, f"{__name__}."))


def suite() -> dict[str, object]:
    """Every test class of the suite, and the fixtures that they use, by name: for the namespace of a test module."""
    from syncstore.testing.api_suite.fixtures import FIXTURES

    return {**_test_classes(), **FIXTURES}


def _test_classes() -> dict[str, type]:
    found: dict[str, type] = {}
    for name in _MODULES:
        if not name.rpartition(".")[2].startswith("test_"):
            continue
        module = importlib.import_module(name)
        for key, value in vars(module).items():
            if key.startswith("Test") and value.__module__ == name:
                if key in found:
                    raise RuntimeError(f"two classes of the suite are called {key}")
                found[key] = value
    return found
