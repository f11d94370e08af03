"""How a process of tunnelkit's own is started beside the program's: same interpreter, same tunnelkit."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from tunnelkit.errors import EngineError

__all__ = ["interpreter", "socket_pair"]

BOOT = (
    "import sys; root, *more = sys.argv[2:]; sys.path.insert(0, root); import tunnelkit; "
    "sys.path[:] = sys.path[1:] + more; {main}; main()"
)
"""The process has the very tunnelkit of the program, be it a checkout or a zip archive, and otherwise
looks in the places of the program last: a ``secrets.py`` beside a script is not meant for it."""


def interpreter(main: str, descriptor: int) -> list[str]:
    """The command that runs ``main`` (an import of it) in another interpreter, which has ``descriptor``.

    Raises EngineError where the program is no Python interpreter.
    """
    if getattr(sys, "frozen", False) or not sys.executable:
        raise EngineError(
            "This program is no Python interpreter that could run another",
            hint="Run tunnelkit.Agent, and tunnelkit.Relay, in an event loop of the program",
        )
    flags = {
        "-I": sys.flags.isolated,
        "-E": sys.flags.ignore_environment,
        "-s": sys.flags.no_user_site,
        "-S": sys.flags.no_site,
    }
    given = [flag for flag, on in flags.items() if on]
    root = str(Path(__file__).parents[2])
    places = [str(Path(entry).absolute()) for entry in (root, *sys.path)]
    return [sys.executable, *given, "-P", "-c", BOOT.format(main=main), str(descriptor), *places]


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, clear of the standard streams' descriptors, which a program may have closed."""
    import fcntl  # not everywhere, and neither are socket pairs that a process could inherit

    pair = socket.socketpair()
    ours, theirs = (fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, 3) for one in pair)
    for one in pair:
        one.close()
    return socket.socket(fileno=ours), socket.socket(fileno=theirs)
