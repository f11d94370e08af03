"""A relay by SSH: one connection carries the messages and all streams, and they end with it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from tunnelkit.agent.dialer import Dialer
from tunnelkit.agent.link import LinkUser, Trust
from tunnelkit.errors import InvalidError
from tunnelkit.net.pump import Pump
from tunnelkit.net.resolve import Resolver
from tunnelkit.transport.ssh_client import SshClientStream, SshConnection
from tunnelkit.transport.ssh_login import Login, connect
from tunnelkit.wire.messages import Message, Open, Welcome, decode_control_to_agent
from tunnelkit.wire.relay_url import RelayUrl

__all__ = ["SshLink"]

log = logging.getLogger("tunnelkit")

USER = "tunnelkit"
"""Whom an agent logs in as where the address does not say; a relay looks at the key alone."""


class SshLink:
    """See :class:`~tunnelkit.agent.link.Link`."""

    def __init__(
        self,
        url: RelayUrl,
        trust: Trust,
        pump: Pump,
        user: LinkUser,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.connection: SshConnection | None = None
        self._leaving: SshConnection | None = None
        self._dialer = Dialer(url, environ)
        self._login = Login(url.host, url.port, url.user or USER, trust.token, trust.ssh)
        self._pump = pump
        self._user = user

    def __repr__(self) -> str:
        return f"<SshLink to {self._dialer.url}>"

    @property
    def resolver(self) -> Resolver:
        return self._dialer.resolver

    def check(self, kind: str, *, name: str, remote_port: int, host_header: str) -> None:
        """A relay has names for HTTP, and ports for TCP."""
        if kind == "http" and remote_port:
            raise InvalidError("An HTTP tunnel has a name, not a port", hint="Leave out --remote-port")

    async def connect(self) -> None:
        await self._log_in()
        assert self.connection is not None
        await self.connection.open_control(self._received)

    async def _log_in(self) -> None:
        self.disconnect()
        try:
            sock, received = await self._dialer.dial()
        except OSError as error:
            raise self._dialer.not_reached(error) from None
        self.connection = await connect(self._pump, sock, received, self._login, self)

    def _received(self, line: bytes) -> None:
        self._user.received(decode_control_to_agent(line))

    def stream_opened(self, stream: SshClientStream, request: Open) -> None:
        """A visitor has come."""
        self._user.stream_opened(stream, request)

    def lost(self, code: str) -> None:
        """The connection is gone."""
        self._leaving, self.connection = self.connection, None
        self._user.lost(code)

    def said(self, line: str) -> None:
        """The relay greets people who come with ``ssh``; an agent knows without."""
        log.info("the relay says: %s", line)

    def send(self, message: Message) -> bool:
        return self.connection is not None and self.connection.send(message)

    def greeted(self, welcome: Welcome) -> None:
        if self.connection is not None:
            self.connection.watch(max(0.1, welcome.ping_interval), max(0.1, welcome.ping_timeout))

    def disconnect(self) -> None:
        if self.connection is not None:
            self.connection.end()
            self._leaving, self.connection = self.connection, None

    async def close(self) -> None:
        self.disconnect()
        self._dialer.close()
        if self._leaving is not None:
            await self._leaving.wait_closed()  # a turn of the loop
