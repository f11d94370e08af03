from __future__ import annotations

import re
import signal
import urllib.request

from tests.cli.support import Terminal, Tunnelkit


def test_off_a_terminal_it_measures_and_ends(tunnelkit: Tunnelkit) -> None:
    done = tunnelkit.run("demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert "everything on this machine and in one process" in done.stdout
    for figure in (r"[\d,]+ requests a second", r"[\d,]+ µs for a round trip", r"[\d,]+ MB/s each way"):
        assert re.search(figure, done.stdout)


def test_on_a_terminal_it_stays_up_until_it_is_interrupted(tunnelkit: Tunnelkit) -> None:
    with Terminal(tunnelkit.home, "demo") as terminal:
        url = terminal.expect(r"Open (http://\S+) in a browser")[1]
        with urllib.request.urlopen(url) as answer:
            page = answer.read().decode()
            assert "You are reading this through a tunnel." in page
            assert url.removeprefix("http://") in page
            assert "127.0.0.1" in page
        with urllib.request.urlopen(f"{url}/time") as stream:
            assert re.fullmatch(rb"data: \d\d:\d\d:\d\d\n", stream.readline())
            assert terminal.end(signal.SIGINT) == 0
        assert "Traceback" not in terminal.output


def test_it_runs_without_the_relay_of_the_settings(tunnelkit: Tunnelkit) -> None:
    assert tunnelkit.run("demo", env={"TUNNELKIT_RELAY": "ws://198.51.100.1"}).returncode == 0
