"""Programs whose calls run on a Ray cluster: two nodes on this machine, with different labels."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functions import ray_cluster

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'tunnelkit[ray]'"
)

CANARY = "canary-5d1f0c"

BEGINNING = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
from tunnelkit import App, SchedulerPlacement
from tunnelkit.errors import TunnelkitError

app = App("tests")

def node():
    # A function's process is a child of Ray's worker, and that of the node's raylet, which tells its address.
    raylet = Path(f"/proc/{os.getppid()}/stat").read_text().rsplit(")", 1)[1].split()[1]
    words = Path(f"/proc/{raylet}/cmdline").read_bytes().decode().split("\\0")
    return next(word.split("=")[1] for word in words if word.startswith("--node_ip_address="))

zone = SchedulerPlacement.zone
"""


@contextlib.contextmanager
def cluster() -> Iterator[tuple[str, Path, subprocess.Popen[str]]]:
    directory = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a short path: Ray keeps sockets there
    command = [sys.executable, ray_cluster.__file__, directory]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address
        try:
            yield address, Path(directory), process
        finally:
            process.stdin.close()
            process.wait(20)
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[str, Path]]:
    with cluster() as (address, directory, _):
        yield address, directory


Run = Callable[..., subprocess.CompletedProcess[str]]


def run_with(tmp_path: Path, address: str, text: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "script.py"
    path.write_text(BEGINNING + textwrap.dedent(text))
    environment = {**os.environ, "TUNNELKIT_ENGINE": "ray", "RAY_ADDRESS": address, **variables}
    return subprocess.run(
        [sys.executable, path], env=environment, capture_output=True, text=True, timeout=50, check=False
    )


@pytest.fixture
def run(nodes: tuple[str, Path], tmp_path: Path) -> Run:
    return lambda text, **variables: run_with(tmp_path, nodes[0], text, **variables)


def test_preferred_zone_and_full_zone(run: Run) -> None:
    done = run("""
        @app.function(scheduler_placement=zone("us-east-1"))
        def america(seconds):
            time.sleep(seconds)
            return node()

        @app.function(scheduler_placement=zone("eu"))
        def europe():
            return node()

        @app.function(scheduler_placement=zone("mars"))
        def mars():
            return node()

        print(america.remote(0), europe.remote())
        first = america.spawn(2)
        time.sleep(0.5)
        print(america.remote(0), first.get())
        print(mars.remote() in ("127.0.0.2", "127.0.0.3"))
    """)
    assert done.stdout.splitlines() == ["127.0.0.3 127.0.0.2", "127.0.0.2 127.0.0.3", "True"], done.stderr
    assert done.stderr == ""


SAME = """
    class Secret:
        def reveal(self):
            return {"PASSWORD": "hunter2"}

    @app.function(secrets=Secret())
    def environment():
        print("in the function")
        return os.environ["PASSWORD"], [name for name in os.environ if "RAY" in name]

    @app.function()
    def fails():
        raise LookupError("gone")

    @app.function()
    def numbers():
        yield from range(100)

    @app.function()
    def dies():
        print("last words")
        os.kill(os.getpid(), 11)

    @app.function()
    def depth(n):
        return 1 + depth.remote(n - 1) if n else 0

    attempts = Path(__file__).parent / f"attempts-{os.environ.get('TUNNELKIT_ENGINE')}"

    @app.function(retries=2)
    def third_time():
        with attempts.open("a") as file:
            file.write("x")
        if len(attempts.read_text()) < 3:
            raise OSError("not yet")
        return "third"

    print(environment.remote())
    try:
        fails.remote()
    except LookupError as error:
        print(repr(error), "in fails" in str(error.__cause__))
    print(sum(numbers.remote()))
    try:
        dies.remote()
    except TunnelkitError as error:
        print(error, error.__cause__)
    print(depth.remote(5))
    print(third_time.remote())
"""


def test_the_same_program_here_and_there(run: Run) -> None:
    there, here = run(SAME), run(SAME, TUNNELKIT_ENGINE="local")
    assert there.stdout == here.stdout, there.stderr
    assert there.stderr == here.stderr == ""
    assert "environment | in the function\n('hunter2', [])\n" in there.stdout
    assert there.stdout.endswith("5\nthird\n")


def test_time_out_and_cancel(run: Run, tmp_path: Path) -> None:
    done = run("""
        pids = Path(__file__).parent / "pids"

        @app.function(timeout=1)
        def late():
            with pids.open("a") as file:
                print(os.getpid(), file=file)
            time.sleep(60)

        @app.function(timeout=50)
        def long():
            with pids.open("a") as file:
                print(os.getpid(), file=file)
            time.sleep(60)

        def caught(call):
            try:
                call()
            except TunnelkitError as error:
                print(error.code)

        caught(late.remote)
        call = long.spawn()
        while len(pids.read_text().split()) < 2:
            time.sleep(0.05)
        call.cancel()
        caught(call.get)
        end = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in pids.read_text().split()):
            assert time.monotonic() < end
            time.sleep(0.05)
    """)
    assert done.stdout.splitlines() == ["function_timeout", "call_cancelled"], done.stderr
    assert done.returncode == 0, done.stderr


def test_secrets_are_nowhere_in_the_clear(run: Run, nodes: tuple[str, Path]) -> None:
    done = run(
        """
        class Secret:
            def reveal(self):
                token = "-".join(("canary", "5d1f0c"))
                return {"TOKEN": token, "LONG": token * 9_000}

        @app.function(secrets=Secret())
        def fails(argument):
            raise ValueError(f"with {argument} and {os.environ['TOKEN']}")

        @app.function(secrets=Secret())
        def dies():
            print(os.environ["TOKEN"])
            os.kill(os.getpid(), 9)

        for call in (lambda: fails.remote(os.environ["X"]), dies.remote):
            try:
                call()
            except Exception as error:
                print(error)
        """,
        X="marker-of-the-argument",
    )
    assert f"with marker-of-the-argument and {CANARY}" in done.stdout, done.stderr
    files = [path for path in nodes[1].rglob("*") if path.is_file() and not path.is_symlink()]
    assert any("worker" in path.name for path in files)
    for path in files:
        data = path.read_bytes()
        assert CANARY.encode() not in data, path
        assert b"marker-of-the-argument" not in data, path


def test_a_proxy_is_refused_and_not_left_out(run: Run) -> None:
    done = run("""
        @app.function(proxy=SimpleNamespace(route=lambda: SimpleNamespace(ips=("192.0.2.1",), gateway=None)))
        def pinned():
            print("it ran")

        try:
            pinned.remote()
        except TunnelkitError as error:
            print(error)
    """)
    assert "cannot be pinned" in done.stdout, done.stderr
    assert "it ran" not in done.stdout


ONE_CALL = """
    @app.function()
    def pause():
        time.sleep(60)

    try:
        call = pause.spawn()
        print("up", flush=True)
        call.get()
    except TunnelkitError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"RAY_ADDRESS": "127.0.0.1:1"}, "There is no Ray cluster at 127.0.0.1:1. "),
        ({"RAY_ADDRESS": "ray://127.0.0.1:10001"}, "is the address of Ray's client server"),
        ({"RAY_ADDRESS": "nonsense"}, "RAY_ADDRESS=nonsense is no address. "),
        ({"TUNNELKIT_ENGINE": "rya"}, "TUNNELKIT_ENGINE=rya is no engine. Give local or ray [invalid]"),
    ],
)
def test_no_cluster(tmp_path: Path, variables: dict[str, str], expected: str) -> None:
    done = run_with(tmp_path, **{"address": "", "text": ONE_CALL, **variables})
    assert expected in done.stdout, done.stderr
    assert done.stderr == ""
    if "RAY_ADDRESS" in variables:
        assert "[cluster]" in done.stdout


def test_a_cluster_that_goes(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(BEGINNING + textwrap.dedent(ONE_CALL))
    with cluster() as (address, _, nodes):
        environment = {**os.environ, "TUNNELKIT_ENGINE": "ray", "RAY_ADDRESS": address}
        with subprocess.Popen(
            [sys.executable, path], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "up\n"
            assert nodes.stdin is not None
            nodes.stdin.close()
            out, _ = program.communicate(timeout=40)
    assert f"The Ray cluster at {address} has gone" in out or "is gone from the cluster" in out
    assert len(out.splitlines()) == 1
