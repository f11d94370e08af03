"""``tunnelkit secret run``: another program takes the place of ours."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.stored import Stored
from tests.cli.support import COMMAND, PATIENCE
from tests.support import start_process
from tunnelkit.errors import NotFoundError

CANARY = "canary-3fe2"
RUN = ["secret", "run", "--secret", "s"]


@pytest.fixture
def secret(stored: Stored) -> Stored:
    stored.ok("secret", "create", "s", "USER=app", f"PASSWORD={CANARY}")
    return stored


@pytest.mark.parametrize("locale", [{}, {"LC_CTYPE": "C"}, {"LC_ALL": "C"}, {"LANG": "en_US.UTF-8"}])
def test_exactly_the_variables_of_the_secret_are_added(secret: Stored, locale: dict[str, str]) -> None:
    # Not by Python, which would show its own LC_CTYPE.
    given = {"PATH": os.environ["PATH"], "TUNNELKIT_HOME": str(secret.home), "USER": "me", **locale}
    done = secret.process(*RUN, "--", "/usr/bin/env", "-0", env=given)
    assert done.stderr == b""
    got = dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if line)
    assert got == {**given, "USER": "app", "PASSWORD": CANARY}


def test_the_last_of_several_secrets_wins(secret: Stored) -> None:
    secret.ok("environment", "create", "prod")
    secret.ok("secret", "create", "s", "A=1", "-e", "prod")
    secret.ok("secret", "create", "t", "A=2", "B=2", "-e", "prod")
    show = ["sh", "-c", "echo $A $B $USER"]
    env = {key: value for key, value in os.environ.items() if key != "USER"}
    done = secret.process("secret", "run", "--secret", "s", "--secret", "t", "-e", "prod", *show, env=env)
    assert done.stdout == b"2 2\n"


def test_streams_and_arguments_are_its_own(secret: Stored) -> None:
    program = 'read line; echo "$line" "$@"; echo $PASSWORD >&2'
    done = secret.process(*RUN, "--", "sh", "-c", program, "sh", "-e", "--", "a b", stdin=b"piped\nrest")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"piped -e -- a b\n", CANARY.encode() + b"\n")


def test_between_pipes(secret: Stored) -> None:
    run = shlex.join([*COMMAND, *RUN, "--"])
    shell = f"yes $(seq 1000) | {run} sh -c 'cat; exit 7' | head -1 | wc -w"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, timeout=PATIENCE, check=True)
    assert (done.stdout.split(), done.stderr) == ([b"1000"], b"")  # cat is ended by SIGPIPE, in silence


@pytest.mark.parametrize("status", [0, 1, 7, 126, 255])
def test_the_exit_status_is_the_commands_own(secret: Stored, status: int) -> None:
    assert secret.process(*RUN, "--", "sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize(
    ("command", "status", "code", "words"),
    [
        ("no-such-command", 127, "command_not_found", "PATH"),
        ("./missing", 127, "command_not_found", ""),
        ("./file/missing", 127, "command_not_found", ""),
        (".", 126, "command", "Permission denied"),
        ("./file", 126, "command", "Permission denied"),
        ("./text", 126, "command", "begins with #!"),
    ],
)
def test_a_command_that_does_not_start(
    secret: Stored, command: str, status: int, code: str, words: str
) -> None:
    Path("file").write_text("#!/bin/sh\n")
    Path("text").write_text("echo\n")
    Path("text").chmod(0o700)
    done = secret.process(*RUN, "--", command)
    line = done.stderr.decode()
    assert (done.returncode, done.stdout, line.count("\n")) == (status, b"", 1)
    assert line.startswith("error: ")
    assert line.endswith(f"[{code}]\n")
    assert words in line
    assert CANARY not in line


def test_a_secret_too_large_for_an_environment(secret: Stored) -> None:
    secret.ok("secret", "create", "large", "KEY=-", stdin="x" * 200_000)
    done = secret.process("secret", "run", "--secret", "large", "--", "true")
    assert (done.returncode, done.stderr.count(b"\n")) == (126, 1)
    assert b"128 kB a variable" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_command_alone(secret: Stored, number: signal.Signals) -> None:
    program = f"trap 'echo heard; exit 5' {number.value}; echo ready; while :; do sleep 0.05; done"
    with start_process([*COMMAND, *RUN, "--", "sh", "-c", program], ready="ready") as child:
        child.signal(number)
        assert child.wait() == 5
        assert child.stdout == "ready\nheard\n"
        assert child.stderr == ""


def test_a_signal_ends_it_as_it_would_any_program(secret: Stored) -> None:
    with start_process(
        [*COMMAND, *RUN, "--", "sh", "-c", "echo ready; exec sleep 60"], ready="ready"
    ) as child:
        child.signal(signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only proc(5) tells of signals")
@pytest.mark.parametrize("ignored", ["", "INT", "TERM"])
def test_signals_are_ignored_where_they_were(secret: Stored, ignored: str) -> None:
    ignore = f"trap '' {ignored}; " if ignored else "trap - INT TERM; "
    see = ["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"]
    directly = subprocess.run(["sh", "-c", ignore + shlex.join(see)], capture_output=True, check=True)
    run = shlex.join([*COMMAND, *RUN, "--", *see])
    ours = subprocess.run(["sh", "-c", ignore + run], capture_output=True, check=True)
    assert ours.stdout == directly.stdout


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="only proc(5) tells of arguments")
def test_the_command_has_our_place_no_descriptor_of_ours_and_no_value_in_its_arguments(
    secret: Stored,
) -> None:
    program = (
        "echo pid $$; ls -l /proc/$$/fd | wc -l; tr '\\0' ' ' </proc/$$/cmdline; echo; echo ready; read x"
    )
    reading, writing = os.pipe()
    with subprocess.Popen(
        [*COMMAND, *RUN, "--", "sh", "-c", program], stdin=reading, stdout=subprocess.PIPE, text=True
    ) as process:
        os.close(reading)
        assert process.stdout is not None
        lines = [line.strip() for line in iter(process.stdout.readline, "ready\n")]
        os.close(writing)
    assert lines[0] == f"pid {process.pid}"
    assert int(lines[1]) <= 5  # a heading, the standard streams, and one of the shell's own
    assert CANARY not in lines[2]


def test_nothing_is_run_where_one_secret_is_missing(secret: Stored) -> None:
    done = secret.process(*RUN, "--secret", "gone", "--", "touch", "ran")
    assert done.returncode == NotFoundError.exit_status
    assert not Path("ran").exists()


def test_its_use_is_noted(secret: Stored) -> None:
    secret.process(*RUN, "--", "true")
    newest = secret.told("secret", "audit", "--limit", "1")[0]
    assert (newest["action"], newest["name"], newest["keys"]) == ("use", "s", ["PASSWORD", "USER"])
