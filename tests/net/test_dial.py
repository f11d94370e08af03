"""The one connect, on real sockets."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tunnelkit.net import dial as module
from tunnelkit.net.dial import Address, DialError, LocalDialer, Resolver, dial, dial_now, in_turn
from tunnelkit.net.ready import writable
from tunnelkit.wire.address import Endpoint

linux = pytest.mark.skipif(sys.platform != "linux", reason="full accept queues differ elsewhere")


class Known(Resolver):
    """Answers any name with the addresses it was made with."""

    def __init__(self, *addresses: Address) -> None:
        super().__init__()
        self.addresses = list(addresses)

    async def resolve(self, host: str, port: int) -> list[Address]:
        return self.addresses


@pytest.fixture
async def resolver() -> AsyncIterator[Resolver]:
    made = Resolver()
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        yield listener


@pytest.fixture
def full() -> Iterator[socket.socket]:
    """A TCP listener whose accept queue is full: connects to it stay under way."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        listener.settimeout(5)
        first, connected = dial_now(address_of(listener))
        assert connected
        with first:
            yield listener


def address_of(listener: socket.socket) -> Address:
    return Address(listener.family, listener.getsockname())


def endpoint_of(listener: socket.socket) -> Endpoint:
    return Endpoint(*listener.getsockname()[:2])


def refusing() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return address_of(listener)


UNREACHABLE = Address(socket.AF_INET, ("255.255.255.255", 80))


# --- dial_now -----------------------------------------------------------------------------------


def test_a_connect_on_loopback_is_complete_at_once(server) -> None:
    sock, connected = dial_now(address_of(server))
    with sock:
        assert connected
        assert not sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        peer, _ = server.accept()
        with peer:
            sock.send(b"x")
            assert peer.recv(1) == b"x"


def test_a_refusal_on_loopback_is_told_at_once() -> None:
    address = refusing()
    with pytest.raises(DialError, match=str(address)) as caught:
        dial_now(address)
    assert caught.value.kind == "refused"


@linux
def test_a_connect_that_is_under_way_is_told(full) -> None:
    sock, connected = dial_now(address_of(full))
    sock.close()
    assert not connected


def test_a_socket_file_that_is_not_there_refuses(tmp_path: Path) -> None:
    with pytest.raises(DialError, match=r"unix:.*missing") as caught:
        dial_now(Address(socket.AF_UNIX, str(tmp_path / "missing")))
    assert caught.value.kind == "refused"


def test_no_way_is_no_refusal() -> None:
    with pytest.raises(DialError) as caught:
        dial_now(UNREACHABLE)
    assert caught.value.kind == "unreachable"


def test_no_descriptor_left_is_named(monkeypatch: pytest.MonkeyPatch, server) -> None:
    def no_socket(*_: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    address = address_of(server)
    monkeypatch.setattr(socket, "socket", no_socket)
    with pytest.raises(DialError, match="Too many open files") as caught:
        dial_now(address)
    assert caught.value.kind == "unreachable"


def test_a_connection_to_itself_is_a_refusal() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        with pytest.raises(ConnectionRefusedError):
            module._is_connected(sock)


# --- dial ---------------------------------------------------------------------------------------


async def test_a_dialled_socket_is_connected_and_does_not_block(server, resolver) -> None:
    sock = await dial(endpoint_of(server), resolver=resolver, timeout=5)
    peer, _ = server.accept()
    with sock, peer:
        assert not sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getpeername() == peer.getsockname()


async def test_a_unix_socket_is_dialled(tmp_path: Path, resolver) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        (await dial(Endpoint("", 0, path), resolver=resolver, timeout=5)).close()


@linux
async def test_a_unix_socket_with_a_full_queue_is_waited_for(tmp_path: Path, resolver) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        with pytest.raises(DialError) as caught:
            await dial(Endpoint("", 0, path), resolver=resolver, timeout=0.05)
        assert caught.value.kind == "timeout"
        dialling = asyncio.create_task(dial(Endpoint("", 0, path), resolver=resolver, timeout=5))
        await asyncio.sleep(0)
        listener.accept()[0].close()
        (await dialling).close()


async def test_a_refusal_names_the_endpoint(resolver) -> None:
    endpoint = Endpoint("localhost", refusing().sockaddr[1])
    with pytest.raises(DialError, match=f"No connection to {endpoint}: Connection refused") as caught:
        await dial(endpoint, resolver=resolver, timeout=5)
    assert caught.value.kind == "refused"


@linux
async def test_no_answer_is_a_timeout(full, resolver) -> None:
    with pytest.raises(DialError, match=r"no answer within 0\.05 s") as caught:
        await dial(endpoint_of(full), resolver=resolver, timeout=0.05)
    assert caught.value.kind == "timeout"


@linux
async def test_a_silent_address_is_joined_by_the_next(full, server, monkeypatch) -> None:
    monkeypatch.setattr(module, "STAGGER", 0.05)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    resolver = Known(address_of(full), address_of(server))
    sock = await dial(Endpoint("name", 1), resolver=resolver, timeout=5)
    with sock:
        assert sock.getpeername() == server.getsockname()
        assert loop.time() - begun >= 0.04


async def test_a_refusal_starts_the_next_address_at_once(server, monkeypatch) -> None:
    monkeypatch.setattr(module, "STAGGER", 60)
    resolver = Known(refusing(), UNREACHABLE, address_of(server))
    sock = await dial(Endpoint("name", 1), resolver=resolver, timeout=5)
    with sock:
        assert sock.getpeername() == server.getsockname()


@linux
async def test_an_address_that_answers_late_still_wins(full, monkeypatch) -> None:
    monkeypatch.setattr(module, "STAGGER", 0.01)
    resolver = Known(address_of(full), refusing())
    dialling = asyncio.create_task(dial(Endpoint("name", 1), resolver=resolver, timeout=10))
    await asyncio.sleep(0)  # one step of the task: the first connect is under way
    full.accept()[0].close()  # room again: the next SYN, a second after the first, is answered
    with await dialling as sock:
        assert sock.getpeername() == full.getsockname()


async def test_of_several_failures_the_most_telling_is_reported() -> None:
    with pytest.raises(DialError) as caught:
        await dial(Endpoint("name", 1), resolver=Known(UNREACHABLE, refusing()), timeout=5)
    assert caught.value.kind == "refused"


def test_families_take_turns_and_addresses_are_limited() -> None:
    v4 = [Address(socket.AF_INET, (f"192.0.2.{n}", 1)) for n in range(99)]
    v6 = [Address(socket.AF_INET6, (f"2001:db8::{n}", 1, 0, 0)) for n in range(2)]
    order = in_turn([*v6, *v4])
    assert list(order)[:5] == [v6[0], v4[0], v6[1], v4[1], v4[2]]
    assert len(order) == module.MAX_ADDRESSES
    assert module._of_family([*v6, *v4], "2001:db8::9") == v6


@linux
@pytest.mark.parametrize("turns", range(4))
async def test_cancelled_at_any_point_it_leaves_no_socket(full, turns, monkeypatch) -> None:
    monkeypatch.setattr(module, "STAGGER", 0)
    resolver = Known(address_of(full), address_of(full), address_of(full))
    dialling = asyncio.create_task(dial(Endpoint("name", 1), resolver=resolver, timeout=60))
    for _ in range(turns):
        await asyncio.sleep(0)
    dialling.cancel()
    with pytest.raises(asyncio.CancelledError):  # and the leak check looks for descriptors
        await dialling


# --- the source address -------------------------------------------------------------------------


@linux
async def test_it_leaves_from_the_source_address(server, resolver) -> None:
    sock = await dial(endpoint_of(server), resolver=resolver, timeout=5, source="127.0.0.2")
    with sock:
        peer, (address, _) = server.accept()
        peer.close()
        assert address == "127.0.0.2"


async def test_it_leaves_from_an_ipv6_source_address(resolver) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        sock = await dial(endpoint_of(listener), resolver=resolver, timeout=5, source="::1")
        with sock:
            assert sock.getsockname()[0] == "::1"


async def test_a_source_address_that_is_not_here_is_named(server, resolver) -> None:
    with pytest.raises(DialError, match=r"cannot leave from 192\.0\.2\.1") as caught:
        await dial(endpoint_of(server), resolver=resolver, timeout=5, source="192.0.2.1")
    assert caught.value.kind == "source"


async def test_a_destination_of_another_family_than_the_source_is_unreachable(server, resolver) -> None:
    with pytest.raises(DialError, match="no address of the family of ::1") as caught:
        await dial(endpoint_of(server), resolver=resolver, timeout=5, source="::1")
    assert caught.value.kind == "unreachable"


# --- LocalDialer --------------------------------------------------------------------------------


async def test_a_local_service_is_dialled_without_a_wait(server, resolver) -> None:
    dialer = LocalDialer(Endpoint("localhost", server.getsockname()[1]), resolver, 5)
    sock = dialer.try_now()
    assert sock is not None
    with sock:
        assert sock.getpeername() == server.getsockname()


async def test_the_address_of_localhost_that_answered_is_tried_first(server, resolver) -> None:
    port = server.getsockname()[1]
    dialer = LocalDialer(Endpoint("localhost", port), resolver, 5)
    dialer.try_now().close()
    with socket.create_server(("::1", port), family=socket.AF_INET6):
        with dialer.try_now() as sock:
            assert sock.family == socket.AF_INET


async def test_a_local_service_that_is_not_there_is_told_at_once(resolver) -> None:
    endpoint = Endpoint("localhost", refusing().sockaddr[1])
    with pytest.raises(DialError, match=f"No connection to {endpoint}") as caught:
        LocalDialer(endpoint, resolver, 5).try_now()
    assert caught.value.kind == "refused"


async def test_a_service_elsewhere_is_left_to_dial(server) -> None:
    dialer = LocalDialer(Endpoint("service.example", 1), Known(address_of(server)), 5)
    assert dialer.try_now() is None
    with await dialer.dial() as sock:
        assert sock.getpeername() == server.getsockname()


@linux
async def test_a_connect_that_was_begun_is_the_one_that_is_finished(full, resolver, monkeypatch) -> None:
    monkeypatch.setattr(module, "dial", None)  # no other is
    dialer = LocalDialer(endpoint_of(full), resolver, 5)
    assert dialer.try_now() is None
    full.accept()[0].close()
    with await dialer.dial() as sock:
        peer, address = full.accept()
        peer.close()
        assert address == sock.getsockname()
    full.settimeout(0)
    with pytest.raises(BlockingIOError):
        full.accept()


@linux
async def test_a_connect_that_was_begun_has_its_timeout(full, resolver) -> None:
    dialer = LocalDialer(endpoint_of(full), resolver, 0.05)
    assert dialer.try_now() is None
    with pytest.raises(DialError, match=str(endpoint_of(full))) as caught:
        await dialer.dial()
    assert caught.value.kind == "timeout"


@linux
async def test_a_connect_that_nobody_finishes_is_closed(full, resolver) -> None:
    dialer = LocalDialer(endpoint_of(full), resolver, 5)
    assert dialer.try_now() is None
    dialer.close()  # the leak check looks for its descriptor


@linux
async def test_a_full_unix_socket_is_left_to_dial(tmp_path: Path, resolver) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        dialer = LocalDialer(Endpoint("", 0, path), resolver, 5)
        with dialer.try_now():
            assert dialer.try_now() is None
            listener.accept()[0].close()
            (await dialer.dial()).close()


async def test_dialled_sockets_are_writable_at_once(server, resolver) -> None:
    with await dial(endpoint_of(server), resolver=resolver, timeout=5) as sock:
        async with asyncio.timeout(5):
            await writable(sock)
        assert sock.send(b"x") == 1
