"""Targets against results."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gate import EVERY_TUNNEL, State, Target, Verdict, expand, judge, load, render
from benchmarks.model import BenchmarkError, Sample
from benchmarks.peers import PEERS
from benchmarks.runner import Results
from benchmarks.scenarios import SCENARIOS

RATIO = Target("rate", "http", "32", "requests_s", reference="haproxy", least=0.4)
BOUND = Target("memory", "http", "32", "pss_kb", most=8.0)


def results(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> Results:
    return Results(
        samples=[
            Sample("http", "32", peer, number, {metric: value})
            for peer, metrics in (("tunnelkit", ours), ("haproxy", theirs))
            for metric, values in metrics.items()
            for number, value in enumerate(values, 1)
        ]
    )


def verdict(target: Target, found: Results) -> Verdict:
    (judged,) = judge([target], found, ["http"], ["tunnelkit", "haproxy"])
    return judged


def test_a_ratio_is_of_medians() -> None:
    found = results({"requests_s": [1.0, 50.0, 99.0]}, {"requests_s": [100.0, 1.0, 900.0]})
    assert verdict(RATIO, found) == Verdict(RATIO, State.MET, 0.5)


@pytest.mark.parametrize(("value", "state"), [(40.0, State.MET), (39.9, State.SHORT)])
def test_least_is_the_lowest_that_passes(value: float, state: State) -> None:
    judged = verdict(RATIO, results({"requests_s": [value]}, {"requests_s": [100.0]}))
    assert judged.state is state
    assert judged.fails(release=False) is (state is State.SHORT)


@pytest.mark.parametrize(("value", "state"), [(8.0, State.MET), (8.1, State.SHORT)])
def test_most_is_the_highest_that_passes(value: float, state: State) -> None:
    assert verdict(BOUND, results({"pss_kb": [value]}, {})).state is state


def test_what_should_have_been_measured_and_was_not_fails() -> None:
    unmeasured = [
        verdict(RATIO, results({}, {"requests_s": [1.0]})),
        verdict(RATIO, results({"requests_s": [1.0]}, {})),
        verdict(BOUND, Results()),
    ]
    assert [judged.state for judged in unmeasured] == [State.UNMEASURED] * 3
    assert all(judged.fails(release=False) for judged in unmeasured)


def test_a_reference_that_is_not_installed_fails_a_release_alone() -> None:
    found = results({"requests_s": [1.0]}, {})
    found.missing["haproxy"] = "haproxy"
    judged = verdict(RATIO, found)
    assert judged.state is State.ABSENT
    assert not judged.fails(release=False)
    assert judged.fails(release=True)


def test_what_was_not_asked_for_is_not_judged() -> None:
    assert judge([RATIO, BOUND], Results(), ["idle"], ["tunnelkit", "haproxy"]) == []
    assert judge([RATIO], Results(), ["http"], ["tunnelkit"]) == []
    assert judge([BOUND], Results(), ["http"], ["haproxy"]) == []


def test_a_release_judges_what_was_not_asked_for_too() -> None:
    (judged,) = judge([BOUND], Results(), [], [], release=True)
    assert judged.state is State.UNMEASURED


def test_a_case_can_be_held_to_another_case() -> None:
    target = Target("growth", "http", "5,000", "requests_s", reference_case="1", least=0.9)
    found = Results(
        samples=[
            Sample("http", case, "tunnelkit", number, {"requests_s": value})
            for case, values in (("1", [100.0, 110.0, 90.0]), ("5,000", [95.0, 80.0, 96.0]))
            for number, value in enumerate(values, 1)
        ]
    )
    assert verdict(target, found) == Verdict(target, State.MET, 0.95)


def test_every_tunnel_is_a_target_for_each_of_the_others() -> None:
    target = Target("memory", "http", "32", "pss_kb", reference=EVERY_TUNNEL, most=0.3)
    references = [found.reference for found in expand([target, BOUND], PEERS.values())]
    assert references[-1] is None
    assert {"ssh-R", "stunnel", "rathole", "frp"} <= set(references)
    assert not {"tunnelkit", "direct", "haproxy", "nginx", "socat", EVERY_TUNNEL} & set(references)


def test_what_fell_short_comes_first() -> None:
    text = render([Verdict(BOUND, State.MET, 3.0), Verdict(RATIO, State.SHORT, 0.123)])
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines()[2:]]
    assert cells == [
        ["rate", "≥ 0.4 × haproxy", "0.12", "short"],
        ["memory", "≤ 8", "3.00", "met"],
    ]


def test_the_targets_name_what_exists() -> None:
    targets = load()
    assert targets
    for target in expand(targets, PEERS.values()):
        names = [metric.name for metric in SCENARIOS[target.scenario].metrics]
        assert target.metric in names
        assert target.reference is None or target.reference in PEERS
        assert PEERS[target.peer].ours


@pytest.mark.parametrize(
    "text",
    [
        "target = 3",
        "[[target]]\nwhat = 'x'",
        "[[target]]\nwhat='x'\nscenario='s'\ncase='c'\nmetric='m'",
        "[[target]]\nwhat='x'\nscenario='s'\ncase='c'\nmetric='m'\nleast=1\nmost=2",
        "[[target]]\nwhat='x'\nscenario='s'\ncase='c'\nmetric='m'\nleast=1\nunit='s'",
        "[[target]]\nwhat='x'\nscenario='s'\ncase='c'\nmetric='m'\nleast=1\nreference='p'\nreference_case='d'",
        "not toml",
    ],
)
def test_a_target_that_is_none_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(text)
    with pytest.raises(BenchmarkError):
        load(path)
