"""What a program and its engine say to each other: one JSON object a line."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "Close",
    "Closed",
    "Create",
    "Created",
    "Failed",
    "FromEngine",
    "FromProgram",
    "Idle",
    "Log",
    "Lost",
    "Message",
    "decode_from_engine",
    "decode_from_program",
    "encode",
]


class Message(msgspec.Struct, frozen=True, tag_field="type", tag=str.lower, omit_defaults=True):
    """Base of all messages; ``type`` is the class's name in lower case."""


# --- from the program ---------------------------------------------------------------------------


class Create(Message, frozen=True):
    """Asks for a tunnel, to come up within ``timeout`` seconds. ``id`` is the program's own."""

    id: int
    kind: Literal["http", "tcp"]
    target: str
    timeout: float
    name: str = ""
    remote_port: int = 0
    host_header: str = ""
    relay: str = ""
    """Empty: the engine's embedded one."""
    token: str = ""
    ca: str = ""
    fingerprint: str = ""
    identity_file: str = ""
    known_hosts: str = ""
    host_key: str = ""
    ping_interval: float = 20.0
    ping_timeout: float = 20.0

    def __repr__(self) -> str:
        return f"Create({self.id}, {self.kind!r}, {self.target!r})"  # without the token


class Close(Message, frozen=True):
    """Ends the tunnel ``id``, or the attempt to open it."""

    id: int


# --- from the engine ----------------------------------------------------------------------------


class Created(Message, frozen=True):
    """Answers ``create``: the probe came round."""

    id: int
    url: str
    host: str
    port: int
    warnings: tuple[str, ...] = ()
    plain_port: int = 0
    """Where visitors come in without TLS; 0: nowhere."""


class Failed(Message, frozen=True):
    """Answers ``create`` in the negative; the code is that of ``docs/errors.md``."""

    id: int
    code: str
    what: str
    hint: str


class Lost(Message, frozen=True):
    """A tunnel that was up has ended for good."""

    id: int
    code: str
    what: str
    hint: str


class Closed(Message, frozen=True):
    """Answers ``close``; also where there was nothing to close."""

    id: int


class Log(Message, frozen=True):
    """Something for the program's log; ``level`` is that of :mod:`logging`."""

    level: int
    text: str


class Idle(Message, frozen=True):
    """No tunnel has been open for a while: the program may let the engine go."""


FromProgram = Create | Close
FromEngine = Created | Failed | Lost | Closed | Log | Idle

_encoder = msgspec.json.Encoder()

decode_from_program = msgspec.json.Decoder(FromProgram).decode
decode_from_engine = msgspec.json.Decoder(FromEngine).decode


def encode(message: Message) -> bytes:
    """``message`` as a line."""
    return _encoder.encode(message) + b"\n"
