"""``@pytest.mark.needs("nginx", "curl")``: skipped, by name, where a program is not installed."""

from __future__ import annotations

import pytest

from tests.support.programs import packages, program


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*programs): skipped where one is not installed")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            package = packages().get(name)
            if package is None:
                pytest.fail(f"{name} is not in tests/programs.txt", pytrace=False)
            try:
                program(name)
            except LookupError:
                pytest.skip(f"{name} is not installed: apt-get install {package}")
