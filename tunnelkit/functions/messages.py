"""What a program and the process of one of its functions say to each other, over a socket pair.

A message is its kind, the number of the call it is about, and a payload: ``>BQQ`` for kind, call and
the payload's length, then the payload. The two sides are the same program on the same machine, so
payloads are pickles; only the ends of a call open them.
"""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

__all__ = [
    "HEADER",
    "MAX_PAYLOAD",
    "WINDOW",
    "Assembler",
    "Kind",
    "Outcome",
    "Setup",
    "new_call",
    "pack",
    "pack_spawn",
    "unpack_spawn",
]

HEADER = struct.Struct(">BQQ")

MAX_PAYLOAD = 1 << 30
"""Bytes of the arguments or the result of one call. Both are held in memory, several times over."""

WINDOW = 16
"""Items of a generator that may be under way: enough to hide the way, few enough to hold in memory."""


class Kind(IntEnum):
    """Of which the first four go to the function's process, and the next five come from it."""

    SETUP = 1
    """A :class:`Setup`, once, first."""
    CALL = 2
    """``(args, kwargs)`` for the function."""
    MORE = 3
    """One item of a generator has been consumed; also to the program, for a nested call."""
    CLOSE = 4
    """Nobody wants the rest of a generator; also to the program, for a nested call."""
    READY = 5
    """The function is loaded. The payload is empty, or the error for which it is not."""
    SPAWN = 6
    """A call of another function from inside this one: ``(key, arguments)``."""
    FOLLOW = 7
    """The outcome of that call is wanted here."""
    CANCEL = 8
    """End that call."""
    BLOCKED = 9
    """The function waits for a nested call: its place is free meanwhile."""
    UNBLOCKED = 10
    """It does not wait any more."""
    VALUE = 11
    """The result of a call, in either direction; of a generator, its end."""
    ERROR = 12
    """What a call failed with, see :mod:`tunnelkit.functions.failure`."""
    ITEM = 13
    """One item of a generator."""
    PINNED = 14
    """The process has connected to where it is looked at. The payload is empty, or why it has not."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: ``VALUE`` or ``ERROR``, with the pickle of it."""

    kind: Kind
    payload: bytes


@dataclass(frozen=True, slots=True)
class Setup:
    """What the process of a function needs before its first call."""

    function: bytes
    """The function, by cloudpickle."""
    name: str
    environment: dict[str, str]
    """Variables to add: the secrets."""
    path: list[str]
    """The program's ``sys.path``."""
    argv: list[str]
    relay: dict[str, str]
    """How its tunnels reach their relay: kept in memory, and not in the environment."""

    def __repr__(self) -> str:
        return f"<Setup of {self.name} with {', '.join(sorted(self.environment)) or 'no secrets'}>"


def pack(kind: Kind, call: int, payload: bytes = b"") -> bytes:
    """One message."""
    return HEADER.pack(kind, call, len(payload)) + payload


def new_call() -> int:
    """A number for a call, like that of no other in the program and its functions' processes."""
    return int.from_bytes(os.urandom(8), "big")


def dump(value: Any) -> bytes:
    """A pickle of plain values; functions and classes of the program go by cloudpickle."""
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def pack_spawn(key: str, arguments: bytes) -> bytes:
    """The payload of a SPAWN."""
    name = key.encode()
    return len(name).to_bytes(4, "big") + name + arguments


def unpack_spawn(payload: bytes) -> tuple[str, bytes]:
    """What :func:`pack_spawn` was given. No pickle: the program reads it before anybody wants a result."""
    end = 4 + int.from_bytes(payload[:4], "big")
    return payload[4:end].decode(errors="replace"), payload[end:]


class Assembler:
    """Messages from the pieces in which they arrive."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, int, bytes]]:
        """Yield what ``data`` completes. Raises ValueError for what is no message."""
        self._data += data
        while len(self._data) >= HEADER.size:
            kind, call, length = HEADER.unpack_from(self._data)
            if length > MAX_PAYLOAD:
                raise ValueError(f"a message of {length} bytes")
            end = HEADER.size + length
            if len(self._data) < end:
                return
            payload = bytes(memoryview(self._data)[HEADER.size : end])
            del self._data[:end]
            yield Kind(kind), call, payload
