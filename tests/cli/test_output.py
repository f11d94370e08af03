from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import TextIO

import pytest

from tunnelkit.cli.output import Output, printable

Pipe = tuple[TextIO, TextIO]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader, os.fdopen(writing, "w", encoding="utf-8") as writer:
        yield reader, writer


def test_a_line_is_flushed(pipe: Pipe) -> None:
    reader, writer = pipe
    Output(writer).line("http://here")
    assert reader.readline() == "http://here\n"


def test_a_pipe_that_nobody_empties_does_not_block(pipe: Pipe) -> None:
    _, writer = pipe
    output = Output(writer)
    for _ in range(10_000):
        output.line("x" * 1000)


def test_a_reader_that_has_gone_is_no_error(pipe: Pipe) -> None:
    reader, writer = pipe
    reader.close()
    output = Output(writer)
    output.line("nobody")
    output.line("hears this")
    writer.flush()  # nor at the interpreter's end


def test_no_stream_at_all_is_no_error() -> None:
    Output(None).line("into the void")


def test_what_the_encoding_lacks_is_escaped() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Output(stream).line("5 µs")
    assert raw.getvalue() == b"5 \\xb5s\n"


def test_a_line_stays_one_line() -> None:
    assert printable("a\nb\x1b[2Jc\x9b") == "a?b?[2Jc?"
    assert printable("grüße → 隧道") == "grüße → 隧道"
