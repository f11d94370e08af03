"""Probes find every kind of listener."""

from __future__ import annotations

import socket

import pytest

from tunnelkit.agent import Agent
from tunnelkit.relay import Relay, probe


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:0", ":0"])
async def test_a_tunnel_comes_up_whatever_the_relay_listens_on(listen: str) -> None:
    async with Relay(listen=listen, tokens=["t"]) as relay, Agent(relay.url, token="t") as agent:
        for kind in ("http", "tcp"):
            assert (await agent.open(kind, "127.0.0.1:9")).up


async def test_a_dual_stack_listener_is_probed_over_ipv4_where_ipv6_is_disabled(monkeypatch) -> None:
    class NoIpv6(socket.socket):
        def bind(self, address) -> None:
            if address[0] == "::1":
                raise OSError(99, "Cannot assign requested address")
            super().bind(address)

    async with Relay(listen=":0", tokens=["t"]) as relay:
        async with Agent(f"ws://127.0.0.1:{relay.addresses[0][1]}", token="t") as agent:
            monkeypatch.setattr(probe.socket, "socket", NoIpv6)
            try:
                for kind in ("http", "tcp"):
                    assert (await agent.open(kind, "127.0.0.1:9")).up
            finally:
                monkeypatch.undo()
