"""One set-up of service and peer with a load before it, and the CPU time each of the three took."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import proc
from benchmarks.model import Address, Settings
from benchmarks.processes import Launcher

# The metric of cores that the rest of the machine kept busy.
OTHERS = "other_cores"

# Added to a load's own seconds: the peer's slowest answers, and a start on two busy cores.
PATIENCE = 30.0


def program(name: str, *arguments: str) -> list[str]:
    """The command of one of the harness's own programs."""
    return [sys.executable, "-m", f"benchmarks.programs.{name}", *arguments]


@dataclass(frozen=True, slots=True)
class Run:
    """What a load printed, and the CPU seconds that its running cost."""

    output: str
    seconds: float
    peer_cpu: float
    service_cpu: float
    load_cpu: float
    machine_cpu: float  # of all programs of the machine

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
    settings: Settings
    peer: Launcher
    service: Launcher
    load: Launcher

    def run(self, argv: Sequence[str], seconds: float) -> Run:
        """Run a load that takes ``seconds`` to its end."""
        before, started = self._clocks(), time.monotonic()
        output = self.load.run(*argv).result(seconds + PATIENCE)
        elapsed = time.monotonic() - started
        cpu = [now - then for now, then in zip(self._clocks(), before, strict=True)]
        return Run(output, elapsed, *cpu)

    def _clocks(self) -> tuple[float, float, float, float]:
        """CPU seconds of peer, service, load and machine so far.

        The load's are those of ended children: while it runs, nothing else of the harness ends.
        """
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (
            proc.cpu_seconds(self.peer.pids()),
            proc.cpu_seconds(self.service.pids()),
            ended.ru_utime + ended.ru_stime,
            proc.machine_cpu_seconds(),
        )
