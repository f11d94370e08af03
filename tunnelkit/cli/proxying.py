"""Runs an egress proxy until it is told to stop, and keeps its log and its users."""

from __future__ import annotations

import getpass
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from logging.handlers import WatchedFileHandler
from pathlib import Path

from tunnelkit.cli.display import Lines
from tunnelkit.cli.output import is_terminal, stderr, stdout
from tunnelkit.cli.running import Stop, drain, run
from tunnelkit.cli.tunnels import tick
from tunnelkit.compose import make_egress
from tunnelkit.config import AgentSettings, EgressSettings, load_agent, load_egress
from tunnelkit.egress import Access, EgressProxy, hash_password, parse_users
from tunnelkit.egress.access import OnAccess
from tunnelkit.errors import AuthMissingError, InvalidError, TunnelkitError
from tunnelkit.net.tasks import Tasks
from tunnelkit.wire.address import Endpoint, is_loopback

__all__ = ["serve_clients", "write_user"]

MAX_PASSWORD = 255
"""Bytes of a password that SOCKS5 can carry (RFC 1929 §2)."""


def serve_clients(overrides: Mapping[str, object], relay: Mapping[str, object]) -> None:
    """Run ``tunnelkit egress``: settings of the command line, and those of them about ``--via``."""
    settings = load_egress(overrides)
    agent = None
    if settings.via:
        agent = load_agent({**relay, "relay": settings.via})
    elif given := [name for name, value in relay.items() if value is not None]:
        raise InvalidError(f"--{given[0].replace('_', '-')} is for a relay", hint="Give --via, too")
    elif settings.exit:
        raise InvalidError("--exit is for a relay", hint="Give --via, too")
    with _access_log(settings.access_log) as on_access:
        run(partial(_serve, settings, agent, on_access), log=stderr().line)


async def _serve(
    settings: EgressSettings, agent: AgentSettings | None, on_access: OnAccess | None, stop: Stop
) -> None:
    reporter = Lines()
    async with make_egress(settings, agent, on_access=on_access, on_event=reporter.event) as proxy:
        stop.up()
        err = stderr()
        addresses = [Endpoint(host, port) for host, port in proxy.addresses]
        for warning in _warnings(settings, addresses):
            err.line(f"warning: {warning}")
        err.line(_way_out(settings))
        for address in addresses:
            err.line(f"listening for SOCKS and HTTP on {address}")
        tasks = Tasks("command")
        tasks.spawn(_warn_of_no_way(proxy), "look for the way out")
        tasks.spawn(tick(reporter), "display")
        await stop.asked.wait()
        await tasks.close()
        await drain(proxy.close, settings.grace, stop)


async def _warn_of_no_way(proxy: EgressProxy) -> None:
    try:
        await proxy.check()
    except TunnelkitError as error:
        stderr().line(f"warning: {error}")


def _warnings(settings: EgressSettings, addresses: list[Endpoint]) -> list[str]:
    """What is open to whom, in one line each."""
    public = [str(address) for address in addresses if not is_loopback(address.host)]
    warnings = []
    if public and settings.open:
        warnings.append(f"everybody who reaches {public[0]} may use this proxy")
    if public and settings.users:
        warnings.append(f"passwords are not encrypted on the way to {public[0]}")
    return warnings


def _way_out(settings: EgressSettings) -> str:
    if settings.via:
        return f"connections leave from {settings.exit or 'the relay'} at {settings.via}"
    if settings.source_ip:
        return f"connections leave from {', '.join(settings.source_ip)}"
    return "connections leave from what address the system chooses (give --source-ip)"


# --- the access log -----------------------------------------------------------------------------


@contextmanager
def _access_log(where: str) -> Iterator[OnAccess | None]:
    """What writes a line for each connection; None for no log."""
    if where == "off":
        yield None
    elif where == "-":
        err = stderr()
        yield lambda access: err.line(f"access {access}")
    else:
        try:
            # Reopens the file when somebody has moved it away, so that logs can be rotated.
            handler = WatchedFileHandler(where, encoding="utf-8")
        except OSError as error:
            raise InvalidError(f"{where} cannot be written: {error.strerror}") from None
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
        try:
            yield partial(_write, handler)
        finally:
            handler.close()


def _write(handler: logging.Handler, access: Access) -> None:
    handler.emit(logging.makeLogRecord({"msg": str(access), "levelno": logging.INFO}))


# --- users --------------------------------------------------------------------------------------


def write_user(name: str, users: str | None) -> None:
    """Run ``tunnelkit egress user``."""
    line = f"{name}:{hash_password(_password(name))}"
    parse_users(line)  # raises where the name is none
    if users is None:
        stdout().line(line)
        return
    path = Path(users)
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [old for old in lines if old.partition(":")[0].strip() != name]
        _replace(path, "".join(f"{each}\n" for each in (*kept, line)))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"{path} cannot be written: {error}") from None
    stderr().line(f"{'changed' if len(kept) < len(lines) else 'added'} {name} in {path}")


def _password(name: str) -> str:
    if is_terminal(sys.stdin):
        password = getpass.getpass(f"Password for {name}: ")
        if getpass.getpass("Again: ") != password:
            raise InvalidError("The two passwords differ")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise AuthMissingError("The password is empty", hint="Type one, or write it to standard input")
    if len(password.encode()) > MAX_PASSWORD:
        raise InvalidError(f"The password is longer than {MAX_PASSWORD} bytes")
    return password


def _replace(path: Path, text: str) -> None:
    """Write the file whole or not at all, for its owner alone to read."""
    descriptor, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
