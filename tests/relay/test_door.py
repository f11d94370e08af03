"""How agents come in: handshakes, greetings, and the limits of what they may say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.scripted import PATIENCE, Peer, ScriptedAgent, dial, until
from tunnelkit import errors
from tunnelkit.relay import Limits, Relay, door
from tunnelkit.wire.frames import Opcode, frame
from tunnelkit.wire.messages import (
    CHANNEL_PATH,
    CONTROL_PATH,
    MAX_MESSAGE,
    SESSION_HEADER,
    Goodbye,
    Hello,
    Need,
    Refused,
    Request,
    Tunnel,
    Welcome,
    encode,
)


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay(listen="127.0.0.1:0", tokens=["hush", "other"]) as relay:
        yield relay


@pytest.fixture
async def agent(relay: Relay) -> AsyncIterator[ScriptedAgent]:
    async with ScriptedAgent(relay.url, token="hush") as agent:
        yield agent


def sessions(relay: Relay) -> dict[str, Any]:
    return relay._door.sessions


# --- handshakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "Hush", "hush2", "hus"])
@pytest.mark.parametrize("path", [CONTROL_PATH, CHANNEL_PATH])
async def test_without_the_right_token_nobody_comes_in(
    relay: Relay, agent: ScriptedAgent, token: str, path: str
) -> None:
    agent.token = token
    with pytest.raises(errors.AuthError, match=r"does not accept this token|wants a token"):
        await agent.shake_hands(path, {})
    assert not sessions(relay)


async def raw(relay: Relay, *lines: str, path: str = CONTROL_PATH) -> str:
    """What the relay answers to a handshake with these further lines, through the end."""
    sock = await dial(*relay.addresses[0])
    host = f"127.0.0.1:{relay.addresses[0][1]}"
    head = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13",
        *lines,
    ]
    loop = asyncio.get_running_loop()
    answer = b""
    async with asyncio.timeout(PATIENCE):
        try:
            await loop.sock_sendall(sock, "\r\n".join([*head, "", ""]).encode())
            while piece := await loop.sock_recv(sock, 4096):
                answer += piece
        except ConnectionError:
            pass
        finally:
            sock.close()
    return answer.decode()


AUTHORIZED = "Authorization: Bearer hush"
SPEAKS = "Sec-WebSocket-Protocol: tunnelkit.v1"


@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        ([SPEAKS, AUTHORIZED, "Origin: http://evil.test"], 400, "protocol"),
        ([SPEAKS, AUTHORIZED, "Origin: null"], 400, "protocol"),
        ([AUTHORIZED], 400, "protocol"),
        ([AUTHORIZED, "Sec-WebSocket-Protocol: tunnelkit.v0"], 400, "protocol"),
        ([SPEAKS], 401, "auth_failed"),
        ([SPEAKS, "Authorization: Basic hush"], 401, "auth_failed"),
    ],
    ids=["a web page", "a sandboxed page", "no protocol", "another version", "no token", "basic"],
)
async def test_a_handshake_that_is_refused_says_why(
    relay: Relay, lines: list[str], status: int, code: str
) -> None:
    answer = await raw(relay, *lines)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert f"\r\nTunnelkit-Error: {code}\r\n" in answer
    assert not sessions(relay)


async def test_a_token_of_a_megabyte_is_refused(relay: Relay) -> None:
    answer = await raw(relay, SPEAKS, f"Authorization: Bearer {'x' * 2**20}")
    assert answer == "" or int(answer.split()[1]) in (400, 401, 431)
    assert not sessions(relay)


async def test_a_handshake_that_comes_byte_by_byte_is_accepted(relay: Relay) -> None:
    sock = await dial(*relay.addresses[0])
    head = (
        f"GET {CONTROL_PATH} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n{SPEAKS}\r\n"
        f"{AUTHORIZED}\r\n\r\n"
    ).encode() + frame(encode(Hello("slow")), Opcode.TEXT, bytes(4))
    loop = asyncio.get_running_loop()
    for value in head:
        await loop.sock_sendall(sock, bytes([value]))
        await asyncio.sleep(0)
    await until(lambda: sessions(relay))
    sock.close()


@pytest.mark.parametrize("number", ["", "x", "-1", "1.0", "1234567890", "٣"])
async def test_a_data_channel_needs_a_number(relay: Relay, agent: ScriptedAgent, number: str) -> None:
    await agent.connect()
    header = f"{SESSION_HEADER}: {':'.join(agent.session)}:{number}"
    answer = await raw(relay, SPEAKS, AUTHORIZED, header, path=CHANNEL_PATH)
    assert answer.startswith("HTTP/1.1 400 ")


@pytest.mark.parametrize("claim", [{"session": "0" * 16}, {"secret": "0" * 32}, {"secret": "x"}])
async def test_a_data_channel_proves_its_session(agent: ScriptedAgent, claim: dict[str, str]) -> None:
    await agent.connect()
    with pytest.raises(errors.AuthError, match="does not know this session"):
        await agent.channel(1, **claim)
    await agent.channel(1)


async def test_a_session_is_no_use_with_another_token(agent: ScriptedAgent) -> None:
    await agent.connect()
    agent.token = "other"
    with pytest.raises(errors.AuthError, match="does not know this session"):
        await agent.channel(1)


async def test_a_number_is_used_once(agent: ScriptedAgent) -> None:
    await agent.connect()
    await agent.channel(7)
    with pytest.raises(errors.LimitError, match="already has"):
        await agent.channel(7)


async def test_more_agents_and_more_channels_than_allowed_are_refused() -> None:
    limits = Limits(sessions=1, channels_per_session=2)
    async with Relay(listen="127.0.0.1:0", limits=limits) as relay, ScriptedAgent(relay.url) as agent:
        await agent.connect()
        with pytest.raises(errors.LimitError, match="no more agents"):
            await agent.control()
        await agent.channel(1)
        await agent.channel(2)
        with pytest.raises(errors.LimitError, match="at most 2 data channels"):
            await agent.channel(3)


# --- the greeting -------------------------------------------------------------------------------


async def test_the_welcome_says_how_the_relay_wants_it() -> None:
    limits = Limits(ping_interval=7.0, ping_timeout=3.0, channels_per_session=11)
    async with Relay(listen="127.0.0.1:0", limits=limits) as relay, ScriptedAgent(relay.url) as agent:
        await agent.connect()
        welcome = agent.welcome
        assert (welcome.ping_interval, welcome.ping_timeout, welcome.max_channels) == (7.0, 3.0, 11)
        assert not welcome.resumed
        assert len(welcome.secret) == 32


async def test_who_says_nothing_is_not_waited_for(
    relay: Relay, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HELLO_TIMEOUT", 0.05)
    control = await agent.control()
    await control.end()
    assert not relay._door._unintroduced


async def test_who_has_said_hello_may_be_silent(
    agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HELLO_TIMEOUT", 0.05)
    silent = await agent.control()
    control = await agent.connect()
    await silent.end()
    await control.say(control.frame(b"", Opcode.PING))
    await agent.channel(1)


@pytest.mark.parametrize("first", [Request(1, "tcp"), Goodbye(), b'{"type":"news"}'])
async def test_hello_comes_first(relay: Relay, agent: ScriptedAgent, first: Any) -> None:
    control = await agent.control()
    await control.say(control.frame(first, Opcode.TEXT) if isinstance(first, bytes) else first)
    assert await control.end() == 1002
    assert "does not begin with hello" in control.close_reason
    assert not sessions(relay)


async def test_hello_may_come_in_fragments_with_pings_between(agent: ScriptedAgent) -> None:
    control = await agent.control()
    text = encode(Hello("laptop"))
    key = bytes(4)
    for number, value in enumerate(text):
        piece = bytearray(frame(bytes([value]), Opcode.TEXT if not number else Opcode.CONTINUATION, key))
        if number < len(text) - 1:
            piece[0] &= 0x7F  # not the last one
        await control.say(bytes(piece), control.frame(b"alive?", Opcode.PING))
    await control.hear(Welcome)


@pytest.mark.parametrize("close_code", [1000, 1001])
async def test_hello_and_goodbye_in_one_breath(relay: Relay, agent: ScriptedAgent, close_code: int) -> None:
    control = await agent.control()
    hello = control.frame(encode(Hello("laptop")), Opcode.TEXT)
    await control.say(hello + control.frame(close_code.to_bytes(2), Opcode.CLOSE))
    await control.end()
    await until(lambda: not sessions(relay))


async def test_hello_and_nonsense_in_one_breath(relay: Relay, agent: ScriptedAgent) -> None:
    control = await agent.control()
    await control.say(control.frame(encode(Hello("laptop")), Opcode.TEXT) + b"\xff" * 100)
    await control.end()
    await until(lambda: not sessions(relay))


# --- what an agent may say ----------------------------------------------------------------------


BAD = {
    "a second hello": (encode(Hello("laptop")), 1002),
    "no JSON": (b"{", 1002),
    "no object": (b"[]", 1002),
    "no type": (b"{}", 1002),
    "a missing field": (b'{"type":"request"}', 1002),
    "a wrong kind": (b'{"type":"request","id":1,"kind":"udp"}', 1002),
    "a wrong type": (b'{"type":"close","id":"one"}', 1002),
    "the relay's": (b'{"type":"need","n":1}', 1002),
    "no UTF-8": (b'{"type":"hello","agent":"\xff"}', 1002),
    "half a surrogate": (b'{"type":"hello","agent":"\\ud800"}', 1002),
    "deep": (b'{"type":"close","id":1,"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}", 1002),
    "over 64 KiB": (b'{"type":"close","id":1,"x":"' + b"x" * MAX_MESSAGE + b'"}', 1009),
}


@pytest.mark.parametrize(("text", "code"), BAD.values(), ids=BAD)
async def test_a_message_that_is_none_ends_that_connection_alone(
    relay: Relay, agent: ScriptedAgent, text: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    other = await agent.connect()
    control = await agent.connect()
    with caplog.at_level(logging.WARNING, "tunnelkit"):
        await control.say(control.frame(text, Opcode.TEXT))
        assert await control.end() == code
    assert [r.getMessage().startswith("control connection ended: ") for r in caplog.records] == [True]
    assert len(sessions(relay)) == 1
    await other.say(Request(1, "tcp"))
    await other.hear(Need)


BROKEN = {
    "binary": (frame(b"payload", Opcode.BINARY, bytes(4)), 1002),
    "unmasked": (frame(b"{}", Opcode.TEXT), 1002),
    "a reserved bit": (b"\xc1\x80" + bytes(4), 1002),
    "an opcode": (b"\x83\x80" + bytes(4), 1002),
    "a long ping": (b"\x89\xfe\x00\x7e" + bytes(4 + 126), 1002),
    "a frame that is announced as huge": (b"\x81\xff" + b"\x7f" + b"\xff" * 7 + bytes(4), 1009),
}


@pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN)
async def test_frames_that_are_none_end_the_connection(
    relay: Relay, agent: ScriptedAgent, data: bytes, code: int
) -> None:
    control = await agent.connect()
    await control.say(data)
    assert await control.end() == code
    await until(lambda: not sessions(relay))


async def test_fragments_do_not_get_around_the_limit(relay: Relay, agent: ScriptedAgent) -> None:
    control = await agent.connect()
    first, more = bytearray(control.frame(b"x" * 40_000, Opcode.TEXT)), bytearray()
    more = bytearray(control.frame(b"x" * 40_000, Opcode.CONTINUATION))
    first[0] &= 0x7F
    await control.say(bytes(first), bytes(more))
    assert await control.end() == 1009


@pytest.mark.parametrize(
    "text",
    [b'{"type":"news","of":"tomorrow"}', b'{"type":"close","id":9,"why":"a newer field"}'],
    ids=["message", "field"],
)
async def test_what_only_a_newer_agent_says_is_passed_over(agent: ScriptedAgent, text: bytes) -> None:
    control = await agent.connect()
    await control.say(control.frame(text, Opcode.TEXT))
    await agent.tunnel(control, Request(1, "tcp"))


REQUESTS = {
    "port": (Request(1, "tcp", port=70_000), "invalid_port"),
    "negative port": (Request(1, "tcp", port=-1), "invalid_port"),
    "name": (Request(1, "http", "no name"), "invalid_name"),
    "reserved": (Request(1, "http", "www"), "invalid_name"),
    "host header": (Request(1, "http", host_header="a\r\nX: b"), "invalid_name"),
}


@pytest.mark.parametrize(("request_", "code"), REQUESTS.values(), ids=REQUESTS)
async def test_a_request_that_cannot_be_is_refused_and_disturbs_nothing(
    relay: Relay, agent: ScriptedAgent, request_: Request, code: str
) -> None:
    control = await agent.connect()
    await control.say(request_)
    refused = await control.hear(Refused)
    assert (refused.id, refused.code) == (1, code)
    await agent.tunnel(control, Request(2, "tcp"))
    (session,) = sessions(relay).values()
    assert list(session.tunnels) == [2]


async def test_more_tunnels_than_allowed_are_refused() -> None:
    async with (
        Relay(listen="127.0.0.1:0", limits=Limits(tunnels_per_session=1)) as relay,
        ScriptedAgent(relay.url) as agent,
    ):
        control = await agent.connect()
        await agent.tunnel(control, Request(1, "tcp"))
        await control.say(Request(2, "tcp"))
        assert (await control.hear(Refused)).code == "limit"


@pytest.mark.parametrize(("asked", "code"), [(19_999, "port_not_allowed"), (0, "port_not_allowed")])
async def test_a_relay_without_ports_says_so(asked: int, code: str) -> None:
    async with (
        Relay(listen="127.0.0.1:0", tcp_ports=range(0)) as relay,
        ScriptedAgent(relay.url) as agent,
    ):
        control = await agent.connect()
        await control.say(Request(1, "tcp", port=asked))
        assert (await control.hear(Refused)).code == code


# --- sessions that are taken up again -----------------------------------------------------------


async def lose(relay: Relay, control: Peer, session: str) -> None:
    """Cut the control connection, and wait until the relay knows."""
    control.close()
    await until(lambda: not sessions(relay)[session].attached)


async def test_a_lost_session_is_taken_up_with_its_tunnels_and_channels(
    relay: Relay, agent: ScriptedAgent
) -> None:
    control = await agent.connect()
    tunnel, _ = await agent.tunnel(control, Request(1, "tcp"))
    await lose(relay, control, agent.session[0])
    control = await agent.connect(resume=True)
    assert agent.welcome.resumed
    await control.say(Request(1, "tcp", port=tunnel.port))  # an agent that missed the answer asks again
    assert await control.hear(Tunnel) == tunnel


@pytest.mark.parametrize("claim", ["secret", "token"])
async def test_it_is_not_taken_up_by_anybody_else(relay: Relay, agent: ScriptedAgent, claim: str) -> None:
    control = await agent.connect()
    await agent.tunnel(control, Request(1, "tcp"))
    session, secret = agent.session
    await lose(relay, control, session)
    if claim == "token":
        agent.token = "other"
    else:
        agent.session = (session, "0" * 32)
    await agent.connect(resume=True)
    assert not agent.welcome.resumed
    assert agent.welcome.session != session
    assert agent.welcome.secret != secret


async def test_a_session_that_has_nothing_ends_with_its_connection(
    relay: Relay, agent: ScriptedAgent
) -> None:
    control = await agent.connect()
    control.close()
    await until(lambda: not sessions(relay))


async def test_an_agent_that_says_goodbye_takes_its_tunnels_along(relay: Relay, agent: ScriptedAgent) -> None:
    control = await agent.connect()
    tunnel, _ = await agent.tunnel(control, Request(1, "tcp"))
    await control.say(Goodbye())
    await until(lambda: not sessions(relay)[agent.session[0]].tunnels)
    with pytest.raises(ConnectionRefusedError):
        await dial("127.0.0.1", tunnel.port)


async def test_a_relay_that_shuts_down_takes_no_requests_and_no_agents(agent: ScriptedAgent) -> None:
    async with Relay(listen="127.0.0.1:0") as relay, ScriptedAgent(relay.url) as agent:
        control = await agent.connect()
        relay._door.drain()
        await control.hear(Goodbye)
        await control.say(Request(1, "tcp"))
        assert (await control.hear(Refused)).code == "limit"
        with pytest.raises(errors.LimitError):
            await agent.control()


# --- secrets ------------------------------------------------------------------------------------


async def test_no_log_record_shows_a_token_or_a_secret(
    relay: Relay, agent: ScriptedAgent, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        control = await agent.connect()
        await agent.tunnel(control, Request(1, "tcp"))
        with pytest.raises(errors.AuthError):
            await agent.channel(9, secret="f" * 32)
        await control.say(b"\xff" * 10)
        await control.end()
        agent.token = "wrong-token"
        with pytest.raises(errors.AuthError):
            await agent.control()
    assert caplog.records
    for secret in ("hush", "wrong-token", agent.session[1], "f" * 32):
        assert secret not in caplog.text
