"""Every message that relay and agent exchange: this file is the protocol's vocabulary.

Messages are JSON objects with their name in ``type``, one a WebSocket text message. A field or a
message that this version does not know is ignored, so that a newer peer can say more; one that is
malformed raises :class:`~tunnelkit.errors.ProtocolError` and ends that connection.
``docs/protocol.md`` says when each is sent.

Units: ports 1–65535, byte counts in bytes, times in seconds. ``visitor`` and ``ingress`` are
``host:port`` with IPv6 hosts in brackets.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from tunnelkit.errors import ProtocolError

__all__ = [
    "CHANNEL_PATH",
    "CONTROL_PATH",
    "EGRESS_PATH",
    "MAX_MESSAGE",
    "PROTOCOL",
    "SESSION_HEADER",
    "Cancel",
    "ChannelMessage",
    "Close",
    "ControlToAgent",
    "ControlToRelay",
    "End",
    "Error",
    "Goodbye",
    "Hello",
    "Message",
    "Need",
    "Notice",
    "Open",
    "Opened",
    "Ready",
    "Refused",
    "Replaced",
    "Request",
    "Retire",
    "Tunnel",
    "Welcome",
    "decode_channel",
    "decode_control_to_agent",
    "decode_control_to_relay",
    "encode",
    "plain_text",
]

PROTOCOL = "tunnelkit.v1"
"""WebSocket sub-protocol, and the version: a change that an older peer cannot ignore gets a new one."""

CONTROL_PATH = "/_tunnelkit/v1/control"
CHANNEL_PATH = "/_tunnelkit/v1/channel"
"""Data channels on which the relay opens streams, for visitors and towards exits."""
EGRESS_PATH = "/_tunnelkit/v1/egress"
"""Data channels on which the agent opens streams, for what leaves by the relay."""
SESSION_HEADER = "X-Tunnelkit-Session"
"""``<session>:<secret>:<channel>``, by which a channel's handshake proves its session."""

MAX_MESSAGE = 65536
"""Bytes in one text message. The longest of ours has under 4 KiB; this leaves room for newer peers."""


class Message(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Base of all messages; ``type`` is the class's name in lower case."""


# --- control connection, agent to relay ---------------------------------------------------------


class Hello(Message, frozen=True, tag="hello"):
    """First message of a control connection; ``session`` and ``secret`` take a lost one up again."""

    agent: str
    version: str = ""
    session: str = ""
    secret: str = ""


class Request(Message, frozen=True, tag="request"):
    """Asks for a tunnel. ``id`` is the agent's own; empty ``name`` or ``port`` 0: the relay chooses.

    ``host_header`` is what the service sees as Host (empty: the visitor's own). ``exit`` offers the
    agent's machine as one, also by ``zone``; only where ``welcome.egress`` says that it is understood.
    """

    id: int
    kind: Literal["http", "tcp", "exit"]
    name: str = ""
    port: int = 0
    host_header: str = ""
    ingress_address: bool = False
    zone: str = ""


class Close(Message, frozen=True, tag="close"):
    """Ends the tunnel ``id``; running streams may finish."""

    id: int


# --- control connection, relay to agent ---------------------------------------------------------


class Welcome(Message, frozen=True, tag="welcome"):
    """Answers ``hello``. ``resumed``: channels and tunnels of the named session are still there.

    ``egress``: the relay knows exits and channels at :data:`EGRESS_PATH`.
    """

    session: str
    secret: str
    resumed: bool = False
    version: str = ""
    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    max_channels: int = 4096
    egress: bool = False


class Tunnel(Message, frozen=True, tag="tunnel"):
    """Answers ``request``: the tunnel is up and the probe came round. ``warnings`` are for people.

    ``plain_port``: where visitors of an ``https://`` tunnel may come without TLS, 0: nowhere."""

    id: int
    url: str
    host: str
    port: int
    name: str = ""
    warnings: tuple[str, ...] = ()
    plain_port: int = 0


class Refused(Message, frozen=True, tag="refused"):
    """Answers ``hello`` (``id`` 0) or ``request`` in the negative. Codes: ``docs/errors.md``."""

    code: str
    what: str
    id: int = 0
    hint: str = ""


class Need(Message, frozen=True, tag="need"):
    """Asks for ``n`` more data channels; ``again``: those asked for before did not come in time."""

    n: int
    again: bool = False


class Replaced(Message, frozen=True, tag="replaced"):
    """The tunnel ``id`` now belongs to a newer session of the same agent: do not ask for it again."""

    id: int


class Notice(Message, frozen=True, tag="notice"):
    """Something a person at the agent should know about the tunnel ``id``."""

    id: int
    code: str
    what: str


class Goodbye(Message, frozen=True, tag="goodbye"):
    """The sender shuts down: running streams finish, no new ones; an agent comes back later."""


# --- control connection, both ways --------------------------------------------------------------


class Cancel(Message, frozen=True, tag="cancel"):
    """Aborts a stream. ``sent`` payload bytes precede the abort; the channel is not used again."""

    channel: int
    stream: int
    code: str
    sent: int = 0


# --- data channel -------------------------------------------------------------------------------


class Open(Message, frozen=True, tag="open"):
    """Opener: a visitor for tunnel ``tunnel``. With ``probe``, the acceptor answers that text itself.

    With ``target`` (``host:port``), a connection is to leave for there: on an egress channel
    (``tunnel`` 0) by the ``exit`` of that name, ``zone:NAME`` or, empty, from the relay's own
    addresses; otherwise from the agent whose exit ``tunnel`` is. ``visitor`` tells its users apart, so
    that each keeps its address; ``rules`` hold in addition to the exit's own, first match wins.
    """

    stream: int
    tunnel: int
    visitor: str
    ingress: str = ""
    probe: str = ""
    target: str = ""
    exit: str = ""
    rules: tuple[str, ...] = ()


class Opened(Message, frozen=True, tag="opened"):
    """Acceptor: the service accepted. ``source``: the address that an exit left from."""

    stream: int
    source: str = ""


class Error(Message, frozen=True, tag="error"):
    """Acceptor: the service could not be reached. Counts as the end of the acceptor's direction."""

    stream: int
    code: str
    what: str


class End(Message, frozen=True, tag="end"):
    """The sender's direction has ended after ``bytes`` bytes: half-close."""

    bytes: int


class Ready(Message, frozen=True, tag="ready"):
    """Acceptor: every byte of the stream has reached the service; the channel is free."""

    stream: int


class Retire(Message, frozen=True, tag="retire"):
    """Acceptor: asks the opener to close this channel once it is free."""


ControlToRelay = Hello | Request | Close | Cancel | Goodbye
"""What a relay may receive on a control connection."""
ControlToAgent = Welcome | Tunnel | Refused | Need | Replaced | Notice | Goodbye | Cancel
"""What an agent may receive on a control connection."""
ChannelMessage = Open | Opened | Error | End | Ready | Retire
"""What either side may receive on a data channel; the channel's state says which one when."""


class _Typed(msgspec.Struct):
    type: str


_control_to_relay: msgspec.json.Decoder[ControlToRelay] = msgspec.json.Decoder(ControlToRelay)
_control_to_agent: msgspec.json.Decoder[ControlToAgent] = msgspec.json.Decoder(ControlToAgent)
_channel: msgspec.json.Decoder[ChannelMessage] = msgspec.json.Decoder(ChannelMessage)
_typed = msgspec.json.Decoder(_Typed)
_known = frozenset(
    str(kind.__struct_config__.tag)
    for kind in (*get_args(ControlToRelay), *get_args(ControlToAgent), *get_args(ChannelMessage))
)

encode = msgspec.json.Encoder().encode
"""The JSON text of a message, as bytes."""


def plain_text(text: str, limit: int) -> str:
    """``text`` of the other side, fit to be logged, shown and passed on."""
    return "".join(filter(str.isprintable, text[:limit]))


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises: the last for brackets in brackets in brackets."""


def decode_control_to_relay(text: bytes | memoryview) -> ControlToRelay | None:
    """The message that an agent sent; None for one that this version does not know."""
    try:
        return _control_to_relay.decode(text)
    except _UNREADABLE as error:
        _raise_unless_unknown(text, error)
        return None


def decode_control_to_agent(text: bytes | memoryview) -> ControlToAgent | None:
    """The message that a relay sent; None for one that this version does not know."""
    try:
        return _control_to_agent.decode(text)
    except _UNREADABLE as error:
        _raise_unless_unknown(text, error)
        return None


def decode_channel(text: bytes | memoryview) -> ChannelMessage | None:
    """The message of a data channel; None for one that this version does not know."""
    try:
        return _channel.decode(text)
    except _UNREADABLE as error:
        _raise_unless_unknown(text, error)
        return None


def _raise_unless_unknown(text: bytes | memoryview, error: Exception) -> None:
    """Raise ProtocolError, unless the message is of a kind that only a newer peer knows."""
    try:
        kind = _typed.decode(text).type
    except _UNREADABLE:
        raise ProtocolError(f"A malformed message: {error}") from None
    if kind in _known:
        raise ProtocolError(f"A malformed or misplaced {kind} message: {error}") from None
