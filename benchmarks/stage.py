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

    def busy(self) -> dict[str, float]:
        """Cores kept busy by what is not under test: near 1, a load of one thread is the limit."""
        return {
            "load_cores": self.load_cpu / self.seconds,
            "service_cores": self.service_cpu / self.seconds,
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
        peer, service = self.peer.pids(), self.service.pids()
        before = proc.cpu_seconds(peer), proc.cpu_seconds(service), _load_cpu()
        started = time.monotonic()
        output = self.load.run(*argv).result(seconds + PATIENCE)
        return Run(
            output=output,
            seconds=time.monotonic() - started,
            peer_cpu=proc.cpu_seconds(self.peer.pids()) - before[0],
            service_cpu=proc.cpu_seconds(service) - before[1],
            load_cpu=_load_cpu() - before[2],
        )


def _load_cpu() -> float:
    """CPU seconds of ended children: while a load runs, nothing else of the harness ends."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
