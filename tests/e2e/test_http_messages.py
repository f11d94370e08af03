"""Requests and responses arrive as they were sent, however they are framed, split and timed."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.e2e.http_support import GET, OK, Message, Service, Wire, answering, silent, tunnelled

GET_10 = b"GET / HTTP/1.0\r\nHost: app.test\r\n\r\n"
POST_CHUNKED = b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED_OK = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    b"5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 42\r\n\r\n"
)


async def echo(wire: Wire) -> None:
    """Answers each request with its target and its body."""
    while True:
        request = await wire.request()
        body = request.target + b" " + request.body
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: app.test\r\n\r\n".encode()


# --- connections --------------------------------------------------------------------------------


async def test_connections_are_kept_alive_on_both_sides() -> None:
    async with Service(echo) as service, tunnelled(service) as site:
        for _ in range(3):  # visitors one after the other, each with several requests
            visitor = await site.visit()
            for number in range(5):
                answer = await visitor.ask(get(f"/{number}"))
                assert answer.body == b"/%d " % number
                assert b"Connection" not in answer
            visitor.close()
        assert len(service.connections) == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    requests = [
        get(f"/{number}") if number % 3 else POST_CHUNKED + b"1\r\n%d\r\n0\r\n\r\n" % (number % 10)
        for number in range(60)
    ]
    expected = [b"/%d " % n if n % 3 else b"/ %d" % (n % 10) for n in range(60)]
    async with Service(echo) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(b"".join(requests))
        assert [(await visitor.response()).body for _ in requests] == expected


async def test_a_pipelining_visitor_that_ends_its_side_gets_every_answer() -> None:
    async with Service(echo) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(get("/1") + get("/2") + get("/3"))
        visitor.shutdown()
        assert [(await visitor.response()).body for _ in range(3)] == [b"/1 ", b"/2 ", b"/3 "]
        assert await visitor.ended()


async def test_a_half_closed_visitor_gets_the_whole_answer() -> None:
    body = bytes(5_000_000)

    async def handle(wire: Wire) -> None:
        await wire.request()
        await asked.wait()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    asked = asyncio.Event()
    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(GET)
        visitor.shutdown()
        await service.connection()
        asked.set()
        assert (await visitor.response()).body == body
        assert await visitor.ended()


async def test_close_is_honoured_in_either_direction() -> None:
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with Service(answering(closing, OK)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        assert b"Connection" not in await visitor.ask()  # what the service closes is its own connection
        await visitor.ask()
        assert len(service.connections) == 2
        answer = await visitor.ask(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert answer[b"Connection"] == b"close"
        assert await visitor.ended()
        assert b"Connection: close" not in service.seen


# --- versions -----------------------------------------------------------------------------------


async def test_http_1_0_is_answered_and_closed() -> None:
    async with Service(echo) as service, tunnelled(service) as site:
        visitor = await site.visit()
        answer = await visitor.ask(GET_10)
        assert (answer.body, answer[b"Connection"]) == (b"/ ", b"close")
        assert await visitor.ended()
        assert b"GET / HTTP/1.1\r\n" in service.seen


async def test_http_1_0_is_kept_alive_if_it_asks() -> None:
    request = GET_10.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
    async with Service(echo) as service, tunnelled(service) as site:
        visitor = await site.visit()
        for _ in range(2):
            assert (await visitor.ask(request))[b"Connection"] == b"keep-alive"


async def test_http_1_0_without_host_is_served_on_a_port_of_its_own() -> None:
    async with Service(echo) as service, tunnelled(service) as site:
        assert (await site.ask(b"GET / HTTP/1.0\r\n\r\n")).body == b"/ "
        assert b"\r\nHost: 127.0.0.1" in service.seen


async def test_chunks_are_taken_apart_for_http_1_0() -> None:
    async with Service(answering(CHUNKED_OK)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        answer = await visitor.ask(GET_10)
        assert answer.body == b"hello world"
        assert b"Transfer-Encoding" not in answer
        assert answer[b"Connection"] == b"close"


@pytest.mark.parametrize("ending", [b"", b"Connection: keep-alive\r\nContent-Length: 5\r\n"])
async def test_a_service_of_http_1_0_works(ending: bytes) -> None:
    response = b"HTTP/1.0 200 OK\r\n" + ending + b"\r\nhello"

    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(response)

    async with Service(handle) as service, tunnelled(service) as site:
        assert (await site.ask()).body == b"hello"
        assert (await site.ask()).body == b"hello"


# --- bodies -------------------------------------------------------------------------------------


async def test_chunks_and_trailers_pass_both_ways() -> None:
    body = b"5\r\nhello\r\n0\r\nX-Check: 1\r\n\r\n"
    async with Service(answering(CHUNKED_OK)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        for _ in range(2):
            answer = await visitor.ask(POST_CHUNKED + body)
            assert (answer.body, answer.trailers) == (b"hello world", [(b"X-Sum", b"42")])
        assert service.seen.count(b"\r\n\r\n" + body) == 2
        assert len(service.connections) == 1


async def test_everything_may_come_one_byte_at_a_time() -> None:
    async def handle(wire: Wire) -> None:
        while True:
            requests.append(await wire.request())
            for byte in CHUNKED_OK:
                await wire.send(bytes([byte]))
                await asyncio.sleep(0)

    requests: list[Message] = []
    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        for _ in range(2):
            for byte in POST_CHUNKED + b"5\r\nhello\r\n0\r\nX-Check: 1\r\n\r\n":
                await visitor.send(bytes([byte]))
                await asyncio.sleep(0)
            answer = await visitor.response()
            assert (answer.body, answer.trailers) == (b"hello world", [(b"X-Sum", b"42")])
        assert [r.body for r in requests] == [b"hello", b"hello"]


async def test_a_body_that_ends_with_its_connection_ends_the_visitors_too() -> None:
    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")

    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        answer = await visitor.ask()
        assert (answer.body, answer[b"Connection"]) == (b"until the end", b"close")


@pytest.mark.parametrize(
    ("method", "response"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
    ids=["HEAD with a length", "HEAD with chunks", "204", "304", "empty"],
)
async def test_answers_without_a_body_leave_the_connections_in_use(method: bytes, response: bytes) -> None:
    async with Service(answering(response, response, OK)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        request = method + GET[3:]
        for _ in range(2):
            answer = await visitor.ask(request)
            assert not answer.body
            length = b"Content-Length: " in response
            assert answer.all(b"Content-Length") == ([response[:-4].rpartition(b" ")[2]] if length else [])
        assert (await visitor.ask()).body == b"ok"
        assert len(service.connections) == 1


# --- timing -------------------------------------------------------------------------------------


async def test_a_body_waits_for_100_continue_if_the_visitor_does() -> None:
    async def handle(wire: Wire) -> None:
        head = await wire.head()
        assert head[b"Expect"] == b"100-continue"
        assert wire.seen.endswith(b"\r\n\r\n")
        await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await wire.exactly(5)
        await wire.send(OK)

    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(
            b"PUT / HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
        assert (await visitor.response()).status == 100
        await visitor.send(b"hello")
        assert (await visitor.response()).status == 200


async def test_a_refusal_instead_of_100_continue_ends_the_connection() -> None:
    """Whether the visitor sends its body all the same, nobody can know."""

    async def handle(wire: Wire) -> None:
        await wire.head()
        await wire.send(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
        await wire.rest()

    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(
            b"PUT / HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
        answer = await visitor.response()
        assert (answer.status, answer[b"Connection"]) == (417, b"close")
        assert await visitor.ended()


async def test_early_hints_pass_but_not_to_http_1_0() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    async with Service(answering(hints + OK)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        assert (await visitor.ask())[b"Link"] == b"</a.css>; rel=preload"
        assert (await visitor.response()).status == 200
        assert (await site.ask(GET_10)).status == 200


async def test_each_event_of_a_stream_arrives_before_the_next_is_sent() -> None:
    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(20):
            await wire.send(b"data: %d\n\n" % number)
            await arrived.acquire()

    arrived = asyncio.Semaphore(0)
    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(GET)
        await visitor.head()
        for number in range(20):
            assert await visitor.until(b"\n\n") == b"data: %d\n\n" % number
            arrived.release()
        assert await visitor.ended()


async def test_each_piece_of_an_upload_arrives_before_the_next_is_sent() -> None:
    async def handle(wire: Wire) -> None:
        await wire.head()
        for number in range(10, 30):
            assert await wire.exactly(7) == b"2\r\n%d\r\n" % number
            arrived.release()
        await wire.exactly(5)
        await wire.send(OK)

    arrived = asyncio.Semaphore(0)
    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(POST_CHUNKED)
        for number in range(10, 30):
            await visitor.send(b"2\r\n%d\r\n" % number)
            await arrived.acquire()
        await visitor.send(b"0\r\n\r\n")
        assert (await visitor.response()).status == 200


@pytest.mark.parametrize("lingers", [False, True])
async def test_an_early_answer_reaches_a_visitor_that_is_still_sending(lingers: bool) -> None:
    """The service has seen enough, answers and closes; the answer is not lost to a reset."""
    body = b"." * (3_000_000 if lingers else 100)

    async def handle(wire: Wire) -> None:
        await wire.head()
        await wire.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        if lingers:
            wire.shutdown()
            await wire.rest()

    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 900000\r\n\r\n")
        sending = asyncio.create_task(visitor.send(bytes(900_000)))
        answer = await visitor.response()
        assert (answer.status, answer.body) == (413, body)
        assert answer[b"Connection"] == b"close"
        await asyncio.gather(sending, return_exceptions=True)


async def test_an_early_answer_to_a_visitor_that_reads_slowly() -> None:
    """The answer is complete at the relay, and not yet out, while the request goes on."""
    body = random.Random(2).randbytes(200_000)

    async def handle(wire: Wire) -> None:
        await wire.head()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await wire.rest()

    async with Service(handle) as service, tunnelled(service) as site:
        visitor, inside = await site.slow_visit()
        await visitor.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 900000\r\n\r\n")
        await visitor.head()
        received = await visitor.slowly(lambda: inside._upstream is None)
        assert inside._pending
        await visitor.send(bytes(100_000))
        assert received + await visitor.exactly(len(body) - len(received)) == body
        assert await visitor.ended()


async def test_a_visitor_that_leaves_while_it_waits_takes_its_request_along() -> None:
    async with Service(silent) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(GET)
        connection = await service.connection()
        visitor.reset()
        with pytest.raises(ConnectionResetError):
            await connection.rest()
