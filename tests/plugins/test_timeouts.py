from __future__ import annotations

import pytest

from tests.plugins.loops import LOOPS

HANGING = """
import asyncio, contextlib, time, pytest

with contextlib.suppress(ImportError):
    import uvloop  # takes part of the limit otherwise

short = pytest.mark.timeout(0.5)

@short
async def test_waits_for_ever():
    await asyncio.Event().wait()

@short
async def test_keeps_the_loop_busy():
    while True:
        await asyncio.sleep(0)

@short
async def test_blocks_the_loop():
    asyncio.get_running_loop().call_soon(time.sleep, 60)
    await asyncio.Event().wait()

@short
def test_blocks():
    time.sleep(60)

async def test_next():
    pass
"""


def test_tests_that_hang_fail_at_their_time_limit(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["tests.plugins.loops", "tests.plugins.timeouts"]')
    pytester.makeini("""
        [pytest]
        asyncio_mode = auto
        asyncio_default_fixture_loop_scope = function
    """)
    pytester.makepyfile(HANGING)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=3 * LOOPS + 1, passed=LOOPS, skipped=4 * (2 - LOOPS))
    result.stdout.fnmatch_lines(["The time limit of this test is over*", "*in test_waits_for_ever*"])
