from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.functions.support import alive, script, until
from tunnelkit import App

pytestmark = pytest.mark.keeps_descriptors  # processes are kept warm


def test_a_fork_of_the_program_has_an_engine_of_its_own(app: App) -> None:
    @app.function()
    def where() -> int:
        return os.getppid()

    assert where.remote() == os.getpid()
    child = os.fork()
    if child == 0:
        from tunnelkit.functions.engine import close

        fine = where.remote() == os.getpid()
        close()
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_script_calls_at_its_top_level_without_a_guard(tmp_path: Path) -> None:
    text = """
        import tunnelkit as modal
        app = modal.App("pipeline")
        FACTOR = 3
        class Point:
            def __init__(self, x): self.x = x
        def helper(x): return Point(x * FACTOR)
        def make(app, name):
            @app.function()
            def pipeline(x): return name, helper(x)
            return pipeline
        one, other = make(app, "one"), make(app, "other")
        @app.function()
        def both(): return [f.remote(n)[0] for n, f in enumerate((one, other))]
        name, point = one.remote(5)
        print(name, isinstance(point, Point), point.x, both.remote())
        """
    with script(text, tmp_path) as (_process, output):
        assert output.read() == "one True 15 ['one', 'other']\n"


def test_processes_end_with_the_program_also_when_it_is_killed(tmp_path: Path) -> None:
    text = """
        import os, signal, subprocess, sys, tunnelkit
        app = tunnelkit.App()
        @app.function()
        def wait():
            sleeper = subprocess.Popen(["sleep", "600"])
            print(os.getpid(), sleeper.pid, flush=True)
            while True: pass
        wait.remote()
        """
    with script(text, tmp_path) as (process, output):
        pids = [int(word) for word in output.readline().split(" | ")[1].split()]
        process.kill()
        process.wait(10)
        for pid in pids:
            until(lambda pid=pid: not alive(pid))


def test_ctrl_c_ends_the_program_and_its_processes(tmp_path: Path) -> None:
    text = """
        import os, signal, tunnelkit
        app = tunnelkit.App()
        @app.function()
        def wait():
            print(os.getpid(), flush=True)
            signal.pause()
        wait.remote()
        """
    with script(text, tmp_path) as (process, output):
        pid = int(output.readline().split(" | ")[1])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT
        until(lambda: not alive(pid))
