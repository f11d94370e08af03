"""Waiting for a raw socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from tunnelkit.net.ready import readable, writable


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


async def test_readable_returns_with_bytes_and_with_the_end(pair) -> None:
    one, other = pair
    waiting = asyncio.create_task(readable(one))
    await asyncio.sleep(0)
    assert not waiting.done()
    other.send(b"x")
    await waiting
    assert one.recv(2) == b"x"
    other.shutdown(socket.SHUT_WR)
    await readable(one)
    assert one.recv(1) == b""


async def test_writable_returns_once_the_peer_has_read(pair) -> None:
    one, other = pair
    with contextlib.suppress(BlockingIOError):
        while True:
            one.send(bytes(65536))
    waiting = asyncio.create_task(writable(one))
    await asyncio.sleep(0)
    assert not waiting.done()
    with contextlib.suppress(BlockingIOError):
        while True:
            other.recv(1 << 20)
    await waiting
    assert one.send(b"x") == 1


@pytest.mark.parametrize("wait", [readable, writable])
async def test_one_who_is_cancelled_leaves_nothing_on_the_loop(pair, wait) -> None:
    loop = asyncio.get_running_loop()
    one, _ = pair
    with contextlib.suppress(BlockingIOError):
        while True:
            one.send(bytes(65536))
    waiting = asyncio.create_task(wait(one))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not loop.remove_reader(one.fileno())
    assert not loop.remove_writer(one.fileno())
