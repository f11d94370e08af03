"""``python -m benchmarks``. Exit status: 0; 1 where ``--gate`` falls short or nothing could be
measured; 2 for a wrong call; 130 for an interrupted run."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TypeVar

from benchmarks import gate, machine, plots, proc, report, runner
from benchmarks.model import BenchmarkError, Peer, Scenario, Settings
from benchmarks.peers import PEERS
from benchmarks.scenarios import SCENARIOS

FULL = Settings()
QUICK = Settings(seconds=1, quick=True)

# The options that say how many of something there are.
COUNTS = {
    "streams": "idle streams",
    "agents": "idle agents",
    "tunnels": "tunnels at the end of the growth curve",
    "visitors": "visitors at the end of theirs",
}

Named = TypeVar("Named")

FAILED = 1
INTERRUPTED = 130  # as a shell reports a process that SIGINT ended


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    if sys.platform != "linux":
        print("benchmarks: needs Linux, for what /proc says of processes", file=sys.stderr)
        return FAILED
    scenarios = _select(SCENARIOS, options.scenario)
    peers = _select(PEERS, options.peer)
    if options.quick and not options.scenario:
        scenarios = [scenario for scenario in scenarios if scenario.quick]
    if options.quick and not options.peer:
        peers = [peer for peer in peers if peer.quick]
    left_out = [] if options.peer else [name for name, peer in PEERS.items() if peer not in peers]
    try:
        targets = gate.load() if options.gate else []
        if options.out:  # a run of an hour should not fail on its last line
            options.out.mkdir(parents=True, exist_ok=True)
    except (BenchmarkError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return FAILED
    settings = _settings(options)
    about = {**machine.about(peers), "left_out": left_out}

    def keep(results: runner.Results) -> None:
        if options.out:
            report.write(options.out, settings, about, results)

    results = _run(scenarios, peers, settings, keep)
    markdown = report.render(scenarios, peers, settings, about, results)
    print(markdown)
    if options.out:
        keep(results)
        (options.out / "results.md").write_text(markdown)
        _say(plots.write(options.out, scenarios, peers, results))
    if results.interrupted:
        return INTERRUPTED
    passed = not options.gate or _gate(targets, scenarios, peers, results, release=options.release)
    return 0 if passed and results.measured else FAILED


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure tunnelkit beside other tunnels and proxies, on this machine.",
        epilog=f"Scenarios: {', '.join(SCENARIOS)}. Peers: {', '.join(PEERS)}.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("scenario", nargs="*", type=_scenario, help="(all)")
    add("--peer", action="append", type=_peer, metavar="PEER", help="may be repeated (all)")
    add("--rounds", type=_count, metavar="N", help="(as many as each scenario says)")
    add(
        "--seconds",
        type=_count,
        metavar="S",
        help=f"a measurement ({FULL.seconds}; quick: {QUICK.seconds})",
    )
    for name, what in COUNTS.items():
        add(f"--{name}", type=_count, metavar="N", help=f"{what} ({getattr(FULL, name):,})")
    add("--quick", action="store_true", help="a few peers, and only the cases that have targets")
    add("--gate", action="store_true", help="exit 1 where a target is missed")
    add("--release", action="store_true", help="with --gate: every target, with every peer installed")
    add("--out", type=Path, metavar="DIR", help="write results.json, results.md and plots there")
    options = parser.parse_args(arguments)
    if options.release and not options.gate:
        parser.error("--release goes with --gate")
    return options


def _scenario(name: str) -> str:
    return _known(name, "scenario", SCENARIOS)


def _peer(name: str) -> str:
    return _known(name, "peer", PEERS)


def _known(name: str, kind: str, valid: Collection[str]) -> str:
    if name not in valid:
        raise argparse.ArgumentTypeError(f"no {kind} {name!r}; there are {', '.join(valid)}")
    return name


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _select(known: Mapping[str, Named], names: Collection[str] | None) -> list[Named]:
    """Those named, or all of them, in the order in which they are known."""
    return [value for name, value in known.items() if name in (names or known)]


def _settings(options: argparse.Namespace) -> Settings:
    default = QUICK if options.quick else FULL
    return Settings(
        rounds=options.rounds,
        seconds=options.seconds or default.seconds,
        quick=options.quick,
        **{name: getattr(options, name) or getattr(default, name) for name in COUNTS},
    )


def _run(
    scenarios: Sequence[Scenario],
    peers: Sequence[Peer],
    settings: Settings,
    keep: Callable[[runner.Results], None],
) -> runner.Results:
    # A stream is several descriptors on its way; children inherit what is allowed here.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return runner.run(scenarios, peers, settings, say=_say, keep=keep)
    finally:
        # An interrupt can fall between the start of a process and its entry in the books.
        for pid in proc.families([os.getpid()]):
            if pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Once: ending the children takes a moment, and a second signal should not cut it short."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _gate(
    targets: Sequence[gate.Target],
    scenarios: Sequence[Scenario],
    peers: Sequence[Peer],
    results: runner.Results,
    *,
    release: bool,
) -> bool:
    """Print the verdicts; whether there are any and none of them fails."""
    verdicts = gate.judge(
        gate.expand(targets, PEERS.values()),
        results,
        [scenario.name for scenario in scenarios],
        [peer.name for peer in peers],
        release=release,
    )
    if not verdicts:
        print("No target is set for what was measured.")
        return False
    print(gate.render(verdicts, release=release))
    return not any(verdict.fails(release=release) for verdict in verdicts)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before there was anything to keep
        sys.exit(INTERRUPTED)
