from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.errors import InvalidError
from tunnelkit.relay.ssh_words import NO_WORDS, Words, asked_for, parse_words


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", NO_WORDS),
        ("name=App", Words("app")),
        ("  proxy-protocol=2   'name=a' ", Words("a", 2)),
        ('host-header="localhost:8000"', Words(host_header="localhost:8000")),
    ],
)
def test_words(command: str, words: Words) -> None:
    assert parse_words(command) == words


@given(st.text())
def test_anything_is_words_or_an_error(command: str) -> None:
    said = ""
    try:
        assert parse_words(command).proxy_protocol in (0, 1, 2)
    except InvalidError as error:
        said = str(error)
    assert said.isprintable()


@pytest.mark.parametrize(
    ("host", "port", "asked"),
    [
        ("localhost", 80, ("", -1)),
        ("", 80, ("", -1)),
        ("0.0.0.0", 0, ("", 0)),
        ("::", 20001, ("", 20001)),
        ("App", 80, ("app", -1)),
        ("app.tunnels.test", 80, ("app", -1)),
        ("tunnels.test", 20001, ("", 20001)),
    ],
)
def test_what_a_forward_asks_for(host: str, port: int, asked: tuple[str, int]) -> None:
    assert asked_for(host, port, "tunnels.test") == asked


@pytest.mark.parametrize(
    ("host", "port"),
    [("app", 20001), ("app", 0), ("", 65536), ("", 2**32 - 1), ("a.b", 80), ("www", 80), ("a\x00", 80)],
)
def test_what_makes_no_sense(host: str, port: int) -> None:
    with pytest.raises(InvalidError):
        asked_for(host, port, "tunnels.test")


@given(st.text(), st.integers(0, 2**32 - 1))
def test_any_forward_is_a_request_or_an_error(host: str, port: int) -> None:
    said = ""
    try:
        name, number = asked_for(host, port, "tunnels.test")
        assert name.isascii()
        assert -1 <= number <= 65535
    except InvalidError as error:
        said = str(error)
    assert said.isprintable()
