"""The data channel's state machine: one transition table, the same on both sides.

A data channel carries one stream at a time and is used again. Each side keeps a :class:`State` and
advances it by the events it sends and receives; ``docs/protocol.md`` draws the table. Events of the
two sides may cross on the way, so every order in which they can be seen has its transition here,
and an event without one is a protocol error that ends the channel.
"""

from __future__ import annotations

from enum import Enum, auto

from tunnelkit.errors import ProtocolError

__all__ = ["AGENT_MAY_SEND", "RELAY_MAY_SEND", "TRANSITIONS", "Event", "State", "advance"]


class State(Enum):
    """Where a channel's current stream stands."""

    IDLE = auto()
    """Free: no stream."""
    OPENING = auto()
    """The relay has opened a stream; the agent has not answered."""
    OPENING_ENDED = auto()
    """As OPENING, and the relay's direction has already ended."""
    OPEN = auto()
    """Both directions carry payload."""
    RELAY_ENDED = auto()
    """The relay's direction (the visitor's bytes) has ended."""
    AGENT_ENDED = auto()
    """The agent's direction (the service's bytes) has ended."""
    REFUSED = auto()
    """The agent could not reach the service; the relay's direction has not ended yet."""
    ENDED = auto()
    """Both directions have ended; the agent still delivers to the service."""

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is a Python function


class Event(Enum):
    """What advances a channel. All but the data itself, which :data:`RELAY_MAY_SEND` governs."""

    OPEN = auto()
    OPENED = auto()
    ERROR = auto()
    RELAY_END = auto()
    AGENT_END = auto()
    READY = auto()

    __hash__ = object.__hash__


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.IDLE, Event.OPEN): State.OPENING,
    (State.OPENING, Event.OPENED): State.OPEN,
    (State.OPENING, Event.ERROR): State.REFUSED,
    (State.OPENING, Event.RELAY_END): State.OPENING_ENDED,
    (State.OPENING_ENDED, Event.OPENED): State.RELAY_ENDED,
    (State.OPENING_ENDED, Event.ERROR): State.ENDED,
    (State.OPEN, Event.RELAY_END): State.RELAY_ENDED,
    (State.OPEN, Event.AGENT_END): State.AGENT_ENDED,
    (State.RELAY_ENDED, Event.AGENT_END): State.ENDED,
    (State.AGENT_ENDED, Event.RELAY_END): State.ENDED,
    (State.REFUSED, Event.RELAY_END): State.ENDED,
    (State.ENDED, Event.READY): State.IDLE,
}

RELAY_MAY_SEND = frozenset({State.OPENING, State.OPEN, State.AGENT_ENDED, State.REFUSED})
"""States in which payload from the relay is in order (in REFUSED it was already under way)."""

AGENT_MAY_SEND = frozenset({State.OPEN, State.RELAY_ENDED})
"""States in which payload from the agent is in order."""


def advance(state: State, event: Event) -> State:
    """The state after ``event``; :class:`~tunnelkit.errors.ProtocolError` where it is out of order."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ProtocolError(f"A data channel that is {state.name.lower()} got {event.name.lower()}") from None
