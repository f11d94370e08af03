"""One set-up of service and peer with a load before it, and the CPU time each of the three took."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import proc
from benchmarks.model import Address, Peer, Settings
from benchmarks.processes import ROOT, Launcher

# The metric of cores that the rest of the machine kept busy.
OTHERS = "other_cores"

# Added to a load's own seconds: the peer's slowest answers, and a start on two busy cores.
PATIENCE = 30.0


def program(name: str, *arguments: str) -> list[str]:
    """The command of one of the harness's own programs."""
    return [sys.executable, "-m", f"benchmarks.programs.{name}", *arguments]


def busy_program(launch: Launcher, service: Address, *options: str) -> Address:
    """A Python program with a tunnel to ``service``; returns where visitors connect."""
    running = launch.run(*program("busy", str(service), *options), env={"PYTHONPATH": str(ROOT)})
    printed = running.expect(r"^(\S+):(\d+)$")
    return Address(printed[1], int(printed[2]))


@dataclass(frozen=True, slots=True)
class Run:
    """What a load printed, and the CPU seconds that its running cost."""

    output: str
    seconds: float
    peer_cpu: float
    peer_system: float  # the kernel's part of it
    service_cpu: float
    load_cpu: float
    machine_cpu: float  # of all programs of the machine

    def cost(self, units: float) -> dict[str, float]:
        """The peer's CPU µs a unit, and the kernel's part of them."""
        return {
            "cpu_us": self.peer_cpu / units * 1e6,
            "system_us": self.peer_system / units * 1e6,
        }

    def busy(self) -> dict[str, float]:
        """Cores kept busy by what is not under test: near 1, a load of one thread is the limit."""
        others = self.machine_cpu - self.peer_cpu - self.service_cpu - self.load_cpu
        return {
            "load_cores": self.load_cpu / self.seconds,
            "service_cores": self.service_cpu / self.seconds,
            OTHERS: max(0.0, others / self.seconds),
        }


@dataclass(frozen=True, slots=True)
class Stage:
    """What a scenario measures on. ``address`` is where visitors connect."""

    address: Address
    what: Peer
    settings: Settings
    peer: Launcher
    service: Launcher
    load: Launcher

    def run(self, argv: Sequence[str], seconds: float, halfway: Callable[[], None] | None = None) -> Run:
        """Run a load that takes ``seconds`` to its end, with a look at something in the middle."""
        before, started = self._clocks(), time.monotonic()
        load = self.load.run(*argv)
        if halfway:
            time.sleep(seconds / 2)
            halfway()
        output = load.result(seconds + PATIENCE)
        elapsed = time.monotonic() - started
        cpu = [now - then for now, then in zip(self._clocks(), before, strict=True)]
        return Run(output, elapsed, *cpu)

    def _clocks(self) -> tuple[float, ...]:
        """CPU seconds of peer, its part in the kernel, service, load and machine so far.

        The load's are those of ended children: while it runs, nothing else of the harness ends.
        """
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        peer = self.peer.pids()
        return (
            proc.cpu_seconds(peer),
            proc.system_seconds(peer),
            proc.cpu_seconds(self.service.pids()),
            ended.ru_utime + ended.ru_stime,
            proc.machine_cpu_seconds(),
        )
