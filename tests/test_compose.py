from __future__ import annotations

import asyncio
import dataclasses

import pytest

from tests.support.engines import accepts
from tunnelkit.agent import Event
from tunnelkit.compose import connected_agent, embedded_relay, make_relay
from tunnelkit.config import AgentSettings, Masked, RelaySettings
from tunnelkit.errors import AuthError, AuthMissingError, RelayUnreachableError
from tunnelkit.relay import Limits


def test_settings_and_limits_have_the_same_defaults() -> None:
    settings, limits = RelaySettings(), Limits()
    shared = {f.name for f in dataclasses.fields(Limits)} & {
        f.name for f in dataclasses.fields(RelaySettings)
    }
    assert shared == {"ping_interval", "ping_timeout", "stall_timeout"}
    assert all(getattr(settings, name) == getattr(limits, name) for name in shared)


async def test_a_relay_does_as_it_is_set() -> None:
    settings = RelaySettings(
        listen=("127.0.0.1:0", "127.0.0.1:0"),
        domain="tunnels.test",
        token=(Masked("one"), Masked("two")),
        ping_interval=7,
    )
    async with make_relay(settings) as relay:
        assert len(relay.addresses) == 2
        assert (relay.domain, relay.limits.ping_interval) == ("tunnels.test", 7)
        for token in settings.token:
            async with connected_agent(AgentSettings(relay=relay.url, token=token)) as connection:
                assert not connection.embedded
        with pytest.raises(AuthError):
            async with connected_agent(AgentSettings(relay=relay.url, token=Masked("three"))):
                pass


def test_a_relay_that_others_can_reach_needs_a_token_or_the_word() -> None:
    with pytest.raises(AuthMissingError):
        make_relay(RelaySettings(listen=(":0",)))
    make_relay(RelaySettings(listen=(":0",), open=True))


async def test_without_a_relay_one_is_started_and_ended() -> None:
    events: list[Event] = []
    async with connected_agent(AgentSettings(), on_event=events.append) as connection:
        assert connection.embedded
        address = connection.agent.relay.host, connection.agent.relay.port
        tunnel = await connection.agent.open("http", "127.0.0.1:9")
        assert tunnel.url == f"http://127.0.0.1:{tunnel.port}"
        assert await asyncio.to_thread(accepts, *address)
    assert not await asyncio.to_thread(accepts, *address)
    assert [event.kind for event in events[:2]] == ["connected", "tunnel_up"]


async def test_the_embedded_relay_takes_its_own_token_alone() -> None:
    relay, token = embedded_relay()
    assert token != embedded_relay()[1]
    async with relay:
        for wrong in ("", "guess"):
            with pytest.raises(AuthError):
                async with connected_agent(AgentSettings(relay=relay.url, token=Masked(wrong))):
                    pass


async def test_for_the_neighbours_it_listens_where_they_can_reach_it() -> None:
    async with connected_agent(AgentSettings(), lan_host="::1") as connection:
        tunnel = await connection.agent.open("tcp", "127.0.0.1:9")
        assert tunnel.url == f"tcp://[::1]:{tunnel.port}"


async def test_a_relay_that_is_not_there_is_an_error_and_leaves_nothing() -> None:
    with pytest.raises(RelayUnreachableError):
        async with connected_agent(AgentSettings(relay="ws://127.0.0.1:1")):
            pass


async def test_an_embedded_relay_for_the_network_is_dialled_past_every_proxy(monkeypatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with connected_agent(AgentSettings(), lan_host="127.0.0.2") as connection:
        assert connection.agent.relay.host == "127.0.0.1"
        tunnel = await connection.agent.open("tcp", "127.0.0.1:9")
        assert tunnel.host == "127.0.0.2"
