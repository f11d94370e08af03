from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path

import platformdirs
import pytest

from tunnelkit.config import AgentSettings, Masked, RelaySettings, load_agent, load_relay
from tunnelkit.errors import (
    AuthMissingError,
    InvalidError,
    InvalidPortError,
    InvalidTargetError,
    TunnelkitError,
)

NOTHING: Mapping[str, str] = {}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, beside an empty configuration directory of the user."""
    user = tmp_path / "user"
    directory = tmp_path / "here"
    for made in (user, directory):
        made.mkdir()
    monkeypatch.setattr(platformdirs, "user_config_path", lambda _: user)
    monkeypatch.chdir(directory)
    return directory


def write(directory: Path, text: str) -> None:
    (directory / "tunnelkit.toml").write_text(text)


def test_without_any_source_the_defaults_hold(here: Path) -> None:
    assert load_agent(environ=NOTHING) == AgentSettings()
    assert load_relay(environ=NOTHING) == RelaySettings()


def test_sources_come_in_their_order(here: Path) -> None:
    write(here.parent / "user", 'relay = "ws://user:1"\nca = "/user"\nfingerprint = "user"')
    write(here, 'relay = "ws://here:1"\nca = "/here"')
    environ = {"TUNNELKIT_RELAY": "ws://environ:1"}
    assert load_agent({"relay": "ws://call:1"}, environ=environ).relay == "ws://call:1"
    settings = load_agent({"relay": None}, environ=environ)
    assert settings.relay == "ws://environ:1"
    assert settings.ca == "/here"
    assert settings.fingerprint == "user"
    assert load_agent(environ=NOTHING).relay == "ws://here:1"


def test_an_empty_relay_asks_for_the_embedded_one(here: Path) -> None:
    write(here, 'relay = "ws://here:1"')
    assert load_agent({"relay": ""}, environ=NOTHING).relay == ""


def test_the_relay_has_a_table_of_its_own(here: Path) -> None:
    write(
        here,
        """
        relay = "ws://elsewhere:1"
        [serve]
        listen = [":8080", "[::1]:0"]
        domain = ".Tunnels.Example."
        tcp_ports = "20000-20099"
        token = ["one", "two"]
        grace = 0
        ping_interval = 0.5
        """,
    )
    settings = load_relay({"stall_timeout": "7"}, environ={"TUNNELKIT_PING_TIMEOUT": "2.5"})
    assert settings.listen == (":8080", "[::1]:0")
    assert settings.domain == "tunnels.example"
    assert settings.tcp_ports == range(20000, 20100)
    assert settings.token == (Masked("one"), Masked("two"))
    times = (settings.grace, settings.ping_interval, settings.ping_timeout, settings.stall_timeout)
    assert times == (0, 0.5, 2.5, 7)
    assert load_agent(environ=NOTHING).relay == "ws://elsewhere:1"


def test_the_environment_has_lists_and_switches_too(here: Path) -> None:
    environ = {"TUNNELKIT_LISTEN": ":1, :2", "TUNNELKIT_OPEN": "yes", "TUNNELKIT_TCP_PORTS": "7"}
    settings = load_relay(environ=environ)
    assert (settings.listen, settings.open, settings.tcp_ports) == ((":1", ":2"), True, range(7, 8))


def test_python_values_pass(here: Path) -> None:
    settings = load_relay({"listen": [":1"], "open": True, "tcp_ports": range(5, 9)}, environ=NOTHING)
    assert (settings.listen, settings.open, settings.tcp_ports) == ((":1",), True, range(5, 9))
    assert load_relay({"tcp_ports": range(0)}, environ=NOTHING).tcp_ports == range(0)


# --- tokens -------------------------------------------------------------------------------------


def test_no_rendering_of_settings_shows_a_token(here: Path) -> None:
    environ = {"TUNNELKIT_TOKEN": "hunter2"}
    for settings in (load_agent(environ=environ), load_relay(environ=environ)):
        assert "hunter2" not in f"{settings} {settings!r}"
    assert load_agent(environ=environ).token.reveal() == "hunter2"


def test_a_token_file_holds_one_for_an_agent_and_many_for_a_relay(here: Path) -> None:
    (here / "tokens").write_text("# of Ada\none\n\n  two\n")
    settings = load_relay({"token_file": "tokens"}, environ=NOTHING)
    assert [token.reveal() for token in settings.token] == ["one", "two"]
    with pytest.raises(InvalidError, match="2 tokens"):
        load_agent({"token_file": "tokens"}, environ=NOTHING)
    (here / "token").write_text("one\n")
    assert load_agent({"token_file": "token"}, environ=NOTHING).token == Masked("one")


def test_a_token_file_may_be_standard_input(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("piped\n"))
    assert load_agent({"token_file": "-"}, environ=NOTHING).token == Masked("piped")


def test_relative_paths_in_a_file_count_from_the_file(here: Path) -> None:
    user = here.parent / "user"
    (user / "token").write_text("found")
    write(user, 'token_file = "token"\nca = "ca.pem"')
    settings = load_agent(environ=NOTHING)
    assert settings.token == Masked("found")
    assert settings.ca == str(user / "ca.pem")
    assert load_agent({"ca": "other.pem"}, environ=NOTHING).ca == str(here / "other.pem")


def test_a_source_with_either_form_of_the_token_decides(here: Path) -> None:
    (here / "token").write_text("filed")
    environ = {"TUNNELKIT_TOKEN": "environ"}
    assert load_agent({"token_file": "token"}, environ=environ).token == Masked("filed")
    write(here, 'token_file = "token"')
    settings = load_agent(environ=environ)
    assert (settings.token, settings.token_file) == (Masked("environ"), "")


def test_both_forms_in_one_source_are_refused(here: Path) -> None:
    environ = {"TUNNELKIT_TOKEN": "a", "TUNNELKIT_TOKEN_FILE": "b"}
    with pytest.raises(InvalidError, match="TUNNELKIT_TOKEN and TUNNELKIT_TOKEN_FILE"):
        load_agent(environ=environ)


@pytest.mark.parametrize(
    ("overrides", "environ", "named"),
    [
        ({}, {"TUNNELKIT_TOKEN": ""}, "TUNNELKIT_TOKEN:"),
        ({}, {"TUNNELKIT_TOKEN": " \n"}, "TUNNELKIT_TOKEN:"),
        ({"token": ""}, {}, "--token:"),
        ({}, {"TUNNELKIT_TOKEN_FILE": ""}, "TUNNELKIT_TOKEN_FILE:"),
        ({"token_file": "missing"}, {}, "missing cannot be read: No such file"),
        ({"token_file": "empty"}, {}, "empty holds no token"),
        ({"token_file": "binary"}, {}, "binary is no text"),
        ({"token_file": "."}, {}, "directory"),
    ],
)
@pytest.mark.parametrize("load", [load_agent, load_relay])
def test_a_token_setting_without_a_token_refuses(
    here: Path,
    load: object,
    overrides: dict[str, object],
    environ: dict[str, str],
    named: str,
) -> None:
    (here / "empty").write_text("\n# nothing\n")
    (here / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AuthMissingError, match=named):
        load(overrides, environ=environ)  # type: ignore[operator]


@pytest.mark.parametrize("text", ["two words", "tökn", "line\nbreak", "x" * 1025])
def test_a_malformed_token_is_refused_unseen(here: Path, text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        load_agent(environ={"TUNNELKIT_TOKEN": text})
    assert text not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("TOKN", "TOKEN"), ("TOKENS", "TOKEN"), ("AUTH_TOKEN", "TOKEN"), ("TOKENFILE", "TOKEN_FILE")],
)
def test_a_misspelt_token_variable_refuses(here: Path, name: str, meant: str) -> None:
    with pytest.raises(AuthMissingError, match=rf"TUNNELKIT_{name} .* TUNNELKIT_{meant}\?"):
        load_agent(environ={f"TUNNELKIT_{name}": "secret-value"})


def test_other_unknown_variables_are_left_alone(here: Path) -> None:
    """Kubernetes sets the second and third for a service with the name tunnelkit."""
    names = ("LOG", "PORT", "SERVICE_HOST", "LISTEN", "DOMAIN")
    assert load_agent(environ={f"TUNNELKIT_{name}": "x" for name in names}) == AgentSettings()


def test_open_and_a_token_contradict_each_other(here: Path) -> None:
    with pytest.raises(InvalidError, match="open"):
        load_relay({"open": True}, environ={"TUNNELKIT_TOKEN": "a"})


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('relya = "ws://x:1"', r"'relya' in .*tunnelkit.toml. Is it 'relay'\?"),
        ('[serve]\ndomian = "x"', r"'domian' in .*\[serve\]. Is it 'domain'\?"),
        ("quux = 1", "relay, token, token_file, ca, fingerprint, .*serve"),
        ("serve = 1", "not a table"),
        ("relay =", "not a TOML file"),
        ("relay = 5", r"tunnelkit.toml: relay: Not a text"),
        ('relay = "https://x"', r"tunnelkit.toml: relay: .*wss://"),
    ],
)
def test_a_wrong_file_is_refused_by_name(here: Path, text: str, message: str) -> None:
    write(here, text)
    with pytest.raises(InvalidError, match=message):
        load_agent(environ=NOTHING)


def test_a_setting_of_the_relay_is_wrong_in_the_agents_place(here: Path) -> None:
    write(here, 'domain = "tunnels.example"')
    with pytest.raises(InvalidError, match="'domain'"):
        load_relay(environ=NOTHING)


def test_an_unreadable_file_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here, "")

    def refuse(self: Path, *arguments: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InvalidError, match="Permission denied"):
        load_agent(environ=NOTHING)


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("listen", "", InvalidError),
        ("listen", [], InvalidError),
        ("listen", "nowhere", InvalidTargetError),
        ("listen", ["[::1"], InvalidTargetError),
        ("listen", True, InvalidError),
        ("domain", "a..b", InvalidTargetError),
        ("domain", "10.0.0.1", InvalidError),
        ("domain", "a.example:80", InvalidError),
        ("tcp_ports", "9-5", InvalidPortError),
        ("tcp_ports", "1-70000", InvalidPortError),
        ("tcp_ports", range(1, 10, 2), InvalidError),
        ("tcp_ports", 1.5, InvalidError),
        ("open", "perhaps", InvalidError),
        ("grace", -1, InvalidError),
        ("grace", "nan", InvalidError),
        ("grace", True, InvalidError),
        ("ping_interval", 0, InvalidError),
        ("ping_timeout", "soon", InvalidError),
        ("token", [], AuthMissingError),
        ("token", 5, AuthMissingError),
    ],
)
def test_a_wrong_value_is_refused_by_its_source(
    here: Path, key: str, value: object, kind: type[TunnelkitError]
) -> None:
    with pytest.raises(kind, match=f"^{key}=: "):
        load_relay({key: value}, environ=NOTHING, named="{}=".format)


@pytest.mark.parametrize("key", ["ca", "fingerprint"])
def test_an_empty_proof_of_the_relay_is_refused(here: Path, key: str) -> None:
    with pytest.raises(InvalidError, match=f"TUNNELKIT_{key.upper()}: Empty"):
        load_agent(environ={f"TUNNELKIT_{key.upper()}": ""})


@pytest.mark.parametrize("kind", [AgentSettings, RelaySettings])
def test_settings_are_frozen(kind: type) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind().token = ()


def test_what_ssh_needs_is_read_from_beside_the_file_and_from_the_environment(here: Path) -> None:
    write(here, 'relay = "ssh://me@relay:2222"\nidentity_file = "key"\nhost_key = "SHA256:abc"')
    environ = {"TUNNELKIT_KNOWN_HOSTS": "~/hosts", "TUNNELKIT_PING_INTERVAL": "5"}
    settings = load_agent(environ=environ, directory=here)
    assert settings.relay == "ssh://me@relay:2222"
    assert settings.identity_file == str(here / "key")
    assert settings.known_hosts == str(Path("~/hosts").expanduser())
    assert (settings.host_key, settings.ping_interval, settings.ping_timeout) == ("SHA256:abc", 5.0, 20.0)
