"""Children are seen to be ready, and none is left behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import proc, processes
from benchmarks.model import BenchmarkError
from benchmarks.processes import Launcher, Process, free_address

# A child in a session of its own that outlives its parent, as an sshd's does.
ORPHAN = """
import os, signal, sys
if os.fork() == 0:
    os.setsid()
    print("orphan", os.getpid(), flush=True)
    signal.pause()
signal.pause()
"""

STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True: signal.pause()
"""

LISTENER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True: listener.accept()
"""


def test_expect_finds_a_line_of_either_output() -> None:
    with Launcher() as launch:
        script = "import sys; print('out 1', flush=True); print('err 2', file=sys.stderr); input()"
        child = launch.run(sys.executable, "-c", script)
        assert child.expect(r"^out (\d)$")[1] == "1"
        assert child.expect(r"^err (\d)$")[1] == "2"
        child.tell("")
        assert child.result(timeout=10) == "out 1\n"


def test_what_ends_early_is_reported_with_its_output() -> None:
    with Launcher() as launch:
        child = launch.run(sys.executable, "-c", "print('no such thing'); raise SystemExit(3)")
        with pytest.raises(BenchmarkError, match=r"exit status 3\)\nno such thing"):
            child.expect("ready")


def test_a_failed_result_is_an_error() -> None:
    with Launcher() as launch:
        child = launch.run(sys.executable, "-c", "raise SystemExit('broken')")
        with pytest.raises(BenchmarkError, match="broken"):
            child.result(timeout=10)


def test_a_result_that_does_not_come_is_an_error() -> None:
    with Launcher() as launch, pytest.raises(BenchmarkError, match="not done in 0 s"):
        launch.run("sleep", "60").result(timeout=0.1)


def test_a_program_that_is_not_there_is_an_error() -> None:
    with Launcher() as launch, pytest.raises(BenchmarkError, match="could not be started"):
        launch.run("no-such-program")


def test_listening_is_seen() -> None:
    with Launcher() as launch:
        address = free_address()
        launch.run(sys.executable, "-c", LISTENER, str(address.port)).expect_listening(address)


ANSWERER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        self.send_response(404 if Handler.asked == 1 else 200)
        self.end_headers()
        self.wfile.write(b"up" if Handler.asked > 2 else b"starting")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_good_answer_is_waited_for() -> None:
    with Launcher() as launch:
        address = free_address()
        child = launch.run(sys.executable, "-c", ANSWERER, str(address.port))
        child.expect_answer(address, "/status", containing="up")
        assert child.running


def test_an_answer_of_who_has_ended_is_not_waited_for() -> None:
    with Launcher() as launch, pytest.raises(BenchmarkError, match="no good answer"):
        launch.run(sys.executable, "-c", "raise SystemExit(1)").expect_answer(free_address())


def test_a_server_can_be_killed_and_started_again() -> None:
    with Launcher() as launch:
        address = free_address()

        def start() -> Process:
            server = launch.run(sys.executable, "-c", LISTENER, str(address.port))
            server.expect_listening(address)
            return server

        launch.serve(start)
        first = launch.pids()
        assert launch.server is not None
        launch.server.kill()
        assert launch.pids() == []
        launch.server.start_again()
        assert len(launch.pids()) == 1
        assert launch.pids() != first


def test_nothing_that_was_started_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.2)
    with Launcher() as launch:
        parent = launch.run(sys.executable, "-c", ORPHAN)
        orphan = int(parent.expect(r"^orphan (\d+)$")[1])
        stubborn = launch.run(sys.executable, "-c", STUBBORN)
        stubborn.expect("ready")
        started = [parent.pid, orphan, stubborn.pid]
        assert sorted(launch.pids()) == sorted(started)
    assert [pid for pid in started if proc.start_time(pid)] == []


def test_files_are_private_and_go_with_their_processes() -> None:
    with Launcher() as launch:
        path = Path(launch.write("token", "secret"))
        assert path.read_text() == "secret"
        assert path.stat().st_mode & 0o777 == 0o600
    assert not launch.directory.exists()
