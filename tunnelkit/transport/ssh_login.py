"""Logging in to an SSH server: who it is, who we are, and what it means when that fails."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import asyncssh

from tunnelkit import errors
from tunnelkit._version import __version__
from tunnelkit.net.pump import Pump
from tunnelkit.net.sockets import AnySocket
from tunnelkit.transport.ssh_client import MAX_LINE, SshConnection, SshUser, one_line
from tunnelkit.transport.ssh_options import SshOptions
from tunnelkit.transport.ssh_socket import SshSocket
from tunnelkit.transport.ssh_trust import HostKeys, Identity
from tunnelkit.wire.address import Endpoint

__all__ = ["Login", "connect"]

LOGIN_TIMEOUT = 20.0
"""Seconds for key exchange and authentication; a key on a token waits for a touch."""

CIPHERS = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
]
"""Fastest first. The last two, with their separate MAC, are for servers that have no other."""


@dataclass(frozen=True, slots=True)
class Login:
    """Where to log in, and as whom."""

    host: str
    port: int
    user: str
    password: str = field(default="", repr=False)
    options: SshOptions = field(default_factory=SshOptions)

    def __str__(self) -> str:
        return str(Endpoint(self.host, self.port))


class _Owner(asyncssh.SSHClient):
    """What asyncssh asks and tells about a connection."""

    def __init__(self, host_keys: HostKeys, user: SshUser) -> None:
        self.host_keys = host_keys
        self._user = user
        self._connection: Any = None

    def connection_made(self, conn: Any) -> None:
        self._connection = conn

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return self.host_keys.is_trusted(key)

    def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return self.host_keys.is_trusted(key)

    def auth_banner_received(self, msg: str, lang: str) -> None:
        for line in msg.splitlines():
            if line.strip():
                self._user.said(line[:MAX_LINE])

    def debug_msg_received(self, msg: str, lang: str, always_display: bool) -> None:
        self._connection.debug = msg


async def connect(pump: Pump, sock: AnySocket, received: bytes, login: Login, user: SshUser) -> SshConnection:
    """Log in over ``sock``, which is closed if that fails. ``received`` has been read from it.

    Raises HostKeyError, AuthError, IdentityFileError, NotARelayError, RelayUnreachableError.
    """
    try:
        host_keys = HostKeys(login.host, login.port, login.options)
        owner = _Owner(host_keys, user)
        options = _options(login, owner)
    except BaseException:
        sock.close()
        raise
    loop = asyncio.get_running_loop()
    options.waiter = loop.create_future()
    connection = SshConnection(loop, options, pump, user)
    connection.ended = True  # until it has begun, what happens is told by an error
    SshSocket(pump, sock, connection, received=received)
    try:
        async with asyncio.timeout(LOGIN_TIMEOUT):
            await options.waiter
    except TimeoutError:
        await _give_up(connection)
        raise errors.RelayUnreachableError(f"The SSH server at {login} did not answer in time") from None
    except (asyncssh.Error, OSError, ValueError) as error:
        await _give_up(connection)
        raise _explained(error, login, connection, host_keys) from None
    except BaseException:
        await _give_up(connection)
        raise
    if connection.is_closed():
        raise errors.RelayUnreachableError(f"The SSH server at {login} ended the connection")
    connection.ended = False
    return connection


async def _give_up(connection: SshConnection) -> None:
    connection.abort()
    await connection.wait_closed()


def _options(login: Login, owner: _Owner) -> Any:
    token_first = login.password and not login.options.identity_file
    methods = ["password", "publickey"] if token_first else ["publickey", "password"]
    return asyncssh.SSHClientConnectionOptions(
        config=None,
        client_factory=lambda: owner,
        client_version=f"tunnelkit_{__version__}",
        host=login.host,
        port=login.port,
        username=login.user,
        password=login.password or None,
        known_hosts=owner.host_keys.known_hosts,
        server_host_key_algs=owner.host_keys.algorithms,
        preferred_auth=methods if login.password else ["publickey"],
        encryption_algs=CIPHERS,
        compression_algs=None,
        kbdint_auth=False,
        host_based_auth=False,
        gss_host=None,
        gss_kex=False,
        gss_auth=False,
        x509_trusted_certs=None,
        login_timeout=0,  # ours covers it
        **Identity(login.options.identity_file).options,
    )


def _explained(
    error: Exception, login: Login, connection: SshConnection, host_keys: HostKeys
) -> errors.TunnelkitError:
    """What a failed login means to a person."""
    reason = one_line(error)
    match error:
        case asyncssh.HostKeyNotVerifiable():
            return host_keys.error(reason)
        case asyncssh.KeyExchangeFailed() if "host key" in reason:
            return errors.HostKeyError(f"{login} has no host key of a kind that is known for it: {reason}")
        case asyncssh.PermissionDenied():
            return _denied(login, connection.tried)
        case asyncssh.ConnectionLost() | OSError() if connection.babbled:
            return errors.NotARelayError(
                f"What answers at {login} is no SSH server, or too busy to be one",
                hint="Check the host, the port and ssh:// in the relay's address",
            )
        case asyncssh.ConnectionLost() | OSError():
            return errors.RelayUnreachableError(f"The SSH server at {login} ended the connection: {reason}")
        case asyncssh.DisconnectError() if "authentication" in reason.lower():
            return errors.AuthError(
                f"The SSH server at {login} refuses: {reason}",
                hint="Name the one key that it knows with --identity-file",
            )
        case asyncssh.ProtocolError() | asyncssh.ProtocolNotSupported() | asyncssh.KeyExchangeFailed():
            return errors.NotARelayError(
                f"What answers at {login} does not speak SSH as it should: {reason}",
                hint="Check the host, the port and ssh:// in the relay's address",
            )
    return errors.RelayUnreachableError(f"No login at {login}: {reason}")


def _denied(login: Login, tried: list[str]) -> errors.AuthError:
    keys = tried.count("key")
    proofs = [f"{keys} key{'s' if keys > 1 else ''}"] if keys else []
    proofs += ["the token"] if "token" in tried else []
    user = f" for user {login.user}"
    if proofs:
        return errors.AuthError(
            f"The SSH server at {login} does not accept {' or '.join(proofs)}{user}",
            hint="Give a key that it knows with --identity-file",
        )
    if "no key" in tried:
        return errors.AuthError(
            f"The SSH server at {login} asks for a key, and there is none{user}",
            hint="Give one with --identity-file, or load one with ssh-add",
        )
    return errors.AuthError(
        f"The SSH server at {login} accepts neither keys nor what else there is here{user}",
        hint="It has to allow PubkeyAuthentication, or the token as a password",
    )
