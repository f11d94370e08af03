"""Rounds, and what becomes of peers that fail."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace

from benchmarks.model import (
    Address,
    BenchmarkError,
    Measured,
    Metric,
    Mode,
    Peer,
    Scenario,
    Security,
    Settings,
)
from benchmarks.processes import Launcher
from benchmarks.runner import Results, run
from benchmarks.stage import Stage

ADDRESS = Address("127.0.0.1", 1)


def start(_launch: Launcher, _mode: Mode, service: Address) -> Address:
    return service


def start_badly(launch: Launcher, _mode: Mode, _service: Address) -> Address:
    launch.run(sys.executable, "-c", "raise SystemExit('port taken')").expect("ready")
    return ADDRESS


def measure(stage: Stage) -> Measured:
    yield "one", {"cores": len(os.sched_getaffinity(0))}
    yield "two", {"port": stage.address.port}


def peer(name: str, **fields: object) -> Peer:
    plain = Peer(name, "a peer", Security.PLAIN, frozenset(Mode), start, hops=1)
    return replace(plain, **fields)  # type: ignore[arg-type]


def scenario(measure: Callable[[Stage], Measured] = measure, **fields: object) -> Scenario:
    plain = Scenario(
        name="test",
        title="Test",
        mode=Mode.TCP,
        service=lambda _launch: ADDRESS,
        measure=measure,
        metrics=(Metric("port", "port"),),
        note="",
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def measured(scenario: Scenario, *peers: Peer, rounds: int = 2) -> Results:
    return run([scenario], peers, Settings(rounds=rounds), say=lambda _line: None, keep=lambda _results: None)


def order(results: Results) -> list[tuple[int, str, str]]:
    return [(sample.round, sample.peer, sample.case) for sample in results.samples]


def test_rounds_are_interleaved() -> None:
    assert order(measured(scenario(), peer("a"), peer("b"))) == [
        (1, "a", "one"),
        (1, "a", "two"),
        (1, "b", "one"),
        (1, "b", "two"),
        (2, "a", "one"),
        (2, "a", "two"),
        (2, "b", "one"),
        (2, "b", "two"),
    ]


def test_a_peer_that_does_not_come_up_is_reported_and_the_rest_goes_on() -> None:
    results = measured(scenario(), peer("bad", start=start_badly), peer("good"), rounds=1)
    assert order(results) == [(1, "good", "one"), (1, "good", "two")]
    assert "port taken" in results.failed["bad"]


def test_what_is_not_installed_is_listed() -> None:
    results = measured(scenario(), peer("absent", programs=("sh", "no-such-program")), rounds=1)
    assert results.missing == {"absent": "no-such-program"}
    assert not results.measured


def test_a_scenario_without_its_load_is_listed() -> None:
    assert measured(scenario(programs=("no-such-load",)), peer("a")).missing == {"test": "no-such-load"}


def test_a_failed_measurement_keeps_the_cases_before_it_and_is_tried_again() -> None:
    def fails(_stage: Stage) -> Measured:
        yield "one", {}
        raise BenchmarkError("reset")

    results = measured(scenario(fails), peer("a"))
    assert order(results) == [(1, "a", "one"), (1, "a", ""), (2, "a", "one"), (2, "a", "")]
    assert [sample.error for sample in results.errors("test")] == ["reset", "reset"]
    assert results.cases("test") == ["one"]


def test_a_failed_measurement_is_reported_with_the_output_of_the_peer() -> None:
    def start_talking(launch: Launcher, _mode: Mode, _service: Address) -> Address:
        launch.run(sys.executable, "-c", "print('out of memory'); input()").expect("memory")
        return ADDRESS

    def fails(_stage: Stage) -> Measured:
        yield from ()
        raise BenchmarkError("reset")

    results = measured(scenario(fails), peer("a", start=start_talking), rounds=1)
    assert "out of memory" in (results.errors("test")[0].error or "")


def test_an_interrupt_keeps_what_was_measured() -> None:
    def interrupted(_stage: Stage) -> Measured:
        yield "one", {}
        raise KeyboardInterrupt

    results = measured(scenario(interrupted), peer("a"), peer("b"))
    assert results.interrupted
    assert order(results) == [(1, "a", "one")]


def test_a_peer_that_cannot_carry_the_scenario_is_left_out() -> None:
    assert order(measured(scenario(), peer("a", modes=frozenset({Mode.HTTP})))) == []


def test_http_is_carried_as_tcp_where_a_peer_has_no_http() -> None:
    assert peer("a", modes=frozenset({Mode.TCP})).mode_for(Mode.HTTP) is Mode.TCP


def test_one_core_is_one_core_and_is_given_back() -> None:
    cores = os.sched_getaffinity(0)
    results = measured(scenario(one_core=True), peer("a"), rounds=1)
    assert results.values("test", "one", "a", "cores") == [1]
    assert os.sched_getaffinity(0) == cores


def test_each_round_is_kept() -> None:
    kept: list[int] = []
    settings = Settings(rounds=2)
    run(
        [scenario()],
        [peer("a")],
        settings,
        say=lambda _line: None,
        keep=lambda results: kept.append(len(results.samples)),
    )
    assert kept == [2, 4]


def test_a_scenario_takes_the_peers_that_fit() -> None:
    fitting = scenario(fits=lambda peer: peer.reconnects)
    assert {p for _, p, _ in order(measured(fitting, peer("a"), peer("b", reconnects=True)))} == {"b"}


def test_a_scenario_may_start_the_peer_itself() -> None:
    def measure_started(stage: Stage) -> Measured:
        assert stage.what.name == "a"
        assert stage.address == ADDRESS  # the service's
        yield "one", {}

    results = measured(scenario(measure_started, starts=False), peer("a", start=start_badly), rounds=1)
    assert order(results) == [(1, "a", "one")]


def test_rounds_are_the_scenarios_unless_they_are_given() -> None:
    many = scenario(rounds=7, quick=2)
    assert Settings().rounds_of(many) == 7
    assert Settings(quick=True).rounds_of(many) == 2
    assert Settings(quick=True).rounds_of(scenario(quick=0)) == 1  # named by the user
    assert Settings(rounds=4, quick=True).rounds_of(many) == 4
