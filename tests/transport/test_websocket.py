"""Handshakes, from both sides and with those who speak something else; control connections."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator

import pytest

from tests.support.chain import tcp_pair
from tests.support.scripted import PATIENCE, until
from tunnelkit import errors
from tunnelkit.net.pump import Pump
from tunnelkit.transport import websocket
from tunnelkit.transport.websocket import (
    Control,
    Handshake,
    Refusal,
    WebSocketProtocol,
    connect,
    handshake_accepted,
    handshake_refused,
)
from tunnelkit.wire.messages import CONTROL_PATH, Close, Goodbye, Need, Notice, encode

HANDSHAKE = Handshake("relay.test", 8080, CONTROL_PATH, False, {"Authorization": "Bearer hush"})


@pytest.fixture
def ends() -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    pair = tcp_pair()
    yield pair
    for sock in pair:
        sock.close()


async def read_head(sock: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await asyncio.get_running_loop().sock_recv(sock, 4096)
    return head


async def shake_hands(client: socket.socket, answer: bytes | None, server: socket.socket, rest: bytes = b""):
    """What :func:`connect` makes of ``answer`` (None: a relay's own), which comes in pieces."""
    loop = asyncio.get_running_loop()
    connecting = loop.create_task(connect(client, HANDSHAKE))
    head = await read_head(server)
    for value in (handshake_accepted(head)[1] if answer is None else answer) + rest:
        await loop.sock_sendall(server, bytes([value]))
    async with asyncio.timeout(PATIENCE):
        return await connecting, head


async def test_a_handshake_hands_on_exactly_what_came_behind_it(ends) -> None:
    client, server = ends
    (_, received), head = await shake_hands(client, None, server, b"\x81\x02{}")
    loop = asyncio.get_running_loop()
    while len(received) < 4:  # the rest is still in the socket
        received += await loop.sock_recv(client, 10)
    assert received == b"\x81\x02{}"
    assert head.startswith(f"GET {CONTROL_PATH} HTTP/1.1\r\nHost: relay.test:8080\r\n".encode())
    assert b"\r\nAuthorization: Bearer hush\r\n" in head
    assert b"\r\nSec-WebSocket-Protocol: tunnelkit.v1\r\n" in head
    assert b"Origin" not in head
    assert b"Sec-WebSocket-Extensions" not in head


UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"

STRANGERS = {
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "a page that is not there": b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n<html>",
    "a page": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "a page without end": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "a redirect": b"HTTP/1.1 301 Moved\r\nLocation: https://relay.test/\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 400 Bad Request\r\n\r\n",
    "no status": b"HTTP/1.1 \r\n\r\n",
    "another WebSocket server": UPGRADED + b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 3000,
}


@pytest.mark.parametrize("answer", STRANGERS.values(), ids=STRANGERS)
async def test_what_is_no_relay_is_named_at_once(ends, answer: bytes) -> None:
    """None of them ends the connection: nobody may wait for more than was said."""
    client, server = ends
    connecting = asyncio.create_task(connect(client, HANDSHAKE))
    await read_head(server)
    await asyncio.get_running_loop().sock_sendall(server, answer)
    with pytest.raises(errors.NotARelayError, match=r"relay\.test:8080 is no tunnelkit relay"):
        await asyncio.wait_for(connecting, PATIENCE)


async def test_a_websocket_server_of_another_protocol_is_no_relay(ends) -> None:
    client, server = ends
    connecting = asyncio.create_task(connect(client, HANDSHAKE))
    _, answer = handshake_accepted(await read_head(server))
    other = answer.replace(b"Sec-WebSocket-Protocol: tunnelkit.v1\r\n", b"")
    assert other != answer
    await asyncio.get_running_loop().sock_sendall(server, other)
    with pytest.raises(errors.NotARelayError):
        await connecting


async def test_a_server_that_hangs_up_is_no_relay(ends) -> None:
    client, server = ends
    connecting = asyncio.create_task(connect(client, HANDSHAKE))
    await read_head(server)
    server.close()
    with pytest.raises(errors.NotARelayError):
        await connecting


@pytest.mark.parametrize(
    "error",
    [errors.AuthError("The relay does not accept this token"), errors.LimitError("No more", hint="Later")],
)
async def test_what_a_relay_refuses_is_the_same_error_here(ends, error: errors.TunnelkitError) -> None:
    with pytest.raises(type(error)) as refusal:
        await shake_hands(ends[0], handshake_refused(Refusal(401, error)), ends[1])
    assert (refusal.value.what, refusal.value.hint) == (error.what, error.hint)


async def test_a_refusal_cannot_write_to_the_terminal(ends) -> None:
    body = b"\x1b]0;owned\x07\nhi\r"
    answer = b"HTTP/1.1 400 No\r\nTunnelkit-Error: x\x1b[2J\r\nContent-Length: 13\r\n\r\n" + body
    with pytest.raises(errors.TunnelkitError) as refusal:
        await shake_hands(ends[0], answer, ends[1])
    assert str(refusal.value).isprintable()


async def test_a_refusal_that_stops_in_the_middle_is_still_one(ends) -> None:
    client, server = ends
    connecting = asyncio.create_task(connect(client, HANDSHAKE))
    await read_head(server)
    refusal = handshake_refused(Refusal(401, errors.AuthError("The relay does not accept this token")))
    await asyncio.get_running_loop().sock_sendall(server, refusal[:-10])
    server.close()
    with pytest.raises(errors.TunnelkitError):
        await connecting


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: relay\r\nContent-Length: 5\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: relay\r\n\r\n",
    ],
)
def test_what_is_no_handshake_of_ours_is_a_protocol_error(head: bytes) -> None:
    with pytest.raises(errors.ProtocolError):
        handshake_accepted(head)


def test_no_text_of_a_handshake_shows_the_token() -> None:
    assert "hush" not in repr(HANDSHAKE)


async def test_nothing_is_logged_of_what_a_connection_carries(ends, caplog) -> None:
    with caplog.at_level(logging.DEBUG):
        await shake_hands(ends[0], None, ends[1])
    assert not caplog.records


# --- control connections ------------------------------------------------------------------------


class Side:
    """One end of a control connection."""

    def __init__(self, pump: Pump, sock: socket.socket, protocol: WebSocketProtocol) -> None:
        self.texts: list[bytes] = []
        self.lost: list[str] = []
        self.sock = sock
        self.control = Control(pump, sock, protocol, on_text=self.received, on_lost=self.lost.append)

    def received(self, text: bytes) -> None:
        self.texts.append(text)
        if text == b"bad":
            raise errors.ProtocolError("A bad message")


class Pair:
    def __init__(self, pump: Pump, client: Side, server: Side) -> None:
        self.pump, self.client, self.server = pump, client, server


@pytest.fixture
async def pair(ends) -> AsyncIterator[Pair]:
    client, server = ends
    connecting = asyncio.create_task(connect(client, HANDSHAKE))
    accepted, answer = handshake_accepted(await read_head(server))
    await asyncio.get_running_loop().sock_sendall(server, answer)
    asked, _ = await connecting
    pump = Pump(asyncio.get_running_loop())
    pair = Pair(pump, Side(pump, client, asked), Side(pump, server, accepted))
    pair.client.control.start()
    pair.server.control.start()
    yield pair
    pair.client.control.close()
    pair.server.control.close()
    pump.close()


async def test_messages_pass_both_ways_in_order(pair: Pair) -> None:
    for number in range(100):
        pair.client.control.send(Close(number))
        pair.server.control.send(Need(number))
    await until(lambda: len(pair.client.texts) == len(pair.server.texts) == 100)
    assert pair.server.texts == [encode(Close(number)) for number in range(100)]
    assert pair.client.texts == [encode(Need(number)) for number in range(100)]


async def test_a_ping_is_answered_and_any_byte_is_life(pair: Pair) -> None:
    pair.client.control.silent = 5
    pair.client.control.ping()
    await until(lambda: not pair.client.control.silent)
    assert not pair.client.texts
    assert not pair.server.texts


async def test_closing_says_so_to_the_other_side_alone(pair: Pair) -> None:
    pair.client.control.close("that is all")
    pair.client.control.close()
    await until(lambda: pair.server.lost)
    assert pair.server.lost == ["closed"]
    assert not pair.client.lost
    pair.client.control.send(Goodbye())
    pair.client.control.ping()
    pair.client.control.drop("again")
    assert not pair.client.lost


async def test_an_end_without_farewell_is_a_loss(pair: Pair) -> None:
    pair.client.sock.shutdown(socket.SHUT_RDWR)
    await until(lambda: pair.server.lost)
    assert pair.server.lost == ["closed"]
    await until(lambda: pair.client.lost)


async def test_a_message_that_is_none_ends_the_connection_with_a_reason(pair: Pair, caplog) -> None:
    pair.client.control._protocol.send_text(b"bad")
    pair.client.control._flush()
    await until(lambda: pair.client.lost)
    assert pair.server.lost == ["protocol"]
    assert caplog.messages == [f"control connection ended: {errors.ProtocolError('A bad message')}"]
    assert pair.client.control._protocol.close_rcvd.reason == "A bad message"


async def test_a_write_that_fails_is_a_loss_that_is_told_later(pair: Pair) -> None:
    class Broken:
        def send(self, data: object) -> int:
            raise ConnectionResetError

        def close(self) -> None: ...

    pair.client.control._sock = Broken()
    pair.client.control.send(Goodbye())
    assert not pair.client.lost  # not in the midst of what the caller is at
    await until(lambda: pair.client.lost)
    assert pair.client.lost == ["reset"]


async def test_what_a_slow_peer_has_not_taken_is_kept_and_comes_in_order(pair: Pair) -> None:
    pair.pump.poller.remove_reader(pair.server.sock.fileno())
    sent = []
    while not pair.client.control._unsent:
        sent.append(Notice(len(sent), "long", "x" * 10_000))
        pair.client.control.send(sent[-1])
    pair.pump.poller.add_reader(pair.server.sock.fileno(), pair.server.control._readable)
    await until(lambda: len(pair.server.texts) == len(sent))
    assert pair.server.texts == list(map(encode, sent))
    await until(lambda: not pair.client.control._unsent)


async def test_a_peer_that_takes_nothing_is_given_up(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "MAX_UNSENT", 1 << 16)
    pair.pump.poller.remove_reader(pair.server.sock.fileno())
    while not pair.client.control.closed:
        pair.client.control.send(Notice(1, "long", "x" * 10_000))
    assert pair.client.lost == ["stalled"]


async def test_messages_survive_any_cut(pair: Pair) -> None:
    """The server hears one byte at a time."""
    pair.pump.poller.remove_reader(pair.server.sock.fileno())
    pair.client.control.send(Close(7))
    pair.client.control.send(Goodbye())
    data = await asyncio.get_running_loop().sock_recv(pair.server.sock, 4096)
    for value in data:
        pair.server.control._feed(bytes([value]))
    assert pair.server.texts == [encode(Close(7)), encode(Goodbye())]


async def test_random_bytes_end_the_connection_and_nothing_else(pair: Pair) -> None:
    await asyncio.get_running_loop().sock_sendall(pair.client.sock, b"\xf0\x00" + os.urandom(1000))
    await until(lambda: pair.server.lost)
    assert pair.server.lost == ["protocol"]


async def test_empty_fragments_do_not_add_up(pair: Pair) -> None:
    pair.client.control._protocol.send_text(b"{", fin=False)
    for _ in range(1000):
        pair.client.control._protocol.send_continuation(b"", fin=False)
    pair.client.control._protocol.send_continuation(b"}", fin=False)
    pair.client.control._flush()
    await until(lambda: len(pair.server.control._fragments) == 2)
    pair.client.control._protocol.send_continuation(b"", fin=True)
    pair.client.control._flush()
    await until(lambda: pair.server.texts)
    assert pair.server.texts == [b"{}"]
