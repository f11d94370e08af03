from __future__ import annotations

from collections.abc import Iterator

import pytest

from tunnelkit import App
from tunnelkit.functions.engine import close


@pytest.fixture(scope="package", autouse=True)
def _engine() -> Iterator[None]:
    """Processes stay warm from test to test, as from call to call."""
    yield
    close()


@pytest.fixture
def app() -> App:
    return App("tests")
