"""What a run was measured on and with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.model import Peer
from benchmarks.processes import ROOT, find

TIMEOUT = 10.0  # seconds for a program to say its version

TOOLS = {
    "wrk": ("wrk", "--version"),
    "iperf3": ("iperf3", "--version"),
    "nginx": ("nginx", "-v"),
    "strace": ("strace", "--version"),
}

# The kernel's limits that loopback figures depend on.
SYSCTL = (
    "net/core/somaxconn",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv4/tcp_wmem",
)

_VERSION = re.compile(r"(?<![\d:])\d+\.\d+[\w.+~-]*")  # and not the seconds of a build's time


def about(peers: Iterable[Peer]) -> dict[str, Any]:
    """When, on what and with what a run is made: the description that belongs to its figures."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": describe(),
        "peers": {
            peer.name: {
                "about": peer.about,
                "security": peer.security,
                "version": version(peer.version) if peer.version else None,
            }
            for peer in peers
        },
    }


def describe() -> dict[str, Any]:
    """Cores, kernel, Python, event loop, limits and the versions of load and services."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _field("/proc/cpuinfo", "model name"),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "system": _field("/etc/os-release", "PRETTY_NAME", "=").strip('"'),
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "loop": _loop(),
        "load_average": os.getloadavg(),
        "limits": {name: _read(f"/proc/sys/{name}").split() for name in SYSCTL},
        "load_and_services": {name: version(command) for name, command in TOOLS.items()},
    }


def version(command: tuple[str, ...]) -> str:
    """The first thing like a version in what a command prints, or "unknown"."""
    path = find(command[0])
    if path is None:
        return "not installed"
    try:
        done = subprocess.run(
            [path, *command[1:]],
            capture_output=True,
            check=False,
            cwd=ROOT,
            text=True,
            timeout=TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    # Beyond its first lines a program talks of other things than itself.
    lines = (done.stdout + done.stderr).splitlines()[:3]
    match = _VERSION.search("\n".join(lines))
    return match[0] if match else "unknown"


def _loop() -> str:
    """The event loop that tunnelkit has here."""
    try:
        return f"uvloop {importlib.metadata.version('uvloop')}"
    except importlib.metadata.PackageNotFoundError:
        return "asyncio"


def _field(path: str, name: str, separator: str = ":") -> str:
    lines = (line.partition(separator) for line in _read(path).splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "unknown")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
