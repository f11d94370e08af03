from __future__ import annotations

import re
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from tests.cli.support import PATIENCE, Terminal, Tunnelkit, visit, visit_in_vain
from tests.support import free_port
from tunnelkit.cli.live import Live, size

COLOUR = re.compile(r"\x1b\[(?:\d+;)*3[0-7]m")
ESCAPE = "\x1b"
CTRL_S, CTRL_Q = b"\x13", b"\x11"


@pytest.fixture
def home(tunnelkit: Tunnelkit) -> Path:
    return tunnelkit.home


def cursor_is_shown(output: str) -> bool:
    return output.rfind("\x1b[?25h") >= output.rfind("\x1b[?25l")


def test_the_status_shows_the_url_and_traffic_and_stays(home: Path, web_service: int) -> None:
    with Terminal(home, "http", str(web_service)) as terminal:
        url = terminal.expect(r"http://127\.0\.0\.1:\d+")[0]
        terminal.expect("0 open, 0 in all")
        with visit(url) as visitor:
            terminal.expect("0 open, 0 in all")
            visitor.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            terminal.expect("1 in all")
        assert terminal.end(signal.SIGINT) == 0
        last = terminal.output.rpartition("\x1b[1A")[2]
        assert "1 in all" in last
        assert cursor_is_shown(terminal.output)
        assert "Traceback" not in terminal.output


def test_a_terminal_that_is_stopped_does_not_stop_the_tunnel(home: Path, web_service: int) -> None:
    with Terminal(home, "http", str(web_service)) as terminal:
        url = terminal.expect(r"http://127\.0\.0\.1:\d+")[0]
        terminal.expect("0 open, 0 in all")
        terminal.type(CTRL_S)
        deadline = time.monotonic() + 3 * Live.period
        while time.monotonic() < deadline:  # there is more traffic to draw each time
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                assert answer.read() == b"hello"
        terminal.type(CTRL_Q)
        terminal.expect("1 in all")


def test_service_errors_are_counted_with_their_hint(home: Path) -> None:
    with Terminal(home, "tcp", str(free_port())) as terminal:
        url = terminal.expect(r"tcp://127\.0\.0\.1:\d+")[0]
        for _ in range(3):
            visit_in_vain(url)
        terminal.expect(r"\(3 times\)")
        terminal.expect(r"Is anything listening there\? \[service_refused\]")


def test_reconnects_show_in_the_status(home: Path, tunnelkit: Tunnelkit) -> None:
    with tunnelkit.relay("--tcp-ports", str(free_port())) as relay:
        options = ["--relay", relay.ready[1], "--token", "sesame"]
        with Terminal(home, "tcp", "9", *options) as terminal:
            terminal.expect(r"0 open, 0 in all")
            relay.kill()
            terminal.expect("trying again in")
            terminal.expect("cannot be reached")
            assert terminal.end(signal.SIGTERM) == 0
            assert cursor_is_shown(terminal.output)


def test_a_narrow_terminal_does_not_break_the_url(home: Path) -> None:
    with Terminal(home, "tcp", "9", columns=16) as terminal:
        terminal.expect(r"tcp://127\.0\.0\.1:\d+\b")
        assert terminal.end(signal.SIGINT) == 0


def test_no_color_means_no_colour(home: Path) -> None:
    with Terminal(home, "tcp", "9", env={"NO_COLOR": "1"}) as terminal:
        terminal.expect("in all")
        assert not COLOUR.search(terminal.output)


def test_there_is_colour_otherwise(home: Path) -> None:
    with Terminal(home, "tcp", "9") as terminal:
        terminal.expect("in all")
        assert COLOUR.search(terminal.output)


def test_a_dumb_terminal_gets_lines(home: Path) -> None:
    with Terminal(home, "tcp", "9", env={"TERM": "dumb"}) as terminal:
        terminal.expect(r"^tcp://127\.0\.0\.1:\d+\r$")
        terminal.expect("^warning: ")
        assert ESCAPE not in terminal.output


def test_an_error_before_the_url_leaves_one_line(home: Path) -> None:
    with Terminal(home, "tcp", "9", "--relay", f"ws://127.0.0.1:{free_port()}") as terminal:
        terminal.expect(r"^.*error: .*\[relay_unreachable\]\r$")
        assert terminal.process.wait() == 3
        assert cursor_is_shown(terminal.output)


def test_the_log_does_not_tear_the_status(home: Path) -> None:
    """What the log writes goes above the status, which is erased before and drawn again after."""
    with Terminal(home, "tcp", "9", env={"TUNNELKIT_LOG": "info"}) as terminal:
        terminal.expect("in all")
        terminal.expect(r"\r\x1b\[2K(\x1b\[1A\x1b\[2K)+\S*[\d:]{8} INFO .*is up for.*$")
        assert terminal.end(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (2_500_000_000, "2.5 GB"),
        (3.2e15, "3,200.0 TB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text
