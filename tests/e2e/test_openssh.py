"""OpenSSH's sshd as the relay: ``ssh+openssh://``."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.e2e.http_support import GET, OK, Service, answering
from tests.e2e.tcp_support import (
    PATIENCE,
    Forwarder,
    Hop,
    Wire,
    answers,
    cancelled_at_each_step,
    comes_back,
    echo,
    event,
    goes_away,
    hold,
    no_failures,
    until,
    visiting,
)
from tests.support.addresses import free_port
from tests.support.engines import forget_settings
from tests.support.processes import run, start_process
from tests.support.programs import program
from tests.support.sshd import Sshd, kill_with_sessions, make_key, sshd
from tunnelkit import Tunnel, errors, forward
from tunnelkit.agent import Agent, Event, openssh_link
from tunnelkit.agent import agent as agent_module
from tunnelkit.transport import ssh_client, ssh_login
from tunnelkit.transport.ssh_options import SshOptions

pytestmark = pytest.mark.needs("ssh", "sshd")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Sshd]:
    async with sshd(tmp_path) as server:
        yield server


@asynccontextmanager
async def connected(server: Sshd, *, url: str = "", ssh: SshOptions | None = None):
    """An agent and its events."""
    events: list[Event] = []
    url, ssh = url or server.url, ssh or server.trust
    async with (
        no_failures(),
        Agent(url, ssh=ssh, on_event=events.append) as agent,
    ):
        yield agent, events


async def over(visitor: Wire) -> None:
    """Wait for the end, which an sshd cannot tell from an abort."""
    with suppress(ConnectionError):
        await visitor.rest()


# --- tunnels ------------------------------------------------------------------------------------


async def test_a_port_of_the_server_leads_to_the_service_and_back_with_half_close(server: Sshd) -> None:
    async with Service(echo) as service, connected(server) as (agent, events):
        tunnel = await agent.open("tcp", service.port)
        assert tunnel.url == f"tcp://127.0.0.1:{tunnel.port}"
        assert [event.kind for event in events] == ["connected", "tunnel_up"]
        data = os.urandom(3_000_000)
        async with visiting(tunnel.host, tunnel.port) as visitor:
            sending = asyncio.create_task(visitor.send(data))
            back = await visitor.exactly(len(data))
            await sending
            visitor.shutdown()
            assert back == data
            assert await visitor.ended()
        await until(lambda: not agent.active)
        await tunnel.close()
        await goes_away(tunnel.host, tunnel.port)


async def test_http_has_a_port_and_no_name(server: Sshd) -> None:
    async with Service(answering(OK)) as service, connected(server) as (agent, _):
        port = free_port()
        tunnel = await agent.open("http", service.port, remote_port=port)
        assert tunnel.url == f"http://127.0.0.1:{port}"
        async with visiting(tunnel.host, port) as visitor:
            await visitor.send(GET)
            assert (await visitor.response()).status == 200
        for wish in ({"name": "app"}, {"host_header": "rewrite"}):
            with pytest.raises(errors.InvalidError):
                await agent.open("http", service.port, **wish)


async def test_the_service_learns_who_its_visitor_is(server: Sshd) -> None:
    async with Service(echo) as service, connected(server) as (agent, _):
        tunnel = await agent.open("tcp", service.port, proxy_protocol=1)
        async with visiting(tunnel.host, tunnel.port) as visitor:
            await visitor.send(b"hello")
            head = await visitor.until(b"\r\n")
            assert head.startswith(b"PROXY ")
            assert await visitor.exactly(5) == b"hello"


async def test_several_tunnels_are_kept_apart(server: Sshd) -> None:
    async with Service(echo) as one, Service(answering(OK)) as two, connected(server) as (agent, _):
        first, second = await agent.open("tcp", one.port), await agent.open("tcp", two.port)
        assert first.port != second.port
        assert await answers(first.host, first.port)
        async with visiting(second.host, second.port) as visitor:
            await visitor.send(GET)
            assert (await visitor.response()).status == 200


async def test_a_service_that_is_not_there_is_told_of(server: Sshd) -> None:
    async with connected(server) as (agent, events):
        tunnel = await agent.open("tcp", free_port())
        async with visiting(tunnel.host, tunnel.port) as visitor:
            await over(visitor)
        await event(events, "service_error", "service_refused")


async def test_a_reader_that_stops_stops_no_other(server: Sshd) -> None:
    async with Service(echo) as service, connected(server) as (agent, _):
        tunnel = await agent.open("tcp", service.port)
        async with visiting(tunnel.host, tunnel.port) as stopped, visiting(tunnel.host, tunnel.port) as other:
            stopped.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            filling = asyncio.create_task(stopped.send(os.urandom(32 << 20)))  # and reads nothing of it
            data = os.urandom(8 << 20)
            sending = asyncio.create_task(other.send(data))
            assert await other.exactly(len(data)) == data
            await sending
            assert not filling.done()
            filling.cancel()
            await asyncio.gather(filling, return_exceptions=True)


@pytest.mark.parametrize("stalls", ["visitor", "service"])
async def test_a_peer_that_takes_nothing_is_given_up(
    server: Sshd, stalls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "STALL_TIMEOUT", 0.5)
    monkeypatch.setattr(ssh_client, "LOOK_INTERVAL", 0.1)

    async def flood(wire: Wire) -> None:
        while True:
            await wire.send(bytes(1 << 20))

    async with Service(flood if stalls == "visitor" else hold) as service, connected(server) as (agent, _):
        tunnel = await agent.open("tcp", service.port)
        async with visiting(tunnel.host, tunnel.port) as visitor:
            await until(lambda: agent.active)
            if stalls == "service":
                sending = asyncio.create_task(flood(visitor))
            await until(lambda: not agent.active)
            if stalls == "service":
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            else:
                await service.settled()


async def test_an_abort_of_the_service_ends_the_visitor(server: Sshd) -> None:
    async with Service(hold) as service, connected(server) as (agent, _):
        tunnel = await agent.open("tcp", service.port)
        async with visiting(tunnel.host, tunnel.port) as visitor:
            wire = await service.connection()
            wire.reset()
            await over(visitor)
        await until(lambda: not agent.active)


# --- what the server does not give --------------------------------------------------------------


async def test_a_port_that_is_taken(server: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with connected(server) as (agent, _):
            with pytest.raises(errors.PortTakenError):
                await agent.open("tcp", 9, remote_port=taken.getsockname()[1])


async def test_a_server_that_forwards_nothing(tmp_path: Path) -> None:
    async with sshd(tmp_path, AllowTcpForwarding="no") as server, connected(server) as (agent, _):
        with pytest.raises(errors.ForwardRefusedError):
            await agent.open("tcp", 9)


async def test_a_port_that_only_its_own_machine_reaches_is_told_of(
    server: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(openssh_link, "is_loopback", lambda _: False)
    async with sshd(tmp_path, ListenAddress="127.0.0.2") as server:
        url = server.url.replace("127.0.0.1", "127.0.0.2")
        async with connected(server, url=url) as (agent, events):
            await agent.open("tcp", 9)
            notice = await event(events, "notice", "port_unreachable")
            assert "GatewayPorts" in notice.what


async def test_a_look_at_the_port_does_not_visit_the_service(
    server: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openssh_link, "is_loopback", lambda _: False)
    async with Service(echo) as service, connected(server) as (agent, events):
        tunnel = await agent.open("tcp", service.port)
        assert await answers(tunnel.host, tunnel.port)
        assert tunnel.traffic.connections == 1
        assert not [event for event in events if event.kind == "notice"]


# --- who it is ----------------------------------------------------------------------------------


async def test_a_host_key_that_is_not_known_is_not_accepted(server: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("")
    options = SshOptions(str(server.key), str(known))
    with pytest.raises(errors.HostKeyUnknownError) as caught:
        await Agent(server.url, ssh=options).start()
    assert server.host_key in caught.value.what
    assert f"--host-key {server.host_key}" in caught.value.hint


async def test_a_host_key_that_has_changed_is_an_error(server: Sshd, tmp_path: Path) -> None:
    other = (await make_key(tmp_path / "other")).with_suffix(".pub").read_text()
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {other}")
    with pytest.raises(errors.HostKeyError) as caught:
        await Agent(server.url, ssh=SshOptions(str(server.key), str(known))).start()
    assert caught.value.code == "host_key_changed"
    known.write_text(f"127.0.0.1 {other}")  # of its port 22, which says nothing about this one
    with pytest.raises(errors.HostKeyUnknownError):
        await Agent(server.url, ssh=SshOptions(str(server.key), str(known))).start()


async def test_a_host_key_of_known_hosts_is_accepted_hashed_or_not(server: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"nonsense in a line\n[127.0.0.1]:{server.port} {server.public_host_key}\n")
    for _ in range(2):
        async with Agent(server.url, ssh=SshOptions(str(server.key), str(known))):
            pass
        await run("ssh-keygen", "-q", "-H", "-f", known)


async def test_a_pinned_host_key_that_is_another_is_an_error(server: Sshd) -> None:
    options = SshOptions(str(server.key), host_key="SHA256:" + "A" * 43)
    with pytest.raises(errors.HostKeyError, match="pinned") as caught:
        await Agent(server.url, ssh=options).start()
    assert server.host_key in caught.value.what
    with pytest.raises(errors.InvalidError, match="fingerprint"):
        await Agent(server.url, ssh=SshOptions(str(server.key), host_key="MD5:aa:bb")).start()


async def test_a_host_certificate_that_nobody_knows_does_not_hide_the_key(
    server: Sshd, tmp_path: Path
) -> None:
    authority = await make_key(tmp_path / "authority")
    await run(
        "ssh-keygen", "-q", "-s", authority, "-I", "host", "-h", "-n", "127.0.0.1", tmp_path / "host.pub"
    )
    async with sshd(tmp_path, HostCertificate=str(tmp_path / "host-cert.pub")) as server:
        async with Agent(server.url, ssh=server.trust):
            pass
        known = tmp_path / "known_hosts"
        public = authority.with_suffix(".pub").read_text()
        known.write_text(f"@cert-authority [127.0.0.1]:{server.port} {public}")
        async with Agent(server.url, ssh=SshOptions(str(server.key), str(known))):
            pass
        known.write_text("")
        with pytest.raises(errors.HostKeyUnknownError, match=server.host_key.replace("+", r"\+")):
            await Agent(server.url, ssh=SshOptions(str(server.key), str(known))).start()


async def test_an_ssh_agent_that_is_gone_is_none(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nowhere/agent")
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(errors.AuthError, match="there is none"):
        await Agent(server.url, ssh=SshOptions(host_key=server.host_key)).start()


@pytest.mark.parametrize(
    ("url", "trust"),
    [
        ("ws://127.0.0.1", {"ssh": SshOptions(host_key="SHA256:" + "A" * 43)}),
        ("ssh://127.0.0.1", {"fingerprint": "00" * 32}),
    ],
)
async def test_what_cannot_be_verified_there_is_refused(url: str, trust: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidError, match="There is no"):
        await Agent(url, **trust).start()


async def test_a_key_that_the_server_does_not_know(server: Sshd, tmp_path: Path) -> None:
    other = await make_key(tmp_path / "other")
    with pytest.raises(errors.AuthError, match="does not accept 1 key"):
        await Agent(server.url, ssh=SshOptions(str(other), host_key=server.host_key)).start()


async def test_no_key_at_all(server: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(errors.AuthError, match="there is none"):
        await Agent(server.url, ssh=SshOptions(host_key=server.host_key)).start()


async def test_a_server_that_takes_no_keys(tmp_path: Path) -> None:
    options = {"PubkeyAuthentication": "no", "PasswordAuthentication": "yes"}
    async with sshd(tmp_path, **options) as server:
        with pytest.raises(errors.AuthError, match="accepts neither"):
            await Agent(server.url, ssh=server.trust, token="hush").start()


@pytest.mark.parametrize("content", [None, "no key", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
async def test_an_identity_file_that_is_none(server: Sshd, content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "identity"
    if content is not None:
        path.write_text(content)
    with pytest.raises(errors.IdentityFileError, match="identity"):
        await Agent(server.url, ssh=SshOptions(str(path), host_key=server.host_key)).start()


async def test_a_key_with_a_passphrase_works_by_an_ssh_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    key = await make_key(tmp_path / "key", passphrase="open sesame")
    async with sshd(tmp_path) as server:
        with pytest.raises(errors.IdentityFileError, match="passphrase") as caught:
            await Agent(server.url, ssh=server.trust).start()
        assert "ssh-add" in caught.value.hint
        path = tmp_path / "agent"
        async with start_process([program("ssh-agent"), "-D", "-a", path], ready=path):
            ask = tmp_path / "ask"
            ask.write_text("#!/bin/sh\necho open sesame\n")
            ask.chmod(0o755)
            asking = {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force", "SSH_AUTH_SOCK": str(path)}
            done = await run("ssh-add", key, env=asking)
            assert done.returncode == 0
            monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
            for options in (server.trust, SshOptions(host_key=server.host_key)):
                async with Agent(server.url, ssh=options) as agent:
                    assert agent.connected


# --- what is no such server ---------------------------------------------------------------------


async def test_what_does_not_speak_ssh_is_told() -> None:
    async def complain(wire: Wire) -> None:
        await wire.send(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    async with Service(complain) as service:
        with pytest.raises(errors.NotARelayError, match="no SSH server"):
            await Agent(f"ssh+openssh://root@127.0.0.1:{service.port}").start()


async def test_what_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_login, "LOGIN_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(errors.RelayUnreachableError, match="in time"):
            await Agent(f"ssh+openssh://root@127.0.0.1:{silent.getsockname()[1]}").start()


async def test_nobody_there() -> None:
    with pytest.raises(errors.RelayUnreachableError, match="refused"):
        await Agent(f"ssh+openssh://root@127.0.0.1:{free_port()}").start()


async def test_an_ssh_server_is_no_relay(server: Sshd) -> None:
    with pytest.raises(errors.NotARelayError, match="no tunnelkit relay") as caught:
        await Agent(server.url.replace("ssh+openssh", "ssh"), ssh=server.trust).start()
    assert "ssh+openssh://" in caught.value.hint


# --- it goes and comes back ---------------------------------------------------------------------


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "CAP", 0.2)


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("lose", [Hop.cut, Hop.reset, Hop.freeze], ids=["cut", "reset", "frozen"])
async def test_the_port_is_taken_back(server: Sshd, lose: Any) -> None:
    async with Service(echo) as service, Forwarder(server) as hop:  # type: ignore[arg-type]
        url = server.url.replace(str(server.port), hop.url.rpartition(":")[2])
        options = SshOptions(str(server.key), "", server.host_key, 0.4, 0.4)
        async with connected(server, url=url, ssh=options) as (agent, events):
            tunnel = await agent.open("tcp", service.port)
            port = tunnel.port
            assert await answers(tunnel.host, port)
            lose(hop.control)
            lost = await event(events, "disconnected")
            assert (lost.code == "timeout") is (lose is Hop.freeze)
            if lose is Hop.freeze:
                await event(events, "notice")  # sshd does not know yet, and still has the port
                hop.control.cut()
            await comes_back(tunnel.host, port)
            assert tunnel.port == port


@pytest.mark.usefixtures("_quick")
async def test_a_server_that_was_killed_gives_its_port_again(tmp_path: Path) -> None:
    async with Service(echo) as service:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(sshd(tmp_path))
            agent, _ = await stack.enter_async_context(connected(server))
            tunnel = await agent.open("tcp", service.port)
            kill_with_sessions(server.child.pid)
            await until(lambda: not agent.connected)
            await stack.enter_async_context(sshd(tmp_path, port=server.port))
            await comes_back(tunnel.host, tunnel.port)


async def test_what_runs_may_finish(server: Sshd) -> None:
    async with Service(echo) as service, connected(server) as (agent, _):
        tunnel = await agent.open("tcp", service.port)
        async with visiting(tunnel.host, tunnel.port) as visitor:
            await visitor.send(b"x")
            await visitor.exactly(1)
            closing = asyncio.create_task(agent.close(grace=PATIENCE))
            await asyncio.sleep(0)
            await visitor.send(b"last words")
            assert await visitor.exactly(10) == b"last words"
            await goes_away(tunnel.host, tunnel.port)
            visitor.shutdown()
            assert await visitor.ended()
            await closing


async def test_starting_may_be_cancelled_anywhere(server: Sshd) -> None:
    async with no_failures():

        async def make() -> Agent:
            return Agent(server.url, ssh=server.trust)

        assert await cancelled_at_each_step(make, Agent.start, Agent.close, stride=5) > 15


async def test_opening_a_tunnel_may_be_cancelled_anywhere(server: Sshd) -> None:
    async with connected(server) as (agent, _):

        async def the_agent() -> Agent:
            return agent

        async def open_one(agent: Agent) -> None:
            await agent.open("tcp", 1)

        async def all_gone(agent: Agent) -> None:
            for tunnel in list(agent.tunnels.values()):
                await tunnel.close()
            await until(lambda: not agent._link.connection.forwards)  # type: ignore[attr-defined]

        assert await cancelled_at_each_step(the_agent, open_one, all_gone) > 1


# --- public tunnel services ---------------------------------------------------------------------


class TunnelService(asyncssh.SSHServer):
    """Says in the session where the tunnel is, as public services do."""

    def begin_auth(self, username: str) -> bool:
        return False

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        return True


async def test_what_a_service_says_in_its_session_is_shown(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")

    def session(process: asyncssh.SSHServerProcess[str]) -> None:
        process.stdout.write("Welcome\r\n\r\nyour tunnel: https://abc.example\x1b[0m\r\n")

    service = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=TunnelService, server_host_keys=[key], process_factory=session
    )
    options = SshOptions(host_key=key.get_fingerprint())
    async with service, Service(echo) as target:
        events: list[Event] = []
        url = f"ssh+openssh://nobody@127.0.0.1:{service.get_port()}"
        async with Agent(url, ssh=options, on_event=events.append) as agent:
            tunnel = await agent.open("tcp", target.port)
            assert await answers("127.0.0.1", tunnel.port)
            await until(lambda: [e for e in events if "https://abc.example" in e.what])
            assert all(event.kind == "notice" for event in events if "tunnel:" in event.what)


# --- for people and programs --------------------------------------------------------------------


@pytest.fixture
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_settings(monkeypatch, tmp_path)


@pytest.mark.usefixtures("_no_settings")
@pytest.mark.keeps_descriptors  # the engine serves the whole test run
async def test_forward_and_create(server: Sshd) -> None:
    trust = {"relay": server.url, "identity_file": str(server.key), "host_key": server.host_key}
    async with Service(answering(OK)) as service:
        async with await forward.aio(service.port, host="127.0.0.1", **trust) as address:
            assert address.startswith("tcp://127.0.0.1:")
            host, port = address.tcp_socket
            async with visiting(host, port) as visitor:
                await visitor.send(GET)
                assert (await visitor.response()).status == 200
        await goes_away(host, port)
        chosen = free_port()
        tunnel = await Tunnel.create.aio(host="127.0.0.1", port=service.port, remote_port=chosen, **trust)
        assert tunnel.url == f"http://127.0.0.1:{chosen}"
        await tunnel.aclose()
    with pytest.raises(errors.HostKeyUnknownError):
        await forward.aio(9, **{**trust, "host_key": None})
    with pytest.raises(errors.InvalidError, match="remote_port"):
        await Tunnel.create.aio(port=9, remote_port=9, relay="ssh://127.0.0.1")


async def test_the_command_line(server: Sshd, tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "TUNNELKIT_RELAY": server.url, "SSH_AUTH_SOCK": ""}
    environment["TUNNELKIT_IDENTITY_FILE"] = str(server.key)
    command = [sys.executable, "-m", "tunnelkit"]
    async with Service(answering(OK)) as service:
        argv = [*command, "http", str(service.port), "--host-key", server.host_key]
        ready = r"^http://127\.0\.0\.1:(\d+)$"
        async with start_process(argv, ready=ready, env=environment, cwd=tmp_path) as child:
            async with visiting("127.0.0.1", int(child.ready[1])) as visitor:
                await visitor.send(GET)
                assert (await visitor.response()).status == 200
        refused = await run(*command, "tcp", str(service.port), env=environment, cwd=tmp_path)
        assert refused.returncode == errors.HostKeyUnknownError.exit_status
        (line,) = refused.stderr.decode().splitlines()
        assert line.startswith("error: The host key of [127.0.0.1]:")
        assert line.endswith("[host_key_unknown]")
