"""``--zone``: one word in the place of a relay's address."""

from __future__ import annotations

import pytest

from tests.cli.support import Tunnelkit


def write(tunnelkit: Tunnelkit, text: str) -> None:
    """The user's own settings."""
    directory = tunnelkit.home / "tunnelkit"
    directory.mkdir(exist_ok=True)
    (directory / "tunnelkit.toml").write_text(text)


def test_a_zone_names_the_relay_and_its_token(tunnelkit: Tunnelkit) -> None:
    with tunnelkit.relay("--domain", "tunnels.test", "--tcp-ports", "20985-20989") as relay:
        zone = f'[zones.here]\nrelay = "{relay.ready[1]}"\ntoken = "sesame"'
        write(tunnelkit, f'relay = "ws://127.0.0.1:1"\ntoken = "other"\n{zone}')
        with tunnelkit.start("http", "9", "--zone", "here", "--name", "app") as http:
            assert http.ready[1].startswith("http://app.tunnels.test:")
        with tunnelkit.start("tcp", "9", "--zone", "here") as tcp:
            assert tcp.ready[1].startswith("tcp://tunnels.test:2098")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--zone", "heer"], r"There is no zone 'heer'. Is it 'here'?"),
        (["--zone", ""], "zone"),
        (["--zone", "empty"], "The zone 'empty' names no relay. Write relay = in [zones.empty]"),
        (["--zone", "here", "--relay", "ws://x:1"], "Both --zone and --relay are given. Give one of the two"),
        (["--zone", "here", "--lan"], "--lan is for the embedded relay, and the relay is ws://here:1."),
    ],
)
def test_a_zone_that_cannot_be_meant_is_one_line(tunnelkit: Tunnelkit, options: list[str], line: str) -> None:
    write(tunnelkit, '[zones.here]\nrelay = "ws://here:1"\n[zones.empty]\nexit = "lab"')
    done = tunnelkit.run("http", "9", *options)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert line in done.stderr
    assert done.returncode in (2, 9)


def test_zones_are_completed(tunnelkit: Tunnelkit) -> None:
    write(tunnelkit, '[zones.eu-west-1]\nrelay = "ws://eu:1"\n[zones.eu-east-1]\n[zones.us]\n')
    for command in ("http", "tcp"):
        words = {"COMP_WORDS": f"tunnelkit {command} 9 --zone eu", "COMP_CWORD": "4"}
        done = tunnelkit.run(env={"_TUNNELKIT_COMPLETE": "bash_complete", **words})
        assert done.stdout.split() == ["plain,eu-west-1", "plain,eu-east-1"]
