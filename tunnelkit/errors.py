"""Every error tunnelkit raises, as one tree.

::

    TunnelkitError
    ├── InvalidError              your call, option or setting is wrong; nothing was started
    │   ├── UsageError            the command line has no such command, option or argument
    │   ├── InvalidPortError
    │   ├── InvalidNameError
    │   ├── InvalidTargetError
    │   └── IdentityFileError     the private key for SSH cannot be used
    ├── AuthError                 the relay does not accept the token
    │   └── AuthMissingError      a setting that should name who may use the relay is absent or empty
    ├── RelayError                the relay cannot be used
    │   ├── RelayUnreachableError
    │   ├── NotARelayError        something answered, but it is no tunnelkit relay
    │   ├── CertificateError      TLS to the relay could not be verified
    │   ├── HostKeyError          SSH to the relay: its host key is not the one that is trusted
    │   │   └── HostKeyUnknownError
    │   ├── OutboundProxyError    the proxy between this machine and the relay refused
    │   └── ProtocolError         the other side broke the protocol
    ├── RefusedError              the relay is there and said no to this tunnel
    │   ├── NameTakenError
    │   ├── PortTakenError
    │   ├── PortNotAllowedError
    │   ├── ForwardRefusedError   an SSH server forwards no ports
    │   └── LimitError
    ├── ReplacedError             a newer session took this tunnel over
    ├── ServiceError              the local service behind a tunnel
    │   ├── ServiceRefusedError
    │   └── ServiceTimeoutError
    ├── AddressInUseError         a listening address is not to be had
    ├── EngineError               the engine process behind Tunnel.create ended
    ├── CommandError              the command that `secret run` should become does not start
    │   └── CommandNotFoundError
    ├── NotFoundError             (also a LookupError) no secret, proxy, environment or file of that name
    ├── AlreadyExistsError        the name is given away
    ├── StoreError                the store of secrets and proxies cannot be used
    │   ├── StoreBusyError        another process keeps it locked
    │   ├── StoreDamagedError     what it holds is not what was written
    │   └── MasterKeyError        the key that it is encrypted with is missing, wrong or badly kept
    └── TunnelTimeoutError        (also a TimeoutError) the tunnel did not come up in time

An error has a stable ``code`` (what to search for), a ``hint`` (what to do) and the exit status
with which the command line ends. ``docs/errors.md`` lists them all. The code crosses the wire:
:func:`from_code` makes the same error again on the other side.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AddressInUseError",
    "AlreadyExistsError",
    "AuthError",
    "AuthMissingError",
    "CertificateError",
    "CommandError",
    "CommandNotFoundError",
    "EngineError",
    "ForwardRefusedError",
    "HostKeyError",
    "HostKeyUnknownError",
    "IdentityFileError",
    "InvalidError",
    "InvalidNameError",
    "InvalidPortError",
    "InvalidTargetError",
    "LimitError",
    "MasterKeyError",
    "NameTakenError",
    "NotARelayError",
    "NotFoundError",
    "OutboundProxyError",
    "PortNotAllowedError",
    "PortTakenError",
    "ProtocolError",
    "RefusedError",
    "RelayError",
    "RelayUnreachableError",
    "ReplacedError",
    "ServiceError",
    "ServiceRefusedError",
    "ServiceTimeoutError",
    "StoreBusyError",
    "StoreDamagedError",
    "StoreError",
    "TunnelTimeoutError",
    "TunnelkitError",
    "UsageError",
    "from_code",
]


class TunnelkitError(Exception):
    """Base of all errors of this package.

    ``what`` says what happened, and to what; ``hint`` says what to do about it. Both are one line,
    made for a person, and never hold a secret.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1
    default_hint: ClassVar[str] = ""

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = self.default_hint if hint is None else hint

    def __str__(self) -> str:
        return f"{self.what}. {self.hint} [{self.code}]" if self.hint else f"{self.what} [{self.code}]"

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.what, self.hint)


def _restore(kind: type[TunnelkitError], what: str, hint: str) -> TunnelkitError:
    return kind(what, hint=hint)


class InvalidError(TunnelkitError, ValueError):
    """A call, an option or a setting that can never work as given."""

    code = "invalid"
    exit_status = 2


class UsageError(InvalidError):
    """A command line that is none of ours: an unknown command or option, an argument too few or too many."""

    code = "usage"
    exit_status = 2


class InvalidPortError(InvalidError):
    """A port that is no port, or 0 where a port has to be named."""

    code = "invalid_port"
    exit_status = 10
    default_hint = "Ports are whole numbers from 1 to 65535"


class InvalidNameError(InvalidError):
    """A tunnel name that cannot be a host name label, or is reserved."""

    code = "invalid_name"
    exit_status = 9
    default_hint = "A name has 1 to 63 letters, digits and hyphens, and neither starts nor ends with a hyphen"


class InvalidTargetError(InvalidError):
    """A local target that is none of PORT, HOST:PORT, unix:/path or a URL."""

    code = "invalid_target"
    exit_status = 11
    default_hint = "A target is PORT, HOST:PORT, unix:/path or http://HOST:PORT"


class IdentityFileError(InvalidError):
    """The private key for SSH is not there, is none, or is protected by a passphrase."""

    code = "identity_file"
    exit_status = 23
    default_hint = "Give the private key's own file with --identity-file"


class AuthError(TunnelkitError):
    """The relay does not accept the token."""

    code = "auth_failed"
    exit_status = 4
    default_hint = "Check --token-file, TUNNELKIT_TOKEN or token= against the relay's"


class AuthMissingError(AuthError):
    """Authentication that is absent, empty or unreadable where it has to be."""

    code = "auth_missing"
    exit_status = 17
    default_hint = "Set a token with --token-file or TUNNELKIT_TOKEN"


class RelayError(TunnelkitError):
    """The relay cannot be used."""

    code = "relay_error"
    exit_status = 3


class RelayUnreachableError(RelayError):
    """No connection to the relay."""

    code = "relay_unreachable"
    exit_status = 3
    default_hint = "Is the relay running, and is its address right?"


class NotARelayError(RelayError):
    """Something answered at the relay's address, but not a tunnelkit relay."""

    code = "not_a_relay"
    exit_status = 5
    default_hint = "Check the host, the port and ws:// against wss:// in the relay's address"


class CertificateError(RelayError):
    """The relay's certificate could not be verified."""

    code = "certificate"
    exit_status = 19
    default_hint = "Give the relay's own authority with --ca, or pin its certificate with --fingerprint"


class HostKeyError(RelayError):
    """The SSH server's host key is another one than the one that is trusted."""

    code = "host_key_changed"
    exit_status = 22
    default_hint = "Somebody may be in between, or the server was set up anew: ask who runs it"


class HostKeyUnknownError(HostKeyError):
    """Nothing says whether the SSH server's host key can be trusted."""

    code = "host_key_unknown"
    exit_status = 22
    default_hint = "If it is the server's own, pin it with --host-key"


class OutboundProxyError(RelayError):
    """The proxy on the way to the relay refused or failed."""

    code = "outbound_proxy"
    exit_status = 20
    default_hint = "Check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY"


class ProtocolError(RelayError):
    """The other side sent what the protocol does not allow; that connection has ended."""

    code = "protocol"
    exit_status = 18
    default_hint = "Do both sides run a supported version of tunnelkit?"


class RefusedError(TunnelkitError):
    """The relay is there and refused this tunnel."""

    code = "refused"
    exit_status = 15


class NameTakenError(RefusedError):
    """The name belongs to another agent's tunnel."""

    code = "name_taken"
    exit_status = 6
    default_hint = "Choose another --name, or leave it out to be given one"


class PortTakenError(RefusedError):
    """The public port belongs to another tunnel, or another program on the relay."""

    code = "port_taken"
    exit_status = 7
    default_hint = "Choose another --remote-port, or leave it out to be given one"


class PortNotAllowedError(RefusedError):
    """The public port lies outside the relay's range, or the relay has none."""

    code = "port_not_allowed"
    exit_status = 8
    default_hint = "Choose a --remote-port inside the relay's --tcp-ports, or leave it out"


class ForwardRefusedError(RefusedError):
    """The SSH server forwards no ports for this user."""

    code = "forward_refused"
    exit_status = 15
    default_hint = "It needs AllowTcpForwarding in its sshd_config, and no restriction at this key"


class LimitError(RefusedError):
    """A limit of the relay is reached."""

    code = "limit"
    exit_status = 15
    default_hint = "Close tunnels that are not needed, or ask the relay's operator for more"


class ReplacedError(TunnelkitError):
    """A newer session of the same agent took this tunnel over; this one does not fight back."""

    code = "replaced"
    exit_status = 13
    default_hint = "Another process on this machine asked for the same tunnel; stop one of the two"


class ServiceError(TunnelkitError):
    """The local service behind a tunnel cannot be used."""

    code = "service_error"
    exit_status = 12


class ServiceRefusedError(ServiceError):
    """Nothing accepts connections at the local target."""

    code = "service_refused"
    exit_status = 12
    default_hint = "Is anything listening there?"


class ServiceTimeoutError(ServiceError):
    """The local target did not answer in time."""

    code = "service_timeout"
    exit_status = 12
    default_hint = "Is the service overloaded, or a firewall in between?"


class AddressInUseError(TunnelkitError):
    """A listening address is in use, not of this machine, or not permitted."""

    code = "address_in_use"
    exit_status = 16
    default_hint = "Stop the program that holds it, or choose another address"


class EngineError(TunnelkitError):
    """The engine process behind ``Tunnel.create`` and ``forward`` could not start, or ended."""

    code = "engine"
    exit_status = 21
    default_hint = "Create the tunnel again; set TUNNELKIT_LOG=debug to see the engine's own messages"


class CommandError(TunnelkitError):
    """The command that ``tunnelkit secret run`` should become cannot be started. Statuses as of env(1)."""

    code = "command"
    exit_status = 126


class CommandNotFoundError(CommandError):
    """There is no such command."""

    code = "command_not_found"
    exit_status = 127
    default_hint = "Is it installed, and its directory in PATH?"


class NotFoundError(TunnelkitError, LookupError):
    """There is no secret, proxy, version, environment or file of that name."""

    code = "not_found"
    exit_status = 30


class AlreadyExistsError(TunnelkitError):
    """A secret, proxy or environment of that name is there already; nothing was changed."""

    code = "already_exists"
    exit_status = 31


class StoreError(TunnelkitError):
    """The store of secrets and proxies cannot be read or written; nothing was changed."""

    code = "store"
    exit_status = 32


class StoreBusyError(StoreError):
    """Another process kept the store locked for too long."""

    code = "store_busy"
    exit_status = 32
    default_hint = "Try again; does another process hold the store open in a debugger or a backup?"


class StoreDamagedError(StoreError):
    """What the store holds is not what was written there: damaged, or tampered with."""

    code = "store_damaged"
    exit_status = 33
    default_hint = "Restore the store from a backup, or write the value again"


class MasterKeyError(StoreError):
    """The key-encryption key is missing, is not the one the store was written with, or is badly kept."""

    code = "master_key"
    exit_status = 34


class TunnelTimeoutError(TunnelkitError, TimeoutError):
    """The tunnel did not come up within the time given."""

    code = "timeout"
    exit_status = 14


def _tree(kind: type[TunnelkitError]) -> dict[str, type[TunnelkitError]]:
    kinds = {kind.code: kind}
    for child in kind.__subclasses__():
        kinds.update(_tree(child))
    return kinds


def from_code(code: str, what: str, hint: str | None = None) -> TunnelkitError:
    """The error that ``code`` names, as received from the other side.

    A code that this version does not know becomes a :class:`RefusedError` that shows it.
    """
    kind = _tree(TunnelkitError).get(code)
    if kind is None:
        return RefusedError(f"{what} ({code})", hint=hint)
    return kind(what, hint=hint)
