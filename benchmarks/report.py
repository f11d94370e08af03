"""What a run found: Markdown for people, JSON with every sample for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.model import Metric, Peer, Scenario, Settings
from benchmarks.runner import Results
from benchmarks.spread import spread
from benchmarks.stage import OTHERS

OURS = "tunnelkit"

# Raised when a reader of the JSON has to change.
FORMAT = 1

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


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, aligned for the terminal; the first two columns are text."""
    lines = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width if at < 2 else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    lines.insert(1, rule)
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) if at < 2 else cell.rjust(width)
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
        (
            f"{about['started']}. {settings.rounds} rounds of {settings.seconds} s a measurement, "
            "peers in turn; median (lowest–highest)."
        ),
        _machine(about),
        _others(results),
        *(_section(scenario, peers, results) for scenario in scenarios),
    ]
    missing = [peer.name for peer in peers if peer.name in results.missing]
    if missing:
        lines = [f"- {name}: {results.missing[name]} is not installed" for name in missing]
        parts += ["## Missing", "\n".join(lines)]
    for name, output in results.failed.items():
        parts += [f"## Did not come up: {name}", _quote(output)]
    if results.interrupted:
        parts.append("Interrupted: this is what had been measured.")
    return "\n\n".join(parts) + "\n"


def write(
    directory: Path,
    markdown: str,
    settings: Settings,
    about: Mapping[str, Any],
    results: Results,
) -> None:
    """Write ``results.md`` and ``results.json`` with every sample. ``OSError`` where it cannot."""
    document = {"format": FORMAT, **about, "settings": asdict(settings), **asdict(results)}
    (directory / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    (directory / "results.md").write_text(markdown)


def _machine(about: Mapping[str, Any]) -> str:
    machine = about["machine"]
    versions = {
        **machine["load_and_services"],
        **{name: peer["version"] for name, peer in about["peers"].items()},
    }
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory']}, "
        f"{machine['system']}, Linux {machine['kernel']}, {machine['python']}, {machine['loop']}. "
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


def _section(scenario: Scenario, peers: Sequence[Peer], results: Results) -> str:
    """A scenario's tables, one a case, with what a reader has to know beside them."""
    parts = [f"## {scenario.name}: {scenario.title}", scenario.note]
    if scenario.name in results.missing:
        parts.append(f"Not measured: {results.missing[scenario.name]} is not installed.")
    for case in results.cases(scenario.name):
        parts += [f"### {case}", _case(scenario, case, peers, results)]
    unable = [peer.name for peer in peers if peer.mode_for(scenario.mode) is None]
    if unable:
        parts.append(f"Not for {scenario.mode}: {', '.join(unable)}.")
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


def _case(scenario: Scenario, case: str, peers: Sequence[Peer], results: Results) -> str:
    head = ["peer", "security", *(metric.title for metric in scenario.metrics), f"{OURS} ÷ it"]
    ours = _median(results, scenario, case, OURS)
    level = next((peer.security for peer in peers if peer.name == OURS), None)
    rows = []
    for peer in peers:
        theirs = _median(results, scenario, case, peer.name)
        if theirs is None:
            continue
        # Only what gives the same security is compared.
        comparable = ours is not None and theirs and peer.security == level
        rows.append(
            [
                f"{peer.name} ({peer.about})",
                peer.security,
                *(_cell(metric, results, scenario, case, peer) for metric in scenario.metrics),
                f"{ours / theirs:.2f}" if comparable and ours is not None else NOTHING,
            ]
        )
    return table(head, rows)


def _median(results: Results, scenario: Scenario, case: str, peer: str) -> float | None:
    values = results.values(scenario.name, case, peer, scenario.metrics[0].name)
    return spread(values).median if values else None


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
