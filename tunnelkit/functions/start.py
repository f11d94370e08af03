"""How the process of a function is started: directly, or so that its traffic is pinned."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from typing import Protocol

from tunnelkit.engine.launch import interpreter

__all__ = ["Direct", "Launch", "Route", "base_environment", "popen"]

MAIN = "from tunnelkit.functions.child import main"

PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "VIRTUAL_ENV", "CONDA_PREFIX",
)  # fmt: skip
"""Of the program's own variables, and those that begin with ``LC_``: where programs, libraries and
certificates are, and which language to speak. All others may be somebody's secret."""


def base_environment() -> dict[str, str]:
    """What a function's process has before its secrets."""
    return {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("LC_")}


def popen(command: list[str], inherited: socket.socket) -> subprocess.Popen[bytes]:
    """Start ``command``, which inherits a socket, in a session of its own with its output in pipes."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=base_environment(),
        pass_fds=(inherited.fileno(),),
        start_new_session=True,  # Ctrl-C is the program's; and a group to end as a whole
    )


class Route(Protocol):
    """Where connections go out, as a proxy has it: one of the two is set."""

    @property
    def ips(self) -> Sequence[str]: ...

    @property
    def gateway(self) -> object: ...


class Launch(Protocol):
    """Starts one process."""

    way: str
    """How its traffic is pinned; empty: it is not."""

    def start(self, inherited: socket.socket) -> subprocess.Popen[bytes]:
        """Raises OSError."""

    def check(self) -> None:
        """The process says that it is pinned: is it? Raises ProxyUnavailable."""

    def close(self) -> None:
        """It has been looked at, or has ended."""


class Direct:
    """Starts a process that nothing is in the way of."""

    way = ""

    def start(self, inherited: socket.socket) -> subprocess.Popen[bytes]:
        return popen(interpreter(MAIN, inherited.fileno()), inherited)

    def check(self) -> None: ...

    def close(self) -> None: ...
