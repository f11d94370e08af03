from __future__ import annotations

import os
import pty
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SCRIPT = """
    import enum
    from pathlib import Path
    from typing import Literal, Optional

    import tunnelkit

    app = tunnelkit.App("script")

    class Color(enum.Enum):
        RED = 1
        BLUE = 2

    class Point:
        def __init__(self, x):
            self.x = x

    def helper(x):
        return Point(x * 2)

    @app.function()
    def work(n: int) -> int:
        print("working", n)
        point = helper(n)
        assert isinstance(point, Point)
        return point.x

    @app.local_entrypoint()
    def main(
        count: int,
        ratio: float = 0.5,
        dry_run: bool = False,
        names: Optional[list[str]] = None,
        kind: Literal["a", "b"] = "a",
        color: Color = Color.RED,
        where: Path = Path("."),
    ):
        '''Count things.'''
        print(count, ratio, dry_run, names, kind, color, repr(where), work.remote(count))

    @app.local_entrypoint()
    async def later():
        print(await work.remote.aio(4))

    @app.local_entrypoint()
    def fails():
        raise KeyError("boo")

    @app.function()
    def numbers(most: int):
        yield from range(most)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.py"
    path.write_text(textwrap.dedent(SCRIPT))
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tunnelkit", "run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_parameters_are_options_of_their_types(script: Path) -> None:
    done = run(
        f"{script}::main", "--count", "3", "--ratio", "1.5", "--dry-run", "--names", "x", "--names", "y",
        "--kind", "b", "--color", "BLUE", "--where", "/tmp",
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "work | working 3",
        "3 1.5 True ['x', 'y'] b Color.BLUE PosixPath('/tmp') 6",
    ]


def test_defaults_are_those_of_the_signature(script: Path) -> None:
    done = run(f"{script}::main", "--count", "3")
    assert done.stdout.splitlines()[-1] == "3 0.5 False [] a Color.RED PosixPath('.') 6"


def test_help_shows_the_entry_points_own_options(script: Path) -> None:
    done = run(f"{script}::main", "--help")
    assert "Count things." in done.stdout
    assert "--dry-run / --no-dry-run" in done.stdout
    assert done.returncode == 0


def test_a_coroutine_a_function_and_a_generator_are_entry_points_too(script: Path) -> None:
    assert run(f"{script}::later").stdout.splitlines() == ["work | working 4", "8"]
    assert run(f"{script}::work", "--n", "5").stdout.splitlines() == ["work | working 5", "10"]
    assert run(f"{script}::numbers", "--most", "3").stdout.split() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["{script}"], 30, "several entry points"),
        (["{script}::none"], 30, "no entry point none. It has"),
        (["{script}.py"], 30, "no script"),
        (["{script}::main", "--count", "x"], 2, "--count"),
        (["{script}::main"], 2, "--count"),
        (["{script}::main", "--count", "1", "--kind", "c"], 2, "--kind"),
        (["{script}::main", "--nonsense"], 2, "--nonsense"),
    ],
)
def test_what_cannot_be_run_is_an_error(script: Path, arguments: list[str], status: int, words: str) -> None:
    done = run(*(argument.format(script=script) for argument in arguments))
    assert words in done.stderr
    assert done.returncode == status
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\nimport no_such_module\n", "line 2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def broken(:\n", "line 1: SyntaxError"),
        ("import tunnelkit\napp = tunnelkit.App()\n", "has no entry point"),
        (
            "import tunnelkit\napp = tunnelkit.App()\n@app.local_entrypoint()\ndef main(x: dict): ...\n",
            "parameter x cannot be an option",
        ),
        ("import tunnelkit\ntunnelkit.App().function(secrets='x')\n", r"Secret.from_name('x')"),
    ],
)
def test_a_script_that_cannot_be_loaded_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    done = run(path)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.returncode not in (0, 1)


def test_an_exception_shows_the_scripts_own_lines(script: Path) -> None:
    done = run(f"{script}::fails")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert "KeyError: 'boo'" in done.stderr
    assert "tunnelkit/cli" not in done.stderr


def test_a_terminal_shows_the_calls_as_they_go(script: Path) -> None:
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "tunnelkit", "run", f"{script}::work", "--n", "1"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    try:
        while data := os.read(main, 4096):
            shown += data
    except OSError:
        pass  # the terminal's other end is closed: the process has ended
    finally:
        os.close(main)
        process.wait(30)
    assert b"work | working 1" in shown
    assert b"running" in shown
    assert process.returncode == 0
