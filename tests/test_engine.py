from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support import run, start_process
from tests.support.engines import (
    ROOT,
    accepts,
    ends,
    eventually,
    fetch,
    forget_settings,
    hello_server,
    is_running,
    program_of,
)
from tunnelkit import Relay, forward
from tunnelkit.engine import messages, process, program
from tunnelkit.engine.messages import Close, Closed, Create, Created, Failed, Idle, Log, Lost
from tunnelkit.engine.program import engine_pid
from tunnelkit.errors import EngineError


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_settings(monkeypatch, tmp_path)


@pytest.fixture
def service() -> Iterator[int]:
    with hello_server() as port:
        yield port


# --- the end of the program ---------------------------------------------------------------------


def test_the_engine_ends_with_the_program_that_closes_nothing() -> None:
    script = "tunnel = tunnelkit.Tunnel.create(); say(tunnel.port, engine_pid())"
    with start_process(program_of(script), ready=r"(\d+) (\d+)") as child:
        assert child.wait() == 0
        assert ends(int(child.ready[2]))
        assert not accepts("127.0.0.1", int(child.ready[1]))
        assert child.stderr == ""


def test_the_engine_ends_when_the_program_is_killed() -> None:
    """And so do the streams that are open at that moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = f"""
            url = tunnelkit.forward({server.getsockname()[1]})
            say(url.tunnel.port, engine_pid())
            time.sleep(60)
        """
        with start_process(program_of(script), ready=r"(\d+) (\d+)") as child:
            visitor = socket.create_connection(("127.0.0.1", int(child.ready[1])), 10)
            server.settimeout(10)
            service, _ = server.accept()
            with visitor, service:
                begun = time.monotonic()
                child.kill()
                for end in (visitor, service):
                    end.settimeout(10)
                    with contextlib.suppress(ConnectionResetError):
                        assert end.recv(1) == b""
                assert ends(int(child.ready[2]))
                assert time.monotonic() - begun < 1.0


def test_an_exception_ends_both() -> None:
    script = "tunnelkit.forward(9); say(engine_pid()); raise SystemExit(3)"
    with start_process(program_of(script), ready=r"(\d+)") as child:
        assert child.wait() == 3
        assert ends(int(child.ready[1]))


def test_ctrl_c_reaches_the_program_and_not_its_tunnels(service: int) -> None:
    script = f"""
        import urllib.request
        with tunnelkit.Tunnel.create(port={service}) as tunnel:
            try:
                say(engine_pid())
                time.sleep(60)
            except KeyboardInterrupt:
                time.sleep(0.1)
                say("after:", urllib.request.urlopen(tunnel.url).read().decode())
    """
    with start_process(program_of(script), ready=r"(\d+)") as child:
        os.killpg(child.pid, signal.SIGINT)
        assert child.wait() == 0
        assert "after: hello" in child.stdout
        assert ends(int(child.ready[1]))
        assert child.stderr == ""


def test_a_polite_request_to_end_is_for_the_program_alone(service: int) -> None:
    """A service manager signals every process of the service at once."""
    with forward(service) as url:
        engine = engine_pid()
        assert engine is not None
        os.kill(engine, signal.SIGINT)
        os.kill(engine, signal.SIGTERM)
        assert fetch(url.replace("tcp", "http")) == b"hello from /"
        assert is_running(engine)


def test_a_stopped_program_keeps_its_tunnels(service: int) -> None:
    script = f"say(tunnelkit.Tunnel.create(port={service}).url); time.sleep(60)"
    with start_process(program_of(script), ready=r"(http\S+)") as child:
        child.signal(signal.SIGSTOP)
        assert fetch(child.ready[1]) == b"hello from /"
        child.signal(signal.SIGCONT)


def test_a_busy_program_does_not_keep_visitors_waiting() -> None:
    """With the engine in a thread of the program, its GIL made the median 200 ms."""
    with hello_server() as service:
        script = f"""
            say(tunnelkit.Tunnel.create(port={service}).url)
            while True:
                os.stat("/")
        """
        with start_process(program_of(script), ready=r"(http\S+)") as child:
            times = []
            for _ in range(21):
                begun = time.monotonic()
                fetch(child.ready[1])
                times.append(time.monotonic() - begun)
            assert sorted(times)[10] < 0.1


# --- the end of the engine ----------------------------------------------------------------------


def test_when_the_engine_is_killed_tunnels_say_so_and_the_next_has_another(
    caplog: pytest.LogCaptureFixture, service: int
) -> None:
    url = forward(service)
    engine = engine_pid()
    assert engine is not None
    os.kill(engine, signal.SIGKILL)
    assert eventually(lambda: url.tunnel.closed)
    assert isinstance(url.tunnel.error, EngineError)
    assert "Killed" in str(url.tunnel.error)
    assert "engine process ended" in caplog.text
    url.close()
    with forward(service) as other:
        assert engine_pid() not in (None, engine)
        assert fetch(other.replace("tcp", "http")) == b"hello from /"


def test_what_waits_for_an_engine_that_dies_gets_the_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        relay = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        script = f"""
            try:
                tunnelkit.Tunnel.create(relay={relay!r})
            except tunnelkit.EngineError as error:
                say(error.code)
        """
        with start_process(program_of(script)) as child:
            silent.settimeout(10)
            connection, _ = silent.accept()
            with connection:
                for engine in children(child.pid):
                    os.kill(engine, signal.SIGKILL)
                assert child.wait() == 0
            assert child.stdout == "engine\n"


def children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = (line.split() for line in listed.stdout.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]


def test_an_engine_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    other = program.Program()
    create = Create(0, "tcp", "localhost:9", 5.0)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(EngineError, match=r"cannot be started.*nonexistent"):
        other.request(create)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EngineError, match="ended"):  # before it was asked, or after
        other.request(create).answer.result(10)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(EngineError, match="no Python interpreter"):
        other.request(create)


def test_an_engine_ends_when_it_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless something was asked for in the meantime: the program decides, under its lock."""
    other = program.Program()
    tunnel = other.request(Create(0, "tcp", "localhost:9", 5.0))
    engine, pid = other._engine, other.pid
    assert engine is not None
    assert pid is not None
    engine._received(Idle())
    tunnel.answer.result(10)
    assert other.pid == pid
    tunnel.close()
    engine._received(Idle())
    assert other.pid is None
    assert ends(pid)


# --- forks, threads, other processes ------------------------------------------------------------

FORK = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # fork in a program with threads
    tunnel = tunnelkit.Tunnel.create(port={port})
"""


def test_the_engine_belongs_to_the_parent_of_a_fork(service: int) -> None:
    script = (
        FORK.format(port=service)
        + """
    if not os.fork():
        tunnel.close()
        assert engine_pid() is None and not tunnel.closed
        with tunnelkit.Tunnel.create() as own:
            assert own.url != tunnel.url
            say("child", os.getpid(), engine_pid())
        sys.exit(0)
    parent = engine_pid()
    os.wait()
    import urllib.request
    say(urllib.request.urlopen(tunnel.url).read().decode(), engine_pid() == parent)
    """
    )
    with start_process(program_of(script), ready=r"child (\d+) (\d+)") as child:
        assert child.wait() == 0
        assert "hello from / True" in child.stdout
        assert child.stderr == ""
        assert ends(int(child.ready[2]))


def test_a_fork_that_lives_on_does_not_keep_the_engine(service: int) -> None:
    script = (
        FORK.format(port=service)
        + """
    if not os.fork():
        time.sleep(60)
    say(engine_pid())
    time.sleep(60)
    """
    )
    with start_process(program_of(script), ready=r"(\d+)") as child:
        child.kill()
        assert ends(int(child.ready[1]), 2 * process.PARENT_PERIOD + process.END_TIME)


def test_descriptors_that_native_code_leaks_do_not_keep_the_engine(service: int) -> None:
    script = (
        FORK.format(port=service)
        + """
    import ctypes
    if not ctypes.CDLL(None).fork():
        ctypes.CDLL(None).sleep(60)
    say(engine_pid())
    time.sleep(60)
    """
    )
    with start_process(program_of(script), ready=r"(\d+)") as child:
        child.kill()
        assert ends(int(child.ready[1]), 2 * process.PARENT_PERIOD + process.END_TIME)


def test_a_fork_while_others_create_is_safe(service: int) -> None:
    """No child inherits a socket pair half way: the engine ends with the program all the same."""
    script = (
        FORK.format(port=service)
        + """
    import threading
    tunnel.close()
    def create():
        for _ in range(20):
            tunnelkit.Tunnel.create().close()
    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        if not os.fork():
            os._exit(0 if engine_pid() is None else 1)
        assert os.wait()[1] == 0
    for thread in threads:
        thread.join()
    say("done", engine_pid())
    """
    )
    with start_process(program_of(script)) as child:
        assert child.wait(30) == 0
        assert ends(int(child.expect(r"done (\d+)")[1]))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_have_engines_of_their_own(
    tmp_path: Path, method: str, service: int
) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"""
import multiprocessing, sys, warnings
sys.path.append({str(ROOT)!r})
import tunnelkit
from tunnelkit.engine.program import engine_pid

def work(url):
    own = tunnelkit.forward({service})
    return url, str(own), engine_pid()

if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    tunnel = tunnelkit.forward({service})
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        url, own, engine = pool.apply(work, (tunnel,))
    assert type(url) is str and url == tunnel != own
    print(engine, engine_pid(), tunnel.tunnel.closed)
""")
    with start_process([sys.executable, script]) as child:
        assert child.wait(30) == 0, child
        theirs, ours, closed = child.stdout.split()
        assert theirs != ours
        assert closed == "False"
        assert ends(int(theirs))
        assert ends(int(ours))


def test_a_daemon_thread_may_be_creating_at_the_end() -> None:
    script = """
        import threading
        def create():
            while True:
                tunnelkit.forward(9)
        threading.Thread(target=create, daemon=True).start()
        while engine_pid() is None:
            time.sleep(0.01)
        say(engine_pid())
    """
    with start_process(program_of(script), ready=r"(\d+)") as child:
        assert child.wait() == 0
        assert ends(int(child.ready[1]))


# --- how it is started --------------------------------------------------------------------------


def test_modules_beside_the_program_are_not_the_engines(tmp_path: Path) -> None:
    """Neither those in the working directory nor those beside the script."""
    for name in ("secrets.py", "uvloop.py", "websockets.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module')")
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.append({str(ROOT)!r})\nimport tunnelkit; print(tunnelkit.forward(9))"
    )
    with start_process([sys.executable, script], cwd=tmp_path) as child:
        assert child.wait() == 0, child
        assert child.stdout.startswith("tcp://")


def test_it_starts_from_an_isolated_interpreter() -> None:
    with start_process(program_of("say(tunnelkit.forward(9))", "-I")) as child:
        assert child.wait() == 0, child


def test_it_starts_without_standard_streams(tmp_path: Path) -> None:
    script = 'url = tunnelkit.forward(9); open("url", "w").write(url)'
    closed = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *program_of(script)]
    with start_process(closed, cwd=tmp_path) as child:
        assert child.wait() == 0
        assert (tmp_path / "url").read_text().startswith("tcp://")


async def test_secrets_are_nowhere_to_be_seen(service: int) -> None:
    script = f"""
        tunnelkit.forward({service})
        for name in ("cmdline", "environ"):
            path = f"/proc/{{engine_pid()}}/{{name}}"
            if os.path.exists(path):
                assert b"hunter2" not in open(path, "rb").read(), name
        say("looked")
    """
    async with Relay(listen="127.0.0.1:0", tokens=["hunter2"]) as relay:
        env = {"TUNNELKIT_RELAY": relay.url, "TUNNELKIT_TOKEN": "hunter2", "TUNNELKIT_LOG": "debug"}
        done = await run(*program_of(script), env=env)
    assert (done.returncode, done.stdout) == (0, b"looked\n")
    assert b"engine: " in done.stderr
    assert b"hunter2" not in done.stderr


async def test_the_module_says_who_starts_it() -> None:
    done = await run(sys.executable, "-m", "tunnelkit.engine", cwd=ROOT)
    assert (done.returncode, done.stderr) == (
        1,
        b"Tunnel.create and forward start this by themselves.\n",
    )


# --- the engine's own ---------------------------------------------------------------------------


class Conversation:
    """An engine in this process, and the program's end of its socket pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, message: messages.FromProgram) -> None:
        self._writer.write(messages.encode(message))

    async def hear(self) -> messages.FromEngine:
        """The next message that is not for the log."""
        while True:
            line = await asyncio.wait_for(self._reader.readline(), 10)
            message = messages.decode_from_engine(line)
            if not isinstance(message, Log):
                return message


@asynccontextmanager
async def engine_here() -> AsyncIterator[Conversation]:
    ours, theirs = socket.socketpair()
    theirs_reader, theirs_writer = await asyncio.open_unix_connection(sock=theirs)
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    running = asyncio.ensure_future(process.EngineProcess(theirs_reader, theirs_writer).run())
    try:
        yield Conversation(reader, writer)
    finally:
        writer.close()
        await running
        theirs_writer.close()


def create(number: int, **options: str) -> Create:
    return Create(number, "http", "localhost:9", 10.0, **options)  # type: ignore[arg-type]


async def test_create_and_close_are_answered() -> None:
    async with engine_here() as program:
        program.say(create(1))
        answer = await program.hear()
        assert isinstance(answer, Created)
        assert answer.url == f"http://{answer.host}:{answer.port}"
        program.say(Close(1))
        assert await program.hear() == Closed(1)
        program.say(Close(1))
        assert await program.hear() == Closed(1)


async def test_close_ends_an_attempt_too() -> None:
    async with engine_here() as program:
        program.say(create(1))
        program.say(Close(1))
        answers = [await program.hear()]
        if isinstance(answers[0], Created):
            answers.append(await program.hear())
        assert answers[-1] == Closed(1)


async def test_failures_have_their_codes() -> None:
    async with engine_here() as program, Relay(listen="127.0.0.1:0", tokens=["right"]) as relay:
        for options, code in (
            ({"relay": "ws://127.0.0.1:1"}, "relay_unreachable"),
            ({"relay": relay.url, "token": "wrong"}, "auth_failed"),
            ({"relay": "no relay"}, "invalid"),
            ({"name": ".."}, "invalid_name"),
        ):
            program.say(create(1, **options))
            answer = await program.hear()
            assert isinstance(answer, Failed)
            assert answer.code == code
            assert await program.hear() == Closed(1)


async def test_a_defect_is_an_answer_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(process, "connected_agent", broken)
    async with engine_here() as program:
        program.say(create(1))
        answer = await program.hear()
        assert isinstance(answer, Failed)
        assert answer.code == "engine"
    assert "ZeroDivisionError" in caplog.text


async def test_one_relay_is_one_agent_for_as_long_as_it_has_tunnels(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "LINGER", 0.01)
    agents = 0
    started = process.connected_agent

    def counting(*arguments: object, **options: object) -> object:
        nonlocal agents
        agents += 1
        return started(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "connected_agent", counting)
    async with engine_here() as program:
        for number in (1, 2):
            program.say(create(number))
        assert all([isinstance(await program.hear(), Created) for _ in range(2)])
        assert agents == 1
        for number in (1, 2):
            program.say(Close(number))
        assert {await program.hear(), await program.hear()} == {Closed(1), Closed(2)}
        assert await program.hear() == Idle()
        program.say(create(3))
        assert isinstance(await program.hear(), Created)
        assert agents == 2


async def test_a_tunnel_that_is_taken_over_is_lost() -> None:
    async with engine_here() as first, engine_here() as second:
        async with Relay(listen="127.0.0.1:0", domain="tunnels.test") as relay:
            for program in (first, second):
                program.say(create(1, relay=relay.url, name="app"))
                assert isinstance(await program.hear(), Created)
            lost = await first.hear()
            assert isinstance(lost, Lost)
            assert lost.code == "replaced"
            assert await first.hear() == Closed(1)


async def test_a_service_that_is_not_there_is_not_said_with_every_visit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with engine_here() as program:
        program.say(create(1))
        answer = await program.hear()
        assert isinstance(answer, Created)
        for _ in range(3):
            with contextlib.suppress(OSError):
                await asyncio.to_thread(fetch, answer.url)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "localhost:9" in warnings[0].getMessage()


def test_the_token_is_in_no_message_that_is_shown() -> None:
    assert "hunter2" not in repr(create(1, token="hunter2"))


def test_the_programs_log_gets_what_the_engine_says(caplog: pytest.LogCaptureFixture) -> None:
    other = program.Program()
    tunnel = other.request(create(0))
    tunnel.answer.result(10)
    assert other._engine is not None
    other._engine._received(Log(logging.WARNING, "100% of it"))
    assert ("tunnelkit", logging.WARNING, "100% of it") in caplog.record_tuples
    other._at_exit()
    assert tunnel.closed
    assert tunnel.error is None
