"""Errors of relays, agents and tunnels."""

from __future__ import annotations

from tunnelkit.errors.base import InvalidError, TunnelkitError

__all__ = [
    "AddressInUseError",
    "AuthError",
    "AuthMissingError",
    "CertificateError",
    "CertificateFileError",
    "EngineError",
    "ForwardRefusedError",
    "HostKeyError",
    "HostKeyUnknownError",
    "IdentityFileError",
    "LimitError",
    "NameTakenError",
    "NotARelayError",
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
    "TunnelTimeoutError",
]


class IdentityFileError(InvalidError):
    """The private key for SSH is not there, is none, or is protected by a passphrase."""

    code = "identity_file"
    exit_status = 23
    default_hint = "Give the private key's own file with --identity-file"


class CertificateFileError(InvalidError):
    """A certificate that a relay should show, or its key, cannot be read or used, or has expired."""

    code = "certificate_file"
    exit_status = 25
    default_hint = "Correct --tls-cert and --tls-key"


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


class TunnelTimeoutError(TunnelkitError, TimeoutError):
    """The tunnel did not come up within the time given."""

    code = "timeout"
    exit_status = 14
