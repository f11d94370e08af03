from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def seen() -> list[str]:
    return []


async def test_asynchronous_tests_run_on_both_loops(seen: list[str], request: pytest.FixtureRequest) -> None:
    module = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    assert module == request.node.callspec.id
    seen.append(module)


def test_synchronous_tests_run_once(seen: list[str]) -> None:
    assert "synchronous" not in seen
    seen.append("synchronous")


@given(st.binary(max_size=4))
async def test_hypothesis_runs_on_both_loops(data: bytes) -> None:
    await asyncio.sleep(0)
    assert isinstance(asyncio.get_running_loop(), asyncio.AbstractEventLoop)


async def test_the_loop_is_not_in_debug_mode() -> None:
    assert not asyncio.get_running_loop().get_debug()


def test_without_uvloop_its_half_is_skipped(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.plugins.loops.find_spec", lambda _: None)
    pytester.makeconftest('pytest_plugins = ["tests.plugins.loops"]')
    pytester.makeini("""
        [pytest]
        asyncio_mode = auto
        asyncio_default_fixture_loop_scope = function
    """)
    pytester.makepyfile("async def test_it(): pass")
    assert pytester.runpytest().parseoutcomes() == {"passed": 1, "skipped": 1}
