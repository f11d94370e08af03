"""Every error tunnelkit raises, as one tree.

::

    TunnelkitError
    ├── InvalidError              your call, option or setting is wrong; nothing was started
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
    ├── ProxyError                a connection through the egress proxy
    │   ├── ProxyUnavailable      the pinned address to leave from is not of this machine now
    │   ├── FamilyNotPinnedError  no pinned address of the destination's family
    │   ├── ProxyAuthError        the proxy does not know this user, password or client address
    │   ├── UserLimitError        a limit of the proxy for this user is reached
    │   ├── NoExitError           the relay has no egress, or no exit of that name
    │   │   └── ExitAwayError     the exit's agent is not connected
    │   ├── ExitNotAllowedError   the token's rights do not cover it
    │   └── DestinationError      where the connection was to go
    │       ├── DestinationDeniedError
    │       ├── DestinationUnresolvedError
    │       ├── DestinationRefusedError
    │       ├── DestinationUnreachableError
    │       └── DestinationTimeoutError
    ├── AddressInUseError         a listening address is not to be had
    ├── EngineError               the engine process behind Tunnel.create ended
    ├── NotFoundError             something that was named does not exist
    ├── FunctionError             a call of a function
    │   ├── RemoteError           its process died, or its exception could not be brought here
    │   ├── FunctionTimeoutError  (also a TimeoutError) it took longer than it may, and was ended
    │   ├── CallTimeoutError      (also a TimeoutError) its result was not there in time
    │   ├── CallCancelledError    it was cancelled
    │   ├── ClusterError          the Ray cluster that is to run calls cannot be used
    │   ├── ScriptError           a script for `tunnelkit run` cannot be loaded or called
    │   └── SerializationError    an argument, a result or the function itself cannot be sent
    └── TunnelTimeoutError        (also a TimeoutError) the tunnel did not come up in time

An error has a stable ``code`` (what to search for), a ``hint`` (what to do) and the exit status
with which the command line ends. ``docs/errors.md`` lists them all. The code crosses the wire:
:func:`from_code` makes the same error again on the other side.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AddressInUseError",
    "AuthError",
    "AuthMissingError",
    "CallCancelledError",
    "CallTimeoutError",
    "CertificateError",
    "ClusterError",
    "DestinationDeniedError",
    "DestinationError",
    "DestinationRefusedError",
    "DestinationTimeoutError",
    "DestinationUnreachableError",
    "DestinationUnresolvedError",
    "EngineError",
    "ExitAwayError",
    "ExitNotAllowedError",
    "FamilyNotPinnedError",
    "ForwardRefusedError",
    "FunctionError",
    "FunctionTimeoutError",
    "HostKeyError",
    "HostKeyUnknownError",
    "IdentityFileError",
    "InvalidError",
    "InvalidNameError",
    "InvalidPortError",
    "InvalidTargetError",
    "LimitError",
    "NameTakenError",
    "NoExitError",
    "NotARelayError",
    "NotFoundError",
    "OutboundProxyError",
    "PortNotAllowedError",
    "PortTakenError",
    "ProtocolError",
    "ProxyAuthError",
    "ProxyError",
    "ProxyUnavailable",
    "RefusedError",
    "RelayError",
    "RelayUnreachableError",
    "RemoteError",
    "ReplacedError",
    "ScriptError",
    "SerializationError",
    "ServiceError",
    "ServiceRefusedError",
    "ServiceTimeoutError",
    "TunnelTimeoutError",
    "TunnelkitError",
    "UserLimitError",
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


class ProxyError(TunnelkitError):
    """A connection through the egress proxy failed."""

    code = "proxy_error"
    exit_status = 24


class ProxyUnavailable(ProxyError):  # noqa: N818 - a state that passes, not a mistake
    """No pinned address to leave from is one of this machine now; no other address takes its place."""

    code = "proxy_unavailable"
    exit_status = 24
    default_hint = "Give the address back to this machine (ip address show), or change --source-ip"


class FamilyNotPinnedError(ProxyError):
    """The destination is of an address family for which no address is pinned."""

    code = "family_not_pinned"
    exit_status = 24
    default_hint = "Pin an address of that family, too, with --source-ip"


class ProxyAuthError(ProxyError):
    """The proxy does not know this user, password or client address."""

    code = "proxy_auth_failed"
    exit_status = 24
    default_hint = "Check the user and password in the proxy's URL"


class UserLimitError(ProxyError):
    """A limit of the proxy for this user is reached."""

    code = "user_limit"
    exit_status = 24
    default_hint = "Close connections, or ask the proxy's operator for more"


class NoExitError(ProxyError):
    """The relay lends no address of its own, or knows no exit of that name or zone."""

    code = "no_exit"
    exit_status = 24
    default_hint = "Start the relay with --egress-source-ip, or an agent with tunnelkit exit --name NAME"


class ExitAwayError(NoExitError):
    """The exit's agent is not connected."""

    code = "exit_away"
    exit_status = 24
    default_hint = "The agent reconnects by itself; try again in a moment"


class ExitNotAllowedError(ProxyError):
    """The token's rights do not let it leave there, or offer an exit of that name."""

    code = "exit_not_allowed"
    exit_status = 24
    default_hint = "The relay's operator says by which exits a token may leave"


class DestinationError(ProxyError):
    """The destination of a connection through the egress proxy cannot be reached."""

    code = "destination_error"
    exit_status = 24


class DestinationDeniedError(DestinationError):
    """The proxy's rules do not let anybody go there."""

    code = "destination_denied"
    exit_status = 24
    default_hint = "The proxy's operator allows destinations with --allow"


class DestinationUnresolvedError(DestinationError):
    """The destination's name has no address, or no name server answered."""

    code = "destination_unresolved"
    exit_status = 24
    default_hint = "Check the name"


class DestinationRefusedError(DestinationError):
    """Nothing accepts connections at the destination."""

    code = "destination_refused"
    exit_status = 24
    default_hint = "Check its port"


class DestinationUnreachableError(DestinationError):
    """There is no way to the destination."""

    code = "destination_unreachable"
    exit_status = 24
    default_hint = "Is there a route from the pinned address?"


class DestinationTimeoutError(DestinationError):
    """The destination did not answer in time."""

    code = "destination_timeout"
    exit_status = 24
    default_hint = "Is it up, or a firewall in between?"


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


class TunnelTimeoutError(TunnelkitError, TimeoutError):
    """The tunnel did not come up within the time given."""

    code = "timeout"
    exit_status = 14


class NotFoundError(TunnelkitError):
    """Something that was named does not exist."""

    code = "not_found"
    exit_status = 22


class FunctionError(TunnelkitError):
    """A call of a function did not come to its end."""

    code = "function"
    exit_status = 40


class RemoteError(FunctionError):
    """The process of a function died, or raised what cannot be brought here."""

    code = "remote"
    exit_status = 40


class FunctionTimeoutError(FunctionError, TimeoutError):
    """A call took longer than its function may, and was ended."""

    code = "function_timeout"
    exit_status = 41
    default_hint = "Give the function more with timeout=, or less to do"


class CallTimeoutError(FunctionError, TimeoutError):
    """The result of a call was not there in time. The call goes on."""

    code = "call_timeout"
    exit_status = 41


class CallCancelledError(FunctionError):
    """The call was cancelled."""

    code = "call_cancelled"
    exit_status = 42


class ClusterError(FunctionError):
    """The Ray cluster that calls are to run on cannot be reached, has gone, or does not fit."""

    code = "cluster"
    exit_status = 45
    default_hint = "Start one with `ray start --head`, or name it with RAY_ADDRESS=HOST:PORT"


class ScriptError(FunctionError):
    """A script cannot be loaded, or its entry point cannot be called from a command line."""

    code = "script"
    exit_status = 44


class SerializationError(FunctionError):
    """A function, an argument or a result cannot be sent to another process."""

    code = "serialization"
    exit_status = 43
    default_hint = "Files, sockets, locks and connections stay in their process: make them in the function"


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
