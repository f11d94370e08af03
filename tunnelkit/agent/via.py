"""Leaving by a relay: the streams of an egress proxy, opened towards a relay.

The relay connects them from its own pinned addresses, or passes them on to an agent's exit.
"""

from __future__ import annotations

import asyncio
import secrets

from tunnelkit import errors
from tunnelkit.agent.events import Listener, ignore
from tunnelkit.agent.link import EgressLink, Trust, lacks_egress, make_egress_link
from tunnelkit.agent.session import Session
from tunnelkit.net.pump import Pump
from tunnelkit.net.stream import Outgoing, Target
from tunnelkit.transport.accept import AcceptedStream
from tunnelkit.transport.ssh_options import SshOptions
from tunnelkit.wire import messages
from tunnelkit.wire.address import Endpoint, normal_host, tunnel_name

__all__ = ["RelayEgress"]

PROBE_TIMEOUT = 10.0
"""Seconds for a probe to come back once its stream is there."""

ZONE = "zone:"


class RelayEgress(Session):
    """An :class:`~tunnelkit.net.stream.Opener` whose streams leave by a relay.

    ``exit``: from where: empty, the relay's own addresses; the name of an agent's exit; or
    ``zone:NAME``, any exit of that zone, the same one for a client and a destination while it is there.
    The rest is as with :class:`~tunnelkit.agent.agent.Agent`: it reconnects for as long as it runs.
    """

    _link: EgressLink

    def __init__(
        self,
        relay: str,
        *,
        token: str = "",
        ca: str | None = None,
        fingerprint: str | None = None,
        ssh: SshOptions | None = None,
        exit: str = "",  # noqa: A002 - the option's name
        on_event: Listener = ignore,
    ) -> None:
        trust = Trust(token, ca, fingerprint, ssh or SshOptions())
        super().__init__(relay, trust, identity=None, on_event=on_event)
        self.exit = _exit(exit)
        self._failure: errors.TunnelkitError | None = None
        self._running = False

    async def start(self, pump: Pump) -> None:
        """Connect to the relay; streams are for users of ``pump``.

        Raises RelayUnreachableError, NotARelayError, AuthError, CertificateError, HostKeyError,
        OutboundProxyError, and NoExitError where the relay is of a version that knows no egress.
        """
        self._prepare(pump)
        self._running = True
        try:
            await self._connect()
            if self._failure is not None:
                raise self._failure
        except BaseException:
            await self.close()
            raise
        self._stay_connected()

    async def check(self) -> None:
        """Return once a probe has come back from whoever would dial. Raises as :meth:`open` does."""
        nonce = secrets.token_hex(8)
        stream = await self._link.open(messages.Open(0, 0, "", probe=nonce, exit=self.exit))
        answer = _Answer(asyncio.get_running_loop().create_future())
        try:
            stream.use(answer)
            stream.end(delivered=False)
            stream.resume()
            async with asyncio.timeout(PROBE_TIMEOUT):
                if await answer.done != nonce.encode():
                    raise errors.ExitAwayError("The probe of the exit did not come back")
        except TimeoutError:
            stream.cancel("timeout")
            raise errors.ExitAwayError("The exit did not answer a probe") from None
        except BaseException:
            stream.cancel("cancelled")
            raise
        stream.delivered()

    async def open(self, target: Target) -> Outgoing:
        """A stream to ``target``, connected; nothing is called back before ``use`` and ``resume``.

        Raises the error of whoever dials (ProxyError and its kind), ExitNotAllowedError, NoExitError,
        ExitAwayError, LimitError, and RelayUnreachableError where the relay is away.
        """
        where = Endpoint(normal_host(target.host), target.port)
        user = target.user or target.client
        return await self._link.open(messages.Open(0, 0, user, target=str(where), exit=self.exit))

    @property
    def active(self) -> int:
        """Streams that are open."""
        return self._link.busy if self._running else 0

    async def close(self) -> None:
        """End all streams now. Safe to call twice."""
        if not self._running:
            return
        self._running = False
        try:
            await self._tasks.close()
        finally:
            self._link.send(messages.Goodbye())
            await self._link.close()
            self.connected = False

    # --- the session ----------------------------------------------------------------------------

    def _make_link(self) -> EgressLink:
        return make_egress_link(self.relay, self._trust, self._pump, self)

    def _message(self, message: messages.ControlToAgent | None) -> None:
        pass  # this side asks for nothing there

    def stream_opened(self, stream: AcceptedStream, request: messages.Open) -> None:
        """A relay opens none towards those who leave by it."""
        stream.refuse("no_tunnel", "There are no tunnels here")

    def _session_begun(self, message: messages.Welcome) -> None:
        self._failure = lacks_egress(self.relay, message)


def _exit(name: str) -> str:
    """``name`` as the protocol has it."""
    if name.startswith(ZONE):
        return ZONE + tunnel_name(name.removeprefix(ZONE))
    return tunnel_name(name) if name else ""


class _Answer:
    """The user of a probe's stream."""

    def __init__(self, done: asyncio.Future[bytes]) -> None:
        self.done = done
        self._received = b""

    def payload(self, data: memoryview | bytes) -> None:
        self._received += data[:100]

    def ended(self) -> None:
        if not self.done.done():
            self.done.set_result(self._received)

    def refused(self, code: str, what: str) -> None:
        self.aborted(code)

    def aborted(self, code: str) -> None:
        if not self.done.done():
            self.done.set_result(b"")

    def drained(self) -> None: ...
