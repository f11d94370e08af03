"""Leaving by a relay: its own addresses, agents' exits, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tests.e2e.http_support import Service, Wire
from tests.e2e.tcp_support import QUICK, Forwarder, echo, event, hold, no_failures, until
from tests.support.addresses import free_port
from tests.support.chain import read_all, send_and_end
from tests.support.exits import Dialer, joined
from tests.support.scripted import PATIENCE, ScriptedRelay
from tunnelkit import errors
from tunnelkit.agent import Agent, Event, RelayEgress, egress_pool
from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import hard_close
from tunnelkit.net.stream import Target
from tunnelkit.relay import Limits, Relay
from tunnelkit.relay.auth import Rights, TokenList
from tunnelkit.wire.messages import Cancel, Hello, Open, Welcome

TOKEN = "hush"


class Site:
    """A relay, a proxy that leaves by it, and perhaps an exit."""

    def __init__(self, relay: Relay, via: RelayEgress, pump: Pump, dialer: Dialer) -> None:
        self.relay, self.via, self.pump, self.dialer = relay, via, pump, dialer

    async def client(self, port: int, host: str = "127.0.0.1", user: str = "alice") -> Wire:
        """A client that is connected with ``host:port``."""
        stream = await self.via.open(Target(host, port, "198.51.100.7", user))
        wire = Wire(joined(self.pump, stream))
        self.source = stream.source
        self._wires.append(wire)
        return wire

    _wires: list[Wire]

    @property
    def idle(self) -> bool:
        """Whether no stream is left anywhere."""
        return not self.via.active and not self.relay._egress.active


@asynccontextmanager
async def leaving(
    *, exit_name: str = "", rights: Rights | None = None, limits: Limits | None = None, **options: Any
) -> AsyncIterator[Site]:
    """A site; with ``exit_name``, an agent of the same token offers itself and is what leaves."""
    dialer = Dialer(**options)
    pump = Pump(asyncio.get_running_loop())
    tokens = TokenList({TOKEN: rights or Rights()})
    made = None if exit_name else lambda: dialer
    async with (
        no_failures(),
        Relay(listen="127.0.0.1:0", tokens=tokens, limits=limits, exit_dialer=made) as relay,
        Agent(relay.url, token=TOKEN, identity="exit") as agent,
    ):
        if exit_name:
            await agent.offer(dialer, name=exit_name, zone="eu-west")
        via = RelayEgress(relay.url, token=TOKEN, exit=exit_name)
        site = Site(relay, via, pump, dialer)
        site._wires = []
        site.agent = agent  # type: ignore[attr-defined]
        await via.start(pump)
        try:
            yield site
        finally:
            for wire in site._wires:
                wire.close()
            await via.close()
            pump.close()


WAYS = [pytest.param("", id="relay"), pytest.param("office", id="exit")]


@pytest.mark.parametrize("exit_name", WAYS)
@pytest.mark.parametrize("size", [0, 1, 65537, 3_000_000])
async def test_every_byte_and_both_ends_pass_and_the_channels_are_used_again(exit_name, size) -> None:
    up, down = os.urandom(size), os.urandom(size)

    async def serve(wire: Wire) -> None:
        assert await wire.rest() == up
        await wire.send(down)
        wire.shutdown()

    async with Service(serve) as service, leaving(exit_name=exit_name) as site:
        for _ in range(3):
            client = await site.client(service.port)
            assert site.source == "192.0.2.1"
            async with asyncio.timeout(PATIENCE):
                await send_and_end(client.sock, up)
                assert await read_all(client.sock) == down
            await until(lambda: site.idle)
        assert len(site.via._link.pool.channels) == 1
        client = site.dialer.asked[0][2]
        assert client.startswith("token-")
        assert client.endswith("/alice")


@pytest.mark.parametrize("exit_name", WAYS)
async def test_a_service_that_ends_first_still_gets_everything(exit_name) -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(wire: Wire) -> None:
        await wire.send(b"greeting")
        wire.shutdown()
        got.set_result(await wire.rest())

    async with Service(serve) as service, leaving(exit_name=exit_name) as site:
        client = await site.client(service.port)
        assert await client.rest() == b"greeting"
        await client.send(b"x" * 2_000_000)
        client.shutdown()
        assert len(await asyncio.wait_for(got, PATIENCE)) == 2_000_000
        await until(lambda: site.idle)


@pytest.mark.parametrize("exit_name", WAYS)
async def test_a_dial_that_takes_time_holds_nothing_up_and_loses_nothing(exit_name) -> None:
    async with Service(echo) as service, leaving(exit_name=exit_name, at_once=False) as site:
        site.dialer.gate.clear()
        opening = asyncio.create_task(site.client(service.port))
        await until(lambda: site.dialer.asked)
        assert not opening.done()
        site.dialer.gate.set()
        client = await opening
        await client.send(b"hello")
        assert await client.exactly(5) == b"hello"


@pytest.mark.parametrize("exit_name", WAYS)
async def test_who_gives_up_during_the_dial_leaves_nothing(exit_name) -> None:
    async with leaving(exit_name=exit_name, at_once=False) as site:
        site.dialer.gate.clear()
        opening = asyncio.create_task(site.client(9))
        await until(lambda: site.dialer.asked)
        opening.cancel()
        with suppress(asyncio.CancelledError):
            await opening
        await until(lambda: site.idle and site.dialer.closed)


@pytest.mark.parametrize("exit_name", WAYS)
@pytest.mark.parametrize(
    "error",
    [
        errors.DestinationDeniedError("no"),
        errors.ProxyUnavailable("the address is gone"),
        errors.DestinationUnresolvedError("no such name"),
        errors.DestinationTimeoutError("no answer"),
    ],
    ids=lambda error: error.code,
)
async def test_why_there_is_no_connection_comes_back_as_it_is(exit_name, error) -> None:
    async with leaving(exit_name=exit_name) as site:
        for at_once in (True, False):
            site.dialer.at_once = at_once
            site.dialer.error, site.dialer.late_error = (error, None) if at_once else (None, error)
            with pytest.raises(type(error), match=error.what):
                await site.client(9)
            await until(lambda: site.idle)
        assert len(site.via._link.pool.channels) == 1  # a refusal costs no channel


@pytest.mark.parametrize("exit_name", WAYS)
async def test_a_reset_at_either_end_is_a_reset_at_the_other(exit_name) -> None:
    wires: list[Wire] = []

    async def serve(wire: Wire) -> None:
        wires.append(wire)
        await hold(wire)

    async with Service(serve) as service, leaving(exit_name=exit_name) as site:
        client = await site.client(service.port)
        await until(lambda: wires)
        hard_close(client.sock)
        await wires[0].broken()
        client = await site.client(service.port)
        await until(lambda: len(wires) == 2)
        await wires[1].send(b"some")
        assert await client.exactly(4) == b"some"
        hard_close(wires[1].sock)
        await client.broken()
        await until(lambda: site.idle)


@pytest.mark.parametrize("exit_name", WAYS)
async def test_a_client_that_reads_nothing_stops_the_service_and_no_one_else(exit_name) -> None:
    total = 60_000_000

    async def serve(wire: Wire) -> None:
        sent = 0
        while sent < total:
            await wire.send(bytes(1 << 20))
            sent += 1 << 20
        wire.shutdown()

    async with Service(serve) as service, Service(echo) as other, leaving(exit_name=exit_name) as site:
        slow = await site.client(service.port)
        await until(
            lambda: any(c.blocked for s in site.relay._door.sessions.values() for c in s._channels.values())
        )
        quick = await site.client(other.port)
        await quick.send(b"hello")
        assert await quick.exactly(5) == b"hello"
        received = 0
        while piece := await asyncio.get_running_loop().sock_recv(slow.sock, 1 << 20):
            received += len(piece)
        assert received >= total


@pytest.mark.parametrize("exit_name", WAYS)
async def test_a_probe_comes_back_from_whoever_would_dial(exit_name) -> None:
    async with leaving(exit_name=exit_name) as site:
        for _ in range(2):
            await site.via.check()
            await until(lambda: site.idle)
        assert not site.dialer.asked
        assert len(site.via._link.pool.channels) == 1


# --- rights and names ---------------------------------------------------------------------------


async def test_a_relay_that_lends_no_address_says_so() -> None:
    async with leaving(exit_name="office") as site:
        site.via.exit = ""
        with pytest.raises(errors.NoExitError):
            await site.client(9)
        with pytest.raises(errors.NoExitError):
            await site.via.check()


async def test_an_exit_or_a_zone_that_nobody_knows() -> None:
    async with leaving(exit_name="office") as site:
        site.via.exit = "nowhere"
        with pytest.raises(errors.NoExitError) as caught:
            await site.client(9)
        assert caught.value.code == "no_exit"
        site.via.exit = "zone:mars"
        with pytest.raises(errors.NoExitError):
            await site.client(9)


async def test_an_exit_is_found_by_its_zone_and_gone_with_its_agent() -> None:
    async with Service(echo) as service, leaving(exit_name="office") as site:
        site.via.exit = "zone:eu-west"
        client = await site.client(service.port)
        await client.send(b"hello")
        assert await client.exactly(5) == b"hello"
        for tunnel in list(site.agent.tunnels.values()):  # type: ignore[attr-defined]
            await tunnel.close()
        await until(lambda: not site.relay._egress._exits)
        with pytest.raises(errors.NoExitError):
            await site.client(9)
        assert not site.relay._egress._zones


@pytest.mark.parametrize(
    ("proxies", "here", "there"),
    [
        (("@relay",), True, False),
        (("@own",), False, True),
        (("office",), False, True),
        (("off*",), False, True),
        (("zone:eu-*",), False, True),
        (("*",), False, True),
        ((), False, False),
    ],
)
async def test_a_token_leaves_only_by_what_its_rights_name(proxies, here, there) -> None:
    rights = Rights(proxies=proxies)
    async with leaving(rights=rights) as site:
        if here:
            await site.via.check()
        else:
            with pytest.raises(errors.ExitNotAllowedError):
                await site.via.check()
    async with leaving(exit_name="office", rights=rights) as site:
        for site.via.exit in ("office", "zone:eu-west"):
            if there:
                await site.via.check()
            else:
                with pytest.raises(errors.ExitNotAllowedError):
                    await site.via.check()


async def test_the_exit_of_another_token_is_not_ones_own() -> None:
    tokens = TokenList({"one": Rights(), "other": Rights()})
    pump = Pump(asyncio.get_running_loop())
    async with (
        Relay(listen="127.0.0.1:0", tokens=tokens) as relay,
        Agent(relay.url, token="one") as agent,
    ):
        await agent.offer(Dialer(), name="office")
        via = RelayEgress(relay.url, token="other", exit="office")
        await via.start(pump)
        try:
            with pytest.raises(errors.ExitNotAllowedError):
                await via.check()
        finally:
            await via.close()
            pump.close()


async def test_a_token_that_may_not_offer_an_exit_of_that_name() -> None:
    tokens = TokenList({TOKEN: Rights(offers=("home-*",))})
    async with (
        Relay(listen="127.0.0.1:0", tokens=tokens) as relay,
        Agent(relay.url, token=TOKEN) as agent,
    ):
        with pytest.raises(errors.ExitNotAllowedError):
            await agent.offer(Dialer(), name="office")
        exit_ = await agent.offer(Dialer(), name="home-1")
        assert (exit_.kind, exit_.name, exit_.url) == ("exit", "home-1", "exit:home-1")


async def test_nobody_offers_an_exit_or_leaves_without_a_token() -> None:
    pump = Pump(asyncio.get_running_loop())
    async with Relay(listen="127.0.0.1:0", exit_dialer=Dialer) as relay, Agent(relay.url) as agent:
        with pytest.raises(errors.ExitNotAllowedError):
            await agent.offer(Dialer(), name="office")
        via = RelayEgress(relay.url)
        await via.start(pump)
        with pytest.raises(errors.ExitNotAllowedError):
            await via.check()
        await via.close()
        pump.close()
    with pytest.raises(errors.AuthMissingError, match="leave from its addresses"):
        Relay(listen="0.0.0.0:0", anyone=True, exit_dialer=Dialer)


@pytest.mark.parametrize("exit_name", WAYS)
async def test_the_rules_of_a_token_travel_to_whoever_dials(exit_name) -> None:
    rights = Rights(destinations=("allow *.example.com:443", "deny *"))
    async with leaving(exit_name=exit_name, rights=rights) as site:
        with pytest.raises(errors.DestinationDeniedError):
            await site.client(80, "www.Example.com.")
        assert site.dialer.asked[0][:2] == ("www.example.com", 80)
        assert site.dialer.asked[0][3] == rights.destinations


async def test_a_wrong_token_is_told() -> None:
    pump = Pump(asyncio.get_running_loop())
    async with Relay(listen="127.0.0.1:0", tokens=[TOKEN]) as relay:
        via = RelayEgress(relay.url, token="wrong")
        with pytest.raises(errors.AuthError):
            await via.start(pump)
    pump.close()


async def test_a_relay_of_before_is_not_asked_for_what_it_does_not_know() -> None:
    pump = Pump(asyncio.get_running_loop())
    async with ScriptedRelay() as relay:
        via = RelayEgress(relay.url, token=TOKEN)
        starting = asyncio.create_task(via.start(pump))
        control = await relay.control()
        await control.hear(Hello)
        await control.say(Welcome("session", "secret"))
        with pytest.raises(errors.NoExitError, match="without egress"):
            await starting
        agent = Agent(relay.url, token=TOKEN)
        async with relay.greeting(agent):
            with pytest.raises(errors.NoExitError, match="without exits"):
                await agent.offer(Dialer(), name="office")
    pump.close()


async def test_a_relay_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress_pool, "ANSWER_TIMEOUT", 0.1)
    pump = Pump(asyncio.get_running_loop())
    async with ScriptedRelay() as relay:
        via = RelayEgress(relay.url, token=TOKEN)
        starting = asyncio.create_task(via.start(pump))
        control = await relay.control()
        await control.hear(Hello)
        await control.say(Welcome("session", "secret", egress=True, ping_interval=0.2, ping_timeout=9))
        await starting
        opening = asyncio.create_task(via.open(Target("127.0.0.1", 9, "c")))
        channel = await relay.channel()
        await channel.hear(Open)
        with pytest.raises(errors.DestinationTimeoutError):
            await opening
        assert (await control.hear(Cancel)).code == "timeout"
        await channel.end()  # it is not used again
        await via.close()
    pump.close()


async def test_channels_that_nobody_uses_are_closed_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Service(echo) as service, leaving() as site:
        clients = [await site.client(service.port) for _ in range(3)]
        for client in clients:
            client.shutdown()
            assert await client.ended()
        await until(lambda: site.idle)
        assert len(site.via._link.pool.channels) == 3
        site.via._link.pool.tick(site.pump.loop.time() + egress_pool.CHANNEL_IDLE + 1)
        assert len(site.via._link.pool.channels) == 1


# --- connections that are lost --------------------------------------------------------------------


async def test_streams_outlive_a_lost_control_connection_and_new_ones_wait_for_it() -> None:
    dialer = Dialer()
    pump = Pump(asyncio.get_running_loop())
    async with (
        Service(echo) as service,
        no_failures(),
        Relay(listen="127.0.0.1:0", tokens=[TOKEN], limits=QUICK, exit_dialer=lambda: dialer) as relay,
        Forwarder(relay) as between,
    ):
        events: list[Event] = []
        via = RelayEgress(between.url, token=TOKEN, on_event=events.append)
        await via.start(pump)
        wire = Wire(joined(pump, await via.open(Target("127.0.0.1", service.port, "c"))))
        between.control.reset()
        await event(events, "disconnected")
        await wire.send(b"still")
        assert await wire.exactly(5) == b"still"
        other = Wire(joined(pump, await via.open(Target("127.0.0.1", service.port, "c"))))
        await other.send(b"new")
        assert await other.exactly(3) == b"new"
        await until(lambda: via.connected)
        assert len(relay._door.sessions) == 1
        wire.close()
        other.close()
        await via.close()
    pump.close()


async def test_a_relay_that_is_gone_is_said_in_time_and_one_that_is_back_is_used(monkeypatch) -> None:
    monkeypatch.setattr(egress_pool, "AWAY_WAIT", 0.1)
    pump = Pump(asyncio.get_running_loop())
    dialer, port = Dialer(), free_port()
    listen = f"127.0.0.1:{port}"
    async with Service(echo) as service:
        async with Relay(listen=listen, tokens=[TOKEN], exit_dialer=lambda: dialer):
            via = RelayEgress(f"ws://{listen}", token=TOKEN)
            await via.start(pump)
            wire = Wire(joined(pump, await via.open(Target("127.0.0.1", service.port, "c"))))
        await wire.broken()
        wire.close()
        await until(lambda: not via.connected)
        with pytest.raises(errors.RelayUnreachableError):
            await via.open(Target("127.0.0.1", service.port, "c"))
        async with Relay(listen=listen, tokens=[TOKEN], exit_dialer=lambda: dialer):
            await until(lambda: via.connected)
            wire = Wire(joined(pump, await via.open(Target("127.0.0.1", service.port, "c"))))
            await wire.send(b"back")
            assert await wire.exactly(4) == b"back"
            wire.close()
            await via.close()
    pump.close()


async def test_an_exit_whose_agent_dies_aborts_its_streams_and_comes_back_by_its_name() -> None:
    dialer = Dialer()
    pump = Pump(asyncio.get_running_loop())
    async with (
        Service(echo) as service,
        no_failures(),
        Relay(listen="127.0.0.1:0", tokens=[TOKEN], limits=Limits(away_wait=0.1)) as relay,
    ):
        via = RelayEgress(relay.url, token=TOKEN, exit="office")
        await via.start(pump)
        async with Agent(relay.url, token=TOKEN, identity="exit") as agent:
            await agent.offer(dialer, name="office")
            wire = Wire(joined(pump, await via.open(Target("127.0.0.1", service.port, "c"))))
            await wire.send(b"hello")
            assert await wire.exactly(5) == b"hello"
            for channel in agent._link.pool.channels.values():  # as a machine that loses its power
                channel._sock.shutdown(socket.SHUT_RDWR)
            agent._link.control._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
            for task in list(agent._link._tasks._tasks) + list(agent._tasks._tasks):
                task.cancel()
            await wire.broken()
            wire.close()
            with pytest.raises(errors.ExitAwayError):
                await via.open(Target("127.0.0.1", service.port, "c"))
        async with Agent(relay.url, token=TOKEN, identity="exit") as agent:
            await agent.offer(dialer, name="office")
            wire = Wire(joined(pump, await via.open(Target("127.0.0.1", service.port, "c"))))
            await wire.send(b"back")
            assert await wire.exactly(4) == b"back"
            wire.close()
        await via.close()
    pump.close()
