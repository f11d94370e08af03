from __future__ import annotations

import sys

import pytest

from tests.plugins.loops import LOOPS

CONFTEST = 'pytest_plugins = ["tests.plugins.loops", "tests.plugins.leaks"]'

CONFIGURATION = """
    [pytest]
    asyncio_mode = auto
    asyncio_default_fixture_loop_scope = function
    filterwarnings = error
"""

CLEAN = """
import asyncio, socket, pytest
kept = []

async def test_everything_is_closed():
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)

@pytest.fixture
async def task():
    task = asyncio.create_task(asyncio.sleep(60))
    yield
    task.cancel()

async def test_a_fixture_ends_its_task(task):
    pass

@pytest.fixture(scope="module")
def descriptor():
    kept.append(socket.socket())
    yield
    kept.pop().close()

async def test_a_fixture_of_the_module_lives_on(descriptor):
    pass

@pytest.mark.keeps_descriptors
async def test_a_descriptor_outlives_a_marked_test():
    kept.append(socket.socket())

def test_synchronous_tests_are_not_looked_at():
    kept.append(socket.socket())
"""

LEAKING = """
import asyncio, os, socket, pytest
kept = []

async def test_a_socket_is_held():
    kept.append(socket.socket())

async def test_a_socket_is_forgotten_in_a_cycle():
    cycle = [socket.socket()]
    cycle.append(cycle)

async def test_a_descriptor_has_no_object():
    os.pipe()

@pytest.fixture
async def service():
    kept.append(socket.socket())

async def test_a_fixture_leaks(service):
    pass

async def test_a_task_is_left_running():
    kept.append(asyncio.create_task(asyncio.sleep(60), name="forgotten"))
"""

FAILING = """
import asyncio, socket
kept = []

async def test_it():
    kept.append(socket.socket())
    kept.append(asyncio.create_task(asyncio.sleep(60)))
    assert False
"""


def outcomes(pytester: pytest.Pytester, body: str) -> dict[str, int]:
    """What becomes of the tests in ``body``, the asynchronous ones on each of the two loops."""
    pytester.makeconftest(CONFTEST)
    pytester.makeini(CONFIGURATION)
    pytester.makepyfile(body)
    result = pytester.runpytest_subprocess().parseoutcomes()
    result.pop("skipped", None)  # on uvloop, where there is none
    return result


def test_what_is_no_leak(pytester: pytest.Pytester) -> None:
    assert outcomes(pytester, CLEAN) == {"passed": 4 * LOOPS + 1}


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are looked at on Linux")
def test_what_is_a_leak(pytester: pytest.Pytester) -> None:
    assert outcomes(pytester, LEAKING) == {"passed": 5 * LOOPS, "errors": 5 * LOOPS}


def test_a_failed_test_is_not_accused_of_leaking_as_well(pytester: pytest.Pytester) -> None:
    assert outcomes(pytester, FAILING) == {"failed": LOOPS}
