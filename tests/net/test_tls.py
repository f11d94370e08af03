"""TLS on raw sockets, both sides in one process."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import Certificate, certificate
from tunnelkit.net.tls import (
    CHUNK,
    MAX_RECORD,
    MAX_SEND,
    TlsSocket,
    client_context,
)

TLS_VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]

BUFFER = 64 * 1024


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


def sockets(send_buffer: int = 0) -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair()
    for sock in pair:
        sock.setblocking(False)
        if send_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    return pair


@contextmanager
def connected(
    made: Certificate, send_buffer: int = 0, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> Iterator[tuple[TlsSocket, TlsSocket]]:
    """A client and a server, shaken hands, over a socket pair."""
    context = client_context(str(made.ca))
    context.maximum_version = version
    near, far = sockets(send_buffer)
    client = TlsSocket(near, context, server_side=False, server_hostname="localhost")
    server = TlsSocket(far, made.server_context(), server_side=True)
    with near, far:
        shake_hands(client, server)
        yield client, server


def shake_hands(*sides: TlsSocket, between: Callable[[], None] = lambda: None) -> None:
    left = list(sides)
    while left:
        for side in list(left):
            with contextlib.suppress(BlockingIOError):
                side.do_handshake()
                left.remove(side)
            between()


def receive(sock: TlsSocket, size: int = BUFFER) -> bytes:
    """All there is now."""
    buffer, received = bytearray(size), bytearray()
    with contextlib.suppress(BlockingIOError):
        while count := sock.recv_into(buffer):
            received += buffer[:count]
    return bytes(received)


def transfer(source: TlsSocket, target: TlsSocket, data: bytes | memoryview) -> bytes:
    """Send ``data`` as the byte path does, receive on the other side whenever it blocks."""
    received = bytearray()
    while data:
        with contextlib.suppress(BlockingIOError):
            data = data[source.send(data) :]
        received += receive(target)
    return bytes(received)


def pattern(size: int) -> bytes:
    """Bytes in which a lost, repeated or swapped piece shows."""
    return b"".join(n.to_bytes(4) for n in range(size // 4 + 1))[:size]


# --- bytes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", TLS_VERSIONS)
def test_bulk_arrives_both_ways_through_small_kernel_buffers(made, version) -> None:
    data = pattern(3_000_000)
    with connected(made, send_buffer=4096, version=version) as (client, server):
        assert transfer(client, server, data) == data
        assert transfer(server, client, data) == data


@given(
    steps=st.lists(
        st.tuples(
            st.booleans(),
            st.integers(1, 2000) | st.integers(1, 3 * CHUNK),
            st.sampled_from([1, 100, 20_000, BUFFER]),
        ),
        max_size=30,
    ),
    send_buffer=st.sampled_from([4096, 16384, 0]),
)
@settings(max_examples=60)
def test_whoever_retries_with_the_same_bytes_loses_and_repeats_none(made, steps, send_buffer) -> None:
    """Sends of any size, what was not taken always first, between receives into any buffer."""
    data = memoryview(pattern(sum(size for sending, size, _ in steps if sending)))
    offered = sent = received = 0
    with connected(made, send_buffer) as (client, server):
        for sending, size, room in steps:
            with contextlib.suppress(BlockingIOError):
                if sending:
                    offered += size
                    sent += client.send(data[sent:offered])
                elif room < BUFFER:
                    buffer = bytearray(room)
                    count = server.recv_into(buffer)
                    assert buffer[:count] == data[received : received + count]
                    received += count
                else:
                    piece = receive(server)
                    assert piece == data[received : received + len(piece)]
                    received += len(piece)
        assert transfer(client, server, data[sent:]) + receive(server) == data[received:]


def test_one_byte_of_ciphertext_at_a_time(made) -> None:
    near, middle_near = sockets()
    middle_far, far = sockets()

    def carry() -> None:
        for source, target in ((middle_near, middle_far), (middle_far, middle_near)):
            with contextlib.suppress(BlockingIOError):
                target.send(source.recv(1, socket.MSG_PEEK))
                source.recv(1)

    client = TlsSocket(near, client_context(str(made.ca)), server_side=False, server_hostname="localhost")
    server = TlsSocket(far, made.server_context(), server_side=True)
    with near, middle_near, middle_far, far:
        shake_hands(client, server, between=carry)
        for source, target, how_many in ((client, server, 300), (server, client, 300)):
            data, received = pattern(how_many), b""
            assert source.send(data) == how_many
            source.shutdown(socket.SHUT_WR)
            while not received.endswith(data):
                carry()
                received += receive(target)
            assert received == data


def test_received_bytes_can_be_handed_over_with_the_socket(made) -> None:
    near, far = sockets()
    with near, far:
        context = client_context(str(made.ca))
        client = TlsSocket(near, context, server_side=False, server_hostname="localhost")
        with pytest.raises(BlockingIOError):
            client.do_handshake()
        hello = far.recv(BUFFER)
        server = TlsSocket(far, made.server_context(), server_side=True, received=hello)
        shake_hands(client, server)
        assert transfer(client, server, b"hello") == b"hello"


def test_payload_that_follows_the_handshake_closely_is_pending(made) -> None:
    near, far = sockets()
    with near, far:
        context = client_context(str(made.ca))
        client = TlsSocket(near, context, server_side=False, server_hostname="localhost")
        server = TlsSocket(far, made.server_context(), server_side=True)
        for side in (client, server):
            with pytest.raises(BlockingIOError):
                side.do_handshake()
        client.do_handshake()
        client.send(b"early")
        server.do_handshake()
        assert server.pending()
        assert receive(server) == b"early"
        assert not server.pending()


def test_a_small_buffer_gets_everything_without_the_kernel(made) -> None:
    data = pattern(MAX_RECORD - 1000)
    with connected(made) as (client, server):
        client.send(data)
        buffer = bytearray(1000)
        received = buffer[: server.recv_into(buffer)]
        while server.pending():
            received += buffer[: server.recv_into(buffer)]
        assert received == data


def test_a_large_buffer_is_filled_by_one_call(made) -> None:
    with connected(made) as (client, server):
        for _ in range(10):
            client.send(bytes(1000))
        assert server.recv_into(bytearray(BUFFER)) == 10_000


def test_a_large_buffer_leaves_nothing_behind(made) -> None:
    data = pattern(200_000)
    with connected(made, send_buffer=1_000_000) as (client, server):
        client.send(data)
        buffer, received = bytearray(BUFFER), b""
        while len(received) < len(data):
            received += buffer[: server.recv_into(buffer)]
            assert not server.pending()
        assert received == data


def test_a_record_that_is_still_under_way_is_no_end(made, monkeypatch) -> None:
    monkeypatch.setattr("tunnelkit.net.tls.MAX_ROUNDS", 1)
    with connected(made) as (client, server):
        client.send(b"hello")
        record = server.sock.recv(BUFFER)
        for piece in (record[:10], record[10:]):
            with pytest.raises(BlockingIOError):
                server.recv_into(bytearray(BUFFER))
            client.sock.send(piece)
        assert receive(server) == b"hello"


def test_buffers_are_sent_as_one(made) -> None:
    with connected(made) as (client, server):
        assert client.sendmsg([b"head", memoryview(b"payload"), b""]) == 11
        assert receive(server) == b"headpayload"


def test_nothing_to_receive_blocks(made) -> None:
    with connected(made) as (client, server):
        receive(client)
        for side in (client, server):
            with pytest.raises(BlockingIOError):
                side.recv_into(bytearray(10))


# --- sending to a peer that reads slowly --------------------------------------------------------


def block(sock: TlsSocket, data: bytes) -> int:
    """Send ``data`` over and over until that blocks; how many bytes were taken."""
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            taken += sock.send(data)
    return taken


def test_a_blocked_send_takes_nothing_more_and_keeps_one_chunk(made) -> None:
    with connected(made, send_buffer=4096) as (client, server):
        taken = block(client, bytes(CHUNK))
        assert client.wants_write
        for _ in range(3):
            with pytest.raises(BlockingIOError):
                client.send(bytes(CHUNK))
        kept = bytes(CHUNK)
        assert len(receive(server)) + len(transfer(client, server, kept)) == taken + CHUNK
        assert not client.wants_write
        assert transfer(client, server, b"after") == b"after"


def test_one_who_comes_back_with_less_is_told(made) -> None:
    with connected(made, send_buffer=4096) as (client, server):
        block(client, bytes(CHUNK))
        while client.wants_write:
            receive(server)
            with contextlib.suppress(BlockingIOError, ValueError):
                client.send(b"")
        with pytest.raises(ValueError, match=r"same .* bytes have to be sent again"):
            client.send(b"others")


def test_one_call_encrypts_a_bounded_amount(made) -> None:
    with connected(made, send_buffer=4_000_000) as (client, _):
        assert client.send(bytes(2 * MAX_SEND)) <= MAX_SEND


# --- the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", TLS_VERSIONS)
@pytest.mark.parametrize("client_first", [True, False])
def test_half_close_leaves_the_other_direction_open(made, version, client_first) -> None:
    data = pattern(1_000_000)
    with connected(made, send_buffer=16384, version=version) as sides:
        first, second = sides if client_first else sides[::-1]
        assert transfer(first, second, b"request") == b"request"
        first.shutdown(socket.SHUT_WR)
        assert second.recv_into(bytearray(10)) == 0
        assert transfer(second, first, data) == data
        second.shutdown(socket.SHUT_WR)
        assert first.recv_into(bytearray(10)) == 0
        assert second.recv_into(bytearray(10)) == 0


@pytest.mark.parametrize("version", TLS_VERSIONS)
@pytest.mark.parametrize("size", [1, 5000, BUFFER])
@pytest.mark.parametrize("piece", [1000, 40_000])
def test_half_close_loses_nothing_that_has_arrived_unread(made, version, size, piece) -> None:
    data = pattern(40_000)
    with connected(made, version=version) as (client, server):
        for start in range(0, len(data), piece):
            server.send(data[start : start + piece])
        server.shutdown(socket.SHUT_WR)
        buffer = bytearray(size)
        received = buffer[: client.recv_into(buffer)]
        client.shutdown(socket.SHUT_WR)
        assert received + receive(client, size) == data
        assert client.recv_into(buffer) == 0
        assert server.recv_into(buffer) == 0


def test_the_end_that_comes_with_payload_is_pending(made) -> None:
    with connected(made) as (client, server):
        client.send(b"last")
        client.shutdown(socket.SHUT_WR)
        buffer = bytearray(BUFFER)
        assert server.recv_into(buffer) == 4
        assert server.pending() == 1
        assert server.recv_into(buffer) == 0
        assert server.pending() == 0
        assert server.recv_into(buffer) == 0


def test_what_follows_the_end_is_ignored(made) -> None:
    with connected(made) as (client, server):
        client.shutdown(socket.SHUT_WR)
        client.sock.send(b"garbage")
        assert server.recv_into(bytearray(BUFFER)) == 0
        assert server.pending() == 0


def test_an_end_that_does_not_fit_in_is_sent_later(made) -> None:
    with connected(made, send_buffer=4096) as (client, server):
        taken = block(client, bytes(CHUNK))
        with pytest.raises(BlockingIOError):
            client.shutdown(socket.SHUT_WR)
        received = 0
        while client.wants_write:
            received += len(receive(server))
            with contextlib.suppress(BlockingIOError):
                client.shutdown(socket.SHUT_WR)
        received += len(receive(server))
        assert received == taken + CHUNK
        assert server.recv_into(bytearray(10)) == 0


def test_shutting_down_twice_or_for_reading_sends_nothing_more(made) -> None:
    with connected(made) as (client, server):
        client.shutdown(socket.SHUT_RD)
        with pytest.raises(BlockingIOError):
            server.recv_into(bytearray(10))
        client.shutdown(socket.SHUT_WR)
        client.shutdown(socket.SHUT_RDWR)
        assert server.recv_into(bytearray(10)) == 0


def test_an_end_of_tcp_alone_is_a_truncation_after_what_came_before(made) -> None:
    data = pattern(100_000)
    with connected(made, send_buffer=1_000_000) as (client, server):
        receive(client)
        client.send(data)
        client.close()
        buffer, received = bytearray(BUFFER), b""
        while len(received) < len(data):
            received += buffer[: server.recv_into(buffer)]
        assert received == data
        with pytest.raises(ConnectionAbortedError, match="without TLS's close_notify"):
            server.recv_into(buffer)


def test_a_record_that_was_changed_on_the_way_breaks_the_connection(made) -> None:
    with connected(made) as (client, server):
        receive(client)
        client.send(b"hello")
        record = bytearray(server.sock.recv(BUFFER))
        record[-1] ^= 1
        client.sock.send(record)
        with pytest.raises(ConnectionAbortedError, match="bad record mac"):
            server.recv_into(bytearray(BUFFER))
        with pytest.raises(ConnectionAbortedError):  # by the alert
            client.recv_into(bytearray(BUFFER))
