"""What two servers could read in two ways reaches no service: not one byte of it."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.http_support import GET, OK, Service, Site, Wire, answering, tunnelled

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n"


def get(*lines: bytes, host: bytes = b"Host: app.test", version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join([b"GET / " + version, *([host] if host else []), *lines, b"", b""])


def post(*lines: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join([b"POST / " + version, b"Host: app.test", *lines, b"", b""])


HEADS: dict[str, tuple[int, bytes]] = {
    "length and chunked": (400, post(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    "chunked and length": (400, post(b"Transfer-Encoding: chunked", b"Content-Length: 5") + b"0\r\n\r\n"),
    "two lengths": (400, post(b"Content-Length: 5", b"Content-Length: 6") + b"hello"),
    "one length twice": (400, post(b"Content-Length: 5", b"Content-Length: 5") + b"hello"),
    "list of lengths": (400, post(b"Content-Length: 5, 5") + b"hello"),
    "signed length": (400, post(b"Content-Length: +5") + b"hello"),
    "negative length": (400, post(b"Content-Length: -5")),
    "hexadecimal length": (400, post(b"Content-Length: 0x5") + b"hello"),
    "underscored length": (400, post(b"Content-Length: 1_0")),
    "fractional length": (400, post(b"Content-Length: 5.0") + b"hello"),
    "spaced length": (400, post(b"Content-Length: 1 0")),
    "superscript length": (400, post("Content-Length: ⁵".encode()) + b"hello"),
    "empty length": (400, post(b"Content-Length:")),
    "huge length": (400, post(b"Content-Length: 9223372036854775808")),
    "chunked twice": (400, post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")),
    "chunked not last": (400, post(b"Transfer-Encoding: chunked, identity")),
    "identity": (400, post(b"Transfer-Encoding: identity")),
    "empty coding": (400, post(b"Transfer-Encoding:")),
    "unknown coding": (501, post(b"Transfer-Encoding: xchunked")),
    "two codings": (501, post(b"Transfer-Encoding: gzip, chunked")),
    "quoted coding": (501, post(b'Transfer-Encoding: "chunked"')),
    "coding with a parameter": (501, post(b"Transfer-Encoding: chunked;q=1")),
    "chunked in HTTP/1.0": (400, post(b"Transfer-Encoding: chunked", version=b"HTTP/1.0")),
    "vertical tab in a coding": (400, post(b"Transfer-Encoding:\x0bchunked")),
    "length with an underscore": (400, post(b"Content_Length: 5") + b"hello"),
    "coding with an underscore": (400, post(b"Transfer_Encoding: chunked")),
    "space before the colon": (400, post(b"Transfer-Encoding : chunked")),
    "tab before the colon": (400, post(b"Content-Length\t: 5") + b"hello"),
    "folded line": (400, post(b"Transfer-Encoding:", b" chunked")),
    "space before the first field": (400, get(host=b" Host: app.test")),
    "no colon": (400, get(b"Content-Length")),
    "no name": (400, get(b": 5")),
    "braces in a name": (400, get(b"a{0}{x}: 5")),
    "bare line feed after a field": (400, post(b"X: a\nContent-Length: 5") + b"hello"),
    "bare line feeds": (400, GET.replace(b"\r\n", b"\n")),
    "bare line feed at the end": (400, get()[:-2] + b"\n"),
    "bare carriage return": (400, post(b"X: a\rContent-Length: 5") + b"hello"),
    "NUL": (400, get(b"X: a\0b")),
    "NUL in a name": (400, get(b"X\0: a")),
    "no Host": (400, get(host=b"")),
    "two Hosts": (400, get(b"Host: evil.test")),
    "one Host twice": (400, get(b"Host: app.test")),
    "empty Host": (400, get(host=b"Host:")),
    "list of Hosts": (400, get(host=b"Host: app.test, evil.test")),
    "Host with a space": (400, get(host=b"Host: app.test evil.test")),
    "Host with a path": (400, get(host=b"Host: app.test/evil")),
    "Host with a user": (400, get(host=b"Host: evil@app.test")),
    "Host with an escape": (400, get(host=b"Host: app%2etest")),
    "Host with dots alone": (400, get(host=b"Host: ..")),
    "Host with an odd port": (400, get(host=b"Host: app.test:8x")),
    "Host with a high port": (400, get(host=b"Host: app.test:65536")),
    "Host with half an address": (400, get(host=b"Host: [::1")),
    "URL of another host": (400, GET.replace(b" / ", b" http://evil.test/ ")),
    "CONNECT": (400, b"CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\r\n"),
    "PRI": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "h2c": (
        400,
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ"),
    ),
    "h2c among others": (400, get(b"Connection: Upgrade", b"Upgrade: websocket, h2c")),
    "HTTP/2.0": (505, get(version=b"HTTP/2.0")),
    "HTTP/1.2": (505, get(version=b"HTTP/1.2")),
    "lower case http": (400, get(version=b"http/1.1")),
    "no version": (400, b"GET /\r\nHost: app.test\r\n\r\n"),
    "two spaces": (400, GET.replace(b" / ", b"  / ")),
    "space in the target": (400, GET.replace(b" / ", b" / / ")),
    "tab in the request line": (400, GET.replace(b"GET ", b"GET\t")),
    "fragment": (400, GET.replace(b" / ", b" /#x ")),
    "target without a slash": (400, GET.replace(b" / ", b" x ")),
    "malformed method": (400, GET.replace(b"GET", b"G(T")),
    "unknown expectation": (417, post(b"Expect: 200-maybe", b"Content-Length: 5")),
    "Host nominated": (400, get(b"Connection: Host")),
    "length nominated": (400, post(b"Connection: Content-Length", b"Content-Length: 5") + b"hello"),
    "coding nominated": (400, post(b"Connection: Transfer-Encoding", b"Transfer-Encoding: chunked")),
    "malformed Connection": (400, get(b"Connection: a b")),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "101 fields": (431, get(*[b"X: y"] * 100)),
    "chunk size with a prefix": (400, CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n"),
    "signed chunk size": (400, CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n"),
    "no chunk size": (400, CHUNKED + b"\r\nhello\r\n0\r\n\r\n"),
    "space before a chunk size": (400, CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n"),
    "space after a chunk size": (400, CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n"),
    "huge chunk": (400, CHUNKED + b"8000000000000000\r\nhello"),
    "long chunk size": (400, CHUNKED + b"00000000000000005\r\nhello\r\n0\r\n\r\n"),
    "long extension": (400, CHUNKED + b"5;" + b"x" * 300 + b"\r\nhello\r\n0\r\n\r\n"),
    "chunk line with a bare line feed": (400, CHUNKED + b"5\nhello\r\n0\r\n\r\n"),
    "extension with a bare line feed": (400, CHUNKED + b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "chunk longer than its size": (400, CHUNKED + b"5\r\nhelloGE\r\n0\r\n\r\n"),
    "chunk without its CRLF": (400, CHUNKED + b"5\r\nhello0\r\n\r\n"),
    "length in a trailer": (400, CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n"),
    "Host in a trailer": (400, CHUNKED + b"0\r\nHost: evil.test\r\n\r\n"),
    "forwarding in a trailer": (400, CHUNKED + b"0\r\nX_Forwarded_For: 1.2.3.4\r\n\r\n"),
    "malformed trailer": (400, CHUNKED + b"0\r\nno colon\r\n\r\n"),
}


async def refused(site: Site, before: bytes, attempt: bytes) -> tuple[list[int], bool]:
    """The statuses of all answers to ``before`` and ``attempt``, and whether the connection then ends."""
    visitor = await site.visit()
    await visitor.send(before + attempt + SMUGGLED)
    statuses = []
    try:
        while len(statuses) < (2 if before else 1):
            statuses.append((await visitor.response()).status)
        return statuses, await visitor.ended()
    except EOFError:
        return statuses, True  # the next answer is missing
    finally:
        visitor.close()


@pytest.mark.timeout(30)
async def test_an_ambiguous_request_gets_an_error_and_a_close_and_the_service_sees_nothing() -> None:
    async with Service(answering(OK)) as service, tunnelled(service) as site:
        for name, (status, attempt) in HEADS.items():
            assert await refused(site, b"", attempt) == ([status], True), name
            assert not service.connections, name
        assert (await site.ask()).status == 200


@pytest.mark.timeout(30)
async def test_the_same_on_a_kept_alive_connection_and_behind_a_good_request() -> None:
    async with Service(answering(OK)) as service, tunnelled(service) as site:
        for name, (status, attempt) in HEADS.items():
            assert await refused(site, GET, attempt) == ([200, status], True), name
        assert service.seen.count(b"GET / ") == len(HEADS)
        assert service.seen.count(b"X-Forwarded-For: ") == len(HEADS)
        assert b"smuggled" not in service.seen
        assert b"hello" not in service.seen


async def test_a_body_that_goes_wrong_is_cut_off_before_what_is_wrong() -> None:
    """The service has its beginning already; then it sees a reset and no more."""
    begun = asyncio.Event()

    async def handle(wire: Wire) -> None:
        await wire.until(b"hello\r\n")
        begun.set()
        assert await wire.broken() == b""

    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(CHUNKED + b"5\r\nhello\r\n")
        await begun.wait()
        await visitor.send(b"0x5\r\nworld\r\n0\r\n\r\n" + SMUGGLED)
        assert (await visitor.response()).status == 400
        assert await visitor.ended()
        await service.settled()


async def test_a_body_that_goes_wrong_under_its_answer_truncates_that() -> None:
    """An error page in the midst of another answer would be taken for a part of it."""

    async def handle(wire: Wire) -> None:
        await wire.until(b"hello\r\n")
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbeginning")
        assert await wire.broken() == b""

    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(CHUNKED + b"5\r\nhello\r\n")
        await visitor.until(b"beginning")
        await visitor.send(b"0x5\r\n" + SMUGGLED)
        assert await visitor.broken() == b""
        await service.settled()
