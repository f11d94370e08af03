"""Generated heads: the valid against llhttp, the rest against crashes and ambiguity."""

from __future__ import annotations

from contextlib import suppress

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.http_heads import Oracle, answer, head
from tunnelkit.wire.http_head import (
    HeadError,
    RequestHead,
    build_request,
    build_response,
    find_head_end,
    forwarded_block,
    parse_request,
    parse_response,
)

TOKEN = "!#$%&'*+-.^_`|~0123456789ABCXYZabcxyz"
# Names without a meaning of their own, here or to llhttp.
names = st.text(TOKEN, min_size=1, max_size=12).map("X-Test-".__add__)
texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]))
values = st.one_of(texts, texts.map(lambda text: f"\t{text} \t"))
lines = st.lists(st.builds("{}:{}".format, names, values), max_size=8)
targets = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=20
).map("/".__add__)
starts = st.builds("{} {} HTTP/1.1".format, st.sampled_from(["GET", "POST", "PATCH"]), targets)
heads = st.builds(lambda start, fields: head(*fields, start=start), starts, lines)

# Heads of which about half are accepted, and in which every special field meets every other.
START_LINES = [
    "GET / HTTP/1.1", "GET /x HTTP/1.1", "POST / HTTP/1.0", "OPTIONS * HTTP/1.1",
    "GET http://app.test/ HTTP/1.1", "GET /a b HTTP/1.1",
]  # fmt: skip
FIELD_LINES = [
    "A: b", "X-Tenant: c", "Content-Length: 5", "content-length: 0", "Transfer-Encoding: chunked",
    "Connection: close", "connection: Keep-Alive, upgrade", "Connection: te, x-tenant, forwarded",
    "Upgrade: websocket", "TE: trailers", "Expect: 100-continue", "X-Forwarded-For: 10.0.0.1",
    "x_forwarded_for: 10.0.0.1", "Keep-Alive: x", "Host: other.test", "Content_Length: 6", " fold",
]  # fmt: skip
special_heads = st.builds(
    lambda start, fields: head(*fields, start=start),
    st.sampled_from(START_LINES),
    st.lists(st.sampled_from(FIELD_LINES), max_size=4),
)
crumbs = st.lists(
    st.sampled_from([*START_LINES, *FIELD_LINES, "HTTP/1.1 200 OK", *"\r\n:, \0\xff", *["\r\n"] * 9])
).map(lambda parts: "".join(parts).encode("latin-1"))

FORWARDED = forwarded_block("192.0.2.1", 4711, "http", b"app.test")


def outcome(data: bytes, previous: RequestHead | None = None) -> RequestHead | tuple[str, int]:
    try:
        return parse_request(data, previous)
    except HeadError as error:
        return error.reason, error.status


@given(heads)
def test_valid_request_reads_as_llhttp_reads_it(data: bytes) -> None:
    read, oracle = parse_request(data), Oracle(data)
    assert (read.method, read.target) == (oracle.parser.get_method(), oracle.url)
    assert read.keep_alive == oracle.parser.should_keep_alive()
    for name, _ in oracle.fields:
        assert read.get(name) == b", ".join(value.strip() for value in oracle.all(name.lower()))


@given(heads)
def test_forwarded_request_says_the_same_to_llhttp(data: bytes) -> None:
    sent = build_request(parse_request(data), host=b"app.test", forwarded=b"")
    before, after = Oracle(data), Oracle(sent)
    assert (before.url, before.fields) == (after.url, after.fields)


@given(lines, texts)
def test_response_passed_on_says_the_same_to_llhttp(fields: list[str], reason: str) -> None:
    data = answer("Content-Length: 0", *fields, start=f"HTTP/1.1 234 {reason}")
    read = parse_response(data, method=b"GET")
    sent = build_response(read, keep_alive=True, visitor_version=1, chunked=False)
    before, after = (Oracle(each, httptools.HttpResponseParser) for each in (data, sent))
    assert (before.fields, before.parser.get_status_code()) == (after.fields, 234)


@given(special_heads)
def test_what_is_forwarded_is_unambiguous(data: bytes) -> None:
    read = outcome(data)
    if not isinstance(read, RequestHead):
        return
    sent = build_request(read, host=b"app.test", forwarded=FORWARDED)
    again = parse_request(sent)
    assert (again.body, again.length, again.upgrade) == (read.body, read.length, read.upgrade)
    oracle = Oracle(sent)
    assert oracle.all(b"host") == [b"app.test"]
    assert oracle.all(b"x-forwarded-for") == [b"192.0.2.1"]
    assert len(oracle.all(b"content-length") + oracle.all(b"transfer-encoding")) <= 1


@given(special_heads, special_heads, crumbs)
def test_request_before_changes_nothing_in_what_is_read(first: bytes, other: bytes, start: bytes) -> None:
    previous = outcome(first)
    if not isinstance(previous, RequestHead):
        return
    fields = first[previous.start :]
    for data in (first, other, other.partition(b"\r\n")[0] + fields, start + fields):
        assert outcome(data, previous) == outcome(data)


@given(heads, st.data())
def test_one_control_character_anywhere_is_refused(data: bytes, draw: st.DataObject) -> None:
    position = draw.draw(st.integers(0, len(data)))
    control = draw.draw(st.sampled_from([*range(0x09), *range(0x0A, 0x20), 0x7F]))
    with pytest.raises(HeadError):
        parse_request(data[:position] + bytes((control,)) + data[position:])


@given(st.one_of(crumbs, special_heads, st.binary()))
def test_garbage_raises_nothing_but_head_errors(data: bytes) -> None:
    for read in (find_head_end, parse_request, lambda data: parse_response(data, method=b"GET")):
        with suppress(HeadError):
            read(data)


def test_start_line_that_ends_early_is_not_taken_for_a_repetition() -> None:
    previous = parse_request(head())
    read = parse_request(head().replace(b"\r\n", b"\r\nA: b\r\n", 1), previous)
    assert read.lines == [b"A: b"]
