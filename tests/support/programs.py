"""Programs that tests run, beside Python."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

TABLE = Path(__file__).parent.parent / "programs.txt"

# Where servers live, which is not on every user's path.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def program(name: str) -> str:
    """The full path of a program; the test is marked ``@pytest.mark.needs(name)``."""
    path = shutil.which(name, path=SEARCH_PATH)
    if path is None:
        raise LookupError(f"{name} is not installed; mark the test with needs({name!r})")
    return path


def packages() -> dict[str, str]:
    """The Debian package of each program that tests may need."""
    lines = (line.partition("#")[0].split() for line in TABLE.read_text().splitlines())
    return {line[0]: line[1] for line in lines if line}
