"""Pictures of a run: a bar chart with its spread for each scenario, curves for growth, and an overview."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.model import COUNT, Metric, Peer, Scenario, Security
from benchmarks.report import number
from benchmarks.runner import Results
from benchmarks.spread import Spread, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    Security.PLAIN: "#4477aa",
    Security.TLS: "#cc6644",
    Security.SSH: "#44884d",
    Security.NOISE: "#8866aa",
}
DIRECT = "#bbbbbb"
OTHERS = (  # curves of peers: muted, and none like ours
    "#ee8866 #99aa44 #aa7799 #bb9955 #66bbaa #996655 #cc99bb #777777 "
    "#ddaa33 #559966 #dd7788 #8888bb #aaaa00 #cc6677 #445566"
).split()
PALE = 0.45  # of what is not ours, so that ours is seen at once

DPI = 110
WIDTH = 4.6  # inches of a panel
ACROSS = 3  # panels side by side
LINE = 0.27  # inches of a bar
FRAME = 1.0  # inches for the title and the axis of a panel


class Panel(NamedTuple):
    """One chart of an overview."""

    title: str
    scenario: Scenario
    case: str
    metric: Metric


def write(directory: Path, scenarios: Sequence[Scenario], peers: Sequence[Peer], results: Results) -> str:
    """Write ``SCENARIO.png`` for each scenario that was measured; returns what to tell about it."""
    try:
        import matplotlib as mpl
    except ImportError:
        return "No plots: matplotlib is not installed."
    mpl.use("agg")
    for scenario in scenarios:
        if cases := results.cases(scenario.name):
            if scenario.curve:
                _curves(directory, scenario, cases, peers, results)
            else:
                panels = [Panel(case, scenario, case, scenario.metrics[0]) for case in cases]
                bars(directory / f"{scenario.name}.png", scenario.title, panels, peers, results)
    return f"Plots are in {directory}."


def bars(path: Path, title: str, panels: Sequence[Panel], peers: Sequence[Peer], results: Results) -> None:
    """A bar for each peer: its median, with lowest and highest; a panel for each case."""
    import matplotlib.pyplot as plt

    across = min(ACROSS, len(panels))
    down = math.ceil(len(panels) / across)
    most = max(len(_measured(panel, peers, results)) for panel in panels)
    height = down * (FRAME + LINE * most) + 0.7
    figure, grid = plt.subplots(
        down, across, figsize=(max(WIDTH * across, 7), height), squeeze=False, layout="constrained"
    )
    figure.suptitle(title, fontweight="bold")
    axes: list[Axes] = list(grid.flat)
    for at, panel in zip(axes, panels, strict=False):
        _bars(at, panel, peers, results)
    for at in axes[len(panels) :]:
        at.set_axis_off()
    levels = {peer.security for panel in panels for peer, _ in _measured(panel, peers, results)}
    figure.legend(
        handles=[_patch(COLOURS[level], level) for level in Security if level in levels],
        title="between its two ends",
        loc="outside lower center",
        ncols=len(Security),
        frameon=False,
    )
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def _measured(panel: Panel, peers: Iterable[Peer], results: Results) -> list[tuple[Peer, Spread]]:
    found = (
        (peer, results.values(panel.scenario.name, panel.case, peer.name, panel.metric.name))
        for peer in peers
    )
    return [(peer, spread(values)) for peer, values in found if values]


def _bars(at: Axes, panel: Panel, peers: Iterable[Peer], results: Results) -> None:
    rows = _measured(panel, peers, results)
    medians = [found.median for _, found in rows]
    below = [found.median - found.low for _, found in rows]
    above = [found.high - found.median for _, found in rows]
    at.barh(
        range(len(rows)),
        medians,
        xerr=(below, above),
        color=[_colour(peer) for peer, _ in rows],
        error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#333333"},
    )
    longest = max((found.high for _, found in rows), default=0)
    for row, (_, found) in enumerate(rows):
        at.text(found.high + longest * 0.02, row, number(found.median), va="center", fontsize=8)
    at.set_xlim(0, longest * 1.2 or 1)
    at.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    at.set_yticks(range(len(rows)), [peer.name for peer, _ in rows])
    for label, (peer, _) in zip(at.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if peer.ours else "normal")
    at.invert_yaxis()
    better = "less" if panel.metric.less else "more"
    at.set_title(panel.title, fontsize=10)
    at.set_xlabel(f"{panel.metric.title} ({better} is better)", fontsize=9)
    _plain(at)


def _curves(
    directory: Path, scenario: Scenario, cases: Sequence[str], peers: Sequence[Peer], results: Results
) -> None:
    """Throughput and memory against the count, one above the other's right."""
    import matplotlib.pyplot as plt

    metrics = scenario.metrics[:2]
    figure, grid = plt.subplots(
        1, len(metrics), figsize=(5.4 * len(metrics), 4.4), squeeze=False, layout="constrained"
    )
    figure.suptitle(scenario.title, fontweight="bold")
    for at, metric in zip(grid.flat, metrics, strict=True):
        at.set_prop_cycle(color=OTHERS)
        for peer in peers:
            points = [
                (results.values(scenario.name, case, peer.name, COUNT)[0], spread(values))
                for case in cases
                if (values := results.values(scenario.name, case, peer.name, metric.name))
            ]
            if points and any(found.high for _, found in points):
                _curve(at, peer, points)
        counts = sorted(
            {s.metrics[COUNT] for s in results.samples if s.scenario == scenario.name and COUNT in s.metrics}
        )
        at.set_xscale("log")
        at.set_xticks(counts, [f"{count:,.0f}" for count in counts])
        at.minorticks_off()
        at.yaxis.set_major_formatter("{x:,.0f}")
        at.set_xlabel(scenario.curve)
        at.set_ylabel(metric.title)
        at.set_ylim(bottom=0)
        _plain(at)
    lines = {line.get_label(): line for at in grid.flat for line in at.get_lines()}
    figure.legend(handles=lines.values(), loc="outside right center", frameon=False)
    figure.savefig(directory / f"{scenario.name}.png", dpi=DPI)
    plt.close(figure)


def _curve(at: Axes, peer: Peer, points: Sequence[tuple[float, Spread]]) -> None:
    counts = [count for count, _ in points]
    (line,) = at.plot(
        counts,
        [found.median for _, found in points],
        marker="o",
        markersize=4,
        label=peer.name,
        linewidth=2.5 if peer.ours else 1.2,
        linestyle="--" if peer.hops == 0 else "-",
        color=DIRECT if peer.hops == 0 else COLOURS[peer.security] if peer.ours else None,
    )
    low, high = [found.low for _, found in points], [found.high for _, found in points]
    at.fill_between(counts, low, high, alpha=0.15, color=line.get_color())


def _colour(peer: Peer) -> Any:
    from matplotlib.colors import to_rgb

    if peer.hops == 0:
        return DIRECT
    colour = to_rgb(COLOURS[peer.security])
    return colour if peer.ours else tuple(1 - (1 - part) * PALE for part in colour)


def _patch(colour: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)


def _plain(at: Axes) -> None:
    at.spines[["top", "right"]].set_visible(False)
    at.tick_params(labelsize=8)
