"""An agent and its relay through thick and thin: reconnects, ghosts, TLS, proxies, cancellation."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.http_support import silent
from tests.e2e.tcp_support import (
    PATIENCE,
    QUICK,
    Forwarder,
    Hop,
    Service,
    Site,
    answers,
    cancelled_at_each_step,
    comes_back,
    connected,
    echo,
    event,
    goes_away,
    hold,
    no_failures,
    part,
    tunnelled,
    until,
    visiting,
)
from tests.support.addresses import free_port
from tests.support.certificates import Certificate, certificate
from tests.support.scripted import ScriptedAgent
from tunnelkit import errors
from tunnelkit.agent import Agent
from tunnelkit.agent import session as agent_module
from tunnelkit.net.tasks import Tasks
from tunnelkit.relay import Limits, Relay

# --- the relay goes and comes back --------------------------------------------------------------


async def test_a_relay_that_was_killed_gives_name_and_port_back_when_it_is_there_again() -> None:
    listen = f"127.0.0.1:{free_port()}"
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(Service(echo))
        relay = await stack.enter_async_context(part("relay", listen=listen))
        events: list[Any] = []
        agent = await stack.enter_async_context(Agent(relay.ready[1], on_event=events.append))
        tcp = await agent.open("tcp", service.port)
        http = await agent.open("http", service.port, name="app")
        port = tcp.port
        await comes_back(tcp.host, port)
        relay.kill()
        await event(events, "disconnected")
        await goes_away(tcp.host, port)
        await until(lambda: [e.code for e in events].count("relay_unreachable") == 5)  # a second or two
        await stack.enter_async_context(part("relay", listen=listen))
        await comes_back(tcp.host, port, 5.0)
        assert (tcp.port, http.name) == (port, "app")
        await until(lambda: [e.kind for e in events].count("tunnel_up") == 4)


# --- the control connection goes alone ----------------------------------------------------------


@asynccontextmanager
async def over_a_hop(handler: Any = echo, **limits: Any) -> AsyncIterator[tuple[Site, Forwarder, Service]]:
    """A tunnel whose agent reaches its relay over a forwarder."""
    limits = {"ping_interval": QUICK.ping_interval, "ping_timeout": QUICK.ping_timeout, **limits}
    async with (
        no_failures(),
        Service(handler) as service,
        Relay(listen="127.0.0.1:0", limits=Limits(**limits), tokens=["hush"]) as relay,
        Forwarder(relay) as hop,
        connected(relay, url=hop.url, token="hush") as (agent, events),
    ):
        site = Site(relay, agent, await agent.open("tcp", service.port), events)
        try:
            yield site, hop, service
        finally:
            site.close()


@pytest.mark.parametrize("lose", [Hop.cut, Hop.reset, Hop.freeze], ids=["cut", "reset", "frozen"])
async def test_streams_live_on_while_the_session_is_taken_up_again(lose: Any) -> None:
    async with over_a_hop() as (site, hop, _):
        session = dict(site.relay._door.sessions)
        visitor = await site.visit()
        await visitor.send(b"before")
        await visitor.exactly(6)
        lose(hop.control)
        async with asyncio.timeout(10 * (QUICK.ping_interval + QUICK.ping_timeout)):
            lost = await event(site.events, "disconnected")
            await until(lambda: site.agent.connected)
        assert (lost.code == "timeout") is (lose is Hop.freeze)
        await visitor.send(b"after")
        assert await visitor.exactly(5) == b"after"
        assert await answers(*site.address)
        assert site.relay._door.sessions == session  # the same one
        assert [e.kind for e in site.events].count("tunnel_up") == 1


async def test_all_connections_frozen_are_found_and_replaced() -> None:
    async with over_a_hop() as (site, hop, _):
        visitor = await site.visit()
        await visitor.send(b"x")
        await visitor.exactly(1)
        for connection in hop.hops:
            connection.freeze()
        await visitor.broken()
        await comes_back(*site.address)


@pytest.mark.parametrize("kind", ["control", "channel"])
async def test_the_relay_gives_up_who_does_not_answer(kind: str) -> None:
    async with Relay(listen="127.0.0.1:0", limits=QUICK) as relay, ScriptedAgent(relay.url) as agent:
        control = await agent.connect()
        silent = control if kind == "control" else await agent.channel(1)
        async with asyncio.timeout(10 * (QUICK.ping_interval + QUICK.ping_timeout)):
            await silent.end()
        assert silent.pings


async def test_any_byte_is_life() -> None:
    """The agent answers no ping, but says something now and then."""
    async with Relay(listen="127.0.0.1:0", limits=QUICK) as relay, ScriptedAgent(relay.url) as agent:
        control = await agent.connect()
        channel = await agent.channel(1)
        (session,) = relay._door.sessions.values()
        loop = asyncio.get_running_loop()
        end = loop.time() + 2 * (QUICK.ping_interval + QUICK.ping_timeout)
        while loop.time() < end:
            for peer in (control, channel):
                await peer.say(peer.frame(b'{"type":"chat"}', 1))
            await asyncio.sleep(0.1)
        assert session.attached
        assert not next(iter(session._channels.values())).closed


async def test_a_session_that_is_over_is_begun_anew() -> None:
    async with over_a_hop() as (site, _, _):
        visitor = await site.visit()
        await visitor.send(b"x")
        await visitor.exactly(1)
        port = site.tunnel.port
        (session,) = site.relay._door.sessions.values()
        session.end()
        await visitor.broken()
        await comes_back(site.tunnel.host, port)
        assert session not in site.relay._door.sessions.values()


async def test_an_abort_while_the_agent_is_away_still_reaches_the_visitor() -> None:
    async with over_a_hop(hold) as (site, hop, service):
        visitor = await site.visit()
        wire = await service.connection()
        hop.control.freeze()
        hop.control.ends[0].close()  # the agent knows, the relay does not
        await event(site.events, "disconnected")
        wire.reset()
        await visitor.broken()


def kept_away(agent: Agent) -> asyncio.Event:
    """From now on the agent finds no way to its relay until the event is set."""
    may_come_back = asyncio.Event()
    connect = agent._link.connect

    async def when_it_may() -> Any:
        await may_come_back.wait()
        return await connect()

    agent._link.connect = when_it_may  # type: ignore[method-assign]
    return may_come_back


async def test_a_tunnel_that_is_closed_while_the_agent_is_away_goes_at_the_relay_too() -> None:
    async with over_a_hop() as (site, hop, _):
        may_come_back = kept_away(site.agent)
        hop.control.cut()
        await event(site.events, "disconnected")
        await site.tunnel.close()
        assert site.relay._registry._tunnels
        may_come_back.set()
        await until(lambda: not site.relay._registry._tunnels)
        await goes_away(*site.address)


# --- ghosts and rivals --------------------------------------------------------------------------


async def test_a_newer_session_of_the_same_agent_takes_over_and_the_old_one_is_told() -> None:
    async with Service(echo) as service, Relay(listen="127.0.0.1:0", limits=QUICK) as relay:
        async with Forwarder(relay) as hop, connected(relay, url=hop.url) as (old, events):
            tcp = await old.open("tcp", service.port)
            http = await old.open("http", service.port, name="app")
            async with connected(relay) as (new, _):
                newer = await new.open("tcp", service.port, remote_port=tcp.port)
                await event(events, "tunnel_lost", "replaced")
                assert isinstance(tcp.error, errors.ReplacedError)
                await new.open("http", service.port, name="app")
                with pytest.raises(errors.ReplacedError):
                    await asyncio.wait_for(old.wait(), PATIENCE)
                assert isinstance(http.error, errors.ReplacedError)
                hop.control.cut()  # it comes back, but does not ask for what it lost
                await event(events, "disconnected")
                await until(lambda: old.connected)
                assert await answers(newer.host, newer.port)
                assert newer.up
            assert not old.tunnels


@pytest.mark.parametrize(("kind", "error"), [("http", errors.NameTakenError), ("tcp", errors.PortTakenError)])
async def test_another_agent_is_refused_while_the_holder_is_connected(kind: Any, error: Any) -> None:
    async with Relay(listen="127.0.0.1:0", tokens=["one", "two"]) as relay:
        async with connected(relay, token="one") as (holder, _):
            tunnel = await holder.open(kind, 1, name="app")
            wish = {"name": "app"} if kind == "http" else {"remote_port": tunnel.port}
            for other in ({"token": "one", "identity": "desktop"}, {"token": "two"}):
                async with connected(relay, **other) as (rival, _):
                    with pytest.raises(error):
                        await rival.open(kind, 1, **wish)
        async with connected(relay, token="two") as (rival, _):
            with pytest.raises(error):  # for a minute it is kept for its token
                await rival.open(kind, 1, **wish)
        async with connected(relay, token="one", identity="desktop") as (heir, _):
            await heir.open(kind, 1, **wish)


async def test_another_agent_of_the_token_takes_over_from_one_that_is_away_which_then_hears_of_it() -> None:
    async with over_a_hop() as (site, hop, service):
        may_come_back = kept_away(site.agent)
        hop.control.cut()
        await until(lambda: not next(iter(site.relay._door.sessions.values())).attached)
        async with connected(site.relay, token="hush", identity="desktop") as (heir, _):
            tunnel = await heir.open("tcp", service.port, remote_port=site.tunnel.port)
            may_come_back.set()
            with pytest.raises(errors.ReplacedError):
                await asyncio.wait_for(site.agent.wait(), PATIENCE)
            assert await answers(tunnel.host, tunnel.port)


# --- secrets ------------------------------------------------------------------------------------


async def test_no_log_record_and_no_text_shows_a_token_or_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with Service(echo) as service, Relay(listen="127.0.0.1:0", tokens=["hush"]) as relay:
            async with (
                Forwarder(relay) as hop,
                connected(relay, url=hop.url, token="hush") as (agent, events),
            ):
                tunnel = await agent.open("tcp", service.port)
                assert await answers(tunnel.host, tunnel.port)
                hop.control.reset()
                await event(events, "disconnected")
                await until(lambda: agent.connected)
                (session,) = relay._door.sessions.values()
                shown = [caplog.text, *map(repr, (agent, tunnel, session, relay, agent._link, events))]
            with pytest.raises(errors.AuthError):
                await Agent(relay.url, token="hush-hush").start()
    assert caplog.records
    for secret in ("hush", session.secret):
        assert not any(secret in text for text in (*shown, caplog.text))


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


class Front:
    """Something that agents come through: leads every connection to ``target``."""

    def __init__(self, target: tuple[str, int], context: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._context = context
        self._tasks = Tasks("front")

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._tasks.close()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.spawn(self._forward(reader, writer), "connection")

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._introduce(reader, writer)
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            try:
                moving = (self._move(reader, far_writer), self._move(far_reader, writer))
                await asyncio.gather(*moving, return_exceptions=True)
            finally:
                far_writer.close()
        finally:
            writer.close()
            writer.transport.abort()

    async def _introduce(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What is said before the bytes of the relay."""

    async def _move(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def behind_tls(issued: Certificate) -> AsyncIterator[tuple[Relay, str]]:
    async with Relay(listen="127.0.0.1:0") as relay:
        async with Front(relay.addresses[0], issued.server_context()) as port:
            yield relay, f"wss://localhost:{port}"


@pytest.mark.parametrize("trust", ["ca", "fingerprint"])
async def test_a_relay_behind_tls(issued: Certificate, trust: str) -> None:
    data = os.urandom(3_000_000)
    trusted = {"ca": str(issued.ca)} if trust == "ca" else {"fingerprint": issued.fingerprint}
    async with Service(echo) as service, behind_tls(issued) as (relay, url):
        async with connected(relay, url=url, **trusted) as (agent, _):
            tunnel = await agent.open("tcp", service.port)
            async with visiting(tunnel.host, tunnel.port) as visitor:
                sending = asyncio.create_task(visitor.send(data))
                assert await visitor.exactly(len(data)) == data
                await sending
                visitor.shutdown()
                assert await visitor.ended()


async def test_many_visitors_over_tls(issued: Certificate) -> None:
    async with Service(echo) as service, behind_tls(issued) as (relay, url):
        async with connected(relay, url=url, ca=str(issued.ca)) as (agent, _):
            tunnel = await agent.open("tcp", service.port)

            async def visit(number: int) -> None:
                data = os.urandom(1000 * number)
                async with visiting(tunnel.host, tunnel.port) as visitor:
                    await visitor.send(data)
                    visitor.shutdown()
                    assert await visitor.rest() == data

            async with asyncio.TaskGroup() as group:
                for number in range(40):
                    group.create_task(visit(number))


async def test_a_certificate_that_is_not_trusted_is_an_error(issued: Certificate, tmp_path: Path) -> None:
    strangers = certificate(tmp_path)
    async with behind_tls(issued) as (_, url):
        for trust in ({}, {"ca": str(strangers.ca)}, {"fingerprint": strangers.fingerprint}):
            with pytest.raises(errors.CertificateError):
                await Agent(url, **trust).start()


async def test_a_certificate_for_another_name_is_an_error(tmp_path: Path) -> None:
    elsewhere = certificate(tmp_path, "elsewhere.test")
    async with behind_tls(elsewhere) as (_, url):
        with pytest.raises(errors.CertificateError):
            await Agent(url, ca=str(elsewhere.ca)).start()


async def test_tls_where_there_is_none_and_none_where_there_is(issued: Certificate) -> None:
    async with behind_tls(issued) as (relay, url):
        with pytest.raises(errors.NotARelayError):
            await Agent(url.replace("wss://", "ws://")).start()
        with pytest.raises(errors.TunnelkitError):
            await Agent(relay.url.replace("ws://", "wss://")).start()


# --- proxies ------------------------------------------------------------------------------------


class Proxy(Front):
    """An HTTP CONNECT or SOCKS5 proxy that leads everybody to ``target``; ``asked`` is what they wanted."""

    def __init__(self, scheme: str, target: tuple[str, int]) -> None:
        super().__init__(target)
        self.asked: list[str] = []
        self._introduce = self._connect if scheme == "http" else self._socks5

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert "Proxy-Authorization: Basic dXNlcjpwYXNz" in head
        self.asked.append(head.split()[1])
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def _socks5(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        methods = await reader.readexactly((await reader.readexactly(2))[1])
        assert 2 in methods
        writer.write(b"\x05\x02")
        assert await reader.readexactly(11) == b"\x01\x04user\x04pass"
        writer.write(b"\x01\x00")
        assert (await reader.readexactly(4)) == b"\x05\x01\x00\x03"
        name = await reader.readexactly((await reader.readexactly(1))[0])
        port = int.from_bytes(await reader.readexactly(2))
        self.asked.append(f"{name.decode()}:{port}")
        writer.write(b"\x05\x00\x00\x01" + bytes(6))


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("scheme", "variable"), [("http", "HTTP_PROXY"), ("http", "ALL_PROXY"), ("socks5", "ALL_PROXY")]
)
async def test_a_relay_behind_a_proxy(scheme: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Service(echo) as service, Relay(listen="127.0.0.1:0") as relay:
        proxy = Proxy(scheme, relay.addresses[0])
        async with proxy as port:
            monkeypatch.setenv(variable, f"{scheme}://user:pass@127.0.0.1:{port}")
            async with connected(relay, url="ws://relay.test:8080") as (agent, _):
                tunnel = await agent.open("tcp", service.port)
                assert await answers(tunnel.host, tunnel.port)
            assert len(proxy.asked) >= 2
            assert set(proxy.asked) == {"relay.test:8080"}


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_relay_behind_tls_behind_a_proxy(
    scheme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    issued = certificate(tmp_path, "relay.test")
    async with Service(echo) as service, behind_tls(issued) as (relay, tls):
        proxy = Proxy(scheme, ("127.0.0.1", int(tls.rpartition(":")[2])))
        async with proxy as port:
            monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://user:pass@127.0.0.1:{port}")
            async with connected(relay, url="wss://relay.test", ca=str(issued.ca)) as (agent, _):
                tunnel = await agent.open("tcp", service.port)
                assert await answers(tunnel.host, tunnel.port)
            assert set(proxy.asked) == {"relay.test:443"}


async def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass@127.0.0.1:{port}")
    with pytest.raises(errors.OutboundProxyError, match=str(port)) as error:
        await Agent("wss://relay.test").start()
    assert "pass" not in str(error.value)


# --- cancellation -------------------------------------------------------------------------------


async def test_starting_an_agent_may_be_cancelled_anywhere() -> None:
    async with no_failures(), Relay(listen="127.0.0.1:0") as relay:

        async def make() -> Agent:
            return Agent(relay.url)

        async def is_gone(agent: Agent) -> None:
            await agent.close()
            await until(lambda: not relay._door.sessions and not relay._http.active)

        assert await cancelled_at_each_step(make, Agent.start, is_gone) > 3


async def test_opening_a_tunnel_may_be_cancelled_anywhere() -> None:
    async with no_failures(), Relay(listen="127.0.0.1:0") as relay, connected(relay) as (agent, _):

        async def the_agent() -> Agent:
            return agent

        async def open_one(agent: Agent) -> None:
            await agent.open("tcp", 1)

        async def all_gone(agent: Agent) -> None:
            for tunnel in list(agent.tunnels.values()):
                await tunnel.close()
            await until(lambda: not relay._registry._tunnels and not relay._door.tasks)

        assert await cancelled_at_each_step(the_agent, open_one, all_gone) > 3


@pytest.mark.parametrize("grace", [0.0, 60.0], ids=["at once", "in its grace"])
@pytest.mark.parametrize("who", ["agent", "relay"])
async def test_closing_may_be_cancelled_anywhere_and_closes_all_the_same(who: str, grace: float) -> None:
    async with no_failures(), Service(silent) as service:
        stack = AsyncExitStack()

        async def busy() -> Site:
            site = await stack.enter_async_context(tunnelled(service.port))
            await (await site.visit()).send(b"x")
            await until(lambda: site.agent.active)
            return site

        async def close(site: Site) -> None:
            await getattr(site, who).close(grace=grace)

        async def is_closed(site: Site) -> None:
            closing = getattr(site, who)
            assert closing._closed is None or not closing._running  # what was begun is complete
            await closing.close()
            (visitor,) = site._visitors
            await visitor.broken()
            await stack.aclose()

        await cancelled_at_each_step(busy, close, is_closed, at_most=30 if grace else 1000)


async def test_an_agent_may_be_closed_while_it_tries_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "backoff", lambda *_: 0.0)
    async with Relay(listen="127.0.0.1:0") as relay, connected(relay) as (agent, events):
        await relay.close()
        await event(events, "retrying", "relay_unreachable")
        await asyncio.wait_for(agent.close(), PATIENCE)
        assert not agent.connected
