from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tunnelkit.agent import Event
from tunnelkit.cli.display import Json, Lines, Repeats, Reporter, sentence
from tunnelkit.errors import NameTakenError

REFUSED = Event("service_error", "Nothing accepts connections at localhost:80", 1, "service_refused")
AWAY = Event("retrying", "The relay cannot be reached", code="relay_unreachable")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_repeats_are_told_at_once_then_counted_then_forgotten() -> None:
    repeats = Repeats(5.0)
    assert repeats.is_new(REFUSED, 0.0)
    assert not repeats.is_new(REFUSED, 1.0)
    assert not repeats.is_new(REFUSED, 4.9)
    assert list(repeats.due(4.9)) == []
    assert list(repeats.due(5.0)) == [(REFUSED, 2)]
    assert not repeats.is_new(REFUSED, 9.0)
    assert list(repeats.due(10.0)) == [(REFUSED, 1)]
    assert list(repeats.due(15.0)) == []
    assert repeats.is_new(REFUSED, 15.0)


def test_repeats_of_different_things_are_counted_apart() -> None:
    repeats = Repeats(5.0)
    assert repeats.is_new(REFUSED, 0.0)
    assert repeats.is_new(AWAY, 0.0)


def test_a_sentence_has_the_hint_of_its_code() -> None:
    assert sentence(REFUSED, 3) == (
        "Nothing accepts connections at localhost:80 (3 times). Is anything listening there?"
        " [service_refused]"
    )
    assert sentence(Event("notice", "Soon", code="relay_closing")) == "Soon [relay_closing]"
    assert sentence(Event("notice", "Soon")) == "Soon"


def test_lines_keep_standard_output_for_the_first_url(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for kind, what in [
        ("connected", "Connected to ws://relay"),
        ("tunnel_up", "tcp://relay:1"),
        ("disconnected", "The connection is lost"),
        ("connected", "Connected to ws://relay"),
        ("tunnel_up", "tcp://relay:1"),
        ("tunnel_up", "tcp://relay:2"),
    ]:
        lines.event(Event(kind, what, 1))
    out, err = capsys.readouterr()
    assert out == "tcp://relay:1\n"
    assert err.splitlines() == [
        "disconnected: The connection is lost",
        "connected again: Connected to ws://relay",
        "warning: the address is tcp://relay:2 now",
    ]


def test_lines_tell_of_a_relay_that_stays_away_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    for _ in range(13):
        lines.event(Event("retrying", "Next try in 5.0 s", delay=5.0))
        lines.event(AWAY)
        clock.now += 5
        lines.tick()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("no relay: The relay cannot be reached. ")
    assert second.startswith("no relay: The relay cannot be reached (11 times). ")


@pytest.mark.parametrize("kind", [Lines, Json])
def test_escape_sequences_of_a_relay_do_not_reach_the_terminal(
    kind: type[Reporter], capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = kind()
    reporter.event(Event("tunnel_up", "http://\x1b[2Jevil\nsecond line", 1))
    reporter.event(Event("notice", "\x1b]0;title\x07", 1))
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\nsecond" not in out


def test_json_counts_service_errors(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    reporter = Json(clock)
    for _ in range(3):
        reporter.event(REFUSED)
    clock.now += 5
    reporter.tick()
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        "event": "service_error",
        "message": "Nothing accepts connections at localhost:80",
        "code": "service_refused",
        "hint": "Is anything listening there?",
    }
    assert second == first | {"count": 2}


def test_json_tells_what_a_program_needs_of_a_tunnel(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Json()
    facts = {"kind": "tcp", "name": "", "host": "relay", "port": 20001, "target": "localhost:80"}
    reporter.agent = SimpleNamespace(tunnels={1: SimpleNamespace(**facts)})
    reporter.event(Event("tunnel_up", "tcp://relay:20001", 1))
    del facts["name"]  # a TCP tunnel has none
    expected = {"event": "tunnel_up", "url": "tcp://relay:20001", **facts}
    assert json.loads(capsys.readouterr().out) == expected


def test_json_tells_how_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    Json().failed(NameTakenError("The name 'app' is taken"))
    assert json.loads(capsys.readouterr().out) == {
        "event": "error",
        "message": "The name 'app' is taken",
        "code": "name_taken",
        "hint": NameTakenError.default_hint,
        "exit_status": 6,
    }
