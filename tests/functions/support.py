"""What tests of functions share."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


class Variables:
    """A secret that says what it is."""

    def __init__(self, **variables: str) -> None:
        self.variables = variables

    def reveal(self) -> dict[str, str]:
        return dict(self.variables)

    def __reduce__(self) -> str:
        raise AssertionError("A secret was pickled")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(happened: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextlib.contextmanager
def script(text: str, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text))
    command = [sys.executable, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()
