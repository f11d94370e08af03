"""Keys of the SSH side: who may log in (``authorized_keys``, sshd(8)), and the relay's host key."""

from __future__ import annotations

import calendar
import contextlib
import fnmatch
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
from asyncssh.misc import ip_address
from asyncssh.pattern import HostPatternList

from tunnelkit.errors import AuthMissingError, InvalidError

__all__ = ["AuthorizedKeys", "KeyRules", "host_key"]

MAX_FILE = 4 << 20
"""Bytes of an ``authorized_keys`` file: room for some ten thousand keys, and none for a wrong path."""

_PLAIN = frozenset(
    "restrict port-forwarding no-port-forwarding pty no-pty agent-forwarding no-agent-forwarding "
    "x11-forwarding no-x11-forwarding user-rc no-user-rc no-touch-required".split()
)
"""Options without a value. Those about agents, X11 and start-up files change nothing here: there are none."""

_VALUED = frozenset({"from", "permitlisten", "permitopen", "expiry-time"})
"""Options with one. Nothing is ever opened for a client, so ``permitopen`` changes nothing."""


@dataclass(frozen=True, slots=True)
class KeyRules:
    """What the owner of a key may do."""

    forwarding: bool = True
    pty: bool = True
    listen: tuple[tuple[str, str], ...] = ()
    """Host and port patterns of ``permitlisten``; the host is empty where none was given. Empty: anything."""

    def permits(self, host: str, port: int) -> bool:
        """Whether ``host`` (a tunnel's name, or empty) and ``port`` (0: chosen) may be listened at."""
        if not self.forwarding:
            return False
        return not self.listen or any(
            (not name or fnmatch.fnmatchcase(host or "localhost", name)) and number in ("*", str(port))
            for name, number in self.listen
        )


@dataclass(slots=True)
class _Entry:
    key: asyncssh.SSHKey
    rules: KeyRules
    sources: list[HostPatternList] = field(default_factory=list)
    expires: float | None = None

    def admits(self, address: str, now: float) -> bool:
        if self.expires is not None and now >= self.expires:
            return False
        ip = ip_address(address)
        return all(patterns.matches(address, address, ip) for patterns in self.sources)


class AuthorizedKeys:
    """The keys in the file at ``path``, read again when it changes.

    Raises AuthMissingError where it cannot be read or has no key, and InvalidError where a line is not
    understood: an option that restricts a key must not be passed over. A file that becomes so later
    lets nobody in until it is mended.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.time) -> None:
        self._path = Path(path)
        self._clock = clock
        self._stamp: object = None
        self._entries: list[_Entry] = []
        self.reload()

    def __repr__(self) -> str:
        return f"<AuthorizedKeys of {len(self._entries)}>"

    def reload(self) -> None:
        """Read the file if it has changed."""
        try:
            status = self._path.stat()
            stamp = status.st_mtime_ns, status.st_size, status.st_ino
            if stamp == self._stamp:
                return
            self._entries = []
            with self._path.open(encoding="utf-8") as file:
                self._entries = _parse(file.read(MAX_FILE), str(self._path))
        except OSError as error:
            self._entries, self._stamp = [], None
            raise AuthMissingError(
                f"{self._path} cannot be read: {error.strerror}", hint="Give a file of authorized keys"
            ) from None
        except UnicodeDecodeError:
            raise InvalidError(f"{self._path} is no text") from None
        self._stamp = stamp

    def find(self, key: asyncssh.SSHKey, address: str) -> KeyRules | None:
        """What ``key`` may do from ``address``; None where it may not log in. Raises as above."""
        self.reload()
        now = self._clock()
        for entry in self._entries:
            if entry.key == key and entry.admits(address, now):
                return entry.rules
        return None


def _parse(text: str, where: str) -> list[_Entry]:
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            entries.append(_entry(line))
        except (ValueError, asyncssh.KeyImportError) as error:
            raise InvalidError(
                f"{where}, line {number}: {error}", hint="The format is described in sshd(8), AUTHORIZED_KEYS"
            ) from None
    if not entries:
        raise AuthMissingError(f"{where} has no key", hint="Give a file with one public key a line")
    return entries


def _entry(line: str) -> _Entry:
    with contextlib.suppress(asyncssh.KeyImportError):
        return _Entry(asyncssh.import_public_key(line), KeyRules())
    options, rest = _options(line)
    key = asyncssh.import_public_key(rest)
    forwarding = pty = True
    listen: list[tuple[str, str]] = []
    entry = _Entry(key, KeyRules())
    for name, value in options:
        match name:
            case "restrict":
                forwarding = pty = False
            case "port-forwarding" | "no-port-forwarding":
                forwarding = not name.startswith("no-")
            case "pty" | "no-pty":
                pty = not name.startswith("no-")
            case "permitlisten":
                listen.append(_listen(value))
            case "from":
                entry.sources.append(HostPatternList(value))
            case "expiry-time":
                expires = _expiry(value)
                entry.expires = expires if entry.expires is None else min(entry.expires, expires)
            case _:
                pass  # about what there is not
    entry.rules = KeyRules(forwarding, pty, tuple(listen))
    return entry


def _options(line: str) -> tuple[list[tuple[str, str]], str]:
    """The options at the beginning of ``line``, and what follows them."""
    options: list[tuple[str, str]] = []
    position = 0
    option = re.compile(r'([A-Za-z0-9-]+)(?:="((?:[^"\\]|\\.)*)")?')
    while True:
        found = option.match(line, position)
        if found is None:
            raise ValueError("neither a key nor options")
        name, value = found[1].lower(), found[2]
        if name not in _PLAIN | _VALUED:
            raise ValueError(f"the option {name!r} is not supported")
        if (value is None) == (name in _VALUED):
            raise ValueError(f"the option {name!r} {'needs a' if value is None else 'has no'} value")
        options.append((name, (value or "").replace('\\"', '"')))
        position = found.end()
        if line[position : position + 1] != ",":
            break
        position += 1
    if line[position : position + 1] not in (" ", "\t"):
        raise ValueError("options that end in no space")
    return options, line[position:].strip()


def _listen(value: str) -> tuple[str, str]:
    host, _, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]").lower()
    if port != "*" and not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"permitlisten has no port: {value!r}")
    return host, port if port == "*" else str(int(port))


def _expiry(value: str) -> float:
    """Seconds since 1970 of ``YYYYMMDD[HHMM[SS]]``, local time or, with a Z behind it, UTC."""
    digits = value.removesuffix("Z")
    form = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.get(len(digits), "")
    if not form or not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"expiry-time is no time: {value!r}")
    parsed = time.strptime(digits, form)
    return float(calendar.timegm(parsed)) if value.endswith("Z") else time.mktime(parsed)


def host_key(path: str) -> asyncssh.SSHKey:
    """The host key in the file at ``path``; made there, for its owner alone, where there is none.

    Raises InvalidError where it cannot be read or written, or where others could read it.
    """
    file = Path(path)
    try:
        if not file.exists():
            _make_host_key(file)
        if file.stat().st_mode & 0o077:
            raise InvalidError(
                f"The host key {file} can be read by others", hint=f"Let only its owner: chmod 600 {file}"
            )
        return asyncssh.read_private_key(file)
    except OSError as error:
        raise InvalidError(f"The host key {file}: {error.strerror}") from None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise InvalidError(f"The host key {file} cannot be used: {error}") from None


def _make_host_key(file: Path) -> None:
    """Ed25519, in OpenSSH's format. Whoever comes first of two relays that start at once has made it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = asyncssh.generate_private_key("ssh-ed25519", comment="tunnelkit relay")
    made = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(key.export_private_key())
        out.flush()
        os.fsync(out.fileno())
    try:
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(made)
    finally:
        made.unlink()
