"""What a run found: Markdown for people, JSON with every sample for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.model import BenchmarkError, Metric, Peer, Sample, Scenario, Settings
from benchmarks.runner import Results
from benchmarks.spread import spread
from benchmarks.stage import OTHERS

# Raised when a reader of the JSON has to change.
FORMAT = 2

NOTHING = "–"


def number(value: float) -> str:
    """Three significant digits."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{round(value, 2 - len(str(int(abs(value)))) + 1):,.0f}"
    for bound, digits in ((99.95, 0), (9.995, 1)):
        if abs(value) >= bound:
            return f"{value:.{digits}f}"
    return f"{value:.2f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, text: int = 2) -> str:
    """A Markdown table, aligned for the terminal; the first ``text`` columns are not numbers."""
    lines = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width if at < text else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    lines.insert(1, rule)
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) if at < text else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    )


def render(
    scenarios: Sequence[Scenario],
    peers: Sequence[Peer],
    settings: Settings,
    about: Mapping[str, Any],
    results: Results,
) -> str:
    """The whole report in Markdown."""
    parts = [
        "# Benchmarks",
        (f"{about['started']}. {settings.seconds} s a measurement, peers in turn; median (lowest–highest)."),
        machine(about),
        _others(results),
        *(_section(scenario, peers, settings, results) for scenario in scenarios),
    ]
    missing = [peer.name for peer in peers if peer.name in results.missing]
    if missing:
        lines = [f"- {name}: {results.missing[name]} is not installed" for name in missing]
        parts += ["## Missing", "\n".join(lines)]
    if left_out := about.get("left_out"):
        parts.append(f"Not in the quick set: {', '.join(left_out)}. `--peer` measures them.")
    for name, output in results.failed.items():
        parts += [f"## Did not come up: {name}", _quote(output)]
    if results.interrupted:
        parts.append("Interrupted: this is what had been measured.")
    return "\n\n".join(parts) + "\n"


def write(
    directory: Path,
    settings: Settings,
    about: Mapping[str, Any],
    results: Results,
) -> None:
    """Write ``results.json`` with every sample, a line each. ``OSError`` where it cannot."""
    document = {"format": FORMAT, **about, "settings": asdict(settings), **asdict(results)}
    samples = ",\n".join(json.dumps(sample) for sample in document.pop("samples"))
    rest = json.dumps(document, indent=1).removesuffix("\n}")
    text = f'{rest},\n "samples": [\n{samples}\n]\n}}\n'
    unfinished = directory / "results.json.new"
    unfinished.write_text(text)
    unfinished.replace(directory / "results.json")  # all of it or none, whenever the run is cut off


def read(path: Path) -> tuple[Settings, dict[str, Any], Results]:
    """What ``write`` wrote. ``BenchmarkError`` where it is something else."""
    try:
        document = json.loads(path.read_text())
        if document.pop("format") != FORMAT:
            raise BenchmarkError(f"{path} is of another format than {FORMAT}: measure again")
        settings = Settings(**document.pop("settings"))
        results = Results(
            samples=[Sample(**sample) for sample in document.pop("samples")],
            missing=document.pop("missing"),
            failed=document.pop("failed"),
            interrupted=document.pop("interrupted"),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(f"{path}: {error!r}") from error
    return settings, document, results


def machine(about: Mapping[str, Any]) -> str:
    """The machine and all versions, in a sentence each."""
    where = about["machine"]
    versions = {
        **where["load_and_services"],
        **{name: peer["version"] for name, peer in about["peers"].items()},
    }
    return (
        f"{where['cores']} cores ({where['processor']}), {where['memory']}, "
        f"{where['system']}, Linux {where['kernel']}, {where['python']}, {where['loop']}. "
        + ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        + "."
    )


def _others(results: Results) -> str:
    """How far the machine was the run's own."""
    cores = [sample.metrics[OTHERS] for sample in results.samples if OTHERS in sample.metrics]
    if not cores:
        return "What else ran on the machine is not known."
    found = spread(cores)
    return (
        f"Programs that are no part of it kept {number(found.median)} cores busy "
        f"({number(found.low)}–{number(found.high)})."
    )


def _section(scenario: Scenario, peers: Sequence[Peer], settings: Settings, results: Results) -> str:
    """A scenario's tables, one a case, with what a reader has to know beside them."""
    rounds = settings.rounds_of(scenario)
    counted = f"{rounds} round{'s' if rounds > 1 else ''}."
    parts = [f"## {scenario.name}: {scenario.title}", f"{scenario.note} {counted}"]
    if scenario.name in results.missing:
        parts.append(f"Not measured: {results.missing[scenario.name]} is not installed.")
    for case in results.cases(scenario.name):
        parts += [f"### {case}", case_table(scenario, case, peers, results)]
    unable = [peer.name for peer in peers if peer.mode_for(scenario.mode) is None]
    if unable:
        parts.append(f"Not for {scenario.mode}: {', '.join(unable)}.")
    others = [peer.name for peer in peers if peer.name not in unable and not scenario.takes(peer)]
    if others:
        parts.append(f"Not for this: {', '.join(others)}.")
    for sample in results.errors(scenario.name):
        parts.append(f"{sample.peer}, round {sample.round}, failed:\n\n{_quote(sample.error or '')}")
    for peer in peers:
        lost = sum(
            sum(results.values(scenario.name, case, peer.name, "errors"))
            for case in results.cases(scenario.name)
        )
        if lost:
            parts.append(f"{peer.name}: {lost:,.0f} failed connections or requests in all rounds.")
    return "\n\n".join(parts)


def case_table(scenario: Scenario, case: str, peers: Sequence[Peer], results: Results) -> str:
    """One case of a scenario: a row for each peer."""
    metric = scenario.metrics[0].name
    rows = []
    for peer in peers:
        theirs = results.median(scenario.name, case, peer.name, metric)
        if theirs is None:
            continue
        ours = _ours(scenario, case, peer, peers, results)
        rows.append(
            [
                f"{peer.name} ({peer.about})",
                peer.security,
                *(_cell(metric, results, scenario, case, peer) for metric in scenario.metrics),
                NOTHING if ours is None or not theirs else f"{ours / theirs:.2f}",
            ]
        )
    return table(["peer", "security", *(m.title for m in scenario.metrics), "ours ÷ it"], rows)


def _ours(scenario: Scenario, case: str, peer: Peer, peers: Sequence[Peer], results: Results) -> float | None:
    """The median of ours that gives the same security: nothing else is compared."""
    of_that_level = (ours.name for ours in peers if ours.ours and ours.security is peer.security)
    name = next(of_that_level, "")
    return results.median(scenario.name, case, name, scenario.metrics[0].name)


def _cell(metric: Metric, results: Results, scenario: Scenario, case: str, peer: Peer) -> str:
    values = results.values(scenario.name, case, peer.name, metric.name)
    if not values:
        return NOTHING
    found = spread(values)
    if not metric.spread or len(values) == 1:
        return number(found.median)
    return f"{number(found.median)} ({number(found.low)}–{number(found.high)})"


def _quote(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
