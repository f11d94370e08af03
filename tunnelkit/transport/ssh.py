"""The relay's side of SSH: logins, forwards, sessions, on asyncssh's connections.

asyncssh does the key exchange, the packets and the authentication. What it has none of is here: a
preference for fast ciphers that holds whatever the client prefers, limits on what a peer may have us
keep, and answers to ``tcpip-forward`` that say what was asked for as it was written. What a
connection is for, its :class:`~tunnelkit.transport.ssh_peer.SshPeer` decides.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import sys
from typing import Any

import asyncssh
from asyncssh.constants import (
    DISC_BY_APPLICATION,
    MSG_GLOBAL_REQUEST,
    MSG_IGNORE,
    MSG_KEXINIT,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_RESOURCE_SHORTAGE,
)
from asyncssh.packet import SSHPacket, UInt32
from asyncssh.public_key import decode_ssh_public_key

from tunnelkit.errors import TunnelkitError
from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import AnySocket
from tunnelkit.transport.ssh_channel import PACKET_SIZE, SUBSYSTEM
from tunnelkit.transport.ssh_congestion import HIGH_WATER, LOW_WATER, Congestion
from tunnelkit.transport.ssh_keys import AuthorizedKeys, KeyRules, host_key
from tunnelkit.transport.ssh_peer import Login, SshPeer
from tunnelkit.transport.ssh_socket import SshSocket

__all__ = ["SshConnection", "SshServer"]

log = logging.getLogger("tunnelkit")

CIPHERS = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",  # for libraries that have none of the others
]
"""In the order of their speed here: with AES in the processor, GCM moves twice as much as ChaCha20."""

KEY_EXCHANGES = ["mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org"]
"""None of them costs this side more than a fraction of a millisecond."""

MACS = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"]

LOGIN_GRACE = 20.0
"""Seconds for a login, as long as it takes to type a password twice."""

MAX_TRIES = 6
"""Failed attempts in one connection, as sshd's MaxAuthTries."""

MAX_BEFORE_LOGIN = 256 * 1024
"""Bytes before a login; some forty keys may be offered in a tenth of that."""

MAX_PACKET = 64 * 1024
"""Bytes of a packet before a login; implementations have to take 35,000 (RFC 4253 §6.1)."""

MAX_REQUESTS = 256
"""Global requests that wait for their answer: more than twice the tunnels of a session."""

MAX_SESSIONS = 10
"""Session channels of one connection at once, as sshd's MaxSessions."""

MAX_UNREAD = 4 << 20
"""Bytes of answers to a peer that reads none of them. Streams stop far below."""

MAX_TERMINAL = 64 * 1024
"""Bytes of lines kept for a terminal that does not show them; further ones are dropped."""

MAX_COMMAND = 4096
"""Characters of a command."""

KEXINIT_WAIT = 0.3
"""Seconds to wait for what a client offers, before this side makes its own offer."""


class SshConnection(asyncssh.SSHServerConnection):
    """See the module."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: asyncssh.SSHServerConnectionOptions,
        peer: SshPeer,
    ) -> None:
        super().__init__(loop, options)
        self.peer = peer
        self.congestion = Congestion()
        self.sessions = 0
        self.heard = True
        """Whether anything arrived since somebody last set this to False."""
        self.authenticated = False
        self.rules = KeyRules()
        self.candidate: KeyRules | None = None
        """What the key that was asked about last may do."""
        self._failures = 0
        self._before_login = 0
        self._max_recv_pktlen = MAX_PACKET
        self._kex_held: asyncio.TimerHandle | None = None

    # --- the connection -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)  # type: ignore[attr-defined]
        super().connection_made(transport)

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        self.heard = True
        if not self.authenticated:
            self._before_login += len(data)
            if self._before_login > MAX_BEFORE_LOGIN:
                self.connection_lost(asyncssh.ProtocolError("Too much before a login"))
                return
        super().data_received(data, datatype)

    def pause_writing(self) -> None:
        self.congestion.paused = True

    def resume_writing(self) -> None:
        self.congestion.resume()

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        if pkttype == MSG_IGNORE:
            return  # asyncssh puts one before each packet, against an attack on CBC (RFC 4251 §9.3.1)
        super().send_packet(pkttype, *args, handler=handler)
        if (
            self.congestion.paused
            and self._transport is not None
            and self._transport.get_write_buffer_size() > MAX_UNREAD
        ):
            self.connection_lost(asyncssh.ProtocolError("A peer that asks, and reads no answers"))

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> Any:
        if pkttype == MSG_KEXINIT and self._kex_held is not None:
            self._offer(packet.get_full_payload())
        elif pkttype == MSG_GLOBAL_REQUEST and len(self._global_request_queue) >= MAX_REQUESTS:
            raise asyncssh.ProtocolError("Too many requests that wait")
        return super().process_packet(pkttype, pktid, packet)

    def _cleanup(self, exc: Exception | None) -> None:
        if self._kex_held is not None:
            self._kex_held.cancel()
            self._kex_held = None
        super()._cleanup(exc)
        if not self.authenticated and self._failures:
            why = "auth"
        elif isinstance(exc, asyncssh.ConnectionLost) or exc is None:
            why = "closed"
        else:
            why = "protocol" if not isinstance(exc, OSError) else "reset"
        self.peer.lost(why)

    def internal_error(self, exc_info: Any = None, error_logger: Any = None) -> None:
        """asyncssh would end the connection without a word."""
        error = exc_info[1] if exc_info else sys.exception()
        log.warning("an SSH connection of %s was ended: %r", self.peer.address, error)
        log.debug("where that came from", exc_info=error)
        super().internal_error(exc_info, error_logger)

    # --- key exchange ---------------------------------------------------------------------------

    def _send_kexinit(self) -> None:
        """Make an offer; the first time only once the client has made its own.

        The first cipher of the client that the server has too is taken (RFC 4253 §7.1), and OpenSSH
        puts ChaCha20 first. So the server leaves out what it likes less than the best both have.
        """
        if self._session_id or self._client_kexinit or self._kex_held is not None:
            super()._send_kexinit()
        else:
            self._kex_held = self._loop.call_later(KEXINIT_WAIT, self._offer)

    def _offer(self, client: bytes = b"") -> None:
        if self._kex_held is None:
            return
        held, self._kex_held = self._kex_held, None
        held.cancel()
        if client:
            packet = SSHPacket(client[17:])  # behind the type and the cookie
            packet.get_namelist()
            packet.get_namelist()
            theirs = set(packet.get_namelist()) & set(packet.get_namelist())
            self._enc_algs = [name for name in self._enc_algs if name in theirs][:1] or self._enc_algs
        if self._transport is not None:
            super()._send_kexinit()

    # --- logins ---------------------------------------------------------------------------------

    async def reload_config(self) -> None:
        """asyncssh would read its configuration again, on a thread, for every login. There is none."""

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        self.candidate = None
        if not await super().validate_public_key(username, key_data, msg, signature):
            return False
        if not msg:
            return True  # offered, not proven
        rules, fingerprint = self.candidate, decode_ssh_public_key(key_data).get_fingerprint()
        return rules is not None and await self.let_in(Login(username, fingerprint, rules=rules))

    def logged_in(self) -> None:
        """The login is complete: from now on packets may be as large as channels allow."""
        self.authenticated = True
        self._update_recv_pktlen(PACKET_SIZE)

    async def let_in(self, login: Login) -> bool:
        """Ask the peer, and show its banner: OpenSSH with ``-N`` shows nothing else."""
        banner = await self.peer.login(login)
        if banner is None:
            return False
        self.rules = login.rules
        if banner:
            self.send_auth_banner(banner)
        return True

    def send_userauth_failure(self, partial_success: bool) -> None:
        super().send_userauth_failure(partial_success)
        self._failures += 1
        if self._failures > MAX_TRIES:
            self.connection_lost(asyncssh.PermissionDenied("Too many failed logins"))

    @property
    def requests_waiting(self) -> int:
        """Global requests without an answer yet."""
        return len(self._global_request_queue)

    async def answers(self, timeout: float) -> bool:
        """Whether the client is there: it is asked."""
        try:
            async with asyncio.timeout(timeout):
                await self._make_global_request(b"keepalive@openssh.com")
        except TimeoutError:
            return False
        return self._transport is not None

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.create_task(self._make_keepalive_request())

    # --- forwards -------------------------------------------------------------------------------

    def _process_tcpip_forward_global_request(self, packet: SSHPacket) -> None:
        host, port = self._forward_address(packet)
        self.create_task(self._forward(host, port))

    def _process_cancel_tcpip_forward_global_request(self, packet: SSHPacket) -> None:
        host, port = self._forward_address(packet)
        self.create_task(self._cancel_forward(host, port))

    def _forward_address(self, packet: SSHPacket) -> tuple[str, int]:
        """RFC 4254 §7.1. The host goes back as it came with each connection, so it is kept as it is."""
        host, port = packet.get_string(), packet.get_uint32()
        packet.check_end()
        try:
            return host.decode(), port
        except UnicodeDecodeError:
            raise asyncssh.ProtocolError("Invalid forward request") from None

    async def _forward(self, host: str, port: int) -> None:
        try:
            bound = await self.peer.forward(host, port)
        except TunnelkitError as error:
            log.info("a forward was refused: %s", error)
            self._report_global_response(False)
        else:
            self._report_global_response(True if port else UInt32(bound))

    async def _cancel_forward(self, host: str, port: int) -> None:
        self._report_global_response(await self.peer.forward_cancelled(host, port))

    def create_server_channel(self, *args: Any, **kwargs: Any) -> Any:
        channel = super().create_server_channel(*args, **kwargs)
        # Variables of the environment are of no use here, and would be kept without a limit.
        channel._process_env_request = _refuse  # type: ignore[method-assign]
        return channel


def _refuse(packet: SSHPacket) -> bool:  # noqa: ARG001 - what asyncssh calls
    return False


class _Owner(asyncssh.SSHServer):
    """asyncssh's view of what a connection may do: log in, forward, and see a session."""

    def __init__(self, server: SshServer) -> None:
        self._server = server
        self._connection: SshConnection

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        assert isinstance(conn, SshConnection)
        self._connection = conn

    async def begin_auth(self, username: str) -> bool:
        if not self._server.anyone:
            return True
        return not await self._connection.let_in(Login(username))

    def auth_completed(self) -> None:
        self._connection.logged_in()
        self._connection.peer.established(self._connection)

    def public_key_auth_supported(self) -> bool:
        return self._server.keys is not None

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        if self._server.keys is None:
            return False
        address = self._connection.peer.address.removeprefix("::ffff:")
        try:
            self._connection.candidate = self._server.keys.find(key, address)
        except TunnelkitError as error:
            log.error("nobody can log in with a key: %s", error)  # noqa: TRY400 - its line says it
        return self._connection.candidate is not None

    def password_auth_supported(self) -> bool:
        return self._server.passwords

    async def validate_password(self, username: str, password: str) -> bool:
        return await self._connection.let_in(Login(username, token=password))

    def session_requested(self) -> Any:
        connection = self._connection
        if connection.sessions >= MAX_SESSIONS:
            raise asyncssh.ChannelOpenError(OPEN_RESOURCE_SHORTAGE, "Too many sessions")
        connection.sessions += 1
        return _Session(connection)

    def connection_requested(self, *target: object) -> bool:
        raise asyncssh.ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, "The relay connects to nothing")

    def unix_connection_requested(self, dest_path: str) -> bool:
        raise asyncssh.ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, "The relay connects to nothing")


class _Session(asyncssh.SSHServerSession[bytes]):
    """A session channel; a :class:`Terminal`."""

    def __init__(self, connection: SshConnection) -> None:
        self.is_tty = False
        self._connection = connection
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._command: str | None = None
        self._subsystem = False

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel = None
        self._connection.sessions -= 1
        self._connection.peer.session_ended(self)

    def pty_requested(self, term_type: str, term_size: Any, term_modes: Any) -> bool:
        self.is_tty = self._connection.rules.pty
        return self.is_tty

    def shell_requested(self) -> bool:
        return True

    def exec_requested(self, command: str) -> bool:
        self._command = command[:MAX_COMMAND]
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        self._subsystem = subsystem == SUBSYSTEM
        return self._subsystem

    def session_started(self) -> None:
        if self._subsystem:
            self._connection.peer.subsystem(self)
        else:
            self._connection.peer.session_started(self, self._command)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._connection.peer.typed(self, data)

    def eof_received(self) -> bool:
        return True  # ``ssh … </dev/null`` stays

    def signal_received(self, signal: str) -> None:
        if signal in ("INT", "TERM", "HUP"):
            self._connection.peer.typed(self, b"\x03")

    def line(self, text: str, *, error: bool = False) -> None:
        channel = self._channel
        if channel is None or channel.is_closing() or channel.get_write_buffer_size() > MAX_TERMINAL:
            return
        safe = "".join(c if c.isprintable() else "?" for c in text)
        data = safe + ("\r\n" if self.is_tty else "\n")
        if error and not self.is_tty:
            channel.write_stderr(data.encode())
        else:
            channel.write(data.encode())

    def send(self, data: bytes) -> None:
        channel = self._channel
        if channel is None or channel.is_closing():
            return
        if channel.get_write_buffer_size() > MAX_UNREAD:
            self._connection.connection_lost(asyncssh.ProtocolError("A peer that does not read"))
        else:
            channel.write(data)

    def exit(self, status: int) -> None:
        if self._channel is not None and not self._channel.is_closing():
            self._channel.exit(status)


class SshServer:
    """What all connections of a relay share. ``anyone``: no proof is asked for."""

    def __init__(
        self,
        *,
        key_file: str,
        keys: AuthorizedKeys | None,
        passwords: bool,
        anyone: bool,
        version: str,
    ) -> None:
        """Raises InvalidError where there is no usable host key."""
        self.keys = keys
        self.passwords = passwords
        self.anyone = anyone
        self._key = host_key(key_file)
        self.fingerprint = self._key.get_fingerprint()
        """SHA-256 of the host key, as OpenSSH shows it."""
        self._options = asyncssh.SSHServerConnectionOptions(
            server_factory=lambda: _Owner(self),
            server_version=f"tunnelkit_{version}",
            server_host_keys=[self._key],
            kex_algs=KEY_EXCHANGES,
            encryption_algs=CIPHERS,
            mac_algs=MACS,
            compression_algs=None,
            host_based_auth=False,
            kbdint_auth=False,
            gss_host=None,
            gss_kex=False,
            gss_auth=False,
            authorized_client_keys=None,
            login_timeout=LOGIN_GRACE,
            keepalive_interval=0,
            agent_forwarding=False,
            x11_forwarding=False,
            line_editor=False,
            encoding=None,
        )

    def derive(self, text: str) -> bytes:
        """A digest of ``text`` that is the same as long as the host key is, and nobody else can make."""
        return hmac.digest(self._key.export_private_key("pkcs8-der"), text.encode(), "sha256")

    def serve(self, pump: Pump, sock: AnySocket, early: bytes, peer: SshPeer) -> SshConnection:
        """Speak SSH on ``sock``, of which ``early`` has been read."""
        connection = SshConnection(pump.loop, self._options, peer)
        SshSocket(pump, sock, connection, received=early)
        return connection

    @staticmethod
    def end(connection: SshConnection, reason: str) -> None:
        """Say goodbye and close."""
        connection.disconnect(DISC_BY_APPLICATION, reason)
