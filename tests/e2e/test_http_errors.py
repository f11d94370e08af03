"""What a visitor is told where there is no answer: a page with a stable code."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.e2e.http_support import GET, OK, Message, Service, Site, Wire, answering, silent, tunnelled, until
from tests.support import free_port
from tunnelkit.agent import agent as agent_module
from tunnelkit.relay.limits import Limits
from tunnelkit.relay.probe import Prober

DOMAIN = "tunnels.test"


@pytest.fixture(autouse=True)
def _no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolves(self: Prober, host: str) -> bool:
        return True

    monkeypatch.setattr(Prober, "resolves", resolves)


def get(name: str, *lines: bytes, method: bytes = b"GET") -> bytes:
    host = f"{name}.{DOMAIN}".encode()
    return b"\r\n".join([method + b" / HTTP/1.1", b"Host: " + host, *lines, b"", b""])


def outcome(answer: Message) -> tuple[int, bytes]:
    assert answer[b"Connection"] == b"close"
    assert answer[b"Cache-Control"] == b"no-store"
    return answer.status, answer[b"Tunnelkit-Error"]


async def test_tunnels_are_found_by_name_whatever_its_case_port_and_final_dot() -> None:
    async with Service(answering(OK)) as service, tunnelled(service, domain=DOMAIN) as site:
        for host in (
            b"app.tunnels.test",
            b"APP.Tunnels.Test",
            b"app.tunnels.test.",
            b"app.tunnels.test:8080",
        ):
            assert (await site.ask(GET.replace(b"app.test", host))).body == b"ok"


@pytest.mark.parametrize(
    "host", [b"other.tunnels.test", b"tunnels.test", b"app.tunnels.example", b"a.app.tunnels.test", b"[::1]"]
)
async def test_no_such_tunnel(host: bytes) -> None:
    async with Service(answering(OK)) as service, tunnelled(service, domain=DOMAIN) as site:
        assert outcome(await site.ask(GET.replace(b"app.test", host))) == (404, b"no_tunnel")
        assert not service.connections


async def test_a_connection_that_was_for_one_tunnel_may_go_on_for_another() -> None:
    async with Service(answering(OK)) as service, Service(answering(OK.replace(b"ok", b"no"))) as second:
        async with tunnelled(service, domain=DOMAIN) as site:
            await site.agent.open("http", second.port, name="second")
            visitor = await site.visit()
            for name, body in [("app", b"ok"), ("second", b"no"), ("app", b"ok")]:
                assert (await visitor.ask(get(name))).body == body
            assert outcome(await visitor.ask(get("third"))) == (404, b"no_tunnel")
            assert await visitor.ended()


async def test_a_tunnel_that_was_closed_is_no_tunnel_any_more() -> None:
    async with Service(answering(OK)) as service, tunnelled(service, domain=DOMAIN) as site:
        visitor = await site.visit()
        await visitor.ask(get("app"))
        await site.tunnel.close()
        (session,) = site.relay._door.sessions.values()
        await until(lambda: not session.tunnels)
        assert outcome(await visitor.ask(get("app"))) == (404, b"no_tunnel")


async def test_a_name_that_goes_to_another_service_takes_open_connections_along() -> None:
    async with Service(answering(OK)) as service, Service(answering(OK.replace(b"ok", b"no"))) as second:
        async with tunnelled(service, domain=DOMAIN) as site:
            visitor = await site.visit()
            assert (await visitor.ask(get("app"))).body == b"ok"
            await site.tunnel.close()
            await site.agent.open("http", second.port, name="app")
            assert (await visitor.ask(get("app"))).body == b"no"


async def test_an_agent_that_is_away() -> None:
    limits = Limits(resume_window=0.1, ping_interval=0.2)
    async with Service(answering(OK)) as service, tunnelled(service, domain=DOMAIN, limits=limits) as site:
        visitor = await site.visit()
        await visitor.ask(get("app"))
        lose_agent(site)
        await until(lambda: not site.relay._door.sessions)
        assert outcome(await visitor.ask(get("app"))) == (503, b"agent_away")
        assert outcome(await site.ask(get("app"))) == (503, b"agent_away")


async def test_an_agent_that_has_just_gone() -> None:
    async with Service(answering(OK)) as service:
        async with tunnelled(service, domain=DOMAIN, limits=Limits(away_wait=0.1)) as site:
            lose_agent(site)
            assert outcome(await site.ask(get("app"))) == (503, b"agent_away")


def lose_agent(site: Site) -> None:
    """End the agent's connections, and let it make no new one."""
    for task in list(site.agent._tasks._tasks):
        task.cancel()
    site.agent._link.pool.drop("lost")
    assert site.agent._link.control is not None
    site.agent._link.control.drop("lost")


async def test_a_service_that_is_not_there() -> None:
    async with tunnelled(free_port(), domain=DOMAIN) as site:
        assert outcome(await site.ask(get("app"))) == (502, b"service_refused")
        assert [event.code for event in site.events if event.kind == "service_error"] == ["service_refused"]


async def test_a_service_that_comes_later() -> None:
    """A tunnel needs no service to be up, and what has failed does not stay so."""
    port = free_port()
    async with tunnelled(port, domain=DOMAIN) as site:
        assert (await site.ask(get("app"))).status == 502
        async with Service(answering(OK), port=port):
            assert (await site.ask(get("app"))).status == 200


@contextlib.contextmanager
def busy() -> Iterator[int]:
    """The port of a server whose queue of connections is full: the next one gets no answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server.getsockname()[1]


async def test_a_service_that_does_not_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "SERVICE_TIMEOUT", 0.3)
    with busy() as port:
        async with tunnelled(port, domain=DOMAIN) as site:
            assert outcome(await site.ask(get("app"))) == (504, b"service_timeout")


INVALID = {
    "garbage": b"\x00\x01\x02 what is this\r\n\r\n",
    "another protocol": b"220 mail.example.com ESMTP\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "space before a colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    "folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\nok",
    "long head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\nok",
    "long head without an end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    "many fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\nok",
    "unasked upgrade": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
}


async def test_a_service_that_makes_no_sense() -> None:
    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(response)

    async with Service(handle) as service, tunnelled(service, domain=DOMAIN) as site:
        for name, response in INVALID.items():  # noqa: B007 - the handler's
            assert outcome(await site.ask(get("app"))) == (502, b"service_invalid"), name


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize("resets", [False, True])
async def test_a_service_that_hangs_up_before_it_has_answered(beginning: bytes, resets: bool) -> None:
    async def handle(wire: Wire) -> None:
        await wire.request()
        await wire.send(beginning)
        if resets:
            wire.reset()

    async with Service(handle) as service, tunnelled(service, domain=DOMAIN) as site:
        visitor = await site.visit()
        await visitor.send(get("app"))
        answer = await visitor.response()
        if b"100" in beginning:
            answer = await visitor.response()
        assert outcome(answer) == (502, b"service_closed")
        assert len(service.connections) == 1


async def test_pages_are_html_for_browsers_and_text_for_others() -> None:
    async with tunnelled(free_port(), domain=DOMAIN) as site:
        for name, code in [("other", b"no_tunnel"), ("app", b"service_refused")]:
            page = await site.ask(get(name, b"Accept: text/html,application/xhtml+xml,*/*;q=0.8"))
            assert page[b"Content-Type"] == b"text/html; charset=utf-8"
            assert b"<code>%b</code>" % code in page.body
            assert f"{name}.{DOMAIN}".encode() in page.body
            text = await site.ask(get(name, b"Accept: */*"))
            assert text[b"Content-Type"] == b"text/plain; charset=utf-8"
            assert text.body.endswith(b"[%b]\n" % code)
            head = await site.ask(get(name, method=b"HEAD"))
            assert int(head[b"Content-Length"]) == len(text.body)


async def test_a_malformed_request_says_nothing_of_the_one_before() -> None:
    """A page for HEAD has no body; one for what cannot be read as a request has."""
    async with Service(answering(OK[:-2])) as service, tunnelled(service, domain=DOMAIN) as site:
        visitor = await site.visit()
        await visitor.ask(get("app", b"Accept: text/html", method=b"HEAD"))
        page = await visitor.ask(b"nonsense\r\n\r\n")
        assert outcome(page) == (400, b"http_head")
        assert page[b"Content-Type"] == b"text/plain; charset=utf-8"
        assert b"malformed request line" in page.body


async def test_a_page_reaches_a_visitor_that_is_still_sending() -> None:
    upload = b"POST / HTTP/1.1\r\nHost: other.tunnels.test\r\nContent-Length: 900000\r\n\r\n"
    async with Service(silent) as service, tunnelled(service, domain=DOMAIN) as site:
        for extra in (b"", b"Connection: close\r\n"):
            visitor = await site.visit()
            await visitor.send(upload[:-2] + extra + b"\r\n")
            await visitor.send(bytes(900_000))
            assert outcome(await visitor.response()) == (404, b"no_tunnel")
            assert await visitor.ended()
