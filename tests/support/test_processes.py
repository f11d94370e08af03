from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.support import ChildError, free_port, free_port_range, run, start_process

LISTENER = """
import socket, sys, time
family, address = eval(sys.argv[1])
listener = socket.socket(family)
listener.bind(address)
listener.listen()
time.sleep(60)
"""


def python(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", program, *arguments]


def alive(pid: int) -> bool:
    """Whether it runs: a zombie that nobody has reaped yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_ready_is_the_match_on_either_output() -> None:
    program = "import sys, time; print('port 81', file=sys.stderr, flush=True); time.sleep(60)"
    with start_process(python(program), ready=r"port (\d+)") as child:
        assert child.ready[1] == "81"
        assert child.running
    assert not child.running


def test_outputs_are_kept_apart() -> None:
    program = "import sys; print('to read'); print('to know', file=sys.stderr)"
    with start_process(python(program)) as child:
        assert child.wait() == 0
        assert (child.stdout, child.stderr) == ("to read\n", "to know\n")


def test_ready_when_a_port_accepts() -> None:
    port = free_port()
    arguments = repr((int(socket.AF_INET), ("127.0.0.1", port)))
    with start_process(python(LISTENER, arguments), ready=port):
        socket.create_connection(("127.0.0.1", port)).close()


def test_ready_when_a_unix_socket_accepts(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    arguments = repr((int(socket.AF_UNIX), str(path)))
    with start_process(python(LISTENER, arguments), ready=path):
        assert path.is_socket()


def test_a_child_that_ends_before_it_is_ready_is_an_error_with_its_output() -> None:
    child = start_process(python("import sys; print('cannot bind'); sys.exit(3)"), ready="ready")
    with pytest.raises(ChildError, match=r"(?s)exit status 3.*cannot bind"):
        child.__enter__()


def test_a_child_that_does_not_get_ready_is_ended() -> None:
    child = start_process(python("import time; time.sleep(60)"), ready=free_port(), timeout=0.2)
    with pytest.raises(ChildError, match="does not accept"):
        child.__enter__()
    assert not child.running


def test_a_child_that_does_not_heed_sigterm_is_killed() -> None:
    program = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
    with start_process(python(program), ready="deaf", grace=0.1) as child:
        pass
    assert child.wait() == -signal.SIGKILL


def test_what_a_child_started_ends_with_it() -> None:
    program = """
import subprocess, time
print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
time.sleep(60)
"""
    with start_process(python(program), ready=r"^(\d+)$") as child:
        grandchild = int(child.ready[1])
        assert alive(grandchild)
    deadline = time.monotonic() + 5
    while alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(grandchild)


def test_a_failing_body_shows_the_output() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        with start_process(python("print('the reason')"), ready="reason"):
            _ = 1 / 0
    assert "the reason" in caught.value.__notes__[0]


async def test_children_of_coroutines_leave_the_loop_running() -> None:
    program = "import time; print('up', flush=True); time.sleep(0.05); print('done', flush=True)"
    async with start_process(python(program), ready="up") as child:
        await child.expect_async("done")
        assert await child.wait_async() == 0


async def test_run_returns_status_and_outputs() -> None:
    program = "import os, sys; print(os.environ['WORD'] + input()); sys.exit(4)"
    done = await run(*python(program), stdin=b"fish", env={"WORD": "sword"})
    assert (done.returncode, done.stdout) == (4, b"swordfish\n")


def test_free_port_ranges_are_in_a_row() -> None:
    ports = free_port_range(10)
    assert len(ports) == 10
    for port in ports:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
