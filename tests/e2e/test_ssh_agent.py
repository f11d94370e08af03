"""Our agent at our relay by SSH: what holds over WebSocket holds here."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.http_support import GET, OK, Service, answering
from tests.e2e.tcp_support import (
    PATIENCE,
    QUICK,
    Forwarder,
    Hop,
    answers,
    cancelled_at_each_step,
    comes_back,
    echo,
    event,
    goes_away,
    hold,
    no_failures,
    part,
    until,
    visiting,
)
from tests.e2e.test_agent import Proxy
from tests.support.addresses import free_port
from tests.support.sshd import fingerprint, make_key
from tunnelkit import errors
from tunnelkit.agent import Agent, AgentTunnel, Event
from tunnelkit.agent import session as agent_module
from tunnelkit.relay import Relay, RelaySsh
from tunnelkit.transport import ssh_login
from tunnelkit.transport.ssh_options import SshOptions

pytestmark = pytest.mark.needs("ssh")


class Bench:
    """A relay with SSH, and agents that know its host key."""

    def __init__(self, relay: Relay, key: Path) -> None:
        self.relay, self.key = relay, key

    @property
    def trust(self) -> SshOptions:
        return SshOptions(identity_file=str(self.key), host_key=self.relay.ssh_fingerprint)

    @property
    def addresses(self) -> list[Any]:
        return list(self.relay.ssh_addresses)

    @property
    def url(self) -> str:
        host, port = self.addresses[0]
        return f"ssh://{host}:{port}"

    @asynccontextmanager
    async def agent(self, *, url: str = "", **options: Any) -> AsyncIterator[tuple[Agent, list[Event]]]:
        """An agent by its key, and what it hears."""
        events: list[Event] = []
        options = {"identity": "agent", "ssh": self.trust, **options}
        async with Agent(url or self.url, on_event=events.append, **options) as agent:
            yield agent, events


@asynccontextmanager
async def ssh_bench(directory: Path, **options: Any) -> AsyncIterator[Bench]:
    """A relay that lets one key and the token ``hush`` in."""
    key = directory / "key"
    if not key.exists():
        await make_key(key)
    ssh = RelaySsh(host_key=str(directory / "host"), listen=["127.0.0.1:0"], authorized_keys=f"{key}.pub")
    options = {"listen": "127.0.0.1:0", "limits": QUICK, "tokens": ["hush"], **options}
    async with no_failures(), Relay(ssh=ssh, **options) as relay:
        yield Bench(relay, key)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with ssh_bench(tmp_path) as bench:
        yield bench


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


async def there_and_back(tunnel: AgentTunnel, size: int = 3_000_000) -> None:
    """A visitor sends, ends its side, and gets everything back."""
    data = os.urandom(size)
    async with visiting(tunnel.host, tunnel.port) as visitor:

        async def send() -> None:
            await visitor.send(data)
            visitor.shutdown()

        sending = asyncio.create_task(send())
        assert await visitor.rest() == data
        await sending


# --- tunnels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["its own port", "the one port for all"])
async def test_tcp_and_http(bench: Bench, door: str) -> None:
    where = bench.relay.ssh_addresses if door == "its own port" else bench.relay.addresses
    url = f"ssh://127.0.0.1:{where[0][1]}"
    async with Service(echo) as tcp, Service(answering(OK)) as web, bench.agent(url=url) as (agent, events):
        tunnel = await agent.open("tcp", tcp.port)
        await there_and_back(tunnel)
        http = await agent.open("http", web.port, name="app")
        assert http.name == "app"
        async with visiting(http.host, http.port) as visitor:
            for _ in range(3):
                await visitor.send(GET)
                assert (await visitor.response()).status == 200
        assert events[0].kind == "connected"  # what the relay tells people who come with ssh is not shown
        await until(lambda: not tunnel.traffic.open)
        assert tunnel.traffic.totals() == (3_000_000, 3_000_000)


async def test_a_token_is_as_good_as_a_key(bench: Bench) -> None:
    trust = SshOptions(host_key=bench.relay.ssh_fingerprint)
    async with Service(echo) as service, bench.agent(ssh=trust, token="hush") as (agent, _):
        await there_and_back(await agent.open("tcp", service.port), 1000)
    with pytest.raises(errors.AuthError, match="does not accept the token"):
        await Agent(bench.url, ssh=trust, token="wrong").start()


async def test_an_open_relay_lets_everybody_in(tmp_path: Path) -> None:
    async with ssh_bench(tmp_path, tokens=(), anyone=True) as bench, Service(echo) as service:
        trust = SshOptions(host_key=bench.relay.ssh_fingerprint)
        async with bench.agent(ssh=trust) as (agent, _):
            await there_and_back(await agent.open("tcp", service.port), 1000)


async def test_a_relay_that_is_not_known_is_not_trusted(bench: Bench) -> None:
    with pytest.raises(errors.HostKeyUnknownError):
        await Agent(bench.url, ssh=SshOptions(str(bench.key)), token="hush").start()


async def test_proxy_protocol_names_the_visitor_and_where_he_came_in(bench: Bench) -> None:
    async with Service(echo) as service, bench.agent() as (agent, _):
        tunnel = await agent.open("tcp", service.port, proxy_protocol=1)
        async with visiting(tunnel.host, tunnel.port) as visitor:
            await visitor.send(b"x")
            head = await visitor.until(b"\r\n")
            assert head == b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (visitor.port, tunnel.port)


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"kind": "http", "remote_port": 8000}, errors.InvalidError),
        ({"kind": "http", "name": "no name"}, errors.InvalidNameError),
        ({"kind": "tcp", "remote_port": 70_000}, errors.InvalidPortError),
    ],
)
async def test_wishes_that_cannot_be(bench: Bench, wish: dict[str, Any], error: type[Exception]) -> None:
    async with bench.agent() as (agent, _):
        with pytest.raises(error):
            await agent.open(target=9, **wish)


async def test_a_name_of_somebody_else_is_refused(bench: Bench) -> None:
    other = {"ssh": SshOptions(host_key=bench.relay.ssh_fingerprint), "token": "hush", "identity": "other"}
    async with bench.agent() as (one, _), bench.agent(**other) as (two, _):
        await one.open("http", 9, name="app")
        with pytest.raises(errors.NameTakenError):
            await two.open("http", 9, name="app")


async def test_a_service_that_is_not_there_is_told_at_both_ends(bench: Bench) -> None:
    async with bench.agent() as (agent, events):
        tunnel = await agent.open("http", free_port())
        async with visiting(tunnel.host, tunnel.port) as visitor:
            await visitor.send(GET)
            answer = await visitor.response()
            assert (answer.status, answer[b"tunnelkit-error"]) == (502, b"service_refused")
        await event(events, "service_error", "service_refused")


async def test_an_abort_of_either_side_is_one_at_the_other(bench: Bench) -> None:
    async with Service(hold) as service, bench.agent() as (agent, _):
        tunnel = await agent.open("tcp", service.port)
        async with visiting(tunnel.host, tunnel.port) as visitor:
            wire = await service.connection()
            await wire.send(b"before")
            wire.reset()
            assert await visitor.exactly(6) == b"before"
            await visitor.broken()
        async with visiting(tunnel.host, tunnel.port) as visitor:
            wire = await service.connection(1)
            await visitor.send(b"before")
            assert await wire.exactly(6) == b"before"
            visitor.reset()
            await wire.broken()
        await until(lambda: not agent.active)


async def test_a_reader_that_stops_stops_no_other(bench: Bench) -> None:
    async with Service(echo) as service, bench.agent() as (agent, _):
        tunnel = await agent.open("tcp", service.port)
        async with visiting(tunnel.host, tunnel.port) as stopped:
            stopped.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            filling = asyncio.create_task(stopped.send(os.urandom(64 << 20)))  # and reads nothing of it
            for _ in range(3):
                await there_and_back(tunnel)
            assert not filling.done()
            filling.cancel()
            await asyncio.gather(filling, return_exceptions=True)


async def test_many_visitors(bench: Bench) -> None:
    async with Service(echo) as service, bench.agent() as (agent, _):
        tunnel = await agent.open("tcp", service.port)
        async with asyncio.TaskGroup() as group:
            for number in range(60):
                group.create_task(there_and_back(tunnel, 5000 * number + 1))
        await until(lambda: not agent.active)
        assert not agent._link.connection.streams  # type: ignore[attr-defined]


async def test_keys_are_exchanged_anew_while_bytes_flow(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ssh_login._options

    def often(*arguments: Any) -> Any:
        made = options(*arguments)
        made.rekey_bytes = 1 << 20
        return made

    monkeypatch.setattr(ssh_login, "_options", often)
    async with Service(echo) as service, bench.agent() as (agent, _):
        tunnel = await agent.open("tcp", service.port)
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(there_and_back(tunnel, 12 << 20))


# --- it goes and comes back ---------------------------------------------------------------------


@pytest.mark.parametrize("lose", [Hop.cut, Hop.reset, Hop.freeze], ids=["cut", "reset", "frozen"])
async def test_name_and_port_are_taken_back(bench: Bench, lose: Any) -> None:
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(Service(echo))
        hop = await stack.enter_async_context(Forwarder(bench))  # type: ignore[arg-type]
        agent, events = await stack.enter_async_context(bench.agent(url=hop.url.replace("ws:", "ssh:")))
        tunnel = await agent.open("tcp", service.port)
        await agent.open("http", service.port, name="app")
        port = tunnel.port
        visitor = await stack.enter_async_context(visiting(tunnel.host, port))
        await visitor.send(b"x")
        await visitor.exactly(1)
        lose(hop.control)
        lost = await event(events, "disconnected")
        assert (lost.code == "timeout") is (lose is Hop.freeze)
        await visitor.broken()  # streams end with their connection, and not as if they were whole
        await until(lambda: [e.kind for e in events].count("tunnel_up") == 4)
        assert tunnel.port == port
        assert {t.name for t in agent.tunnels.values()} == {"", "app"}
        await there_and_back(tunnel, 1000)


async def test_a_relay_that_was_killed_gives_name_and_port_back(tmp_path: Path) -> None:
    port, key = free_port(), await make_key(tmp_path / "key")
    host = tmp_path / "host"
    ssh = {"host_key": str(host), "listen": [f"127.0.0.1:{port}"], "authorized_keys": f"{key}.pub"}
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(Service(echo))
        relay = await stack.enter_async_context(part("relay", ssh=ssh))
        trust = SshOptions(str(key), host_key=await fingerprint(host))
        agent = await stack.enter_async_context(Agent(f"ssh://127.0.0.1:{port}", ssh=trust))
        tunnel = await agent.open("tcp", service.port)
        where = tunnel.host, tunnel.port
        await comes_back(*where)
        relay.kill()
        await goes_away(*where)
        await until(lambda: not agent.connected)
        await stack.enter_async_context(part("relay", ssh=ssh))
        await comes_back(*where)
        assert (tunnel.host, tunnel.port) == where


async def test_a_newer_session_of_the_same_agent_takes_over_and_the_old_one_is_told(bench: Bench) -> None:
    async with Service(echo) as service, bench.agent() as (old, events), bench.agent() as (new, _):
        tunnel = await old.open("tcp", service.port)
        newer = await new.open("tcp", service.port, remote_port=tunnel.port)
        await event(events, "tunnel_lost", "replaced")
        with pytest.raises(errors.ReplacedError):
            await asyncio.wait_for(old.wait(), PATIENCE)
        await there_and_back(newer, 1000)


async def test_a_tunnel_that_is_closed_is_gone_at_once(bench: Bench) -> None:
    async with bench.agent() as (agent, _):
        tunnel = await agent.open("tcp", 9)
        await tunnel.close()
        await goes_away(tunnel.host, tunnel.port)


async def test_what_runs_may_finish_whoever_leaves(tmp_path: Path) -> None:
    for leaver in ("agent", "relay"):
        async with ssh_bench(tmp_path) as bench, Service(echo) as service, bench.agent() as (agent, _):
            tunnel = await agent.open("tcp", service.port)
            async with visiting(tunnel.host, tunnel.port) as visitor:
                await visitor.send(b"x")
                await visitor.exactly(1)
                closing = asyncio.create_task(
                    (agent if leaver == "agent" else bench.relay).close(grace=PATIENCE)
                )
                await asyncio.sleep(0)
                await visitor.send(b"last words")
                assert await visitor.exactly(10) == b"last words"
                visitor.shutdown()
                assert await visitor.ended()
                await asyncio.wait_for(closing, PATIENCE)


async def test_an_idle_connection_stays(bench: Bench) -> None:
    async with Service(echo) as service, bench.agent() as (agent, events):
        tunnel = await agent.open("tcp", service.port)
        await asyncio.sleep(4 * (QUICK.ping_interval + QUICK.ping_timeout))  # the time is what it is about
        assert [e.kind for e in events] == ["connected", "tunnel_up"]
        assert await answers(tunnel.host, tunnel.port)


async def test_an_agent_may_be_closed_while_it_tries_to_come_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "backoff", lambda *_: 0.0)
    async with bench.agent() as (agent, events):
        await bench.relay.close()
        await event(events, "retrying", "relay_unreachable")
        await asyncio.wait_for(agent.close(), PATIENCE)
        assert not agent.connected


async def test_starting_may_be_cancelled_anywhere(bench: Bench) -> None:
    async def make() -> Agent:
        return Agent(bench.url, ssh=bench.trust)

    assert await cancelled_at_each_step(make, Agent.start, Agent.close, stride=4) > 15


async def test_opening_a_tunnel_may_be_cancelled_anywhere(bench: Bench) -> None:
    async with bench.agent() as (agent, _):

        async def the_agent() -> Agent:
            return agent

        async def open_one(agent: Agent) -> None:
            await agent.open("tcp", 1)

        async def all_gone(agent: Agent) -> None:
            for tunnel in list(agent.tunnels.values()):
                await tunnel.close()
            await until(lambda: not bench.relay._registry._tunnels)

        assert await cancelled_at_each_step(the_agent, open_one, all_gone) > 3


# --- on the way ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_through_a_proxy(bench: Bench, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy(scheme, bench.addresses[0])
    async with proxy as port, Service(echo) as service:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://user:pass@127.0.0.1:{port}")
        async with bench.agent(url="ssh://relay.test:2222") as (agent, _):
            tunnel = await agent.open("tcp", service.port)
            await there_and_back(tunnel, 100_000)
        assert proxy.asked == ["relay.test:2222"]


def test_a_tunnel_by_websocket_does_not_pay_for_ssh() -> None:
    program = """
import asyncio, sys
import tunnelkit, tunnelkit.tunnel, tunnelkit.cli.tunnels
from tunnelkit.compose import connected_agent
from tunnelkit.config import AgentSettings
async def main():
    async with connected_agent(AgentSettings()) as connection:
        await connection.agent.open("http", 9)
asyncio.run(main())
print([name for name in sys.modules if name.partition(".")[0] in ("asyncssh", "cryptography")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
