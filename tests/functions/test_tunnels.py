"""Tunnels of a function: it reaches the relay as the program does, and shows nobody how."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.addresses import free_port
from tunnelkit import App, RelayUnreachableError, Tunnel
from tunnelkit.config import load_agent
from tunnelkit.config.handed import surroundings

pytestmark = pytest.mark.keeps_descriptors

TOKEN = "canary-of-a-token"


class Own:
    def reveal(self) -> dict[str, str]:
        return {"TUNNELKIT_RELAY": "ws://relay.example.com"}


def seen() -> tuple[str, str, bool]:
    settings = load_agent(environ=surroundings())
    shown = repr(os.environ) + subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    shown += Path("/proc/self/environ").read_text() + Path("/proc/self/cmdline").read_text()
    return settings.relay, settings.token.reveal(), TOKEN in shown


def test_the_relay_and_its_token_come_with_the_function_but_not_in_its_environment(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNNELKIT_RELAY", "ws://127.0.0.1:9")
    monkeypatch.setenv("TUNNELKIT_TOKEN", TOKEN)
    assert app.function()(seen).remote() == ("ws://127.0.0.1:9", TOKEN, False)


def test_a_token_does_not_go_to_a_relay_of_the_functions_own(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNNELKIT_TOKEN", TOKEN)
    assert app.function(secrets=Own())(seen).remote() == ("ws://relay.example.com:80", "", False)


def test_a_tunnel_goes_to_the_programs_relay(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("TUNNELKIT_RELAY", f"ws://127.0.0.1:{port}")
    monkeypatch.setenv("TUNNELKIT_TOKEN", TOKEN)

    @app.function()
    def create() -> str:
        with Tunnel.create(port=8000, timeout=5) as tunnel:
            return tunnel.url

    with pytest.raises(RelayUnreachableError, match=str(port)):
        create.remote()
