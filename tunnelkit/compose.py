"""From settings to running parts, and the parts handed to each other."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tunnelkit.agent import Agent
from tunnelkit.agent.events import Listener, ignore
from tunnelkit.config import AgentSettings, RelaySettings
from tunnelkit.relay import Limits, Relay, RelaySsh
from tunnelkit.transport.ssh_options import SshOptions

__all__ = ["Connection", "connected_agent", "embedded_relay", "make_relay"]

LOOPBACK = "127.0.0.1"


def make_relay(settings: RelaySettings, *, splice: bool | None = None) -> Relay:
    """The relay that ``settings`` describe, not started yet. Raises AuthMissingError, InvalidError."""
    return Relay(
        listen=settings.listen,
        domain=settings.domain,
        tcp_ports=settings.tcp_ports,
        tokens=[token.reveal() for token in settings.token],
        anyone=settings.open,
        ssh=_ssh(settings),
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
                ssh=SshOptions(
                    settings.identity_file,
                    settings.known_hosts,
                    settings.host_key,
                    settings.ping_interval,
                    settings.ping_timeout,
                ),
                on_event=on_event,
                splice=splice,
            )
        )
        yield Connection(agent, embedded=not settings.relay)
        await agent.close(grace=grace)
