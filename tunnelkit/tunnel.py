"""``Tunnel.create`` and ``forward``: a public address for a local service, in one call.

Both work in any program: a script, a thread, a notebook, inside a running event loop. The work is done
by the program's engine process (:mod:`tunnelkit.engine`), which ends with the program.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, Literal, ParamSpec, Self, TypeVar

from tunnelkit.config import load_agent
from tunnelkit.config.handed import surroundings
from tunnelkit.engine.messages import Create, Created
from tunnelkit.engine.program import EngineTunnel, open_tunnel, open_tunnel_async
from tunnelkit.errors import InvalidError, TunnelkitError
from tunnelkit.wire.address import parse_port, parse_target, tunnel_name

__all__ = ["BothWays", "Forwarding", "Tunnel", "forward"]

DEFAULT_TIMEOUT = 30.0
"""Seconds for a tunnel to come up: an engine, a connection to the relay and a probe, each well in time."""

Parameters = ParamSpec("Parameters")
Opened = TypeVar("Opened")


class BothWays(Generic[Parameters, Opened]):
    """Opens a tunnel when called, and as a coroutine by :meth:`aio`, with the same arguments."""

    def __init__(
        self, prepare: Callable[Parameters, Create], made_of: Callable[[EngineTunnel, Created], Opened]
    ) -> None:
        functools.update_wrapper(self, prepare)
        self._prepare = prepare
        self._made_of = made_of

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Opened:
        return self._made_of(*open_tunnel(self._prepare(*args, **kwargs)))

    async def aio(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Opened:
        """The coroutine; if it is cancelled, the tunnel that was coming up is closed."""
        return self._made_of(*await open_tunnel_async(self._prepare(*args, **kwargs)))


def _create(  # noqa: PLR0913 - the keywords of one call, which a person reads and writes by name
    *,
    host: str = "0.0.0.0",
    port: int = 8000,
    timeout: float | None = None,
    name: str | None = None,
    protocol: Literal["http", "tcp"] = "http",
    relay: str | None = None,
    token: str | None = None,
    host_header: str | None = None,
    remote_port: int | None = None,
    identity_file: str | None = None,
    host_key: str | None = None,
    zone: str | None = None,
) -> Create:
    """Open a tunnel to the service at ``host:port``; returns a :class:`Tunnel` that visitors can use.

    The service may start later. ``host``: ``0.0.0.0`` and ``::``, where servers listen, are dialled
    as loopback. ``timeout``: seconds for the tunnel to come up (None: 30). ``protocol``: ``http``, or
    ``tcp`` for anything else. ``name`` (http): the label in front of the relay's domain;
    ``host_header`` (http): what the service sees as Host, ``rewrite`` its own address;
    ``remote_port`` (tcp): the public port. Without these the relay chooses, and passes the visitor's
    Host on. ``relay`` and ``token``: where they are None, the settings decide
    (``TUNNELKIT_RELAY``, ``TUNNELKIT_TOKEN``, ``tunnelkit.toml``), and without any the tunnel is
    reachable on this machine only. ``identity_file`` and ``host_key`` are for a relay by SSH
    (``ssh://``, or ``ssh+openssh://user@host`` for any SSH server, which has ports and no names): the
    private key, where it is none of the SSH agent or ``~/.ssh``, and the host key's fingerprint, where
    known_hosts does not have it. ``zone``, in the place of ``relay``: that of ``[zones.NAME]``.

    Blocks until the tunnel is up, also inside a running event loop: there, ``await
    Tunnel.create.aio(...)``.

    Raises InvalidError and its kind at once; AuthError, RelayError, RefusedError and their kinds as
    the relay answers; TunnelTimeoutError; EngineError.
    """
    given = {"relay": relay, "token": token, "identity_file": identity_file, "host_key": host_key}
    settings = load_agent(given, zone=zone, environ=surroundings(), named="{}=".format)
    has_ports = settings.relay.startswith("ssh+openssh:")
    _check(protocol, has_ports, name=name, host_header=host_header, remote_port=remote_port)
    return Create(
        id=0,
        kind=protocol,
        target=_target(host, port),
        timeout=_timeout(timeout),
        name="" if name is None else tunnel_name(name),
        remote_port=0 if remote_port is None else parse_port(remote_port),
        host_header=host_header or "",
        relay=settings.relay,
        token=settings.token.reveal(),
        ca=settings.ca,
        fingerprint=settings.fingerprint,
        identity_file=settings.identity_file,
        known_hosts=settings.known_hosts,
        host_key=settings.host_key,
        ping_interval=settings.ping_interval,
        ping_timeout=settings.ping_timeout,
    )


def _forward(  # noqa: PLR0913 - as above
    port: int,
    *,
    host: str = "localhost",
    timeout: float | None = None,
    relay: str | None = None,
    token: str | None = None,
    remote_port: int | None = None,
    identity_file: str | None = None,
    host_key: str | None = None,
    zone: str | None = None,
) -> Create:
    """Open a TCP tunnel to ``host:port`` and return its public address, ``tcp://host:port``.

    The address is a ``str`` that can also be closed, see :class:`Forwarding`. The keywords and the
    errors are those of :attr:`Tunnel.create`; ``forward.aio`` is the coroutine.
    """
    return _create(
        protocol="tcp",
        host=host,
        port=port,
        timeout=timeout,
        relay=relay,
        token=token,
        remote_port=remote_port,
        identity_file=identity_file,
        host_key=host_key,
        zone=zone,
    )


def _check(protocol: object, has_ports: bool, **options: object) -> None:
    """Raise InvalidError for options that ``protocol`` does not have; ``has_ports``: HTTP, too."""
    if protocol not in ("http", "tcp"):
        raise InvalidError(f"There is no protocol {protocol!r}", hint="Give http or tcp")
    homes = {"name": "http", "host_header": "http", "remote_port": "tcp"}
    for option, value in options.items():
        kind = homes[option]
        if value is not None and protocol != kind and not (has_ports and option == "remote_port"):
            raise InvalidError(f"A {protocol} tunnel has no {option}", hint=f'Give protocol="{kind}"')


def _target(host: object, port: int) -> str:
    parse_port(port)
    if not isinstance(host, str) or not host:
        raise InvalidError(f"No host: {host!r}", hint="Give the name or address of the service's machine")
    return str(parse_target(f"[{host}]:{port}" if ":" in host and host[0] != "[" else f"{host}:{port}"))


def _timeout(timeout: object) -> float:
    if timeout is None:
        return DEFAULT_TIMEOUT
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise InvalidError(f"Not a time-out: {timeout!r}", hint="Give seconds, more than 0; None is 30")
    return float(timeout)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """An open tunnel: made by :attr:`create`, and open until :meth:`close`, the end of a ``with`` or
    ``async with``, or the end of the program.

    A copy that was pickled says where the tunnel is, and does not close it.
    """

    url: str
    """The public address, ``https://…``, ``http://…`` or ``tcp://…``."""
    host: str
    port: int
    unencrypted_host: str = ""
    """Where visitors come in without TLS; empty, and the port 0, where they cannot."""
    unencrypted_port: int = 0
    warnings: tuple[str, ...] = ()
    """What may keep visitors away, such as a public name that does not resolve; logged as well."""
    _held: EngineTunnel | None = field(default=None, repr=False, compare=False)

    @staticmethod
    def _made_of(held: EngineTunnel, created: Created) -> Tunnel:
        host, port = created.host, created.port
        plain = host if created.plain_port else ""
        return Tunnel(created.url, host, port, plain, created.plain_port, created.warnings, held)

    create = BothWays(_create, _made_of)

    @property
    def tls_socket(self) -> tuple[str, int]:
        """Host and port for a client that speaks TLS.

        A TCP tunnel passes it through to a service that speaks TLS itself. Raises InvalidError at an
        ``http://`` address, where nobody would answer the handshake.
        """
        if self.url.startswith("http://"):
            raise InvalidError(f"There is no TLS at {self.url}", hint="Use tcp_socket")
        return self.host, self.port

    @property
    def tcp_socket(self) -> tuple[str, int]:
        """Host and port for a client without TLS. Raises InvalidError where the relay takes TLS only."""
        if not self.unencrypted_host:
            raise InvalidError(f"There is only TLS at {self.url}", hint="Use tls_socket")
        return self.unencrypted_host, self.unencrypted_port

    @property
    def closed(self) -> bool:
        """Whether the tunnel has ended, for whatever reason."""
        return self._held is not None and self._held.closed

    @property
    def error(self) -> TunnelkitError | None:
        """Why the tunnel ended, if nobody closed it: ReplacedError, EngineError and their like."""
        return None if self._held is None else self._held.error

    def close(self) -> None:
        """Close the tunnel; connections through it end. Safe to call twice, and from any thread.

        In a fork of the program that created the tunnel, this does nothing.
        """
        if self._held is not None:
            self._held.close()

    async def aclose(self) -> None:
        """:meth:`close` for coroutines."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> tuple[object, ...]:
        unencrypted = self.unencrypted_host, self.unencrypted_port
        return Tunnel, (self.url, self.host, self.port, *unencrypted, self.warnings)


class Forwarding(str):
    """The public address of a TCP tunnel: a ``str`` like any other, until it is asked for more.

    It pickles and serialises as a plain ``str``. ``with`` and ``async with`` close the tunnel, which
    otherwise stays open until :meth:`close` or the end of the program.
    """

    __slots__ = ("tunnel",)

    tunnel: Tunnel
    """The tunnel, with its host, its port and the rest."""

    def __new__(cls, tunnel: Tunnel) -> Self:
        """The address of ``tunnel``."""
        self = super().__new__(cls, tunnel.url)
        self.tunnel = tunnel
        return self

    @staticmethod
    def _made_of(held: EngineTunnel, created: Created) -> Forwarding:
        return Forwarding(Tunnel._made_of(held, created))

    @property
    def url(self) -> str:
        """The address as a plain ``str``."""
        return self.tunnel.url

    @property
    def tls_socket(self) -> tuple[str, int]:
        """See :attr:`Tunnel.tls_socket`."""
        return self.tunnel.tls_socket

    @property
    def tcp_socket(self) -> tuple[str, int]:
        """See :attr:`Tunnel.tcp_socket`."""
        return self.tunnel.tcp_socket

    def close(self) -> None:
        """See :meth:`Tunnel.close`."""
        self.tunnel.close()

    async def aclose(self) -> None:
        """:meth:`close` for coroutines."""
        await self.tunnel.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> tuple[object, ...]:
        return str, (self.url,)


forward = BothWays(_forward, Forwarding._made_of)
