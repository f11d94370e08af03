"""The data channel's state machine: one transition table, the same on both sides.

A data channel carries one stream at a time and is used again. One side of it opens the streams, the
other accepts them: the relay opens for visitors of tunnels, an agent for what leaves by the relay. Each
side keeps a :class:`State` and advances it by the events it sends and receives; ``docs/protocol.md``
draws the table. Events of the two sides may cross on the way, so every order in which they can be seen
has its transition here, and an event without one is a protocol error that ends the channel.
"""

from __future__ import annotations

from enum import Enum, auto

from tunnelkit.errors import ProtocolError

__all__ = ["ACCEPTOR_MAY_SEND", "OPENER_MAY_SEND", "TRANSITIONS", "Event", "State", "advance"]


class State(Enum):
    """Where a channel's current stream stands."""

    IDLE = auto()
    """Free: no stream."""
    OPENING = auto()
    """The opener has opened a stream; the acceptor has not answered."""
    OPENING_ENDED = auto()
    """As OPENING, and the opener's direction has already ended."""
    OPEN = auto()
    """Both directions carry payload."""
    OPENER_ENDED = auto()
    """The opener's direction (the visitor's bytes) has ended."""
    ACCEPTOR_ENDED = auto()
    """The acceptor's direction (the service's bytes) has ended."""
    REFUSED = auto()
    """The acceptor could not reach the service; the opener's direction has not ended yet."""
    ENDED = auto()
    """Both directions have ended; the acceptor still delivers to the service."""

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is a Python function


class Event(Enum):
    """What advances a channel. All but the data itself, which :data:`OPENER_MAY_SEND` governs."""

    OPEN = auto()
    OPENED = auto()
    ERROR = auto()
    OPENER_END = auto()
    ACCEPTOR_END = auto()
    READY = auto()

    __hash__ = object.__hash__


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.IDLE, Event.OPEN): State.OPENING,
    (State.OPENING, Event.OPENED): State.OPEN,
    (State.OPENING, Event.ERROR): State.REFUSED,
    (State.OPENING, Event.OPENER_END): State.OPENING_ENDED,
    (State.OPENING_ENDED, Event.OPENED): State.OPENER_ENDED,
    (State.OPENING_ENDED, Event.ERROR): State.ENDED,
    (State.OPEN, Event.OPENER_END): State.OPENER_ENDED,
    (State.OPEN, Event.ACCEPTOR_END): State.ACCEPTOR_ENDED,
    (State.OPENER_ENDED, Event.ACCEPTOR_END): State.ENDED,
    (State.ACCEPTOR_ENDED, Event.OPENER_END): State.ENDED,
    (State.REFUSED, Event.OPENER_END): State.ENDED,
    (State.ENDED, Event.READY): State.IDLE,
}

OPENER_MAY_SEND = frozenset({State.OPENING, State.OPEN, State.ACCEPTOR_ENDED, State.REFUSED})
"""States in which payload from the opener is in order (in REFUSED it was already under way)."""

ACCEPTOR_MAY_SEND = frozenset({State.OPEN, State.OPENER_ENDED})
"""States in which payload from the acceptor is in order."""


def advance(state: State, event: Event) -> State:
    """The state after ``event``; :class:`~tunnelkit.errors.ProtocolError` where it is out of order."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ProtocolError(f"A data channel that is {state.name.lower()} got {event.name.lower()}") from None
