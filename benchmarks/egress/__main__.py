"""``python -m benchmarks.egress``: new connections, bulk and memory through each proxy, interleaved.

Rounds go through all proxies in turn, each on a fresh start. Prints medians and their spread, and
tunnelkit's median over each other's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import machine, proc
from benchmarks.egress.peers import PROXIES, Proxy, started
from benchmarks.model import Address, BenchmarkError
from benchmarks.processes import Launcher, find, free_address
from benchmarks.report import number, table
from benchmarks.scenarios.idle import _settle
from benchmarks.services import echo
from benchmarks.spread import spread
from benchmarks.stage import PATIENCE, program

OURS = "tunnelkit"
HELD = 1000  # connections, of which the memory of one is measured

Service = Callable[[Launcher], Address]
Measurement = Callable[[Launcher, Address, Address], float]  # of the proxy, at its address, to the service
Case = tuple[str, str]  # what is measured, and the protocol it goes by
Samples = dict[Case, dict[str, list[float]]]


def sink(launch: Launcher) -> Address:
    address = free_address()
    launch.run(*program("sink", str(address.port))).expect("^listening$")
    return address


def _load(proxy: Address, target: Address, protocol: str, *options: str) -> dict[str, float]:
    with Launcher() as load:
        command = program("proxied", str(proxy), str(target), "--protocol", protocol, *options)
        result: dict[str, float] = json.loads(load.run(*command).result(PATIENCE))
        return result


def _memory(peer: Launcher, proxy: Address, target: Address, protocol: str) -> float:
    """kB of PSS that one more connection takes, all of the proxy's processes together."""
    with Launcher() as launch:
        command = program("proxied", str(proxy), str(target), "--protocol", protocol, "--hold", str(HELD))
        load = launch.run(*command)
        load.expect("^first$")
        _settle(peer)
        before = proc.memory(peer.pids())
        load.tell("the others")
        load.expect("^open$", timeout=PATIENCE)
        _settle(peer)
        after = proc.memory(peer.pids())
        load.tell("done")
        load.result(PATIENCE)
    return (after - before) / HELD / 1000


def _measure(proxy: Proxy, protocol: str, seconds: float, only_new: bool) -> Iterator[tuple[str, float]]:
    def on_stage(
        service: Callable[[Launcher], Address], run: Callable[[Launcher, Address, Address], float]
    ) -> float:
        with Launcher() as services, Launcher() as peer:
            target = service(services)
            return run(peer, started(proxy, peer), target)

    def new(_peer: Launcher, address: Address, target: Address) -> float:
        return _load(address, target, protocol, "--new", str(seconds))["connections_s"]

    def bulk(direction: str) -> float:
        return on_stage(sink, lambda _, at, to: _load(at, to, protocol, "--bulk", direction)["gb_s"])

    yield "new connections/s", on_stage(echo, new)
    if only_new:
        return
    yield "bulk up, GB/s", bulk("up")
    yield "bulk down, GB/s", bulk("down")
    yield "kB an idle connection", on_stage(echo, lambda peer, at, to: _memory(peer, at, to, protocol))


def run(rounds: int, seconds: float, names: list[str], only_new: bool) -> Samples:
    samples: Samples = {}
    for count in range(1, rounds + 1):
        for proxy in PROXIES:
            if find(proxy.program) is None or (names and proxy.name not in names):
                continue
            for protocol in proxy.protocols:
                print(f"round {count} of {rounds}: {proxy.name}, {protocol}", file=sys.stderr, flush=True)
                try:
                    for what, value in _measure(proxy, protocol, seconds, only_new):
                        case = what, protocol
                        samples.setdefault(case, {}).setdefault(proxy.name, []).append(value)
                except BenchmarkError as error:
                    print(error, file=sys.stderr, flush=True)
    return samples


def rendered(samples: Samples) -> str:
    parts = []
    for (what, protocol), by_proxy in samples.items():
        ours = by_proxy.get(OURS)
        rows = []
        for name, values in by_proxy.items():
            median, low, high = spread(values)
            ratio = number(spread(ours).median / median) if ours and median else ""
            rows.append([name, f"{number(median)} ({number(low)} to {number(high)})", ratio])
        parts.append(f"### {what}, {protocol}\n\n" + table(["proxy", "median", f"{OURS} ÷ it"], rows))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.egress")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--proxy", action="append", default=[], choices=[proxy.name for proxy in PROXIES])
    parser.add_argument("--new", action="store_true", help="new connections alone")
    parser.add_argument("--out", type=Path, help="write egress.json there")
    options = parser.parse_args()
    samples = run(options.rounds, options.seconds, options.proxy, options.new)
    print(rendered(samples))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        found = {f"{what}, {protocol}": values for (what, protocol), values in samples.items()}
        text = json.dumps({"machine": machine.describe(), "samples": found}, indent=2)
        (options.out / "egress.json").write_text(text)


if __name__ == "__main__":
    main()
