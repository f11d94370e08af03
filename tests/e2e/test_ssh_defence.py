"""What strangers may try before a login, and what those who are in may not do."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
import sys
import time
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.e2e.http_support import OK, Service, Wire, answering
from tests.e2e.ssh_support import PORTS, SshSite, ssh_relay
from tests.e2e.tcp_support import echo
from tests.support.processes import run, start_process
from tests.support.scripted import dial, until
from tests.support.sshd import make_key
from tunnelkit.errors import AuthMissingError, InvalidError
from tunnelkit.relay import Limits, Relay, RelaySsh
from tunnelkit.relay.admission import MAX_WAITING, MAX_WAITING_EACH, PENALTY_FROM

GREETING = b"SSH-2.0-test\r\n"


async def visit(site: SshSite, port: int = 0) -> Wire:
    wire = Wire(await dial("127.0.0.1", port or site.port))
    site.wires.append(wire)
    return wire


async def client(site: SshSite, **options: Any) -> asyncssh.SSHClientConnection:
    """asyncssh as a client: for what OpenSSH does not do."""
    options.setdefault("client_keys", [str(site.key)])
    return await asyncssh.connect(
        "127.0.0.1", site.port, known_hosts=None, config=None, username="me", agent_path=None, **options
    )


# --- one port -------------------------------------------------------------------------------------


async def test_one_port_tells_protocols_apart_a_byte_at_a_time(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site:
        for hello, answer in (
            (GREETING, b"SSH-2.0-tunnelkit"),
            (b"SEARCH / HTTP/1.1\r\nHost: x.example\r\n\r\n", b"HTTP/1.1 404"),
            (b"GET / HTTP/1.1\r\nHost: x.example\r\n\r\n", b"HTTP/1.1 404"),
        ):
            wire = await visit(site)
            for position in range(len(hello)):
                await wire.send(hello[position : position + 1])
                await asyncio.sleep(0)
            assert await wire.exactly(len(answer)) == answer


async def test_a_tls_hello_gets_an_alert(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site:
        wire = await visit(site)
        await wire.send(bytes((22, 3, 1, 0, 100)))
        assert await wire.rest() == bytes((21, 3, 3, 0, 2, 2, 40))


async def test_the_shared_port_never_speaks_first_and_silence_ends(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path, limits=Limits(head_timeout=0.2)) as site:
        for early in (b"", b"S", b"SSH"):
            wire = await visit(site)
            await wire.send(early)
            assert await wire.rest() == b""
        wire = await visit(site, site.ssh_port)  # nobody else is expected there
        assert (await wire.until(b"\n")).startswith(b"SSH-2.0-tunnelkit")


# --- before a login -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "packet",
    [
        b"\xff\xff\xff\xff" + bytes(100),
        b"\x00\x00\x00\x0c\x04" + bytes((20,)) + b"\xff" * 10,
        b"\x00\x00\x00\x3c\x04" + bytes((20,)) + bytes(16) + b"\xff\xff\xff\xff" + bytes(38),
        b"\x00\x00\x00\x1c\x04" + bytes((90,)) + struct.pack(">I", 7) + b"session" + bytes(15),
        b"\x00\x00\x00\x1c\x04" + bytes((80,)) + struct.pack(">I", 0xFFFFFFFF) + bytes(22),
        b"\x00\x00\x00\x00" + bytes(20),
    ],
    ids=["length", "kexinit", "name-list", "channel", "request", "empty"],
)
async def test_nonsense_before_a_login_ends_that_connection_alone(packet: bytes, tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site:
        wire = await visit(site)
        await wire.send(GREETING + packet)
        await wire.rest()
        async with await client(site) as connection:
            assert not connection.is_closed()


async def test_a_greeting_without_an_end(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site:
        wire = await visit(site)
        await wire.send(b"SSH-2.0-" + b"x" * 10_000)
        await wire.rest()


async def test_channel_requests_before_a_login(tmp_path: Path) -> None:
    """With keys exchanged, and no login: what an attacker of libssh did (CVE-2018-10933)."""

    class Impatient(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            self.connection = conn

        def public_key_auth_requested(self) -> None:
            conn = self.connection
            conn._auth_complete = True  # so that asyncssh lets the packet out
            conn.send_packet(90, struct.pack(">I7sIII", 7, b"session", 0, 1 << 20, 1 << 15))
            conn.send_packet(52)  # the server's own message of success

    async with ssh_relay(tmp_path) as site:
        with pytest.raises((asyncssh.Error, OSError)):
            async with asyncio.timeout(5):
                await asyncssh.connect(
                    "127.0.0.1", site.port, known_hosts=None, config=None, client_factory=Impatient
                )
        assert not site.relay._sessions


async def test_500_silent_connections_leave_a_login_alone(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(answering(OK)) as web:
        silent = []
        for number in range(500):
            wire = await visit(site, site.ssh_port if number % 2 else site.port)
            silent.append(wire)
            if number % 4 == 0:
                await wire.send(GREETING)
        began = time.monotonic()
        done = await run(*site.argv("-R", f"app:80:localhost:{web.port}", "--", "nme=x"))
        assert b"There is no option" in done.stderr
        assert time.monotonic() - began < 2
        door = site.relay._ssh_door
        assert door is not None
        assert len(door._admission) <= MAX_WAITING_EACH < MAX_WAITING


async def test_failed_logins_are_counted_and_their_address_is_refused_for_a_while(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path, tokens=("sesame",)) as site:
        loop = asyncio.get_running_loop()
        for _ in range(4):  # each counts five seconds, and a little time passes
            with pytest.raises(asyncssh.PermissionDenied):
                await client(site, client_keys=None, password="wrong")
        door = site.relay._ssh_door
        assert door is not None
        await until(lambda: door._admission.refuses("127.0.0.1", loop.time()))
        with pytest.raises((asyncssh.Error, OSError)):
            await client(site, client_keys=None, password="sesame")
        assert not door._admission.refuses("127.0.0.1", loop.time() + PENALTY_FROM)
        assert not door._admission.refuses("127.0.0.2", loop.time())


async def test_a_login_has_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunnelkit.transport.ssh.LOGIN_GRACE", 0.3)
    async with ssh_relay(tmp_path) as site:
        for early in (b"", GREETING):
            wire = await visit(site, site.ssh_port)
            await wire.send(early)
            await wire.rest()
        async with await client(site) as connection:
            await asyncio.sleep(0.5)  # those who are in have all the time
            assert not connection.is_closed()


async def test_a_connection_gets_six_attempts(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site:
        keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(12)]
        with pytest.raises((asyncssh.Error, OSError)):
            await client(site, client_keys=keys)
        # asyncssh offers one key after the other; the last ones were not looked at
        async with await client(site) as connection:
            assert not connection.is_closed()


# --- logins ---------------------------------------------------------------------------------------


async def test_a_token_is_a_password_where_that_is_allowed(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path, tokens=("sesame",)) as site:
        async with await client(site, client_keys=None, password="sesame"):
            (session,) = site.relay._sessions
            assert session.identity.name.startswith("token-")
    ssh = RelaySsh(host_key=str(tmp_path / "relay_host_key"), passwords=False)
    async with Relay(listen="127.0.0.1:0", tokens=["sesame"], ssh=ssh) as relay:
        with pytest.raises(asyncssh.PermissionDenied):
            await client(SshSite(relay, tmp_path / "client"), client_keys=None, password="sesame")


async def test_the_identity_is_the_key_that_signed(tmp_path: Path) -> None:
    """A key that was only offered proves nothing (CVE-2024-45337)."""
    other = await make_key(tmp_path / "other")
    async with ssh_relay(tmp_path) as site:
        with (tmp_path / "authorized").open("a") as keys:
            keys.write(f"restrict {other.with_suffix('.pub').read_text()}")

        async with await client(site, client_keys=[str(site.key)]):
            (first,) = site.relay._sessions
        await until(lambda: not site.relay._sessions)

        class Offering(asyncssh.SSHClient):
            """Offers the good key, and signs with the restricted one."""

            def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
                self.connection = conn
                public = asyncssh.read_public_key(f"{site.key}.pub")
                self.offer = (b"\0", public.algorithm, public.public_data)

            async def public_key_auth_requested(self) -> Any:
                fields = [struct.pack(">I", len(f)) + f for f in self.offer[1:]]
                await self.connection.send_userauth_request(b"publickey", b"\0", *fields)
                return asyncssh.read_private_key(str(other))

        async with await client(site, client_factory=Offering, client_keys=[str(other)]):
            (second,) = site.relay._sessions
            assert second.identity != first.identity
            assert not second.connection.rules.forwarding


async def test_nobody_without_a_key_gets_in(tmp_path: Path) -> None:
    other = await make_key(tmp_path / "other")
    async with ssh_relay(tmp_path) as site:
        done = await run(*site.argv("-N", "-o", "BatchMode=yes", key=other))
        assert b"Permission denied (publickey)" in done.stderr
        # Keys alone may log in: no token gets a WebSocket agent in, not even from here.
        wire = await visit(site)
        await wire.send(
            b"GET /_tunnelkit/v1/control HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )
        assert (await wire.response()).status == 401


async def test_an_open_relay_lets_everybody_in(tmp_path: Path) -> None:
    other = await make_key(tmp_path / "other")
    async with ssh_relay(tmp_path, anyone=True) as site, Service(answering(OK)) as web:
        async with site.ssh("-R", f"app:80:localhost:{web.port}", key=other, ready="^http://app"):
            assert (await site.ask("app")).status == 200


@pytest.mark.parametrize(
    ("rules", "good", "bad"),
    [
        ('permitlisten="app:80"', "app:80", "other:80"),
        pytest.param(
            f'permitlisten="{PORTS[2]}",permitlisten="a*:80"', f"{PORTS[2]}", f"{PORTS[3]}", id="a port"
        ),
        ('restrict,port-forwarding,permitlisten="*:80"', "x:80", "0"),
        ('from="127.0.0.0/8,!10.0.0.1"', "app:80", ""),
        ('expiry-time="29991231"', "app:80", ""),
        ("restrict", "", "app:80"),
        ("no-port-forwarding", "", "0"),
    ],
)
async def test_options_of_keys_hold_for_every_tunnel(rules: str, good: str, bad: str, tmp_path: Path) -> None:
    async with ssh_relay(tmp_path, rules=rules) as site, Service(echo) as service:
        forwards = [
            word for spec in (good, bad) if spec for word in ("-R", f"{spec}:localhost:{service.port}")
        ]
        if bad:
            done = await run(*site.argv(*forwards, "-o", "ExitOnForwardFailure=yes", "-N"))
            port = bad.rpartition(":")[2]
            assert f"remote port forwarding failed for listen port {port}" in done.stderr.decode()
        if good:
            async with site.ssh(*forwards, ready=r"^(http|tcp)://") as ssh:
                if bad:
                    await ssh.expect_async("This key may not listen")


@pytest.mark.parametrize("rules", ['from="10.0.0.0/8"', 'expiry-time="20200101"', 'from="!127.0.0.1,*"'])
async def test_keys_that_may_not_log_in_from_here_or_any_more(rules: str, tmp_path: Path) -> None:
    async with ssh_relay(tmp_path, rules=rules) as site:
        with pytest.raises(asyncssh.PermissionDenied):
            await client(site)


async def test_a_key_file_that_changes_is_read_again(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site:
        async with await client(site):
            pass
        authorized = tmp_path / "authorized"
        key = authorized.read_text()
        authorized.write_text(f"nonsense {key}")
        with pytest.raises(asyncssh.PermissionDenied):
            await client(site)
        authorized.write_text(f"restrict {key}")
        async with await client(site):
            await until(lambda: site.relay._sessions)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, AuthMissingError),
        ("", AuthMissingError),
        ("# nothing\n", AuthMissingError),
        ("hello\n", InvalidError),
        ('permitlsten="1" {key}', InvalidError),
        ('command="true" {key}', InvalidError),
        ('permitlisten="x" {key}', InvalidError),
        ('expiry-time="soon" {key}', InvalidError),
        ("from {key}", InvalidError),
        ("\0\xff", InvalidError),
    ],
)
async def test_a_key_file_that_is_not_understood_stops_the_start(
    text: str | None, error: type[Exception], tmp_path: Path
) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    path = tmp_path / "keys"
    if text is not None:
        path.write_text(text.replace("{key}", key), encoding="latin-1")
    ssh = RelaySsh(host_key=str(tmp_path / "host"), authorized_keys=str(path))
    with pytest.raises(error):
        async with Relay(listen="127.0.0.1:0", ssh=ssh):
            pass


async def test_the_host_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "host"
    prints = set()
    for _ in range(2):
        async with Relay(listen="127.0.0.1:0", anyone=True, ssh=RelaySsh(host_key=str(path))) as relay:
            prints.add(relay.ssh_fingerprint)
    assert len(prints) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["host"]
    path.chmod(0o644)
    with pytest.raises(InvalidError, match="can be read by others"):
        async with Relay(listen="127.0.0.1:0", anyone=True, ssh=RelaySsh(host_key=str(path))):
            pass


# --- those who are in -----------------------------------------------------------------------------


async def test_a_flood_of_channels_is_refused(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site:
        async with await client(site) as connection:
            attempts = [connection.create_process("name=x", encoding=None) for _ in range(200)]
            results = await asyncio.gather(*attempts, return_exceptions=True)
            refused = [result for result in results if isinstance(result, asyncssh.ChannelOpenError)]
            assert len(refused) >= 190
            assert not connection.is_closed()
            async with await client(site):
                pass


async def test_a_peer_that_asks_and_does_not_read_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunnelkit.transport.ssh.MAX_UNREAD", 1 << 20)
    async with ssh_relay(tmp_path) as site:
        connection = await client(site)
        (session,) = site.relay._sessions
        transport = connection._transport
        transport.pause_reading()
        sock = session.connection._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        opening = struct.pack(">I12sIII", 12, b"direct-tcpip", 0, 1 << 20, 1 << 15)
        target = struct.pack(">I1sII1sI", 1, b"x", 1, 1, b"y", 1)
        async with asyncio.timeout(20):
            while not session.ended:
                for _ in range(200):
                    connection.send_packet(90, opening + target)
                await asyncio.sleep(0)
        connection.abort()
        await connection.wait_closed()


async def test_too_many_forwards_wait(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site:
        connection = await client(site)
        request = struct.pack(">I13sBI9sI", 13, b"tcpip-forward", 1, 9, b"localhost", 80)
        for _ in range(400):
            connection.send_packet(80, request)
        async with asyncio.timeout(10):
            await connection.wait_closed()


@pytest.mark.parametrize("lie", ["window", "after-end", "channel"])
async def test_data_out_of_order_ends_the_connection(lie: str, tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site:
        connection = await client(site)

        async def accepted(reader: Any, writer: Any) -> None:
            channel = writer.channel
            number = struct.pack(">I", channel._send_chan)
            if lie == "window":
                for _ in range(4000):  # the visitor reads none of it
                    connection.send_packet(94, number + struct.pack(">I", 32768) + bytes(32768))
            elif lie == "after-end":
                writer.write_eof()
                connection.send_packet(94, number + struct.pack(">I", 1) + b"x")
            else:
                connection.send_packet(94, struct.pack(">II", 77, 1) + b"x")

        listener = await connection.start_server(lambda *_: accepted, "", PORTS[5])
        await site.visit(PORTS[5])
        async with asyncio.timeout(10):
            await connection.wait_closed()
        listener.close()


# --- the auditor ----------------------------------------------------------------------------------

ACCEPTED = ("curve25519-sha256", "CVE-2002-20001")
"""What ssh-audit says of every server that Debian 12's OpenSSH can talk to: no exchange that both have
resists quantum computers. And that connections are not throttled: here they are capped."""


async def test_ssh_audit_flags_nothing(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site:
        argv = [sys.executable, "-m", "ssh_audit", "-n", "-p", str(site.ssh_port), "127.0.0.1"]
        done = await run(*argv, timeout=50)
        lines = done.stdout.decode().splitlines()
        assert any("kex-strict-s-v00@openssh.com" in line for line in lines)
        flagged = [line for line in lines if "[fail]" in line or "[warn]" in line or "(nfo)" in line]
        assert [line for line in flagged if not any(known in line for known in ACCEPTED)] == []


@pytest.mark.needs("ssh")
@pytest.mark.parametrize(
    ("offer", "taken"),
    [
        ("", "aes128-gcm@openssh.com"),
        ("chacha20-poly1305@openssh.com,aes256-gcm@openssh.com", "aes256-gcm@openssh.com"),
        ("chacha20-poly1305@openssh.com", "chacha20-poly1305@openssh.com"),
    ],
)
async def test_the_fastest_cipher_of_both_is_taken(offer: str, taken: str, tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site:
        options = ["-o", f"Ciphers={offer}"] if offer else []
        async with start_process(site.argv("-vvN", *options)) as ssh:
            await ssh.expect_async(rf"kex: server->client cipher: {taken}")
            await ssh.expect_async(r"Authenticated to|pledge")


@pytest.mark.needs("ssh")
async def test_rekeying_under_way_harms_nothing(tmp_path: Path) -> None:
    async with ssh_relay(tmp_path) as site, Service(echo) as service:
        forward = ["-o", "RekeyLimit=1M", "-R", f"{PORTS[0]}:localhost:{service.port}"]
        async with site.ssh(*forward, ready="^tcp://"):
            visitor = await site.visit(PORTS[0])
            data = os.urandom(6 << 20)
            sending = asyncio.create_task(visitor.send(data))
            assert await visitor.exactly(len(data)) == data
            await sending
