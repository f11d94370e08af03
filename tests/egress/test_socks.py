"""SOCKS clients, from their first byte to the last."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.egress.support import GRANTED, hear_connect, proxied, request5
from tests.support.scripted import until
from tunnelkit.egress import Limits, User, hash_password

ALICE = User("alice", hash_password("secret"))


def socks4(host: bytes, port: int, *, name: bytes = b"", user: bytes = b"me") -> bytes:
    return b"\x04\x01" + port.to_bytes(2, "big") + host + user + b"\0" + name


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("version", ["4", "4a", "5", "5 by name"])
async def test_every_version_in_any_pieces(version: str, size: int) -> None:
    async with proxied() as site:
        client = await site.client()
        if version.startswith("5"):
            hello = b"\x05\x01\x00" + request5("localhost" if "name" in version else "127.0.0.1", site.port)
            answer = 2 + 10
        else:
            local = b"\x7f\0\0\1" if version == "4" else b"\0\0\0\1"
            hello = socks4(local, site.port, name=b"" if version == "4" else b"localhost\0")
            answer = 8
        for start in range(0, len(hello), size):
            await client.send(hello[start : start + size])
            await asyncio.sleep(0)
        service = await site.accept()
        reply = await client.exactly(answer)
        assert (reply[2:6] == GRANTED) if answer == 12 else reply[1] == 90
        await client.send(b"up")
        assert await service.exactly(2) == b"up"
        await service.send(b"down")
        service.shutdown()
        assert await client.rest() == b"down"
        client.shutdown()
        assert await service.ended()
        await until(lambda: site.log)
        (access,) = site.log
        assert (access.end, access.sent, access.received) == ("ok", 2, 4)
        assert access.source == "127.0.0.1"
        assert access.protocol == f"socks{version[0]}"
        assert access.port == site.port


async def test_what_is_sent_early_is_neither_lost_nor_before_the_reply() -> None:
    async with proxied() as site:
        client = await site.client()
        await client.send(b"\x05\x01\x00" + request5("localhost", site.port) + b"early")
        client.shutdown()
        service = await site.accept()
        assert await service.rest() == b"early"
        await service.send(b"late")
        service.close()
        heard = await client.rest()
        assert heard[2:6] == GRANTED
        assert heard[12:] == b"late"


async def test_a_megabyte_and_a_half_close_each_way() -> None:
    async with proxied() as site:
        client = await site.client()
        service = await hear_connect(site, client)
        data = bytes(range(256)) * 8192

        async def serve() -> None:
            assert await service.rest() == data
            await service.send(data)
            service.shutdown()

        async def ask() -> None:
            await client.send(data)
            client.shutdown()
            assert await client.rest() == data

        await asyncio.gather(serve(), ask())
        await until(lambda: site.ends == ["ok"])
        assert site.log[0].sent == site.log[0].received == len(data)


async def test_a_reset_of_the_service_is_one_for_the_client() -> None:
    async with proxied() as site:
        client = await site.client()
        service = await hear_connect(site, client)
        await service.send(b"half")
        assert await client.exactly(4) == b"half"
        service.reset()
        await client.broken()
        await until(lambda: site.ends == ["reset"])


async def test_a_reset_of_the_client_is_one_for_the_service() -> None:
    async with proxied() as site:
        client = await site.client()
        service = await hear_connect(site, client)
        client.reset()
        await service.broken()
        await until(lambda: site.ends == ["reset"])


async def test_the_protocol_s_own_error_for_each_failure() -> None:
    async with proxied(rules=["allow 127.0.0.1", "deny 127.0.0.2"], source_ips=["127.0.0.1"]) as site:
        closed = socket.create_server(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        closed.close()
        for host, code, end in (
            ("127.0.0.1", 5, "destination_refused"),
            ("127.0.0.2", 2, "destination_denied"),
            ("127.1", 4, "invalid_target"),
        ):
            client = await site.client()
            await client.send(b"\x05\x01\x00" + request5_by_name(host, port))
            assert (await client.rest())[3] == code
            assert site.ends[-1] == end
        client = await site.client()
        await client.send(socks4(b"\x7f\0\0\1", port))
        assert (await client.rest())[1] == 91


def request5_by_name(host: str, port: int) -> bytes:
    return b"\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big")


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"\x05\x00", b"\x05\xff"),  # no method at all
        (b"\x05\x01\x00\x05\x02\x00\x01\x7f\0\0\1\0\x50", None),  # BIND
        (b"\x04\x02\0\x50\x7f\0\0\1\0", None),  # BIND
        (b"\x16\x03\x01\x02\x00", b""),  # TLS
        (b"\x00", b""),
    ],
)
async def test_what_is_no_request_for_a_connection(said: bytes, answer: bytes | None) -> None:
    async with proxied() as site:
        client = await site.client()
        await client.send(said)
        try:
            heard = await client.rest()
        except ConnectionResetError:
            heard = bytes(client.seen)
        if answer is not None:
            assert heard == answer
        await until(lambda: site.log)
        assert site.ends != ["ok"]


async def test_a_user_id_without_an_end_does_not_keep_the_connection() -> None:
    async with proxied(limits=Limits(head_timeout=0.1)) as site:
        client = await site.client()
        await client.send(socks4(b"\x7f\0\0\1", site.port)[:-1])
        assert await client.ended()
        assert site.ends == ["timeout"]


async def test_a_client_that_says_nothing_is_closed() -> None:
    async with proxied(limits=Limits(head_timeout=0.1)) as site:
        client = await site.client()
        assert await client.ended()
        assert site.proxy.active == 0


# --- passwords ----------------------------------------------------------------------------------


def login(user: str, password: str) -> bytes:
    return b"\x01" + bytes([len(user)]) + user.encode() + bytes([len(password)]) + password.encode()


@pytest.mark.parametrize("size", [1, 1000])
async def test_who_has_the_password_gets_through(size: int) -> None:
    async with proxied(users=[ALICE]) as site:
        hello = b"\x05\x01\x02" + login("alice", "secret") + request5("127.0.0.1", site.port)
        for _ in range(2):
            client = await site.client()
            for start in range(0, len(hello), size):
                await client.send(hello[start : start + size])
            service = await site.accept()
            assert (await client.exactly(14))[:8] == b"\x05\x02\x01\x00" + GRANTED
            service.close()
            client.close()
        await until(lambda: len(site.log) == 2)
        assert [access.user for access in site.log] == ["alice", "alice"]
        assert "secret" not in "".join(map(str, site.log))


@pytest.mark.parametrize(
    "hello",
    [
        b"\x05\x01\x02" + login("alice", "wrong"),
        b"\x05\x01\x02" + login("nobody", "secret"),
        b"\x05\x01\x02" + login("", ""),
        b"\x05\x01\x00",  # none chosen
        b"\x05\x01\x02" + request5("127.0.0.1", 1),  # chosen and skipped
        socks4(b"\x7f\0\0\1", 1),
        socks4(b"\x7f\0\0\1", 1, user=b"alice"),
    ],
)
async def test_who_has_it_not_does_not(hello: bytes) -> None:
    async with proxied(users=[ALICE]) as site:
        client = await site.client()
        # And what follows, as if it had been granted.
        await client.send(hello + request5("127.0.0.1", site.port))
        try:
            await client.rest()
        except ConnectionResetError:
            pass
        assert GRANTED not in client.seen
        await until(lambda: site.log)
        assert site.ends != ["ok"]
        with pytest.raises(BlockingIOError):
            site.service.accept()


async def test_addresses_that_may_not_come_in_are_turned_away() -> None:
    async with proxied(clients=["192.0.2.0/24"]) as site:
        with pytest.raises(ConnectionResetError):  # by then, or while it connects
            await (await site.client()).rest()
        await until(lambda: site.ends == ["client_not_allowed"])
