"""The times between tries to reach the relay."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.agent.backoff import CAP, LATE_CAP, PATIENCE, backoff


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every random time is the longest it can be."""
    monkeypatch.setattr(random, "uniform", lambda _, high: high)


def test_the_first_try_is_made_at_once() -> None:
    assert backoff(0, 0.0) == backoff(0, 1e6) == 0.0


@given(attempt=st.integers(1, 10**9), since=st.floats(0, 1e9))
def test_no_wait_is_longer_than_its_cap(attempt: int, since: float) -> None:
    assert 0 <= backoff(attempt, since) <= (CAP if since < PATIENCE else LATE_CAP)


@pytest.mark.usefixtures("longest")
def test_waits_grow_up_to_the_cap_and_after_ten_minutes_to_another() -> None:
    waits = [backoff(attempt, 0.0) for attempt in range(1, 30)]
    assert all(one < other or one == other == CAP for one, other in pairwise(waits))
    assert waits[-1] == CAP == 5.0
    assert backoff(30, PATIENCE) == LATE_CAP == 30.0
    assert PATIENCE == 600.0


@pytest.mark.usefixtures("longest")
def test_a_relay_that_was_away_briefly_is_found_soon() -> None:
    """Where every wait is the longest, nobody waits for more than half as long again, and a little."""
    elapsed = 0.0
    for attempt in range(1, 8):
        wait = backoff(attempt, elapsed)
        assert wait <= 0.31 + elapsed / 2
        elapsed += wait


def late(away: float) -> float:
    """Seconds from when a relay is back, after ``away`` seconds, to an agent's next try."""
    elapsed, attempt = 0.0, 0
    while True:
        elapsed += backoff(attempt, elapsed)
        if elapsed >= away:
            return elapsed - away
        attempt += 1


@pytest.mark.parametrize("away", [0.25, 0.5, 1.0, 1.5, 2.0])
def test_half_a_crowd_is_back_in_less_than_a_second_and_not_all_at_once(
    away: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", random.Random(1).uniform)
    crowd = sorted(late(away) for _ in range(2000))
    assert crowd[1000] < 0.75
    in_a_hundredth = Counter(int(100 * agent) for agent in crowd)
    assert max(in_a_hundredth.values()) < 0.1 * len(crowd)


def test_jitter_is_full_so_that_agents_do_not_come_back_together() -> None:
    waits = [backoff(20, 0.0) for _ in range(1000)]
    assert min(waits) < 0.2 * CAP
    assert max(waits) > 0.8 * CAP
    assert sum(waits) / len(waits) == pytest.approx(CAP / 2, rel=0.2)
