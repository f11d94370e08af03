"""Every error tunnelkit raises, as one tree.

::

    TunnelkitError
    ├── InvalidError              your call, option or setting is wrong; nothing was started
    │   ├── UsageError            the command line has no such command, option or argument
    │   ├── InvalidPortError
    │   ├── InvalidNameError
    │   ├── InvalidTargetError
    │   ├── IdentityFileError     the private key for SSH cannot be used
    │   └── CertificateFileError  a certificate that a relay should show, or its key, cannot be used
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
    ├── CommandError              the command that `secret run` should become does not start
    │   └── CommandNotFoundError
    ├── NotFoundError             (also a LookupError) no secret, proxy, environment or file of that name
    ├── AlreadyExistsError        the name is given away
    ├── StoreError                the store of secrets and proxies cannot be used
    │   ├── StoreBusyError        another process keeps it locked
    │   ├── StoreDamagedError     what it holds is not what was written
    │   └── MasterKeyError        the key that it is encrypted with is missing, wrong or badly kept
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

from tunnelkit.errors.base import (
    InvalidError,
    InvalidNameError,
    InvalidPortError,
    InvalidTargetError,
    TunnelkitError,
    UsageError,
)
from tunnelkit.errors.egress import (
    DestinationDeniedError,
    DestinationError,
    DestinationRefusedError,
    DestinationTimeoutError,
    DestinationUnreachableError,
    DestinationUnresolvedError,
    ExitAwayError,
    ExitNotAllowedError,
    FamilyNotPinnedError,
    NoExitError,
    ProxyAuthError,
    ProxyError,
    ProxyUnavailable,
    UserLimitError,
)
from tunnelkit.errors.functions import (
    CallCancelledError,
    CallTimeoutError,
    ClusterError,
    FunctionError,
    FunctionTimeoutError,
    RemoteError,
    ScriptError,
    SerializationError,
)
from tunnelkit.errors.local import (
    AlreadyExistsError,
    CommandError,
    CommandNotFoundError,
    MasterKeyError,
    NotFoundError,
    StoreBusyError,
    StoreDamagedError,
    StoreError,
)
from tunnelkit.errors.tunnels import (
    AddressInUseError,
    AuthError,
    AuthMissingError,
    CertificateError,
    CertificateFileError,
    EngineError,
    ForwardRefusedError,
    HostKeyError,
    HostKeyUnknownError,
    IdentityFileError,
    LimitError,
    NameTakenError,
    NotARelayError,
    OutboundProxyError,
    PortNotAllowedError,
    PortTakenError,
    ProtocolError,
    RefusedError,
    RelayError,
    RelayUnreachableError,
    ReplacedError,
    ServiceError,
    ServiceRefusedError,
    ServiceTimeoutError,
    TunnelTimeoutError,
)

__all__ = [
    "AddressInUseError",
    "AlreadyExistsError",
    "AuthError",
    "AuthMissingError",
    "CallCancelledError",
    "CallTimeoutError",
    "CertificateError",
    "CertificateFileError",
    "ClusterError",
    "CommandError",
    "CommandNotFoundError",
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
    "MasterKeyError",
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
    "StoreBusyError",
    "StoreDamagedError",
    "StoreError",
    "TunnelTimeoutError",
    "TunnelkitError",
    "UsageError",
    "UserLimitError",
    "from_code",
]


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
