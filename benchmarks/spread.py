"""Medians with their spread, and percentiles."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """The median of some rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    """``ValueError`` where there are none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return Spread(statistics.median(ordered), ordered[0], ordered[-1])


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that ``percent`` of the ordered values do not exceed (nearest rank)."""
    if not ordered:
        raise ValueError("no values")
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(rank, 1) - 1]
