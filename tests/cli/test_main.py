from __future__ import annotations

import shlex
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tests.cli.support import COMMAND, PATIENCE, Tunnelkit
from tunnelkit import __version__
from tunnelkit.cli.root import cli


def test_version(tunnelkit: Tunnelkit) -> None:
    assert tunnelkit.run("--version").stdout == f"tunnelkit {__version__}\n"


GROUPS = {
    "secret": "create list info update delete run history rollback rotate-key audit",
    "proxy": "create list info delete",
    "environment": "create list delete",
    "config": "show check",
}
SINGLE = ("http", "tcp", "serve", "demo", "completion")


def test_help_lists_every_command_with_an_example(tunnelkit: Tunnelkit) -> None:
    overview = tunnelkit.run("--help").stdout
    for command in (*SINGLE, *GROUPS):
        assert f"\n  {command} " in overview
        assert f"Example:\n    tunnelkit {command}" in tunnelkit.run(command, "--help").stdout


@pytest.mark.parametrize("group", GROUPS)
def test_the_help_of_a_group_lists_its_commands_with_an_example_each(group: str) -> None:
    overview = CliRunner().invoke(cli, [group, "--help"]).output
    for command in GROUPS[group].split():
        assert f"\n  {command} " in overview
        said = CliRunner().invoke(cli, [group, command, "--help"]).output
        assert f"Example:\n    tunnelkit {group} {command}" in said


@pytest.mark.parametrize("arguments", [["--help"], ["secret", "run", "--help"]], ids=" ".join)
def test_help_loads_nothing_that_is_slow_to_load(arguments: list[str]) -> None:
    program = f"""
import sys
from tunnelkit.cli import main
sys.argv[1:] = {arguments}
slow = "asyncio rich msgspec websockets ssl sqlite3 cryptography dotenv platformdirs".split()
try:
    main()
finally:
    print(sys.modules.keys() & slow, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"


def test_an_interrupt_while_modules_load_has_a_status_and_no_traceback() -> None:
    program = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
from tunnelkit.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_signal_that_a_background_job_ignores_stays_ignored() -> None:
    program = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
class Interrupting:
    def find_spec(self, name, *_):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
from tunnelkit.cli import main
sys.argv[1:] = ["--version"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_standard_streams_are_no_error(tunnelkit: Tunnelkit) -> None:
    command = shlex.join([*COMMAND, "demo"])
    shell = ["sh", "-c", f"exec {command} <&- >&- 2>&-"]
    assert subprocess.run(shell, cwd=tunnelkit.home, timeout=PATIENCE, check=False).returncode == 0


def test_an_unknown_command_is_a_usage_error(tunnelkit: Tunnelkit) -> None:
    done = tunnelkit.run("htp", "8000")
    assert done.returncode == 2
    assert "Did you mean" in done.stderr
    assert done.stdout == ""


def test_the_log_level_comes_from_the_environment(tunnelkit: Tunnelkit) -> None:
    with tunnelkit.start("tcp", "9", ready="is up for", env={"TUNNELKIT_LOG": "info"}) as child:
        assert "is up for" not in child.stdout


def test_a_log_level_that_does_not_exist_is_refused(tunnelkit: Tunnelkit) -> None:
    done = tunnelkit.run("tcp", "9", env={"TUNNELKIT_LOG": "loud"})
    assert done.returncode == 2
    assert "TUNNELKIT_LOG='loud'" in done.stderr
