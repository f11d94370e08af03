"""The strongest way to pin a function's traffic that this machine allows, and why not a stronger one."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Final

from tunnelkit.engine.launch import interpreter
from tunnelkit.errors import InvalidError, ProxyUnavailable
from tunnelkit.functions.pin.kernel import numbers
from tunnelkit.functions.pin.pins import Pins
from tunnelkit.functions.pin.proof import Observer
from tunnelkit.functions.start import Route, popen

__all__ = ["EGRESS", "Supervised", "choose", "egress"]

EGRESS: Final = ("auto", "seccomp")
"""What ``egress=`` may be."""

ACTIONS = Path("/proc/sys/kernel/seccomp/actions_avail")

MAIN = (
    "from tunnelkit.functions.pin.process import Process; main = Process({pins!r}, {addresses!r}, {nonce!r})"
)


def egress(given: object) -> str:
    """``given``, if it is a way. Raises InvalidError."""
    if given not in EGRESS:
        raise InvalidError(f"There is no egress={given!r}", hint=f"Give one of {', '.join(EGRESS)}")
    return str(given)


class Supervised:
    """Starts one process under a seccomp filter, below a supervisor: see :mod:`supervisor`."""

    way = "seccomp"

    def __init__(self, ips: tuple[str, ...]) -> None:
        self._ips = ips
        self._observer = Observer(Pins.of(ips))

    def start(self, inherited: socket.socket) -> subprocess.Popen[bytes]:
        main = MAIN.format(pins=self._ips, addresses=self._observer.addresses, nonce=self._observer.nonce)
        return popen(interpreter(main, inherited.fileno()), inherited)

    def check(self) -> None:
        self._observer.check()

    def close(self) -> None:
        self._observer.close()


def choose(route: Route) -> Supervised:
    """What starts a process that leaves by ``route``. Raises ProxyUnavailable, which says why."""
    if not route.ips:
        raise ProxyUnavailable(
            "No way on this machine holds all traffic of a function to a gateway",
            hint="Give the proxy an address of this machine, or the function's clients the gateway's URL",
        )
    if reason := _no_seccomp():
        raise ProxyUnavailable(f"A function cannot be pinned here: {reason}", hint="See egress-pinning.md")
    return Supervised(tuple(route.ips))


def _no_seccomp() -> str:
    """Why there is no filter that asks, as far as can be known without trying."""
    if numbers() is None:
        return "this is no Linux on x86-64 or aarch64"
    try:
        actions = ACTIONS.read_text().split()
    except OSError:
        return ""  # hidden in some containers: trying shows it
    return "" if "user_notif" in actions else "the kernel has no seccomp user notification (Linux 5.0)"
