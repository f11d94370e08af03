"""Listening: addresses, batches, and what happens when descriptors run out."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket

import pytest

from tests.support.scripted import until
from tunnelkit.errors import AddressInUseError
from tunnelkit.net import listen
from tunnelkit.net.listen import ACCEPT_BATCH, Listener, bind, raise_descriptor_limit


class Arrivals:
    """What a listener accepted; closed at the end of the test."""

    def __init__(self) -> None:
        self.connections: list[socket.socket] = []
        self._changed = asyncio.Event()

    def __call__(self, connection: socket.socket, address: object) -> None:
        self.connections.append(connection)
        self._changed.set()

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.connections) < count:
                self._changed.clear()
                await self._changed.wait()

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


@pytest.fixture
def arrivals():
    found = Arrivals()
    yield found
    found.close()


def visit(listener: Listener) -> socket.socket:
    return socket.create_connection(listener.address)


async def test_more_visitors_than_one_batch_are_all_accepted(arrivals: Arrivals) -> None:
    listener = Listener(asyncio.get_running_loop(), bind("127.0.0.1", 0), arrivals)
    visitors = [visit(listener) for _ in range(2 * ACCEPT_BATCH + 1)]
    await arrivals.reach(len(visitors))
    assert not any(connection.getblocking() for connection in arrivals.connections)
    for visitor in visitors:
        visitor.close()
    listener.close()


async def test_a_closed_listener_releases_its_address_and_closes_once(arrivals: Arrivals) -> None:
    loop = asyncio.get_running_loop()
    listener = Listener(loop, bind("127.0.0.1", 0), arrivals)
    listener.close()
    listener.close()
    again = Listener(loop, bind("127.0.0.1", listener.port), arrivals)
    assert again.port == listener.port
    again.close()


async def test_a_listener_may_be_closed_by_what_it_accepts() -> None:
    accepted = []

    def accept(connection: socket.socket, address: object) -> None:
        connection.close()
        accepted.append(address)
        listener.close()
        done.set()

    done = asyncio.Event()
    listener = Listener(asyncio.get_running_loop(), bind("127.0.0.1", 0), accept)
    visitors = [visit(listener) for _ in range(3)]
    async with asyncio.timeout(10):
        await done.wait()
    assert len(accepted) == 1
    for visitor in visitors:
        visitor.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"], ids=["in use", "not of this machine"])
def test_an_address_that_cannot_be_had_is_an_error_that_names_it(host: str) -> None:
    with bind("127.0.0.1", 0) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(AddressInUseError, match=f"Cannot listen on {host}:{port}"):
            bind(host, port)


def test_no_host_is_every_address_of_both_families() -> None:
    with bind("", 0) as sock:
        port = sock.getsockname()[1]
        for host in ("127.0.0.1", *(["::1"] if sock.family == socket.AF_INET6 else [])):
            socket.create_connection((host, port)).close()


class Scarce:
    """A listening socket whose process has no descriptors left while ``exhausted``."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.exhausted = True
        self.refused = 0
        self.fileno, self.getsockname, self.close = sock.fileno, sock.getsockname, sock.close

    def accept(self) -> tuple[socket.socket, object]:
        if self.exhausted:
            self.refused += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._sock.accept()


async def test_without_descriptors_it_pauses_says_so_once_and_recovers(
    arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listen, "ACCEPT_PAUSE", 0.005)
    scarce = Scarce(bind("127.0.0.1", 0))
    told: list[int] = []
    listener = Listener(
        asyncio.get_running_loop(), scarce, arrivals, on_exhausted=lambda: told.append(scarce.refused)
    )
    with caplog.at_level(logging.DEBUG, "tunnelkit"), visit(listener):
        await until(lambda: scarce.refused >= 5)
        scarce.exhausted = False
        await arrivals.reach(1)
        scarce.exhausted = True
        with visit(listener):
            await until(lambda: scarce.refused > len(told) or told[-1] >= 6)
            scarce.exhausted = False
            await arrivals.reach(2)
    assert told == list(range(1, scarce.refused + 1))  # each time, so that somebody gives some up
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot accept visitors on 127.0.0.1:{listener.port} for now: Too many open files"
    ]
    listener.close()


async def test_a_listener_that_pauses_can_be_closed(arrivals: Arrivals) -> None:
    scarce = Scarce(bind("127.0.0.1", 0))
    listener = Listener(asyncio.get_running_loop(), scarce, arrivals)
    with visit(listener):
        await until(lambda: scarce.refused)
        listener.close()


def test_the_descriptor_limit_is_raised_to_the_hard_one() -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        assert raise_descriptor_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
