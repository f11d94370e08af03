"""From settings to running parts, and the parts handed to each other."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tunnelkit.agent import Agent, RelayEgress
from tunnelkit.agent.events import Listener, ignore
from tunnelkit.config import AgentSettings, EgressSettings, ExitSettings, Masked, RelaySettings
from tunnelkit.config.tokens import relay_token
from tunnelkit.egress import EgressProxy, User, UserLimits, parse_users
from tunnelkit.egress import Limits as EgressLimits
from tunnelkit.egress.access import OnAccess
from tunnelkit.egress.dialer import EgressDialer
from tunnelkit.egress.exits import LentDialer
from tunnelkit.egress.pin import PinPool
from tunnelkit.egress.policy import Policy
from tunnelkit.errors import AuthMissingError, InvalidError
from tunnelkit.net.resolve import Resolver
from tunnelkit.relay import Limits, Relay, RelaySsh, RelayTls, Rights, TokenList
from tunnelkit.transport.exit import EXIT_CONNECT_TIMEOUT, ExitDialer
from tunnelkit.transport.ssh_options import SshOptions
from tunnelkit.wire.address import parse_listen

__all__ = [
    "Connection",
    "connected_agent",
    "embedded_relay",
    "exit_dialer",
    "make_egress",
    "make_relay",
]

LOOPBACK = "127.0.0.1"


def make_relay(settings: RelaySettings, *, splice: bool | None = None) -> Relay:
    """The relay that ``settings`` describe, not started yet. Raises AuthMissingError, InvalidError."""
    lent = None
    if settings.egress_source_ip:
        lent = _lending(settings.egress_source_ip, settings.egress_rules)
    elif settings.egress_rules:
        raise InvalidError("Rules for the relay's egress, and no address to leave from", hint="Give both")
    return Relay(
        listen=settings.listen,
        domain=settings.domain,
        tcp_ports=settings.tcp_ports,
        tokens=TokenList(dict(map(_rights, settings.token))) if settings.token else (),
        anyone=settings.open,
        exit_dialer=lent,
        proxy_protocol_from=settings.proxy_protocol_from,
        ssh=_ssh(settings),
        tls=_tls(settings),
        limits=Limits(
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
            stall_timeout=settings.stall_timeout,
        ),
        splice=splice,
    )


def _ssh(settings: RelaySettings) -> RelaySsh | None:
    """How the relay speaks SSH: not at all only where there is no place for a host key, and nobody asked."""
    from platformdirs import user_data_path

    key = Path(settings.ssh_host_key or user_data_path("tunnelkit") / "ssh_host_ed25519_key")
    if not (settings.ssh or settings.authorized_keys or settings.ssh_host_key):
        place = next(path for path in (key, *key.parents) if path.exists())
        if not os.access(place, os.R_OK | (os.W_OK if place.is_dir() else 0)):
            return None
    return RelaySsh(
        host_key=str(key),
        listen=settings.ssh,
        authorized_keys=settings.authorized_keys,
        passwords=not settings.ssh_keys_only,
    )


def _tls(settings: RelaySettings) -> RelayTls | None:
    """How the relay speaks TLS; a certificate of its own is made here if it is to have one."""
    certificates = list(zip(settings.tls_cert, settings.tls_key or settings.tls_cert, strict=True))
    if settings.tls_self_signed:
        from platformdirs import user_data_path

        from tunnelkit.net.certificates import self_signed

        path = str(user_data_path("tunnelkit") / "tls_self_signed.pem")
        domain, hosts = settings.domain, {parse_listen(address).host for address in settings.listen}
        names = {domain, f"*.{domain}"} if domain else hosts - {"", "0.0.0.0", "::"}
        self_signed(path, {"localhost", LOOPBACK, "::1", *names})
        certificates = [(path, path)]
    if not certificates:
        return None
    return RelayTls(certificates=certificates, plain_http=settings.plain_http, hsts=settings.hsts)


def _rights(setting: Masked) -> tuple[str, Rights]:
    """A token and what it may do."""
    token = relay_token(setting)
    rights = Rights(destinations=token.rules)
    Policy.parse(token.rules)  # raises now, and not when somebody leaves
    if token.by is not None:
        rights = replace(rights, proxies=token.by)
    if token.offers is not None:
        rights = replace(rights, offers=token.offers)
    return token.reveal(), rights


def exit_dialer(settings: ExitSettings) -> ExitDialer:
    """What dials for the exit that ``settings`` describe. Raises InvalidError, ProxyUnavailable."""
    return _lending(settings.source_ip, settings.rules)()


def _lending(source_ips: Iterable[str], rules: Iterable[str]) -> Callable[[], ExitDialer]:
    """What makes a dialer that others leave by, once there is a loop. Raises InvalidError at once."""
    addresses = tuple(source_ips)
    pins = PinPool(addresses) if addresses else None
    policy = Policy.parse(rules)

    def lend() -> ExitDialer:
        if pins is not None:
            pins.check()
        dialer = EgressDialer(
            policy=policy, resolver=Resolver(), pins=pins, connect_timeout=EXIT_CONNECT_TIMEOUT
        )
        return LentDialer(dialer)

    return lend


def make_egress(
    settings: EgressSettings,
    agent: AgentSettings | None = None,
    *,
    on_access: OnAccess | None = None,
    on_event: Listener = ignore,
) -> EgressProxy:
    """The proxy that ``settings`` describe, not started yet. Raises AuthMissingError, InvalidError.

    ``agent`` says how to reach the relay to leave from, if there is one; ``on_event`` hears of it.
    """
    via = None
    if agent is not None:
        via = RelayEgress(
            agent.relay,
            token=agent.token.reveal(),
            ca=agent.ca or None,
            fingerprint=agent.fingerprint or None,
            ssh=_ssh_options(agent),
            exit=settings.exit,
            on_event=on_event,
        )
    return EgressProxy(
        listen=settings.listen,
        source_ips=settings.source_ip,
        rules=settings.rules,
        users=_read_users(Path(settings.users)) if settings.users else None,
        clients=settings.client or None,
        anyone=settings.open,
        upstream=settings.upstream.reveal() or None,
        via=via,
        limits=EgressLimits(
            connections=settings.connections,
            per_client=settings.connections_per_client,
            idle_timeout=settings.idle_timeout,
        ),
        user_limits=UserLimits(settings.user_connections, settings.user_rate),
        on_access=on_access,
    )


def _read_users(path: Path) -> list[User]:
    hint = "Make it with: tunnelkit egress user NAME --users FILE"
    try:
        users = parse_users(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AuthMissingError(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    except UnicodeDecodeError:
        raise AuthMissingError(f"{path} is no text", hint=hint) from None
    except AuthMissingError as error:
        raise AuthMissingError(f"{path}: {error.what}", hint=error.hint) from None
    if not users:
        raise AuthMissingError(f"{path} holds no user", hint=hint)
    return users


def embedded_relay(*, host: str = LOOPBACK, splice: bool | None = None) -> tuple[Relay, str]:
    """A relay on any free port of ``host``, not started yet, and the token that it alone accepts.

    Its agent finds it on loopback, whatever ``host`` is: that way leads through no proxy.
    Each of its tunnels gets a port of its own: names below ``.localhost`` do not resolve in every
    client. Web pages can reach loopback addresses too, so there is always a token.
    """
    token = secrets.token_urlsafe(24)
    listen = [f"[{host}]:0" if ":" in host else f"{host}:0"]
    if host != LOOPBACK:
        listen.append(f"{LOOPBACK}:0")
    return Relay(listen=listen, tokens=[token], splice=splice), token


def _ssh_options(settings: AgentSettings) -> SshOptions:
    return SshOptions(
        settings.identity_file,
        settings.known_hosts,
        settings.host_key,
        settings.ping_interval,
        settings.ping_timeout,
    )


@dataclass(frozen=True, slots=True)
class Connection:
    """An agent that is connected to its relay. ``embedded``: the relay runs in this process."""

    agent: Agent
    embedded: bool


@asynccontextmanager
async def connected_agent(
    settings: AgentSettings,
    *,
    on_event: Listener = ignore,
    splice: bool | None = None,
    lan_host: str | None = None,
    grace: float = 0.0,
) -> AsyncIterator[Connection]:
    """An agent, connected as ``settings`` say; where they name no relay, to one started for it.

    ``lan_host`` is the address at which the embedded relay serves this machine's neighbours too.
    At the end what runs may finish for ``grace`` seconds, unless an error is the reason. Raises what
    :class:`Agent` and :class:`Relay` raise when they start.
    """
    async with AsyncExitStack() as stack:
        relay, token = settings.relay, settings.token.reveal()
        if not relay:
            embedded, token = embedded_relay(host=lan_host or LOOPBACK, splice=splice)
            await stack.enter_async_context(embedded)
            relay = f"ws://{LOOPBACK}:{embedded.addresses[-1][1]}"
        agent = await stack.enter_async_context(
            Agent(
                relay,
                token=token,
                ca=settings.ca or None,
                fingerprint=settings.fingerprint or None,
                ssh=_ssh_options(settings),
                on_event=on_event,
                splice=splice,
            )
        )
        yield Connection(agent, embedded=not settings.relay)
        await agent.close(grace=grace)
