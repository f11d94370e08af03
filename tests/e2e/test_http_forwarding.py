"""What the service hears about its visitor comes from the relay alone; what is for one hop stays there."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.http_support import GET, OK, Message, Service, Site, Wire, answering, tunnelled, until


def get(*lines: bytes) -> bytes:
    return GET[:-2] + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


async def seen(*lines: bytes, **options: str) -> Message:
    """What the service gets of a request with ``lines``."""

    async def handle(wire: Wire) -> None:
        heads.append(await wire.head())
        await wire.send(OK)

    heads: list[Message] = []
    async with Service(handle) as service, tunnelled(service, **options) as site:
        assert (await site.ask(get(*lines))).status == 200
    (head,) = heads
    return head


def forwarding(head: Message) -> dict[bytes, bytes]:
    """The fields that say who the visitor is, by folded name. Each may be there once."""
    found = {}
    for name, value in head.fields:
        folded = name.lower().replace(b"_", b"-")
        if folded.startswith(b"x-forwarded-") or folded in (b"forwarded", b"x-real-ip", b"client-ip"):
            assert folded not in found
            found[folded] = value
    return found


LIES = [
    b"X-Forwarded-For: 6.6.6.6",
    b"x-forwarded-for: 6.6.6.6",
    b"X_Forwarded_For: 6.6.6.6",
    b"X-Forwarded_For: 6.6.6.6",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: evil.test",
    b"X-Forwarded-Port: 443",
    b"X-Forwarded-Server: evil.test",
    b"X-Forwarded-Anything: 1",
    b"Forwarded: for=6.6.6.6;proto=https",
    b"X-Real-IP: 6.6.6.6",
    b"X_Real_IP: 6.6.6.6",
    b"Client-IP: 6.6.6.6",
    b"True-Client-IP: 6.6.6.6",
]


async def test_the_visitor_says_nothing_about_itself() -> None:
    head = await seen(*LIES)
    found = forwarding(head)
    element = found.pop(b"forwarded")
    assert found == {
        b"x-forwarded-for": b"127.0.0.1",
        b"x-forwarded-proto": b"http",
        b"x-forwarded-host": b"app.test",
    }
    assert element.startswith(b'for="127.0.0.1:')
    assert element.endswith(b";proto=http;host=app.test")
    assert b"6.6.6.6" not in b"".join(value for _, value in head.fields)


@pytest.mark.parametrize("option", [b"X-Forwarded-For", b"x_forwarded_for, Forwarded", b"X-Forwarded-Host"])
async def test_connection_cannot_remove_what_the_relay_says(option: bytes) -> None:
    found = forwarding(await seen(b"Connection: " + option))
    assert set(found) == {b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"}


async def test_hop_by_hop_fields_of_a_request_stay_here() -> None:
    head = await seen(
        b"Connection: keep-alive, X-Private, x_other",
        b"Keep-Alive: timeout=5",
        b"X-Private: 1",
        b"X-Other: 1",
        b"Proxy-Connection: keep-alive",
        b"Proxy-Authorization: Basic x",
        b"Proxy: http://evil.test",
        b"Upgrade: something",
        b"TE: gzip",
        b"X-Public: 1",
    )
    named = {
        b"host",
        b"x-public",
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
    }
    assert head.names == named


async def test_hop_by_hop_fields_of_a_response_stay_here() -> None:
    response = (
        b"HTTP/1.1 200 Fine\r\nConnection: keep-alive, X-Private\r\nKeep-Alive: timeout=5\r\nX-Private: 1\r\n"
        b"Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-Public: 1\r\nContent-Length: 2\r\n\r\nok"
    )
    async with Service(answering(response)) as service, tunnelled(service) as site:
        answer = await site.ask()
        assert answer.start == b"HTTP/1.1 200 Fine"
        assert answer.names == {b"x-public", b"content-length"}


async def test_other_fields_pass_as_they_are_and_in_order() -> None:
    lines = [
        b"Cookie: a=1",
        b"x-Odd_Name:  spaced ",
        b"Cookie: b=2",
        "X-Latin: é".encode("latin-1"),
        b"X-Empty:",
    ]
    head = await seen(*lines)
    assert head.fields[1:6] == [
        (b"Cookie", b"a=1"),
        (b"x-Odd_Name", b"spaced"),
        (b"Cookie", b"b=2"),
        (b"X-Latin", b"\xe9"),
        (b"X-Empty", b""),
    ]


# --- Host ---------------------------------------------------------------------------------------


async def test_the_service_sees_the_visitors_host() -> None:
    head = await seen()
    assert head[b"Host"] == b"app.test"


async def test_the_service_sees_the_host_that_was_asked_for() -> None:
    head = await seen(host_header="other.test:81")
    assert (head[b"Host"], head[b"X-Forwarded-Host"]) == (b"other.test:81", b"app.test")


async def test_the_service_sees_its_own_host_with_rewrite() -> None:
    async with Service(answering(OK)) as service, tunnelled(service, host_header="rewrite") as site:
        await site.ask()
        assert b"\r\nHost: localhost:%d\r\n" % service.port in service.seen


async def test_requests_on_one_connection_may_be_for_different_hosts() -> None:
    async with Service(answering(OK)) as service, tunnelled(service) as site:
        visitor = await site.visit()
        for host in (b"one.test", b"two.test", b"one.test"):
            await visitor.ask(GET.replace(b"app.test", host))
        hosts = [line for line in bytes(service.seen).split(b"\r\n") if line.startswith(b"X-Forwarded-Host")]
        assert [host[-8:] for host in hosts] == [b"one.test", b"two.test", b"one.test"]


REFUSALS = {
    "Vite": b"Blocked request. This host (app.test) is not allowed.",
    "webpack": b"Invalid Host header",
    "Rails": b"<h1>Blocked hosts: app.test</h1>",
    "Django": b"<title>DisallowedHost at /</title>",
}


def told(site: Site) -> list[str]:
    """What the agent has been told of its service."""
    notices = [event.code for event in site.events if event.kind == "notice"]
    return [code for code in notices if code != "name_unused"]  # a relay without a domain says that


async def notices(site: Site) -> list[str]:
    """The same, once there is something."""
    await until(lambda: told(site))
    return told(site)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("server", REFUSALS)
async def test_the_agent_is_told_that_its_service_refuses_the_host(server: str, apart: bool) -> None:
    body = REFUSALS[server]
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(body)

    async def handle(wire: Wire) -> None:
        await wire.request()
        if apart:
            await wire.send(head)
            await head_passed.wait()
            await wire.send(body)
        else:
            await wire.send(head + body)
        await wire.rest()

    head_passed = asyncio.Event()
    async with Service(handle) as service, tunnelled(service) as site:
        visitor = await site.visit()
        await visitor.send(GET)
        await visitor.head()
        head_passed.set()
        assert await visitor.exactly(len(body)) == body
        assert await notices(site) == ["host_refused"]


async def test_the_agent_is_told_once() -> None:
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 19\r\n\r\nInvalid Host header"
    async with Service(answering(refusal)) as service, tunnelled(service) as site:
        for _ in range(3):
            await site.ask()
        # What is sent on the control connection now comes after all that was sent before.
        other = await site.agent.open("http", service.port, name="other")
        assert await notices(site) == ["host_refused"]
        await other.close()


async def test_no_such_notice_where_the_host_is_rewritten() -> None:
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 19\r\n\r\nInvalid Host header"
    async with Service(answering(refusal)) as service, tunnelled(service, host_header="rewrite") as site:
        await site.ask()
        await site.agent.open("http", service.port, name="other")
        assert not told(site)
