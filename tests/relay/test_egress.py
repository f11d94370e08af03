"""The relay's side of what leaves by it, with the test as proxy and as exit, message by message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.e2e.http_support import Service
from tests.e2e.tcp_support import echo, no_failures, until
from tests.support.exits import Dialer
from tests.support.scripted import Peer, ScriptedAgent
from tunnelkit import errors
from tunnelkit.relay import Limits, Relay
from tunnelkit.relay.auth import MAX_RULES, Rights, TokenList
from tunnelkit.wire.frames import Opcode
from tunnelkit.wire.messages import (
    CONTROL_PATH,
    EGRESS_PATH,
    SESSION_HEADER,
    Cancel,
    Close,
    End,
    Error,
    Need,
    Open,
    Opened,
    Ready,
    Refused,
    Request,
    Tunnel,
    encode,
)

TOKEN = "hush"


class Site:
    def __init__(self, relay: Relay, dialer: Dialer, proxy: ScriptedAgent, exit_: ScriptedAgent) -> None:
        self.relay, self.dialer, self.proxy, self.exit = relay, dialer, proxy, exit_
        self._numbers = 0

    async def channel(self) -> Peer:
        """An egress channel of the proxy."""
        self._numbers += 1
        session, secret = self.proxy.session
        return await self.proxy.shake_hands(
            EGRESS_PATH, {SESSION_HEADER: f"{session}:{secret}:{self._numbers}"}
        )

    async def offer(self, name: str = "office", zone: str = "", number: int = 1) -> Peer:
        """The exit's control connection, its exit up."""
        control = await self.exit.connect()
        await control.say(Request(number, "exit", name, zone=zone))
        tunnel = await control.hear(Tunnel)
        assert (tunnel.name, tunnel.url, tunnel.port) == (name, f"exit:{name}", 0)
        return control

    @property
    def idle(self) -> bool:
        return not self.relay._egress.active


@asynccontextmanager
async def site(*, rights: Rights | None = None, limits: Limits | None = None) -> AsyncIterator[Site]:
    dialer = Dialer()
    tokens = TokenList({TOKEN: rights or Rights()})
    async with (
        no_failures(),
        Relay(listen="127.0.0.1:0", tokens=tokens, limits=limits, exit_dialer=lambda: dialer) as relay,
        ScriptedAgent(relay.url, token=TOKEN, identity="proxy") as proxy,
        ScriptedAgent(relay.url, token=TOKEN, identity="exit") as exit_,
    ):
        site = Site(relay, dialer, proxy, exit_)
        site.control = await proxy.connect()  # type: ignore[attr-defined]
        assert proxy.welcome.egress
        yield site


async def test_a_stream_from_the_relays_own_address_byte_by_byte() -> None:
    async with Service(echo) as service, site() as it:
        channel = await it.channel()
        for number in (1, 2):
            opening = channel.frame(
                encode(Open(number, 0, "me", target=f"127.0.0.1:{service.port}")), Opcode.TEXT
            )
            for byte in opening:
                await channel.say(bytes([byte]))
            opened = await channel.hear(Opened)
            assert (opened.stream, opened.source) == (number, "192.0.2.1")
            await channel.say(channel.frame(b"hello"), End(5))
            assert await channel.hear_payload(5 * number) == b"hello" * number
            assert (await channel.hear(End)).bytes == 5
            assert (await channel.hear(Ready)).stream == number
        assert it.idle


async def test_fields_and_messages_of_a_newer_proxy_are_passed_over() -> None:
    async with Service(echo) as service, site() as it:
        channel = await it.channel()
        newer = json.loads(encode(Open(1, 0, "me", target=f"127.0.0.1:{service.port}"))) | {"colour": "blue"}
        await channel.say(channel.frame(b'{"type":"paint"}', Opcode.TEXT))
        await channel.say(channel.frame(json.dumps(newer).encode(), Opcode.TEXT))
        assert (await channel.hear(Opened)).stream == 1


@pytest.mark.parametrize(
    "target",
    ["", "host", "host:", ":80", "host:http", "h:123456", "b\u00fccher:80", "a\nb:80", "x" * 300 + ":80"],
)
async def test_a_destination_that_is_none_is_refused_and_the_channel_stays(target: str) -> None:
    async with site() as it:
        channel = await it.channel()
        for number in (1, 2):
            await channel.say(Open(number, 0, "me", target=target))
            assert (await channel.hear(Error)).code == "invalid_target"
            await channel.say(End(0))
            assert (await channel.hear(Ready)).stream == number
        assert not it.dialer.asked


async def test_an_egress_channel_proves_its_session() -> None:
    async with site() as it:
        session, _ = it.proxy.session
        with pytest.raises(errors.AuthError):
            await it.proxy.shake_hands(EGRESS_PATH, {SESSION_HEADER: f"{session}:{'0' * 32}:1"})
        with pytest.raises(errors.AuthError):
            await it.proxy.shake_hands(EGRESS_PATH, {})
        it.proxy.token = "wrong"
        with pytest.raises(errors.AuthError):
            await it.channel()


async def test_channels_of_both_kinds_count_together() -> None:
    async with site(limits=Limits(channels_per_session=1)) as it:
        await it.channel()
        with pytest.raises(errors.LimitError):
            await it.channel()


async def test_what_only_an_acceptor_says_ends_an_egress_channel() -> None:
    async with site() as it:
        channel = await it.channel()
        await channel.say(Opened(1))
        await channel.end()


async def test_a_stream_passes_to_the_exit_with_who_where_and_the_rules() -> None:
    rights = Rights(destinations=("allow *.example.com", "deny *"))
    async with site(rights=rights) as it:
        control = await it.offer()
        channel = await it.channel()
        await channel.say(
            Open(
                7, 0, "al\x1bice" + "x" * 200, target="www.example.com:443", exit="office", rules=("allow *",)
            )
        )
        await control.hear(Need)
        far = await it.exit.channel(1)
        opening = await far.hear(Open)
        assert (opening.tunnel, opening.target, opening.exit) == (1, "www.example.com:443", "")
        assert opening.rules == rights.destinations  # the token's, whatever the proxy says
        who = opening.visitor.partition("/")[2]
        assert who.startswith("alice")
        assert len(who) < 130
        await far.say(Opened(opening.stream, "203.0.113.9"))
        assert (await channel.hear(Opened)).source == "203.0.113.9"
        await channel.say(channel.frame(b"up"), End(2))
        assert await far.hear_payload(2) == b"up"
        assert (await far.hear(End)).bytes == 2
        await far.say(far.frame(b"down"), End(4))
        assert await channel.hear_payload(4) == b"down"
        assert (await channel.hear(End)).bytes == 4
        assert (await channel.hear(Ready)).stream == 7
        await far.say(Ready(opening.stream))
        assert it.idle


async def test_the_code_of_an_exit_comes_back_as_it_is_and_both_channels_stay() -> None:
    async with site() as it:
        control = await it.offer()
        channel = await it.channel()
        far = None
        for number in (1, 2):
            await channel.say(Open(number, 0, "me", target="h:1", exit="office"))
            if far is None:
                await control.hear(Need)
                far = await it.exit.channel(1)
            opening = await far.hear(Open)
            await far.say(Error(opening.stream, "proxy_unavailable", "it is gone"))
            refused = await channel.hear(Error)
            assert (refused.code, refused.what) == ("proxy_unavailable", "it is gone")
            await far.hear(End)
            await far.say(Ready(opening.stream))
            await channel.say(End(0))
            await channel.hear(Ready)


async def test_another_channel_is_tried_where_one_ends_before_it_has_answered() -> None:
    async with site() as it:
        control = await it.offer()
        channel = await it.channel()
        await channel.say(Open(1, 0, "me", target="h:1", exit="office"))
        for number in (1, 2):
            await control.hear(Need)
            far = await it.exit.channel(number)
            opening = await far.hear(Open)
            if number == 1:
                far.close()
        await far.say(Opened(opening.stream, "203.0.113.9"))
        assert (await channel.hear(Opened)).stream == 1


async def test_an_exit_that_does_not_answer_in_time_is_said_and_not_tried_again() -> None:
    async with site(limits=Limits(exit_timeout=0.2, open_timeout=0.1)) as it:
        control = await it.offer()
        channel = await it.channel()
        await channel.say(Open(1, 0, "me", target="h:1", exit="office"))
        await control.hear(Need)
        far = await it.exit.channel(1)
        await far.hear(Open)
        assert (await channel.hear(Error)).code == "destination_timeout"
        await until(lambda: it.idle)


async def test_a_proxy_that_aborts_is_an_abort_at_the_exit_before_and_after_it_has_answered() -> None:
    async with site() as it:
        control = await it.offer()
        for number, answered in ((1, False), (2, True)):
            channel = await it.channel()
            await channel.say(Open(1, 0, "me", target="h:1", exit="office"))
            await control.hear(Need)
            far = await it.exit.channel(number)
            opening = await far.hear(Open)
            if answered:
                await far.say(Opened(opening.stream))
                await channel.hear(Opened)
            await it.control.say(Cancel(number, 1, "reset"))  # type: ignore[attr-defined]
            assert (await control.hear(Cancel)).stream == opening.stream
            await far.end()
            await until(lambda: it.idle)


async def test_payload_behind_its_end_is_not_passed_on() -> None:
    async with site() as it:
        control = await it.offer()
        channel = await it.channel()
        await channel.say(Open(1, 0, "me", target="h:1", exit="office"))
        await control.hear(Need)
        far = await it.exit.channel(1)
        await far.say(Opened((await far.hear(Open)).stream))
        await channel.hear(Opened)
        await channel.say(channel.frame(b"all"), End(3), channel.frame(b"more"))
        await channel.end()
        await far.end()
        assert bytes(far.payload) == b"all"
        await until(lambda: it.idle)


async def test_an_exit_that_aborts_is_an_abort_at_the_proxy() -> None:
    async with site() as it:
        control = await it.offer()
        channel = await it.channel()
        await channel.say(Open(1, 0, "me", target="h:1", exit="office"))
        await control.hear(Need)
        far = await it.exit.channel(1)
        opening = await far.hear(Open)
        await far.say(Opened(opening.stream), far.frame(b"some"))
        await control.say(Cancel(1, opening.stream, "reset", 4))
        cancel = await it.control.hear(Cancel)  # type: ignore[attr-defined]
        assert (cancel.channel, cancel.stream, cancel.code, cancel.sent) == (1, 1, "reset", 4)
        assert await channel.hear_payload(4) == b"some"
        await until(lambda: it.idle)


async def test_an_abort_that_may_have_been_lost_is_said_by_the_end_of_the_channel() -> None:
    async with site() as it:
        control = await it.offer()
        channel = await it.channel()
        await channel.say(Open(1, 0, "me", target="h:1", exit="office"))
        await control.hear(Need)
        far = await it.exit.channel(1)
        opening = await far.hear(Open)
        await far.say(Opened(opening.stream))
        await channel.hear(Opened)
        await control.say(Cancel(1, opening.stream, "reset"))
        await it.control.hear(Cancel)  # type: ignore[attr-defined]  # which this proxy passes over
        await it.proxy.connect(resume=True)
        assert it.proxy.welcome.resumed
        await channel.end()


async def test_an_exit_is_a_name_of_its_own_and_closes_like_a_tunnel() -> None:
    async with site() as it:
        control = await it.offer(zone="eu")
        other = ScriptedAgent(it.relay.url, token=TOKEN, identity="other")
        async with other:
            theirs = await other.connect()
            await theirs.say(Request(1, "exit", "office"))
            assert (await theirs.hear(Refused)).code == "name_taken"
            await theirs.say(Request(2, "exit", "-bad"))
            assert (await theirs.hear(Refused)).code == "invalid_name"
            await theirs.say(Request(3, "exit", "berlin", zone="EU?"))
            assert (await theirs.hear(Refused)).code == "invalid_name"
            await control.say(Close(1))
            await until(lambda: not it.relay._egress._exits)
            assert not it.relay._egress._zones
            await theirs.say(Request(4, "exit", "office"))
            assert (await theirs.hear(Tunnel)).name == "office"


async def test_in_a_zone_a_client_and_a_destination_keep_their_exit() -> None:
    async with site() as it:
        async with ScriptedAgent(it.relay.url, token=TOKEN, identity="second") as second:
            controls = {"one": await it.offer("one", "eu")}
            control = await second.connect()
            await control.say(Request(1, "exit", "two", zone="eu"))
            await control.hear(Tunnel)
            controls["two"] = control
            chosen = set()
            session = next(s for s in it.relay._door.sessions.values() if s.agent == "proxy")
            for host in "abcdefgh":
                request = Open(1, 0, "me", target=f"{host}:1", exit="zone:eu")
                picks = {it.relay._egress._chosen(session, request).name for _ in range(3)}  # type: ignore[union-attr]
                assert len(picks) == 1
                chosen |= picks
            assert chosen == {"one", "two"}
            controls["one"].close()
            await until(
                lambda: any(not s.attached or s.ended for s in it.relay._door.sessions.values()) or True
            )
            await until(
                lambda: all(
                    it.relay._egress._chosen(session, Open(1, 0, "me", target=f"{h}:1", exit="zone:eu")).name
                    == "two"  # type: ignore[union-attr]
                    for h in "abcdefgh"
                )
            )


async def test_what_an_exit_says_is_passed_on_only_as_far_as_it_is_fit_for_a_log() -> None:
    async with site() as it:
        control = await it.offer()
        channel = await it.channel()
        await channel.say(Open(1, 0, "me", target="h:1", exit="office"))
        await control.hear(Need)
        far = await it.exit.channel(1)
        opening = await far.hear(Open)
        await far.say(Error(opening.stream, "proxy\nerror", "\x1b[2J" + "x" * 3000))
        refused = await channel.hear(Error)
        assert (refused.code, refused.what) == ("proxyerror", "[2J" + "x" * 296)
        await channel.say(End(0))
        await channel.hear(Ready)
        await far.hear(End)
        await far.say(Ready(opening.stream))
        await channel.say(Open(2, 0, "me", target="h:1", exit="office"))
        await far.say(Opened((await far.hear(Open)).stream, "\n" * 2000 + "1"))
        assert (await channel.hear(Opened)).source == ""


async def test_a_relay_that_shuts_down_lets_what_runs_finish_and_nothing_new_leave() -> None:
    async with Service(echo) as service, site() as it:
        running, other = await it.channel(), await it.channel()
        await running.say(Open(1, 0, "me", target=f"127.0.0.1:{service.port}"))
        await running.hear(Opened)
        closing = asyncio.create_task(it.relay.close(grace=10))
        await until(lambda: it.relay._door.draining)
        await other.say(Open(1, 0, "me", target=f"127.0.0.1:{service.port}"))
        assert (await other.hear(Error)).code == "relay_unreachable"
        await running.say(running.frame(b"last"), End(4))
        assert await running.hear_payload(4) == b"last"
        await running.hear(Ready)
        await closing


def test_rules_that_are_too_long_to_travel_are_refused_where_they_are_written() -> None:
    with pytest.raises(errors.InvalidError):
        Rights(destinations=("allow " + "x" * MAX_RULES,))


async def test_the_longest_open_still_fits_a_message() -> None:
    rules = tuple(f'allow "{n:04}".example.com' for n in range(70))
    async with site(rights=Rights(destinations=rules)) as it:
        control = await it.offer()
        channel = await it.channel()
        target = '"' * 290 + ":1"
        await channel.say(Open(1, 0, "\u20ac" * 500, target=target, exit="office"))
        await control.hear(Need)
        far = await it.exit.channel(1)
        assert (await far.hear(Open)).target == target


async def test_the_relays_own_listeners_are_told_to_whoever_dials() -> None:
    async with site() as it:
        assert it.dialer.listeners == it.relay.addresses


def test_the_paths_are_of_one_place() -> None:
    assert EGRESS_PATH.rpartition("/")[0] == CONTROL_PATH.rpartition("/")[0]
