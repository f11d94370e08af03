"""The ways to a target: straight from a pinned address, through another proxy, or where a policy says."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from tunnelkit.egress.dialer import Attempt, EgressDialer, Leg
from tunnelkit.egress.policy import Policy
from tunnelkit.errors import (
    DestinationDeniedError,
    DestinationError,
    DestinationTimeoutError,
    DestinationUnreachableError,
    OutboundProxyError,
)
from tunnelkit.net.outbound import ProxyUrl, shake_hands
from tunnelkit.net.plain import PlainStream
from tunnelkit.net.pump import Pump
from tunnelkit.net.stream import Opener, Outgoing, Target
from tunnelkit.wire.address import ip_address, normal_host

__all__ = ["Direct", "Screened", "Upstream"]

HANDSHAKE_TIMEOUT = 30.0
"""Seconds an upstream proxy has to connect to the target: what we have ourselves."""


class Direct:
    """Straight from here. ``streams`` are those that are open, some of them only to send what is left."""

    def __init__(self, dialer: EgressDialer, pump: Pump, streams: set[PlainStream]) -> None:
        self._dialer = dialer
        self._pump = pump
        self._streams = streams

    def open(self, target: Target) -> Outgoing | Coroutine[Any, Any, Outgoing]:
        attempt = self._dialer.attempt(target.host, target.port, client=target.user or target.client)
        leg = attempt.now()
        return self._wait(attempt) if leg is None else self._stream(leg)

    async def _wait(self, attempt: Attempt) -> Outgoing:
        return self._stream(await attempt.wait())

    def _stream(self, leg: Leg) -> PlainStream:
        stream = PlainStream(self._pump, leg.sock, leg.source, self._streams.discard)
        self._streams.add(stream)
        return stream


class Upstream:
    """Through the proxy ``url``, to which connections leave from the pinned address.

    The target's name is resolved and judged here, and the proxy is given the address.
    """

    def __init__(
        self,
        url: ProxyUrl,
        *,
        gate: EgressDialer,
        dialer: EgressDialer,
        pump: Pump,
        streams: set[PlainStream],
    ) -> None:
        """``gate`` resolves and judges targets, ``dialer`` connects to the proxy."""
        self._url = url
        self._gate = gate
        self._dialer = dialer
        self._pump = pump
        self._streams = streams

    async def open(self, target: Target) -> Outgoing:
        client = target.user or target.client
        address = await self._gate.resolve(target.host, target.port, client=client)
        assert not isinstance(address.sockaddr, str)
        handshake = self._url.client(address.sockaddr[0], target.port)
        try:
            leg = await self._dialer.dial(self._url.host, self._url.port, client=client)
        except DestinationError as error:
            raise DestinationUnreachableError(
                f"The upstream proxy {self._url} cannot be reached ({error.code})",
                hint="Is it running, and its address right?",
            ) from error
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                early = await shake_hands(leg.sock, handshake)
        except OutboundProxyError as error:
            leg.sock.close()
            raise DestinationUnreachableError(f"{error.what} ({self._url})", hint=error.hint) from error
        except (TimeoutError, OSError) as error:
            leg.sock.close()
            raise DestinationTimeoutError(f"The upstream proxy {self._url} did not answer") from error
        except BaseException:
            leg.sock.close()
            raise
        stream = PlainStream(self._pump, leg.sock, leg.source, self._streams.discard)
        stream.unread(early)
        self._streams.add(stream)
        return stream


class Screened:
    """``opener``, which dials elsewhere, for targets that ``policy`` lets through here.

    Names are judged by name, for they are resolved where the connection leaves; the policy of that
    place judges the addresses.
    """

    def __init__(self, opener: Opener, policy: Policy) -> None:
        self._opener = opener
        self._policy = policy

    def open(self, target: Target) -> Outgoing | Coroutine[Any, Any, Outgoing]:
        host = normal_host(target.host)
        address = ip_address(host)
        if address is None:
            reason = self._policy.refuses_name(host, target.port)
        else:
            reason = self._policy.refuses(None, address, target.port)
        if reason is not None:
            raise DestinationDeniedError(reason)
        return self._opener.open(target._replace(host=host))
