"""docs/reference/json.md against what the commands print."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.cli.stored import Stored
from tests.cli.support import COMMAND, Tunnelkit, visit_in_vain
from tests.support import free_port, free_port_range, start_process
from tunnelkit.agent import events
from tunnelkit.agent.events import Event
from tunnelkit.cli.display import SERVICE_INTERVAL, Json
from tunnelkit.cli.root import cli
from tunnelkit.config.store import Kind

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "json.md").read_text()


def section(heading: str) -> str:
    """The page from ``heading`` to the next of its rank, or a higher one."""
    rank = heading.partition(" ")[0]
    rest = PAGE.partition(f"{heading}\n")[2]
    return re.split(rf"^#{{1,{len(rank)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(heading: str) -> dict[str, str]:
    """What stands in the second column, by the code in the first."""
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section(heading), re.MULTILINE))


def _is(value: object, kind: str) -> bool:
    match kind:
        case "any":
            return True
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "array of strings":
            return isinstance(value, list) and all(isinstance(one, str) for one in value)
    raise AssertionError(f"the page has a type {kind!r}")


def check(heading: str, objects: Iterable[dict[str, Any]]) -> None:
    """Each object has the table's keys, of their types; each optional key is in one of them at least."""
    objects = list(objects)
    assert objects
    table = rows(heading)
    kinds = {key: kind.removesuffix(", optional").split(" or ") for key, kind in table.items()}
    optional = {key for key, kind in table.items() if kind.endswith(", optional")}
    for one in objects:
        assert one.keys() <= table.keys()
        assert table.keys() - optional <= one.keys()
        for key, value in one.items():
            assert any(_is(value, kind) for kind in kinds[key]), (key, value)
    for key in optional:
        assert any(key in one for one in objects), key


def test_every_command_with_json_is_on_the_page() -> None:
    named = {name for line in re.findall("^## (.*)$", PAGE, re.MULTILINE) for name in line.split(", ")}
    assert named == {
        name for name, command in commands("", cli) if any("--json" in it.opts for it in command.params)
    }


def commands(path: str, command: Any) -> Iterable[tuple[str, Any]]:
    yield path, command
    for name, one in getattr(command, "commands", {}).items():
        yield from commands(f"{path} {name}".strip(), one)


# --- what is stored -------------------------------------------------------------------------------


@pytest.fixture
def filled(stored: Stored) -> Stored:
    stored.ok("secret", "create", "unused", "A=1")
    stored.ok("secret", "create", "used", "A=1", "B=2")
    stored.ok("secret", "update", "used", "A=2")
    stored.values("used")
    stored.ok("proxy", "create", "p", "--gateway", "http://user:password@gateway")
    stored.ok("proxy", "create", "q", "--ip", "127.0.0.1")
    stored.values("q", kind=Kind.PROXY)
    stored.ok("secret", "rotate-key")
    return stored


def test_secrets(filled: Stored) -> None:
    listed = filled.told("secret", "list")
    check("## secret list, secret info", listed)
    assert {one["last_used_at"] is None for one in listed} == {True, False}
    check("## secret list, secret info", [filled.told("secret", "info", "used")])
    check("## secret history", filled.told("secret", "history", "used"))


def test_the_log(filled: Stored) -> None:
    told = filled.told("secret", "audit")
    check("## secret audit", told)
    assert {one["version"] is None for one in told} == {True, False}
    actions = set(re.findall(r"`([\w-]+)`", rows("## secret audit")["action"] + _meaning("action")))
    assert {one["action"] for one in told} <= actions


def _meaning(key: str) -> str:
    found = re.search(rf"^\| `{key}` \|.*$", section("## secret audit"), re.MULTILINE)
    assert found is not None
    return found[0]


def test_proxies_and_environments(filled: Stored) -> None:
    check("## proxy list, proxy info", [filled.told("proxy", "info", "p")])
    check("## proxy list, proxy info", filled.told("proxy", "list"))
    check("## environment list", filled.told("environment", "list"))


def test_settings(stored: Stored) -> None:
    path = Path("tunnelkit.toml")
    path.write_text('[serve]\nlisten = [":1"]\nopen = true\ngrace = 5\n')
    check("## config show", stored.told("config", "show"))
    path.write_text(
        'relay = "http://a"\ntoken_file = "missing"\n[zones.eu]\nfingerprint = "x"\nnothing = 1\n'
    )
    result = stored.run("config", "check", "--json")
    mistakes = json.loads(result.stdout)
    path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNNELKIT_LOG", "loud")
        patch.setenv("TUNNELKIT_GRACE", "long")
        mistakes += json.loads(stored.run("config", "check", "--json").stdout)
    check("## config check", mistakes)


# --- events ---------------------------------------------------------------------------------------


def repeated(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """A service error that happens again, as it is told after the seconds that would take."""
    now = 0.0
    reporter = Json(lambda: now)
    for _ in range(3):
        reporter.event(Event("service_error", "Nothing there", code="service_refused"))
    now = SERVICE_INTERVAL
    reporter.tick()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_events(tunnelkit: Tunnelkit, capsys: pytest.CaptureFixture[str]) -> None:
    """A tunnel whose service is not there, whose relay dies, and comes back without its port."""
    port, ports = free_port(), free_port_range(2)

    def relay(ports: range | None) -> Any:
        options = ["--tcp-ports", f"{ports[0]}-{ports[-1]}"] if ports else []
        command = [*COMMAND, "serve", "--listen", f"127.0.0.1:{port}", "--open", *options]
        return start_process(command, ready="listening on", cwd=tunnelkit.home)

    told = repeated(capsys)
    options = ["--json", "--relay", f"ws://127.0.0.1:{port}"]
    with relay(ports) as first:
        with tunnelkit.start("http", str(free_port()), *options, ready='"warning"') as web:
            told += map(json.loads, web.stdout.splitlines())
        with tunnelkit.start("tcp", str(free_port()), *options, ready='"warning"') as agent:
            visit_in_vain(json.loads(agent.expect("^.*tunnel_up.*$")[0])["url"])
            agent.expect('"service_error"')
            first.kill()
            agent.expect('"delay"')
            with relay(None):
                agent.wait()
    told += map(json.loads, agent.stdout.splitlines())
    assert {one["event"] for one in told} <= rows("## http, tcp").keys()
    check("### tunnel_up", [one for one in told if one["event"] == "tunnel_up"])
    check("### All others", [one for one in told if one["event"] != "tunnel_up"])


def test_every_event_is_on_the_page() -> None:
    assert rows("## http, tcp").keys() >= {*get_args(events.Kind), "error"}
