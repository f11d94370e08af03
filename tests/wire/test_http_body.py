from __future__ import annotations

from itertools import pairwise

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.http_heads import Oracle, answer
from tunnelkit.wire.http_body import MAX_CHUNK_LINE, MAX_TRAILER_BYTES, MAX_TRAILERS, ChunkScanner
from tunnelkit.wire.http_fields import HeadError

BODIES = {
    "empty": (b"0\r\n\r\n", b""),
    "one chunk": (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "chunks": (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
    "hexadecimal": (b"a\r\n0123456789\r\nB\r\n0123456789A\r\n0\r\n\r\n", b"01234567890123456789A"),
    "leading zeros": (b"0000000000000005\r\nhello\r\n000\r\n\r\n", b"hello"),
    "line ends as payload": (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    "end as payload": (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    "extension": (b"5;a=b\r\nhello\r\n0;c\r\n\r\n", b"hello"),
    "quoted extension": (b'5;sig="a;\\"b\t\xe4"\r\nhello\r\n0\r\n\r\n', b"hello"),
    "extensions": (b'5;a;b=c;d=""\r\nhello\r\n0\r\n\r\n', b"hello"),
    "trailers": (b"5\r\nhello\r\n0\r\nGrpc-Status: 0\r\nX-Sum:\tx \r\n\r\n", b"hello"),
    "longest line": (b"1;" + b"x" * (MAX_CHUNK_LINE - 6) + b"\r\n.\r\n0\r\n\r\n", b"."),
    "most trailers": (b"0\r\n" + b"A: b\r\n" * MAX_TRAILERS + b"\r\n", b""),
    "longest trailer": (b"0\r\nA: " + b"b" * (MAX_TRAILER_BYTES - 5) + b"\r\n\r\n", b""),
}

LARGEST = b"7fffffffffffffff"
MALFORMED = {
    "no size": b"\r\n",
    "no number": b"x\r\n",
    "sign": b"+5\r\nhello\r\n",
    "minus": b"-5\r\nhello\r\n",
    "0x": b"0x5\r\nhello\r\n",
    "underscore": b"1_0\r\n",
    "17 digits": b"00000000000000005\r\nhello\r\n",
    "over 63 bits": b"8000000000000000\r\n",
    "space before the size": b" 5\r\nhello\r\n",
    "space after the size": b"5 \r\nhello\r\n",
    "space before the extension": b"5 ;a\r\nhello\r\n",
    "tab after the size": b"5\t\r\nhello\r\n",
    "comma after the size": b"5,a\r\nhello\r\n",
    "bare LF after the size": b"5\nhello\r\n",
    "bare CR after the size": b"5\rhello\r\n",
    "CR CR LF after the size": b"5\r\r\nhello\r\n",
    "bare LF in an extension": b"5;a\nb\r\nhello\r\n",
    "bare CR in an extension": b"5;a\rb\r\nhello\r\n",
    "NUL in an extension": b"5;a\0b\r\nhello\r\n",
    "DEL in an extension": b"5;\x7f\r\nhello\r\n",
    "empty extension": b"5;\r\nhello\r\n",
    "extension without a name": b"5;=a\r\nhello\r\n",
    "extension without a value": b"5;a=\r\nhello\r\n",
    "spaces in an extension": b"5;a = b\r\nhello\r\n",
    "open quote in an extension": b'5;a="b\r\nhello\r\n',
    "endless extension": b"5;" + b"x" * MAX_CHUNK_LINE,
    "extension over the limit": b"5;" + b"x" * (MAX_CHUNK_LINE - 5) + b"\r\nhello\r\n",
    "extension over the limit, later": b"1\r\n.\r\n5;" + b"x" * (MAX_CHUNK_LINE - 5) + b"\r\nhello",
    "payload too long": b"5\r\nhello!\r\n",
    "payload too short": b"5\r\nhell\r\n0\r\n\r\n",
    "bare LF after the payload": b"5\r\nhello\n0\r\n\r\n",
    "bare CR after the payload": b"5\r\nhello\r0\r\n\r\n",
    "two line ends after the payload": b"5\r\nhello\r\n\r\n0\r\n\r\n",
    "bare LF at the end": b"0\r\n\n",
    "bare CR at the end": b"0\r\n\rx",
    "next request as trailer": b"0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "trailer without a colon": b"0\r\nA\r\n\r\n",
    "trailer without a name": b"0\r\n: b\r\n\r\n",
    "space before the trailer's colon": b"0\r\nA : b\r\n\r\n",
    "folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "bare LF in a trailer": b"0\r\nA: b\nB: c\r\n\r\n",
    "NUL in a trailer": b"0\r\nA: \0\r\n\r\n",
    "too many trailers": b"0\r\n" + b"A: b\r\n" * (MAX_TRAILERS + 1),
    "trailer over the limit": b"0\r\nA: " + b"b" * (MAX_TRAILER_BYTES - 4) + b"\r\n\r\n",
    "endless trailer": b"0\r\nA: " + b"b" * MAX_TRAILER_BYTES,
    "trailers over the limit": b"0\r\n" + (b"A: " + b"b" * (MAX_TRAILER_BYTES // 2) + b"\r\n") * 2,
}

FORBIDDEN_TRAILERS = [
    "Content-Length: 5",
    "content_length: 5",
    "Transfer-Encoding: chunked",
    "Host: other.test",
    "Connection: close",
    "Upgrade: websocket",
    "TE: trailers",
    "Expect: 100-continue",
    "Trailer: X",
    "Forwarded: for=10.0.0.1",
    "X-Forwarded-For: 10.0.0.1",
    "x_forwarded_proto: https",
    "X-Real-IP: 10.0.0.1",
    "Authorization: Basic eDp5",
    "Proxy-Authorization: Basic eDp5",
    "Cookie: a=b",
    "Set-Cookie: a=b",
    "Content-Encoding: gzip",
]


def scan(pieces: list[bytes]) -> tuple[int, bytes, bool]:
    """Bytes of the body, its payload, and whether it ended, by both ways to feed."""
    plain, decoding = ChunkScanner(), ChunkScanner()
    taken, payload = 0, bytearray()
    for piece in pieces:
        parts, count = decoding.feed_decoded(piece)
        assert plain.feed(memoryview(bytearray(piece))) == count
        assert plain.done == decoding.done
        assert count == len(piece) or plain.done
        taken += count
        payload += b"".join(parts)
    return taken, bytes(payload), plain.done


def single_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize(("body", "payload"), BODIES.values(), ids=BODIES)
def test_body_ends_where_it_ends_however_it_arrives(body: bytes, payload: bytes) -> None:
    whole = (len(body), payload, True)
    data = body + b"GET / HTTP/1.1\r\n"
    assert scan([data]) == whole
    assert scan(single_bytes(data)) == whole
    for cut in range(len(body)):
        assert scan([data[:cut], data[cut:]]) == whole


@pytest.mark.parametrize("body", [body for body, _ in BODIES.values()], ids=BODIES)
def test_body_is_not_done_before_its_last_byte(body: bytes) -> None:
    assert scan([body[:-1]])[2] is False


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed_body_is_refused_as_soon_as_it_is_seen(body: bytes) -> None:
    for pieces in ([body], single_bytes(body)):
        with pytest.raises(HeadError) as caught:
            scan(pieces)
        assert caught.value.status == 400


@pytest.mark.parametrize("line", FORBIDDEN_TRAILERS)
def test_trailer_that_belongs_into_the_head_is_refused(line: str) -> None:
    with pytest.raises(HeadError):
        ChunkScanner().feed(f"0\r\n{line}\r\n\r\n".encode())


def test_largest_chunk_is_followed_by_count() -> None:
    scanner = ChunkScanner()
    assert scanner.feed(LARGEST + b"\r\n" + bytes(1000)) == len(LARGEST) + 2 + 1000
    assert not scanner.done


def test_nothing_is_taken_after_the_end() -> None:
    scanner = ChunkScanner()
    scanner.feed(b"0\r\n\r\n")
    assert (scanner.feed(b"0\r\n\r\n"), scanner.feed_decoded(b"x")) == (0, ([], 0))


def test_payload_is_not_copied() -> None:
    data = bytearray(b"5\r\nhello\r\n0\r\n\r\n")
    (part,), _ = ChunkScanner().feed_decoded(data)
    data[3:8] = b"HELLO"
    assert bytes(part) == b"HELLO"


# --- generated bodies ---------------------------------------------------------------------------

extensions = st.sampled_from([b"", b";a", b";a=b;c", b';a="b c"'])
trailers = st.lists(st.sampled_from([b"A: b\r\n", b"X-Sum:0\r\n"]), max_size=3).map(b"".join)
chunks = st.lists(st.tuples(st.binary(min_size=1, max_size=40), extensions), max_size=5)


def encoded(parts: list[tuple[bytes, bytes]], trailer: bytes) -> bytes:
    framed = (b"%x%b\r\n%b\r\n" % (len(data), extension, data) for data, extension in parts)
    return b"".join((*framed, b"0\r\n", trailer, b"\r\n"))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(ends)]


@given(chunks, trailers, st.binary(), st.lists(st.integers(0, 999), max_size=9))
def test_any_body_in_any_pieces(
    parts: list[tuple[bytes, bytes]], trailer: bytes, rest: bytes, places: list[int]
) -> None:
    body = encoded(parts, trailer)
    payload = b"".join(data for data, _ in parts)
    assert scan(cut(body + rest, places)) == (len(body), payload, True)


@given(chunks, trailers, st.integers(0, 999), st.binary(max_size=2), st.lists(st.integers(0, 999)))
def test_pieces_make_no_difference_to_a_damaged_body(
    parts: list[tuple[bytes, bytes]], trailer: bytes, place: int, damage: bytes, places: list[int]
) -> None:
    body = encoded(parts, trailer)
    place %= len(body)
    damaged = body[:place] + damage + body[place + 1 :]

    def outcome(pieces: list[bytes]) -> tuple[int, bytes, bool] | None:
        try:
            return scan(pieces)
        except HeadError:
            return None

    assert outcome([damaged]) == outcome(cut(damaged, places)) == outcome(single_bytes(damaged))


class Body(Oracle):
    def __init__(self, data: bytes) -> None:
        self.payload = b""
        self.complete = False
        super().__init__(data, httptools.HttpResponseParser)

    def on_body(self, data: bytes) -> None:
        self.payload += data

    def on_message_complete(self) -> None:
        self.complete = True


@given(chunks, trailers)
def test_payload_is_what_llhttp_finds(parts: list[tuple[bytes, bytes]], trailer: bytes) -> None:
    body = encoded(parts, trailer)
    oracle = Body(answer("Transfer-Encoding: chunked") + body)
    assert scan([body]) == (len(body), oracle.payload, oracle.complete)


@given(st.lists(st.sampled_from([b"0", b"5", b"a", b"\r\n", b"\r", b"\n", b";", b":", b"A: b", b"\0"])))
def test_garbage_raises_nothing_but_head_errors(pieces: list[bytes]) -> None:
    scanner = ChunkScanner()
    try:
        taken = [scanner.feed(piece) for piece in pieces]
    except HeadError:
        return
    assert scanner.done or taken == [len(piece) for piece in pieces]
