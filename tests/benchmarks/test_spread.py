"""Medians and percentiles."""

from __future__ import annotations

import pytest

from benchmarks.spread import Spread, percentile, spread


def test_spread_of_an_odd_count_is_the_middle_round() -> None:
    assert spread([3.0, 1.0, 9.0]) == Spread(median=3.0, low=1.0, high=9.0)


def test_spread_of_an_even_count_lies_between_the_middle_rounds() -> None:
    assert spread([4.0, 1.0, 2.0, 9.0]).median == 3.0


@pytest.mark.parametrize(("percent", "value"), [(1, 1.0), (50, 50.0), (99, 99.0), (100, 100.0)])
def test_percentile_is_the_nearest_rank(percent: int, value: float) -> None:
    assert percentile([float(n) for n in range(1, 101)], percent) == value


def test_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7.0


def test_no_values_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        spread([])
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
