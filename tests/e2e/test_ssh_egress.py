"""Leaving by a relay over SSH: stock clients by ``-D``, ``-L`` and ``-W``, and our own proxy and exits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.http_support import GET, OK, Service, Wire, answering
from tests.e2e.ssh_support import SshSite, ssh_relay
from tests.e2e.tcp_support import QUICK, Forwarder, cancelled_at_each_step, echo, hold, until
from tests.support.addresses import free_port
from tests.support.exits import Dialer, joined
from tests.support.processes import start_process
from tests.support.programs import program
from tests.support.scripted import PATIENCE, dial
from tunnelkit import errors
from tunnelkit.agent import Agent, RelayEgress
from tunnelkit.compose import exit_dialer
from tunnelkit.config import load_exit
from tunnelkit.net.pump import Pump
from tunnelkit.net.stream import Target
from tunnelkit.transport.exit import ExitDialer
from tunnelkit.transport.ssh_options import SshOptions

pytestmark = pytest.mark.needs("ssh", "curl")

PIN = "127.0.0.7"
"""An address of every Linux machine that nothing takes by itself."""


def lent(*rules: str) -> Callable[[], ExitDialer]:
    """The egress of a relay that leaves from :data:`PIN`."""
    settings = load_exit({"source_ip": [PIN], "rules": list(rules or ("allow 127.0.0.0/8",))}, environ={})
    return lambda: exit_dialer(settings)


async def run(*argv: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def seen_from(peers: list[str]) -> Callable[[Wire], object]:
    """A web server that takes note of who asks."""
    answer = answering(OK)

    async def serve(wire: Wire) -> None:
        peers.append(wire.sock.getpeername()[0])
        await answer(wire)

    return serve


async def there_and_back(wire: Wire, data: bytes) -> None:
    """``data`` is sent, its side ended, and all of it comes back."""

    async def send() -> None:
        await wire.send(data)
        wire.shutdown()

    sending = asyncio.create_task(send())
    assert await wire.rest() == data
    await sending
    wire.close()


# --- stock clients ------------------------------------------------------------------------------


async def test_socks_leaves_from_the_pin_where_the_key_may(tmp_path: Path) -> None:
    peers: list[str] = []
    async with Service(seen_from(peers)) as web, Service(echo) as other:
        rules = f'permitopen="127.0.0.1:{web.port}"'
        async with ssh_relay(tmp_path, rules=rules, exit_dialer=lent()) as site:
            port = free_port()
            async with start_process(site.argv("-N", "-D", f"127.0.0.1:{port}"), ready=port) as client:
                await client.expect_async("-D, -L and -W leave from the relay's own address")
                proxy = ["-x", f"socks5h://127.0.0.1:{port}", "-sS"]
                url = f"http://127.0.0.1:{web.port}/"
                status, out, _ = await run(program("curl"), *proxy, "-w", "%{http_code}", url, url)
                assert (status, out.count("200")) == (0, 2)
                assert set(peers) == {PIN}
                # Another destination is none of the key's.
                status, _, _ = await run(program("curl"), *proxy, f"http://127.0.0.1:{other.port}/")
                assert status == 97
                await client.expect_async("administratively prohibited: destination_denied")
                assert not other.connections


async def test_a_session_stays_for_what_leaves_and_a_forward_with_a_local_end_is_half_closed(
    tmp_path: Path,
) -> None:
    data = os.urandom(3_000_000)
    async with (
        Service(echo) as service,
        ssh_relay(tmp_path, rules='permitopen="127.0.0.1:*"', exit_dialer=lent()) as site,
    ):
        port = free_port()
        forward = f"127.0.0.1:{port}:127.0.0.1:{service.port}"
        async with start_process(site.argv("-L", forward), ready=port):  # with a session
            await asyncio.sleep(2.5)  # longer than a session without any use is left
            await there_and_back(Wire(await dial("127.0.0.1", port)), data)
            await until(lambda: not site.relay._egress.active)


async def test_standard_input_and_output(tmp_path: Path) -> None:
    async with (
        Service(echo) as service,
        ssh_relay(tmp_path, rules='permitopen="*:*",permitopen="127.0.0.1:*"', exit_dialer=lent()) as site,
    ):
        status, out, _ = await run(*site.argv("-W", f"127.0.0.1:{service.port}"), stdin=b"to and fro")
        assert (status, out) == (0, "to and fro")


@pytest.mark.parametrize(
    ("rules", "dialer", "says"),
    [
        ("", lent(), "exit_not_allowed This key may not leave"),
        ('restrict,permitopen="127.0.0.1:*"', lent(), "exit_not_allowed This key may not leave"),
        ('permitopen="127.0.0.1:*"', None, "no_exit The relay lends no address of its own"),
        ('permitopen="127.0.0.1:1"', lent(), "destination_denied"),
        ('permitopen="*:*"', lent("allow *"), "destination_denied"),  # private addresses have to be named
    ],
)
async def test_what_is_refused(
    rules: str, dialer: Callable[[], ExitDialer] | None, says: str, tmp_path: Path
) -> None:
    async with (
        Service(echo) as service,
        ssh_relay(tmp_path, rules=rules, exit_dialer=dialer) as site,
    ):
        status, _, err = await run(*site.argv("-W", f"127.0.0.1:{service.port}"))
        assert status == 255
        assert f"administratively prohibited: {says}" in err
        assert not service.connections


async def test_a_destination_that_does_not_answer_is_no_prohibition(tmp_path: Path) -> None:
    rules = 'permitopen="127.0.0.1:*"'
    async with ssh_relay(tmp_path, rules=rules, exit_dialer=lent()) as site:
        _, _, err = await run(*site.argv("-W", f"127.0.0.1:{free_port()}"))
        assert "connect failed: destination_refused" in err
        # The relay's own doors are never dialled.
        _, _, err = await run(*site.argv("-W", f"127.0.0.1:{site.port}"))
        assert "administratively prohibited: destination_denied" in err


async def test_an_open_relay_lends_nothing_to_nobody(tmp_path: Path) -> None:
    async with (
        Service(echo) as service,
        ssh_relay(tmp_path, anyone=True, exit_dialer=lent()) as site,
    ):
        _, _, err = await run(*site.argv("-W", f"127.0.0.1:{service.port}"))
        assert "administratively prohibited: exit_not_allowed" in err


# --- our own proxy and exits --------------------------------------------------------------------


def _trust(site: SshSite) -> SshOptions:
    return SshOptions(identity_file=str(site.key), host_key=site.relay.ssh_fingerprint)


@asynccontextmanager
async def leaving(
    site: SshSite, exit_name: str = "", url: str = ""
) -> AsyncIterator[tuple[RelayEgress, Pump]]:
    pump = Pump(asyncio.get_running_loop())
    via = RelayEgress(url or f"ssh://127.0.0.1:{site.ssh_port}", ssh=_trust(site), exit=exit_name)
    await via.start(pump)
    try:
        yield via, pump
    finally:
        await via.close()
        pump.close()


@asynccontextmanager
async def relay_with_exit(
    directory: Path, rules: str = 'permitopen="127.0.0.1:*"'
) -> AsyncIterator[tuple[SshSite, Dialer]]:
    """A relay that lends its address, and an agent over SSH that is the exit ``office``."""
    dialer = Dialer()
    async with (
        ssh_relay(directory, rules=rules, exit_dialer=lambda: dialer, limits=QUICK) as site,
        Agent(f"ssh://127.0.0.1:{site.ssh_port}", ssh=_trust(site), identity="exit") as agent,
    ):
        await agent.offer(dialer, name="office")
        yield site, dialer


WAYS = [pytest.param("", id="relay"), pytest.param("office", id="exit")]


@pytest.mark.parametrize("exit_name", WAYS)
async def test_there_and_back(exit_name: str, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    async with (
        Service(echo) as service,
        relay_with_exit(tmp_path) as (site, dialer),
        leaving(site, exit_name) as (via, pump),
    ):
        await via.check()
        stream = await via.open(Target("127.0.0.1", service.port, "alice"))
        assert stream.source == dialer.source
        await there_and_back(Wire(joined(pump, stream)), data)
        host, port, client, rules = dialer.asked[-1]
        assert (host, port, rules) == ("127.0.0.1", service.port, ("allow 127.0.0.1",))
        assert client.endswith("/alice")
        await until(lambda: not via.active and not site.relay._egress.active)


@pytest.mark.parametrize("exit_name", WAYS)
async def test_what_comes_before_anybody_uses_the_stream_is_kept(exit_name: str, tmp_path: Path) -> None:
    async def greet(wire: Wire) -> None:
        await wire.send(b"220 early\r\n")

    async with (
        Service(greet) as service,
        relay_with_exit(tmp_path) as (site, _),
        leaving(site, exit_name) as (via, pump),
    ):
        stream = await via.open(Target("127.0.0.1", service.port, "c"))
        await until(lambda: service.connections)
        await asyncio.sleep(0.05)
        wire = Wire(joined(pump, stream))
        assert await wire.rest() == b"220 early\r\n"
        wire.close()


@pytest.mark.parametrize("exit_name", WAYS)
async def test_errors_have_their_codes(exit_name: str, tmp_path: Path) -> None:
    async with relay_with_exit(tmp_path) as (site, dialer), leaving(site, exit_name) as (via, _):
        dialer.error = errors.DestinationRefusedError("Nothing listens")
        with pytest.raises(errors.DestinationRefusedError, match="Nothing listens"):
            await via.open(Target("127.0.0.1", 1, "c"))
        dialer.error, dialer.at_once = None, False
        dialer.late_error = errors.DestinationTimeoutError("It sleeps")
        with pytest.raises(errors.DestinationTimeoutError, match="It sleeps"):
            await via.open(Target("127.0.0.1", 1, "c"))


async def test_rights_of_a_key(tmp_path: Path) -> None:
    async with relay_with_exit(tmp_path, rules="") as (site, _):
        async with leaving(site) as (via, _):
            with pytest.raises(errors.ExitNotAllowedError, match="This key may not leave"):
                await via.open(Target("127.0.0.1", 1, "c"))
        async with leaving(site, "nowhere") as (via, _):
            with pytest.raises(errors.NoExitError):
                await via.open(Target("127.0.0.1", 1, "c"))
        async with leaving(site, "office") as (via, _):  # its own
            await via.check()


@pytest.mark.parametrize("exit_name", WAYS)
async def test_a_way_that_goes_silent_is_found_dead_and_it_comes_back(exit_name: str, tmp_path: Path) -> None:
    ends: list[Wire] = []

    async def serve(wire: Wire) -> None:
        ends.append(wire)
        await hold(wire)

    async with (
        Service(serve) as service,
        relay_with_exit(tmp_path) as (site, _),
        Forwarder(site.relay) as between,
        leaving(site, exit_name, between.url.replace("ws://", "ssh://")) as (via, pump),
    ):
        client = Wire(joined(pump, await via.open(Target("127.0.0.1", service.port, "c"))))
        await until(lambda: ends)
        for hop in between.hops:
            hop.freeze()
        await client.broken()
        await ends[0].broken()
        await until(lambda: not site.relay._egress.active)
        client.close()
        again = await via.open(Target("127.0.0.1", service.port, "c"))
        again.cancel("done")


@pytest.mark.parametrize("exit_name", WAYS)
async def test_cancelled_at_each_step_nothing_stays_open(exit_name: str, tmp_path: Path) -> None:
    async with (
        Service(echo) as service,
        relay_with_exit(tmp_path) as (site, dialer),
        leaving(site, exit_name) as (via, _),
    ):
        dialer.at_once = False

        async def nothing() -> None: ...

        async def open_one(_: None) -> None:
            stream = await via.open(Target("127.0.0.1", service.port, "c"))
            stream.cancel("done")

        async def all_gone(_: None) -> None:
            await until(lambda: not via.active and not site.relay._egress.active)

        assert await cancelled_at_each_step(nothing, open_one, all_gone) > 1


async def test_after_a_restart_of_the_exit_the_relay_says_that_it_is_away(tmp_path: Path) -> None:
    dialer = Dialer()
    rules = 'permitopen="*:*"'
    async with ssh_relay(tmp_path, rules=rules, exit_dialer=lambda: dialer, limits=QUICK) as site:
        url = f"ssh://127.0.0.1:{site.ssh_port}"
        async with leaving(site, "office") as (via, _):
            async with Agent(url, ssh=_trust(site), identity="exit") as agent:
                await agent.offer(dialer, name="office")
                await via.check()
            with pytest.raises((errors.ExitAwayError, errors.NoExitError)):
                await via.check()
            async with Agent(url, ssh=_trust(site), identity="exit") as agent:
                await agent.offer(dialer, name="office")
                await via.check()


async def test_an_exit_by_ssh_for_a_proxy_by_websocket(tmp_path: Path) -> None:
    dialer = Dialer()
    async with (
        Service(answering(OK)) as web,
        ssh_relay(tmp_path, tokens=("hush",), exit_dialer=lambda: dialer) as site,
        Agent(
            f"ssh://127.0.0.1:{site.ssh_port}",
            ssh=SshOptions(host_key=site.relay.ssh_fingerprint),
            token="hush",
        ) as agent,
    ):
        await agent.offer(dialer, name="office")
        pump = Pump(asyncio.get_running_loop())
        via = RelayEgress(site.relay.url, token="hush", exit="office")
        await via.start(pump)
        stream = await via.open(Target("127.0.0.1", web.port, "c"))
        wire = Wire(joined(pump, stream))
        await wire.send(GET)
        assert (await wire.response()).status == 200
        wire.close()
        await via.close()
        pump.close()


async def test_no_connection_to_a_server_that_is_no_relay(tmp_path: Path) -> None:
    pump = Pump(asyncio.get_running_loop())
    with pytest.raises(errors.InvalidError, match="tunnelkit relay"):
        await RelayEgress("ssh+openssh://me@127.0.0.1:1").start(pump)
    pump.close()
