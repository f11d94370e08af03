"""HTTPS and wss:// at a relay's own address, with other people's clients as visitors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect as websocket

from tests.e2e.http_support import OK, Service, Wire, answering, until
from tests.e2e.tcp_support import dial, no_failures
from tests.support import Certificate, certificate, program
from tunnelkit import errors
from tunnelkit.agent import Agent
from tunnelkit.agent.agent import AgentTunnel
from tunnelkit.net.sockets import receive, send_all
from tunnelkit.net.tls import TlsSocket, client_context, start_client
from tunnelkit.relay import Limits, Relay, RelayTls

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"), "localhost", "127.0.0.1", "app.test", "other.test")


class SecureWire(Wire):
    """A visitor over TLS."""

    def __init__(self, tls: TlsSocket) -> None:
        self.tls = tls
        super().__init__(tls.sock)

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(20):
            await send_all(self.tls, data)

    async def _more(self) -> bool:
        async with asyncio.timeout(20):
            piece = await receive(self.tls, 1 << 18)
        self.seen += piece
        self._buffer += piece
        return bool(piece)

    def shutdown(self) -> None:
        self.tls.shutdown(socket.SHUT_WR)


@dataclass
class Site:
    relay: Relay
    agent: Agent
    tunnel: AgentTunnel
    made: Certificate
    wires: list[Wire] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.tunnel.port

    async def visit(self, name: str = "app.test") -> SecureWire:
        sock = await dial("127.0.0.1", self.port)
        tls = await start_client(sock, client_context(str(self.made.ca)), host=name, timeout=10)
        wire = SecureWire(tls)
        self.wires.append(wire)
        return wire

    async def plain(self) -> Wire:
        wire = Wire(await dial("127.0.0.1", self.port))
        self.wires.append(wire)
        return wire

    async def run(self, *command: str, stdin: bytes | None = None) -> tuple[bytes, bytes]:
        process = await asyncio.create_subprocess_exec(
            program(command[0]), *command[1:],
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(60):
            return await process.communicate(stdin)

    async def curl(self, *arguments: str) -> bytes:
        there = ["--resolve", f"app.test:{self.port}:127.0.0.1", "--cacert", str(self.made.ca)]
        out, err = await self.run("curl", "-sS", "--max-time", "20", *there, *arguments)
        assert not err, err
        return out


@contextlib.asynccontextmanager
async def served(
    service: Service, made: Certificate, *, domain: str = "test", limits: Limits | None = None, **tls: Any
) -> AsyncIterator[Site]:
    options = RelayTls(certificates=[(str(made.chain), str(made.key))], **tls)
    async with (
        no_failures(),
        Relay(listen="127.0.0.1:0", domain=domain, tls=options, limits=limits) as relay,
        Agent(relay.url, ca=str(made.ca), identity="agent") as agent,
    ):
        site = Site(relay, agent, await agent.open("http", service.port, name="app"), made)
        try:
            yield site
        finally:
            for wire in site.wires:
                wire.close()


# --- visitors -----------------------------------------------------------------------------------


async def echo_body(wire: Wire) -> None:
    while True:
        request = await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request.body) + request.body)


@pytest.mark.needs("curl")
async def test_curl_gets_and_posts_on_one_connection(made, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(os.urandom(3_000_000))
    async with Service(echo_body) as service, served(service, made) as site:
        assert site.tunnel.url == f"https://app.test:{site.port}"
        form = "%{http_code} %{num_connects}\n"
        said = await site.curl(
            "-w", form, "-o", "/dev/null", site.tunnel.url,
            "--next", "-sS", "--cacert", str(made.ca), "--data-binary", f"@{body}", "-w", form,
            "-o", str(tmp_path / "back"), site.tunnel.url,
        )  # fmt: skip
        assert said == b"200 1\n200 0\n"
        assert (tmp_path / "back").read_bytes() == body.read_bytes()
        assert b"X-Forwarded-Proto: https\r\n" in service.seen


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_openssl_and_resumption(made, tmp_path: Path, version: str) -> None:
    async with Service(answering(OK)) as service, served(service, made) as site:
        session = str(tmp_path / "session")
        common = [
            "openssl", "s_client", "-connect", f"127.0.0.1:{site.port}", "-servername", "app.test", version,
            "-CAfile", str(made.ca), "-verify_return_error", "-ign_eof",
        ]  # fmt: skip
        request = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        out, _ = await site.run(*common, "-sess_out", session, stdin=request)
        assert b"\nok" in out
        assert b"\nNew, TLSv1." in out
        assert out.rstrip().endswith(b"closed")  # by close_notify
        out, _ = await site.run(*common, "-sess_in", session, stdin=request)
        assert b"\nReused, TLSv1." in out
        assert b"\nok" in out


async def test_websockets_as_a_visitor(made) -> None:
    async def handshake_and_echo(wire: Wire) -> None:
        from websockets.server import ServerProtocol

        protocol = ServerProtocol()
        while not protocol.close_expected():
            protocol.receive_data(await asyncio.get_running_loop().sock_recv(wire.sock, 65536))
            for event in protocol.events_received():
                if hasattr(event, "headers"):
                    protocol.send_response(protocol.accept(event))
                elif event.opcode in (1, 2):
                    protocol.send_binary(bytes(event.data))
            await wire.send(b"".join(protocol.data_to_send()))

    data = os.urandom(500_000)
    async with Service(handshake_and_echo) as service, served(service, made) as site:
        url = f"wss://app.test:{site.port}/"
        async with websocket(
            url, ssl=made.client_context(), host="127.0.0.1", port=site.port, proxy=None, max_size=None
        ) as client:
            for size in (0, 1, 125, 126, 70_000, len(data)):
                await client.send(data[:size])
                assert await client.recv() == data[:size]


async def test_pipelined_requests_in_one_record_are_all_answered(made) -> None:
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number for number in range(9)]
    async with Service(answering(*answers)) as service, served(service, made) as site:
        visitor = await site.visit()
        await visitor.send(GET * 9)
        assert [(await visitor.response()).body for _ in range(9)] == [b"%d" % n for n in range(9)]


async def test_many_records_at_once_are_all_read(made) -> None:
    """More than fits into one receive is in OpenSSL's memory, where no descriptor tells of it."""
    async with Service(echo_body) as service, served(service, made) as site:
        visitor = await site.visit()
        body = os.urandom(1_000_000)
        head = b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: %d\r\n\r\n" % len(body)
        sending = asyncio.ensure_future(visitor.send(head + body))
        assert (await visitor.response()).body == body
        await sending


async def test_after_its_half_close_a_visitor_gets_its_answer(made) -> None:
    answer = os.urandom(2_000_000)

    async def late(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)

    async with Service(late) as service, served(service, made) as site:
        visitor = await site.visit()
        await visitor.send(GET)
        visitor.shutdown()
        assert (await visitor.response()).body == answer
        assert await visitor.ended()  # with close_notify


async def test_half_close_of_an_upgraded_connection(made) -> None:
    async def echo_after_the_end(wire: Wire) -> None:
        await wire.head()
        await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
        await wire.send(await wire.rest())

    data = os.urandom(1_000_000)
    async with Service(echo_after_the_end) as service, served(service, made) as site:
        visitor = await site.visit()
        await visitor.send(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: raw\r\n\r\n")
        assert (await visitor.head()).status == 101
        await visitor.send(data)
        visitor.shutdown()
        assert await visitor.rest() == data


async def test_an_answer_until_close_ends_with_close_notify_and_a_broken_one_without(made) -> None:
    async def serve(wire: Wire) -> None:
        target = (await wire.request()).target
        if target == b"/whole":
            await wire.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        else:
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")

    async with Service(serve) as service, served(service, made) as site:
        visitor = await site.visit()
        await visitor.send(GET.replace(b"/ ", b"/whole "))
        assert (await visitor.response()).body == b"all of it"
        visitor = await site.visit()
        await visitor.send(GET.replace(b"/ ", b"/part "))
        with pytest.raises(ConnectionError):
            await visitor.response()
        assert visitor.seen.endswith(b"part")


async def test_a_truncated_upload_does_not_reach_the_service_as_a_whole_one(made) -> None:
    """An upgraded connection that ends without close_notify is an abort for the service."""

    async def take(wire: Wire) -> None:
        await wire.head()
        await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
        await wire.until(b"part")
        with pytest.raises(ConnectionResetError):
            await wire.rest()
        seen.set()

    seen = asyncio.Event()
    async with Service(take) as service, served(service, made) as site:
        visitor = await site.visit()
        await visitor.send(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: raw\r\n\r\n")
        await visitor.head()
        await visitor.send(b"part")
        visitor.sock.shutdown(socket.SHUT_WR)  # TCP's end, and TLS has said nothing
        async with asyncio.timeout(20):
            await seen.wait()


# --- names, redirects, HSTS ---------------------------------------------------------------------


async def test_a_host_that_the_connection_is_not_for(made) -> None:
    async with Service(answering(OK)) as service, served(service, made) as site:
        visitor = await site.visit("other.test")
        answer = await visitor.ask(GET)
        assert answer.status == 421
        assert answer[b"Tunnelkit-Error"] == b"misdirected"
        assert await visitor.ended()
        visitor = await site.visit()
        assert (await visitor.ask(GET)).status == 200
        assert (await visitor.ask(GET.replace(b"app", b"APP"))).status == 200
        assert (await visitor.ask(GET.replace(b"app.test", b"app.test:443"))).status == 200
        assert (await visitor.ask(GET.replace(b"app", b"b"))).status == 421
        assert service.seen.count(b"GET") == 3


async def test_without_a_name_in_the_handshake_any_host_may_be_asked_for(made) -> None:
    async with Service(answering(OK)) as service, served(service, made) as site:
        visitor = await site.visit("127.0.0.1")  # an address is no name for SNI
        assert (await visitor.ask(GET)).status == 200


@pytest.mark.parametrize(
    ("host", "location"),
    [
        (b"app.test:8080", b"https://app.test:8080/a/b?c=%20"),
        (b"app.test", b"https://app.test:PORT/a/b?c=%20"),
        (b"app.test:80", b"https://app.test:PORT/a/b?c=%20"),
        (b"app.test:443", b"https://app.test/a/b?c=%20"),
        (b"[::1]:99", b"https://[::1]:99/a/b?c=%20"),
    ],
)
async def test_visitors_without_tls_are_redirected(made, host: bytes, location: bytes) -> None:
    async with Service(answering(OK)) as service, served(service, made) as site:
        visitor = await site.plain()
        post = b"POST /a/b?c=%%20 HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\n\r\nbody" % host
        answer = await visitor.ask(post)
        assert answer.status == 308
        assert answer[b"Location"] == location.replace(b"PORT", b"%d" % site.port)
        assert await visitor.ended()
        assert not service.seen


@pytest.mark.needs("curl")
async def test_curl_follows_the_redirect(made) -> None:
    async with Service(answering(OK)) as service, served(service, made) as site:
        assert await site.curl("-L", site.tunnel.url.replace("https", "http")) == b"ok"


async def test_plain_visitors_where_they_are_welcome(made) -> None:
    async with Service(answering(OK)) as service, served(service, made, plain_http=True) as site:
        assert (await (await site.plain()).ask(GET)).status == 200
        assert b"X-Forwarded-Proto: http\r\n" in service.seen
        assert site.tunnel.plain_port == site.port


async def test_hsts_is_said_over_tls_alone_and_only_if_the_service_does_not(made) -> None:
    own = b"HTTP/1.1 200 OK\r\nstrict-transport-security: max-age=5\r\nContent-Length: 0\r\n\r\n"
    async with Service(answering(OK, own)) as service:
        async with served(service, made, plain_http=True, hsts=300) as site:
            visitor = await site.visit()
            answer = await visitor.ask(GET)
            assert answer[b"Strict-Transport-Security"] == b"max-age=300"
            assert answer.body == b"ok"
            assert (await visitor.ask(GET))[b"Strict-Transport-Security"] == b"max-age=5"
    async with Service(answering(OK)) as service:
        async with served(service, made, plain_http=True, hsts=300) as site:
            assert b"Strict-Transport-Security" not in await (await site.plain()).ask(GET)


async def test_a_tunnel_on_a_port_of_its_own(made) -> None:
    async with Service(answering(OK)) as service, served(service, made, domain="") as site:
        assert site.tunnel.url == f"https://127.0.0.1:{site.port}"
        assert site.port != site.relay.addresses[0][1]
        visitor = await site.visit("127.0.0.1")
        assert (await visitor.ask(GET)).status == 200
        answer = await (await site.plain()).ask(GET.replace(b"app.test", b"127.0.0.1:%d" % site.port))
        assert answer[b"Location"] == b"https://127.0.0.1:%d/" % site.port


# --- agents -------------------------------------------------------------------------------------


async def test_a_channel_takes_one_handshake_for_all_its_streams(made, monkeypatch) -> None:
    made_of: list[bool] = []
    whole = TlsSocket.__init__

    def counted(self: TlsSocket, *arguments: Any, **options: Any) -> None:
        made_of.append(options["server_side"])
        whole(self, *arguments, **options)

    async def echo(wire: Wire) -> None:
        await wire.send(await wire.rest())

    monkeypatch.setattr(TlsSocket, "__init__", counted)
    async with Service(echo) as service, served(service, made) as site:
        tunnel = await site.agent.open("tcp", service.port)
        assert tunnel.url.startswith("tcp://")
        assert tunnel.plain_port == tunnel.port
        before = len(made_of)
        for number in range(20):
            wire = Wire(await dial("127.0.0.1", tunnel.port))
            data = os.urandom(10_000 * number)
            await wire.send(data)
            wire.shutdown()
            assert await wire.rest() == data
            wire.close()
        assert len(made_of) - before <= 4  # a channel or two, both ends counted


@pytest.mark.parametrize("trust", ["ca", "fingerprint"])
async def test_an_agents_channels_resume_its_session(made, monkeypatch, trust: str) -> None:
    resumed: list[bool] = []
    whole = TlsSocket.handshake

    async def watched(self: TlsSocket, timeout: float) -> None:
        await whole(self, timeout)
        resumed.append(self.resumed)

    async def hold(wire: Wire) -> None:
        await wire.rest()

    trusted = {"ca": str(made.ca)} if trust == "ca" else {"fingerprint": made.fingerprint}
    tls = RelayTls(certificates=[(str(made.chain), str(made.key))])
    async with Service(hold) as service, Relay(listen="127.0.0.1:0", tls=tls) as relay:
        monkeypatch.setattr(TlsSocket, "handshake", watched)
        async with Agent(relay.url, **trusted) as agent:
            tunnel = await agent.open("tcp", service.port)
            wires = [Wire(await dial("127.0.0.1", tunnel.port)) for _ in range(6)]
            await service.connection(5)
            for wire in wires:
                wire.close()
    assert len(resumed) > 6
    assert resumed[0] is False
    assert all(resumed[1:])


async def test_an_agent_with_a_pinned_certificate_and_one_with_the_wrong_one(made) -> None:
    async with Service(answering(OK)) as service, served(service, made) as site:
        async with Agent(site.relay.url, fingerprint=made.fingerprint) as agent:
            assert (await agent.open("http", service.port)).url.startswith("https://")
        with pytest.raises(errors.CertificateError):
            await Agent(site.relay.url, fingerprint="0" * 64).start()
        with pytest.raises(errors.CertificateError):
            await Agent(site.relay.url).start()


async def test_a_refusal_reaches_the_agent_whole(made) -> None:
    tls = RelayTls(certificates=[(str(made.chain), str(made.key))])
    async with Relay(listen="127.0.0.1:0", tokens=["right"], tls=tls) as relay:
        with pytest.raises(errors.AuthError, match="does not accept this token"):
            await Agent(relay.url, token="wrong", ca=str(made.ca)).start()


async def test_an_agent_from_elsewhere_has_to_come_with_tls(made, monkeypatch) -> None:
    monkeypatch.setattr("tunnelkit.relay.secured.is_loopback", lambda _: False)
    tls = RelayTls(certificates=[(str(made.chain), str(made.key))], plain_http=True)
    async with Relay(listen="127.0.0.1:0", tls=tls) as relay:
        with pytest.raises(errors.NotARelayError, match=r"over TLS only.*wss://"):
            await Agent(relay.url.replace("wss", "ws")).start()


# --- bad peers ----------------------------------------------------------------------------------


async def test_slow_handshakes_are_cut_and_others_served_meanwhile(made) -> None:
    limits = Limits(handshake_timeout=0.5)
    async with Service(answering(OK)) as service, served(service, made, limits=limits) as site:
        slow = [await site.plain() for _ in range(50)]
        for wire in slow:
            await wire.send(b"\x16\x03\x01\x02\x00\x01")
        assert (await (await site.visit()).ask(GET)).status == 200
        for wire in slow:
            assert await wire.ended()


async def test_a_visitor_who_goes_during_the_handshake(made) -> None:
    async with Service(answering(OK)) as service, served(service, made) as site:
        for number in range(20):
            wire = await site.plain()
            await wire.send(b"\x16\x03\x01"[: number % 4])
            wire.reset() if number % 2 else wire.close()
        assert (await (await site.visit()).ask(GET)).status == 200


async def test_a_slow_reader_gets_all_and_close_notify(made) -> None:
    answer = os.urandom(3_000_000)
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer
    async with Service(answering(reply)) as service, served(service, made) as site:
        visitor = await site.visit()
        await visitor.send(GET[:-2] + b"Connection: close\r\n\r\n")
        await visitor.until(b"HTTP/1.1 200")
        await asyncio.sleep(0.2)  # the relay's buffers fill
        await visitor.until(b"\r\n\r\n")
        assert await visitor.exactly(len(answer)) == answer
        assert await visitor.ended()


# --- certificates -------------------------------------------------------------------------------


async def test_a_renewed_certificate_is_served_within_seconds(made, tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    shutil.copy(made.chain, chain)
    shutil.copy(made.key, key)
    (tmp_path / "new").mkdir()
    renewed = certificate(tmp_path / "new", "app.test")
    mine = Certificate(made.ca, chain, key)
    async with Service(answering(OK)) as service, served(service, mine) as site:
        before = await site.visit()
        assert (await before.ask(GET)).status == 200
        shutil.copy(renewed.chain, chain)
        shutil.copy(renewed.key, key)
        await until(lambda: site.relay.certificates.fingerprint == renewed.fingerprint)
        site.made = renewed
        assert (await (await site.visit()).ask(GET)).status == 200
        assert (await before.ask(GET)).status == 200


@pytest.mark.needs("sslscan")
async def test_sslscan_finds_nothing_weak(made, tmp_path: Path) -> None:
    async with Service(answering(OK)) as service, served(service, made) as site:
        report = tmp_path / "report.xml"
        await site.run(
            "sslscan", "--no-colour", f"--xml={report}", "--sni-name=app.test", f"127.0.0.1:{site.port}"
        )
    found = report.read_text()
    enabled = re.findall(r'<protocol type="(\w+)" version="([\d.]+)" enabled="1"', found)
    assert enabled == [("tls", "1.2"), ("tls", "1.3")]
    ciphers = re.findall(r'<cipher status="\w+" sslversion="([^"]+)" bits="(\d+)" cipher="([^"]+)"', found)
    assert len(ciphers) >= 5
    for version, bits, name in ciphers:
        assert int(bits) >= 128
        assert re.search("GCM|CHACHA20", name)
        assert version == "TLSv1.3" or name.startswith("ECDHE-")
    assert '<compression supported="1"' not in found
    assert '<renegotiation supported="1"' not in found
    assert 'vulnerable="1"' not in found
    assert 'strength="weak"' not in found
