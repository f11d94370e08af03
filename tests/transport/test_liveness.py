"""When a silent connection is asked, and when it is given up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.transport.liveness import Liveness
from tunnelkit.wire.channel import State


class Channel:
    """A data channel whose peer says nothing unless ``heard`` is set."""

    def __init__(self, state: State = State.IDLE, *, paused: bool = False) -> None:
        self.state = state
        self.paused = paused
        self.heard = False
        self.silent = 0
        self.blocked = False
        self.pings = 0
        self.pongs = 0
        self.code = ""

    def pong(self) -> None:
        self.pongs += 1

    def ping(self) -> None:
        self.pings += 1

    def lost(self, code: str) -> None:
        self.code = code


def control() -> Any:
    fake = SimpleNamespace(silent=0, pings=0, code="")
    fake.ping = lambda: setattr(fake, "pings", fake.pings + 1)
    fake.drop = lambda code: setattr(fake, "code", code)
    return fake


seconds = st.floats(0.1, 1000)


@given(interval=seconds, timeout=seconds)
def test_silence_is_asked_within_the_interval_and_ended_after_the_time_out(
    interval: float, timeout: float
) -> None:
    liveness, channel, master = Liveness(interval, timeout), Channel(), control()
    asked = ended = 0
    while not channel.code:
        ended += 1
        liveness.check(master, [channel])
        asked = asked or (ended if channel.pings else 0)
    assert (channel.code, master.code) == ("timeout", "timeout")
    assert 0.5 * interval <= asked * liveness.period <= interval
    # A check has just been when the peer falls silent, so all of it may be one period more.
    assert (ended - asked) * liveness.period > min(timeout, liveness.period) * 0.999
    assert ended * liveness.period <= (interval + max(timeout, liveness.period)) * 1.001


def test_any_byte_is_life() -> None:
    liveness, channel, master = Liveness(4.0, 4.0), Channel(), control()
    for number in range(100):
        channel.heard = number % 5 == 0
        if channel.heard:
            master.silent = 0  # as a control connection does on receiving
        liveness.check(master, [channel])
    assert not channel.code
    assert not master.code
    assert channel.pings


@pytest.mark.parametrize(
    ("state", "paused", "ends"),
    [
        (State.OPEN, True, False),  # its own side does not read: the stall time-out rules there
        (State.OPEN, False, True),
        (State.IDLE, True, True),
    ],
)
def test_who_is_not_read_from_is_not_blamed_for_silence(state: State, paused: bool, ends: bool) -> None:
    liveness, channel = Liveness(1.0, 1.0), Channel(state, paused=paused)
    for _ in range(20):
        liveness.check(None, [channel])
    assert bool(channel.code) is ends


def test_who_does_not_read_says_all_the_same_that_it_lives() -> None:
    """Its peer's pings lie unread; without this the peer would end a download that is merely slow."""
    liveness, reader = Liveness(4.0, 4.0), Channel(State.OPEN, paused=True)
    liveness.check(None, [reader])
    assert reader.pongs == 1
    reader.blocked = True  # what is kept already will do
    liveness.check(None, [reader])
    assert reader.pongs == 1
