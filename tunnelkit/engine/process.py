"""The engine's side: an event loop with an agent for each relay, at the service of one program."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from tunnelkit.agent import Agent, Event
from tunnelkit.compose import connected_agent
from tunnelkit.config import AgentSettings, Masked
from tunnelkit.engine import messages
from tunnelkit.engine.messages import Close, Closed, Create, Created, Failed, Idle, Log, Lost
from tunnelkit.errors import TunnelkitError, TunnelTimeoutError
from tunnelkit.net.listen import raise_descriptor_limit
from tunnelkit.net.tasks import Tasks

__all__ = ["main"]

log = logging.getLogger("tunnelkit")

LINGER = 5.0
"""Seconds that an agent, and the engine, outlive their last tunnel: the next one often comes soon."""

END_TIME = 1.0
"""Seconds to take leave of the relays once the program has gone."""

PARENT_PERIOD = 1.0
"""Seconds between looks whether the program still is this process's parent. The end of the socket
pair says so at once, unless native code of the program forked and kept the descriptor."""

MAX_LINE = 1 << 20
"""Bytes of a message from the program, whose texts have all been checked to be shorter."""

MAX_UNSENT = 1 << 20
"""Bytes for a program that does not read, one stopped in a debugger say; then its log has a gap."""

REPEAT = 10.0
"""Seconds before the program's log hears again that the service is not there, visit by visit."""

_LEVELS = {
    "connected": logging.INFO,
    "disconnected": logging.WARNING,
    "retrying": logging.INFO,
    "tunnel_up": logging.INFO,
    "tunnel_lost": logging.DEBUG,  # the program says so itself
    "service_error": logging.WARNING,
    "notice": logging.WARNING,
    "warning": logging.WARNING,
}


class SharedAgent:
    """One agent for all tunnels through one relay; it ends a while after the last of them."""

    def __init__(self, settings: AgentSettings, tasks: Tasks) -> None:
        loop = asyncio.get_running_loop()
        self.usable = True
        """Whether another tunnel may still be added."""
        self._settings = settings
        self._relay = settings.relay or "the embedded relay"
        self._agent: asyncio.Future[Agent] = loop.create_future()
        self._unused = asyncio.Event()
        self._users = 0
        self._linger: asyncio.TimerHandle | None = None
        self._lost: dict[int, asyncio.Future[None]] = {}
        self._service_error = ("", 0.0)
        self._task = tasks.spawn(self._run(), f"agent of {self._relay}")

    @asynccontextmanager
    async def use(self, deadline: float) -> AsyncIterator[Agent]:
        """The agent, connected by ``deadline`` or else TunnelTimeoutError; or what it failed with."""
        self._users += 1
        if self._linger is not None:
            self._linger.cancel()
        try:
            yield await self._connected(deadline)
        finally:
            self._users -= 1
            if not self._users and self._agent.done():
                self._linger = asyncio.get_running_loop().call_later(LINGER, self._end)
            elif not self._users:
                self.usable = False
                self._task.cancel()

    async def _connected(self, deadline: float) -> Agent:
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(self._agent)
        except TimeoutError:
            raise TunnelTimeoutError(f"No connection to {self._relay} in time") from None

    async def lost(self, number: int) -> None:
        """Return when the agent has lost its tunnel ``number`` for good."""
        self._lost[number] = asyncio.get_running_loop().create_future()
        try:
            await self._lost[number]
        finally:
            del self._lost[number]

    async def _run(self) -> None:
        try:
            async with connected_agent(self._settings, on_event=self._heard) as connection:
                self._agent.set_result(connection.agent)
                await self._unused.wait()
        except Exception as error:
            if self._agent.done():
                raise
            self._agent.set_exception(error)
            self._agent.exception()  # whether or not anybody still waits for it
        finally:
            self.usable = False

    def _end(self) -> None:
        self.usable = False
        self._unused.set()

    def _heard(self, event: Event) -> None:
        if event.kind == "tunnel_lost" and (lost := self._lost.get(event.tunnel)) and not lost.done():
            lost.set_result(None)
        if event.kind == "service_error" and self._is_repeated(event.what):
            return
        what = f"{event.what} is up" if event.kind == "tunnel_up" else event.what
        log.log(_LEVELS[event.kind], "%s", what)

    def _is_repeated(self, what: str) -> bool:
        now = asyncio.get_running_loop().time()
        said, when = self._service_error
        if said == what and now - when < REPEAT:
            return True
        self._service_error = (what, now)
        return False


class EngineProcess:
    """Does what the program at the other end of ``reader`` and ``writer`` asks for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._agents: dict[AgentSettings, SharedAgent] = {}
        self._agent_tasks = Tasks("engine")
        self._tunnel_tasks = Tasks("engine")
        self._tunnels: dict[int, asyncio.Task[None]] = {}
        self._idle: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Return when the program has gone, and everything is closed as far as time allows."""
        parent = self._agent_tasks.spawn(self._watch_parent(), "watch parent")
        try:
            with suppress(OSError):
                while line := await self._reader.readline():
                    self._received(messages.decode_from_program(line))
        finally:
            parent.cancel()
            with suppress(TimeoutError):
                async with asyncio.timeout(END_TIME):
                    await self._tunnel_tasks.close()
                    await self._agent_tasks.close()

    async def _watch_parent(self) -> None:
        parent = os.getppid()
        while os.getppid() == parent:  # noqa: ASYNC110 - no system-wide event tells of it
            await asyncio.sleep(PARENT_PERIOD)
        self._reader.feed_eof()

    def _received(self, message: messages.FromProgram) -> None:
        match message:
            case Create(id=number):
                if self._idle is not None:
                    self._idle.cancel()
                task = self._tunnel_tasks.spawn(self._tunnel(message), f"tunnel {number}")
                task.add_done_callback(partial(self._over, number))
                self._tunnels[number] = task
            case Close(id=number):
                if (known := self._tunnels.get(number)) is not None:
                    known.cancel()
                else:
                    self._send(Closed(number))

    def _send(self, message: messages.FromEngine) -> None:
        if not self._writer.is_closing():
            self._writer.write(messages.encode(message))

    def tell(self, level: int, text: str) -> None:
        """Write ``text`` to the program's log."""
        if self._writer.transport.get_write_buffer_size() < MAX_UNSENT:
            self._send(Log(level, text))

    # --- a tunnel's life ------------------------------------------------------------------------

    async def _tunnel(self, request: Create) -> None:
        try:
            await self._open(request)
        except TunnelkitError as error:
            self._send(Failed(request.id, error.code, error.what, error.hint))
        except Exception:
            log.exception("tunnel to %s failed", request.target)
            self._send(Failed(request.id, "engine", f"The tunnel to {request.target} broke", ""))

    def _over(self, number: int, task: asyncio.Task[None]) -> None:
        # Not at the task's own end: one that is cancelled before its first step has none.
        del self._tunnels[number]
        self._send(Closed(number))
        if not self._tunnels:
            self._idle = task.get_loop().call_later(LINGER, self._send, Idle())

    async def _open(self, request: Create) -> None:
        """Open a tunnel, say so, and hold it until it is lost or this task is cancelled."""
        deadline = asyncio.get_running_loop().time() + request.timeout
        shared = self._agent_for(request)
        async with shared.use(deadline) as agent:
            tunnel = await agent.open(
                request.kind,
                request.target,
                name=request.name,
                remote_port=request.remote_port,
                host_header=request.host_header,
                timeout=max(0.0, deadline - asyncio.get_running_loop().time()),
            )
            try:
                where = tunnel.url, tunnel.host, tunnel.port
                self._send(Created(request.id, *where, tunnel.warnings, tunnel.plain_port))
                if tunnel.error is None:
                    await shared.lost(tunnel.number)
                if tunnel.error is not None:
                    error = tunnel.error
                    self._send(Lost(request.id, error.code, error.what, error.hint))
            finally:
                await tunnel.close()

    def _agent_for(self, request: Create) -> SharedAgent:
        settings = AgentSettings()
        if request.relay:
            settings = AgentSettings(
                relay=request.relay,
                token=Masked(request.token),
                ca=request.ca,
                fingerprint=request.fingerprint,
                identity_file=request.identity_file,
                known_hosts=request.known_hosts,
                host_key=request.host_key,
                ping_interval=request.ping_interval,
                ping_timeout=request.ping_timeout,
            )
        self._agents = {key: shared for key, shared in self._agents.items() if shared.usable}
        if settings not in self._agents:
            self._agents[settings] = SharedAgent(settings, self._agent_tasks)
        return self._agents[settings]


# --- the process --------------------------------------------------------------------------------


class _Forward(logging.Handler):
    """Sends records to the program's log."""

    def __init__(self, engine: EngineProcess) -> None:
        super().__init__(logging.INFO)
        self._engine = engine

    def emit(self, record: logging.LogRecord) -> None:
        self._engine.tell(record.levelno, self.format(record))


async def _serve(sock: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=sock, limit=MAX_LINE)
    engine = EngineProcess(reader, writer)
    _configure_log(engine)
    gc.freeze()  # what is loaded by now stays; the collector need not look at it again
    await engine.run()


def _configure_log(engine: EngineProcess) -> None:
    """All to the program's log, which knows what to leave out; with TUNNELKIT_LOG also to stderr."""
    logging.getLogger().addHandler(_Forward(engine))
    level = logging.getLevelNamesMapping().get(os.environ.get("TUNNELKIT_LOG", "").upper())
    if level is not None:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("engine: %(levelname)s %(message)s"))
        logging.getLogger().addHandler(handler)
    # Of tunnelkit alone: other packages show headers, tokens included, where they are told to debug.
    log.setLevel(min(level or logging.INFO, logging.INFO))


def main() -> None:
    """Serve the program that started this process, by the socket of the first argument."""
    if len(sys.argv) < 2 or not sys.argv[1].isdecimal():
        sys.exit("Tunnel.create and forward start this by themselves.")
    # The program decides what to do at these, and needs its tunnels until it has done it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    raise_descriptor_limit()
    _new_loop().run_until_complete(_serve(sock))
    os._exit(0)  # threads that look up names may take a minute more to end


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
