"""HTTP clients: CONNECT, and plain requests passed on."""

from __future__ import annotations

import asyncio
from base64 import b64encode

import pytest

from tests.e2e.http_support import Wire
from tests.egress.support import Site, proxied
from tests.support.scripted import until
from tunnelkit.egress import Limits, User, hash_password

ALICE = User("alice", hash_password("secret"))


def basic(user: str, password: str) -> str:
    return f"Proxy-Authorization: Basic {b64encode(f'{user}:{password}'.encode()).decode()}\r\n"


def get(site: Site, path: str = "/", *, method: str = "GET", fields: str = "", version: str = "1.1") -> bytes:
    host = f"127.0.0.1:{site.port}"
    return f"{method} http://{host}{path} HTTP/{version}\r\nHost: {host}\r\n{fields}\r\n".encode()


def connect(site: Site, fields: str = "") -> bytes:
    return f"CONNECT 127.0.0.1:{site.port} HTTP/1.1\r\n{fields}\r\n".encode()


async def answer(service: Wire, body: bytes = b"hello", fields: bytes = b"") -> bytes:
    """Take one request's head and answer it; the head."""
    head = await service.until(b"\r\n\r\n")
    await service.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), fields, body))
    return head


# --- CONNECT ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 1000])
async def test_connect_with_bytes_sent_early(size: int) -> None:
    async with proxied() as site:
        client = await site.client()
        hello = connect(site) + b"early"
        for start in range(0, len(hello), size):
            await client.send(hello[start : start + size])
            await asyncio.sleep(0)
        service = await site.accept()
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
        assert await service.exactly(5) == b"early"
        client.shutdown()
        assert await service.ended()
        await service.send(b"late")
        service.close()
        assert await client.rest() == b"late"
        await until(lambda: site.ends == ["ok"])
        assert (site.log[0].sent, site.log[0].received) == (5, 4)


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("CONNECT 127.0.0.1 HTTP/1.1", 400),  # no port
        ("CONNECT http://127.0.0.1:80/ HTTP/1.1", 400),
        ("CONNECT user@127.0.0.1:80 HTTP/1.1", 400),
        ("CONNECT 127.0.0.2:80 HTTP/1.1", 403),
        ("CONNECT 127.0.0.1:80 HTTP/2.0", 505),
        ("GET / HTTP/1.1", 400),
        ("GET ftp://127.0.0.1/ HTTP/1.1", 400),
        ("GET https://127.0.0.1/ HTTP/1.1", 400),
        ("GET http://user@127.0.0.1/ HTTP/1.1", 400),
        ("GET http://127.0.0.1/#fragment HTTP/1.1", 400),
        ("GET http://127.0.0.2/ HTTP/1.1", 403),
        ("GET http:// HTTP/1.1", 400),
    ],
)
async def test_what_is_refused(request_line: str, status: int) -> None:
    async with proxied() as site:
        client = await site.client()
        await client.send(f"{request_line}\r\nHost: 127.0.0.1\r\n\r\n".encode())
        reply = await client.rest()
        assert reply.startswith(b"HTTP/1.1 %d " % status)
        assert b"Tunnelkit-Error: " in reply
        await until(lambda: site.log)


async def test_nothing_listens() -> None:
    async with proxied() as site:
        request, tunnel = get(site), connect(site)
        site.service.close()
        for said in (request, tunnel):
            client = await site.client()
            await client.send(said)
            assert (await client.rest()).startswith(b"HTTP/1.1 502 ")
        assert site.ends == ["destination_refused"] * 2


# --- requests -----------------------------------------------------------------------------------


async def test_requests_on_one_connection_each_way() -> None:
    async with proxied() as site:
        client = await site.client()
        await client.send(get(site, "/one?x=1"))
        service = await site.accept()
        head = await answer(service)
        assert head == (
            f"GET /one?x=1 HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nVia: 1.1 tunnelkit\r\n\r\n".encode()
        )
        reply = await client.until(b"hello")
        assert b"Via: 1.1 tunnelkit\r\n" in reply
        await client.send(get(site, "/two"))
        await answer(service, b"world")  # on the same connection
        await client.until(b"world")
        client.shutdown()
        assert await client.ended()
        assert await service.ended()
        assert site.ends == ["ok", "ok"]
        assert site.log[0].received > len(b"hello")


async def test_what_is_between_client_and_proxy_stays_there() -> None:
    async with proxied() as site:
        client = await site.client()
        fields = (
            "Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic c2VjcmV0\r\nConnection: x-mine\r\n"
            "X-Mine: 1\r\nKeep-Alive: timeout=5\r\nTE: gzip\r\nX-Forwarded-For: 192.0.2.1\r\nX-Other: 2\r\n"
        )
        await client.send(get(site, fields=fields))
        service = await site.accept()
        back = b"Proxy-Authenticate: Basic\r\nKeep-Alive: x\r\nConnection: x-theirs\r\nX-Theirs: 3\r\n"
        head = await answer(service, b"hello", back + b"X-Left: 4\r\n")
        assert head.split(b"\r\n")[2:-2] == [b"X-Other: 2", b"Via: 1.1 tunnelkit"]
        reply = await client.until(b"hello")
        fields_back = [line.partition(b":")[0] for line in reply.split(b"\r\n")[1:-2]]
        assert fields_back == [b"Content-Length", b"X-Left", b"Via"]


async def test_the_target_decides_and_not_the_host() -> None:
    async with proxied() as site:
        client = await site.client()
        await client.send(
            f"GET http://127.0.0.1:{site.port}/ HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n".encode()
        )
        head = await answer(await site.accept())
        assert f"Host: 127.0.0.1:{site.port}\r\n".encode() in head
        assert b"elsewhere" not in head


async def test_bodies_by_length_and_by_chunk() -> None:
    async with proxied() as site:
        client = await site.client()
        data = bytes(range(256)) * 4096
        await client.send(get(site, method="POST", fields=f"Content-Length: {len(data)}\r\n"))
        service = await site.accept()
        await service.until(b"\r\n\r\n")

        async def up() -> None:
            await client.send(data)

        async def down() -> None:
            assert await service.exactly(len(data)) == data
            await service.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await service.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))

        done = asyncio.gather(up(), down())
        await client.until(b"\r\n\r\n")
        assert await client.until(b"\r\n") == b"%x\r\n" % len(data)
        assert await client.exactly(len(data)) == data
        assert await client.exactly(7) == b"\r\n0\r\n\r\n"
        await done
        await client.send(
            get(site, method="PUT", fields="Transfer-Encoding: chunked\r\n") + b"3\r\nabc\r\n0\r\n\r\n"
        )
        await service.until(b"3\r\nabc\r\n0\r\n\r\n")
        await service.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await client.until(b"\r\n\r\n")


async def test_a_body_that_two_servers_could_read_in_two_ways() -> None:
    async with proxied() as site:
        client = await site.client()
        both = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"
        await client.send(get(site, method="POST", fields=both) + b"0\r\n\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        with pytest.raises(BlockingIOError):
            site.service.accept()


async def test_another_server_is_another_connection() -> None:
    async with proxied() as site, proxied() as other:
        client = await site.client()
        for there in (site, other, site):
            await client.send(get(there))
            await answer(await there.accept())
            await client.until(b"hello")
        assert site.ends == ["ok"] * 3


async def test_a_server_that_closed_meanwhile_is_asked_again_on_another_connection() -> None:
    async with proxied() as site:
        client = await site.client()
        await client.send(get(site))
        first = await site.accept()
        await answer(first)
        await client.until(b"hello")
        await client.send(get(site))
        await first.until(b"\r\n\r\n")
        first.close()
        await answer(await site.accept(), b"again")
        await client.until(b"again")


async def test_a_post_that_may_have_been_heard_is_not_sent_twice() -> None:
    async with proxied() as site:
        client = await site.client()
        await client.send(get(site))
        service = await site.accept()
        await answer(service)
        await client.until(b"hello")
        await client.send(get(site, method="POST", fields="Content-Length: 1\r\n") + b"1")
        await service.until(b"\r\n\r\n1")
        service.close()
        assert (await client.rest()).startswith(b"HTTP/1.1 502 ")
        assert site.ends == ["ok", "destination_closed"]


async def test_an_answer_cut_off_is_not_ended_as_if_it_were_whole() -> None:
    async with proxied() as site:
        client = await site.client()
        await client.send(get(site))
        service = await site.accept()
        await service.until(b"\r\n\r\n")
        await service.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await client.until(b"half")
        service.close()
        await client.broken()
        assert site.ends == ["destination_closed"]


async def test_old_clients_get_the_end_of_an_answer_as_the_end_of_their_connection() -> None:
    async with proxied() as site:
        client = await site.client()
        await client.send(get(site, version="1.0"))
        service = await site.accept()
        await service.until(b"\r\n\r\n")
        await service.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        reply = await client.rest()
        assert reply.endswith(b"\r\n\r\nhello")
        assert b"Connection: close" in reply


async def test_an_answer_that_ends_with_its_connection() -> None:
    async with proxied() as site:
        client = await site.client()
        await client.send(get(site))
        service = await site.accept()
        await service.until(b"\r\n\r\n")
        await service.send(b"HTTP/1.0 200 OK\r\n\r\nhello")
        service.close()
        assert (await client.rest()).endswith(b"hello")


async def test_interim_answers_and_expectations() -> None:
    async with proxied() as site:
        client = await site.client()
        fields = "Content-Length: 2\r\nExpect: 100-continue\r\n"
        await client.send(get(site, method="POST", fields=fields))
        service = await site.accept()
        assert b"Expect: 100-continue" in await service.until(b"\r\n\r\n")
        await service.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await client.send(b"ok")
        assert await service.exactly(2) == b"ok"
        await service.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_switch_of_protocols() -> None:
    async with proxied() as site:
        client = await site.client()
        await client.send(get(site, fields="Connection: Upgrade\r\nUpgrade: websocket\r\n"))
        service = await site.accept()
        await service.until(b"\r\n\r\n")
        await service.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst"
        )
        assert (await client.until(b"first")).startswith(b"HTTP/1.1 101 ")
        await client.send(b"up")
        assert await service.exactly(2) == b"up"
        service.close()
        assert await client.ended()
        client.close()
        await until(lambda: site.ends == ["ok"])


async def test_a_head_has_no_body_even_where_it_is_refused() -> None:
    async with proxied() as site:
        client = await site.client()
        await client.send(get(site, method="HEAD"))
        service = await site.accept()
        await service.until(b"\r\n\r\n")
        await service.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        await client.until(b"\r\n\r\n")
        await client.send(b"HEAD http://127.0.0.2/ HTTP/1.1\r\nHost: 127.0.0.2\r\n\r\n")
        reply = await client.rest()
        assert reply.startswith(b"HTTP/1.1 403 ")
        assert reply.endswith(b"\r\n\r\n")


async def test_slow_heads_are_told_and_idle_connections_close() -> None:
    async with proxied(limits=Limits(head_timeout=0.1, keep_alive=0.1)) as site:
        slow = await site.client()
        await slow.send(b"GET http://")
        assert (await slow.rest()).startswith(b"HTTP/1.1 408 ")
        idle = await site.client()
        await idle.send(get(site))
        await answer(await site.accept())
        await idle.until(b"hello")
        assert await idle.ended()


async def test_a_server_that_does_not_answer() -> None:
    async with proxied(limits=Limits(response_timeout=0.1)) as site:
        client = await site.client()
        await client.send(get(site))
        service = await site.accept()
        await service.until(b"\r\n\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 504 ")
        assert site.ends == ["destination_timeout"]


# --- passwords ----------------------------------------------------------------------------------


async def test_passwords() -> None:
    async with proxied(users=[ALICE]) as site:
        for fields in (
            "",
            basic("alice", "wrong"),
            basic("bob", "secret"),
            "Proxy-Authorization: Basic !\r\n",
        ):
            for said in (get(site, fields=fields), connect(site, fields)):
                client = await site.client()
                await client.send(said)
                reply = await client.rest()
                assert reply.startswith(b"HTTP/1.1 407 ")
                assert b"\r\nProxy-Authenticate: Basic realm=" in reply
        with pytest.raises(BlockingIOError):
            site.service.accept()
        client = await site.client()
        for _ in range(2):
            await client.send(get(site, fields=basic("alice", "secret")))
        service = await site.accept()
        for _ in range(2):
            assert b"roxy-A" not in await answer(service)
            await client.until(b"hello")
        # Who has proved it once has to prove it again on the same connection.
        await client.send(get(site))
        assert (await client.rest()).startswith(b"HTTP/1.1 407 ")
        client = await site.client()
        await client.send(connect(site, basic("alice", "secret")))
        await client.until(b" 200 ")
        assert {access.user for access in site.log if access.end == "ok"} == {"alice"}
