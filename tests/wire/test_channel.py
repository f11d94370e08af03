"""The data channel's transition table."""

from __future__ import annotations

import re
from itertools import permutations
from pathlib import Path

import pytest

from tunnelkit.errors import ProtocolError
from tunnelkit.wire.channel import ACCEPTOR_MAY_SEND, OPENER_MAY_SEND, TRANSITIONS, Event, State, advance

COLUMNS = [Event.OPEN, Event.OPENED, Event.ERROR, Event.OPENER_END, Event.ACCEPTOR_END, Event.READY]


def run(*events: Event) -> State:
    state = State.IDLE
    for event in events:
        state = advance(state, event)
    return state


def test_a_whole_stream_leaves_the_channel_idle() -> None:
    assert run(Event.OPEN, Event.OPENED, Event.OPENER_END, Event.ACCEPTOR_END, Event.READY) is State.IDLE


@pytest.mark.parametrize("order", list(permutations([Event.OPENED, Event.OPENER_END, Event.ACCEPTOR_END])))
def test_ends_may_cross_in_every_order_in_which_they_can_be_seen(order: tuple[Event, ...]) -> None:
    if order.index(Event.ACCEPTOR_END) < order.index(Event.OPENED):
        with pytest.raises(ProtocolError):  # the agent says opened first, always
            run(Event.OPEN, *order)
    else:
        assert run(Event.OPEN, *order) is State.ENDED


@pytest.mark.parametrize("order", list(permutations([Event.ERROR, Event.OPENER_END])))
def test_a_refused_stream_ends_like_any_other(order: tuple[Event, ...]) -> None:
    assert run(Event.OPEN, *order, Event.READY) is State.IDLE


def test_every_pair_without_a_row_is_a_protocol_error_that_names_both() -> None:
    for state in State:
        for event in Event:
            if (state, event) not in TRANSITIONS:
                with pytest.raises(ProtocolError, match=f"{state.name.lower()}.*{event.name.lower()}"):
                    advance(state, event)


def test_every_state_is_reached_and_left() -> None:
    assert set(TRANSITIONS.values()) == set(State)
    assert {state for state, _ in TRANSITIONS} == set(State)


def test_the_protocol_page_shows_this_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([A-Z_]+) \|(.*)\|$", page, re.MULTILINE)
    shown = {State[name]: [cell.strip() for cell in cells.split("|")] for name, cells in rows}
    assert set(shown) == set(State)
    for state, cells in shown.items():
        expected = [TRANSITIONS.get((state, event)) for event in COLUMNS]
        assert cells[:-1] == [target.name if target else "" for target in expected]
        senders = cells[-1]
        assert ("opener" in senders or senders == "both") is (state in OPENER_MAY_SEND)
        assert ("acceptor" in senders or senders == "both") is (state in ACCEPTOR_MAY_SEND)
