"""A value that is given to every command, and looked for in all that anybody could read of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.stored import Stored
from tests.cli.support import COMMAND
from tests.support import start_process

CANARY = "canary-e6b0-f00d"


def steps() -> Iterator[tuple[list[str], str]]:
    """Commands, and what they are given on standard input. Some of them fail."""
    yield ["secret", "create", "s", "KEY=-"], CANARY
    yield ["secret", "create", "s", "KEY=-"], CANARY
    yield ["secret", "create", "s", "KEY=-", "--force"], CANARY
    yield ["secret", "update", "s", "--from-json", "-"], f'{{"MORE": "{CANARY}"}}'
    yield ["secret", "update", "s", "--from-json", "-"], f'{{"MORE": {CANARY}}}'
    yield ["secret", "update", "s", "--from-dotenv", "-"], f"MORE='{CANARY}'"
    yield ["secret", "update", "s", "--from-dotenv", "-"], f"MORE='{CANARY}"
    yield ["secret", "update", "s", "KEY=-"], f"\0{CANARY}"
    yield ["proxy", "create", "p", "--gateway", "-"], f"http://user:{CANARY}@gateway"
    yield ["proxy", "create", "q", "--gateway", "-"], f"ftp://user:{CANARY}@gateway"
    for json in ([], ["--json"]):
        yield ["secret", "list", *json], ""
        yield ["secret", "info", "s", *json], ""
        yield ["secret", "history", "s", *json], ""
        yield ["secret", "audit", *json], ""
        yield ["proxy", "list", *json], ""
        yield ["proxy", "info", "p", *json], ""
        yield ["environment", "list", *json], ""
        yield ["config", "show", *json], ""
        yield ["config", "check", *json], ""
    yield ["secret", "rollback", "s", "1"], ""
    yield ["secret", "run", "--secret", "s", "--", "./missing"], ""
    yield ["secret", "run", "--secret", "s", "--", "true"], ""
    yield ["secret", "rotate-key"], ""
    yield ["secret", "delete", "s", "--yes"], ""


def test_no_output_error_log_or_file_has_it(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNNELKIT_LOG", "debug")
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    for arguments, text in steps():
        if "run" in arguments:  # which takes the place of its process
            done = stored.process(*arguments)
            output = (done.stdout + done.stderr).decode()
        else:
            output = stored.run(*arguments, stdin=text).output
        assert CANARY not in output, arguments
        assert "Traceback" not in output, arguments
        for path in files(stored.home.parent):
            assert CANARY.encode() not in path.read_bytes(), (arguments, path)


def files(directory: Path) -> Iterator[Path]:
    found = [path for path in directory.rglob("*") if path.is_file()]
    assert any(path.name == "store.db" for path in found)
    yield from found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="only proc(5) tells of arguments")
def test_no_process_has_it_in_its_arguments_while_a_command_runs(stored: Stored) -> None:
    stored.ok("secret", "create", "s", "KEY=-", stdin=CANARY)
    program = "echo ${#KEY} ready; exec sleep 60"
    with start_process(
        [*COMMAND, "secret", "run", "--secret", "s", "--", "sh", "-c", program], ready=f"^{len(CANARY)} ready"
    ):
        for process in Path("/proc").glob("[0-9]*"):
            if process.name != str(os.getpid()):
                try:
                    assert CANARY.encode() not in (process / "cmdline").read_bytes()
                except OSError:  # it has ended
                    continue
