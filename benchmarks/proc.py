"""What Linux says about processes (proc(5)): families, CPU time, memory, descriptors."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")  # a second
PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
KIB = 1024


class Stat(NamedTuple):
    """The fields of ``/proc/PID/stat`` in use here."""

    state: str
    parent: int
    session: int
    cpu_ticks: int  # its own and those of its children that have been waited for
    system_ticks: int  # those of them that the kernel took
    start_time: int  # ticks since boot


class SocketUse(NamedTuple):
    """TCP sockets and their buffers of the whole machine."""

    sockets: int
    buffers: int  # bytes


def parse_stat(text: str) -> Stat:
    """Read ``/proc/PID/stat``; the second field, the name, may hold spaces and parentheses."""
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(
        state=fields[0],
        parent=int(fields[1]),
        session=int(fields[3]),
        cpu_ticks=sum(map(int, fields[11:15])),
        system_ticks=int(fields[12]) + int(fields[14]),
        start_time=int(fields[19]),
    )


def parse_pss(text: str) -> int:
    """The proportional set size in ``/proc/PID/smaps_rollup``, in bytes."""
    line = next(line for line in text.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) * KIB


def parse_sockstat(text: str) -> SocketUse:
    """The TCP line of ``/proc/net/sockstat``."""
    words = next(line for line in text.splitlines() if line.startswith("TCP:")).split()
    return SocketUse(
        sockets=int(words[words.index("alloc") + 1]),
        buffers=int(words[words.index("mem") + 1]) * PAGE,
    )


def parse_machine_cpu(text: str) -> float:
    """Seconds of the machine's cores spent on programs, or on another machine's, since boot.

    Interrupts are left out: they serve whoever is waiting.
    """
    fields = next(line for line in text.splitlines() if line.startswith("cpu ")).split()
    user, nice, system, _idle, _iowait, _irq, _softirq, steal = map(int, fields[1:9])
    return (user + nice + system + steal) / TICKS


def families(roots: Iterable[int], sessions: Iterable[int] = ()) -> list[int]:
    """``roots`` with all their descendants, and the members of ``sessions`` with theirs.

    A session outlives the process that led it, whose number may by then be another's.
    """
    stats = _all_stats()
    children = defaultdict(list)
    for pid, stat in stats.items():
        children[stat.parent].append(pid)
    leaders = set(sessions)
    waiting = [pid for pid in roots if pid in stats]
    waiting += [pid for pid, stat in stats.items() if stat.session in leaders and pid != stat.session]
    found: dict[int, None] = {}
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found[pid] = None
            waiting += children[pid]
    return list(found)


def start_time(pid: int) -> int | None:
    """When it started, in ticks since boot; None where it has ended."""
    stat = _stat(pid)
    return None if stat is None or stat.state in "ZX" else stat.start_time


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes and of their children that have ended."""
    stats = map(_stat, pids)
    return sum(stat.cpu_ticks for stat in stats if stat) / TICKS


def system_seconds(pids: Iterable[int]) -> float:
    """The kernel's part of ``cpu_seconds``."""
    stats = map(_stat, pids)
    return sum(stat.system_ticks for stat in stats if stat) / TICKS


def machine_cpu_seconds() -> float:
    return parse_machine_cpu((PROC / "stat").read_text())


def memory(pids: Iterable[int]) -> int:
    """Proportional set size (PSS) in bytes: a page that n processes share counts 1/n for each.

    Who has ended meanwhile has none.
    """
    return sum(map(_pss, pids))


def descriptors(pids: Iterable[int]) -> int:
    """Open file descriptors."""
    return sum(map(_descriptors, pids))


def socket_use() -> SocketUse:
    return parse_sockstat((PROC / "net" / "sockstat").read_text())


def _pss(pid: int) -> int:
    try:
        return parse_pss((PROC / str(pid) / "smaps_rollup").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _descriptors(pid: int) -> int:
    try:
        return sum(1 for _ in (PROC / str(pid) / "fd").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _stat(pid: int) -> Stat | None:
    try:
        return parse_stat((PROC / str(pid) / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def _all_stats() -> dict[int, Stat]:
    pids = [int(entry.name) for entry in os.scandir(PROC) if entry.name.isdecimal()]
    return {pid: stat for pid in pids if (stat := _stat(pid))}
