"""How an agent proves itself to an SSH server, and how it knows the server.

``~/.ssh/config`` is not read: a relay's address means the same to every program and service of a user,
and no host alias, proxy command or forwarded agent comes with it unseen.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import asyncssh

from tunnelkit.errors import HostKeyError, HostKeyUnknownError, IdentityFileError, InvalidError
from tunnelkit.transport.ssh_options import SshOptions

__all__ = ["HostKeys", "Identity"]

DEFAULT_PORT = 22

PLAIN_KEYS = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
]
"""Kinds of host keys, best first, without the certificates that only a known authority makes good."""

SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"


class HostKeys:
    """The host keys that ``host``:``port`` may have; a host key is never trusted because it is new."""

    def __init__(self, host: str, port: int, options: SshOptions) -> None:
        self.where = f"[{host}]:{port}" if port != DEFAULT_PORT else host
        """As known_hosts has it (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
        self._host = host
        self._port = port
        self._pinned = _fingerprint(options.host_key) if options.host_key else ""
        self._files = _files(options.known_hosts)
        self._seen: asyncssh.SSHKey | None = None
        self._lists: tuple[Any, ...] = ([],) * 7
        self._is_known = False
        if not self._pinned:
            self._look_up()

    def _look_up(self) -> None:
        known = _read(self._files)
        self._lists = known.match(self._host, "", None if self._port == DEFAULT_PORT else self._port)
        # A server at another port of a known host may have its key, and need not.
        is_exact = self._port == DEFAULT_PORT or self._lists != known.match(self._host, "", None)
        self._is_known = is_exact and any(self._lists[:2])

    @property
    def algorithms(self) -> list[str] | tuple[()]:
        """The kinds to ask the server for; none: asyncssh takes those that known_hosts has."""
        return () if any(self._lists[:2]) else PLAIN_KEYS

    def known_hosts(self, host: str, addr: str, port: int | None) -> tuple[Any, ...]:
        """asyncssh: the keys to trust. Those known for the address behind the name do not count."""
        return self._lists

    def is_trusted(self, key: asyncssh.SSHKey) -> bool:
        """Whether ``key``, which known_hosts does not have, is the one that was pinned."""
        self._seen = key
        return bool(self._pinned) and key.get_fingerprint() == self._pinned

    def error(self, reason: str) -> HostKeyError:
        """Why the server is not trusted."""
        if self._seen is None:
            return HostKeyError(f"The host key of {self.where} is not trusted: {reason}")
        shown = f"{self._seen.get_algorithm()} {self._seen.get_fingerprint()}"
        if self._pinned:
            return HostKeyError(f"The host key of {self.where} is {shown}, and not the pinned {self._pinned}")
        files = " and ".join(map(str, self._files)) or "known_hosts"
        if self._is_known:
            return HostKeyError(
                f"The host key of {self.where} is {shown}, and not the one in {files}",
                hint="Somebody may be in between. If the server was set up anew:"
                f" ssh-keygen -R '{self.where}', and make the new one known",
            )
        return HostKeyUnknownError(
            f"The host key of {self.where} is not known: {shown}",
            hint=f"If it is the server's own, give --host-key {self._seen.get_fingerprint()},"
            " or connect once with ssh, which adds it to known_hosts",
        )


def _fingerprint(text: str) -> str:
    digest = text.removeprefix("SHA256:").rstrip("=")
    if len(digest) != 43 or not all(c.isascii() and (c.isalnum() or c in "+/") for c in digest):
        raise InvalidError("The host key's fingerprint is malformed", hint="Give what ssh-keygen -l prints")
    return f"SHA256:{digest}"


def _files(given: str) -> list[Path]:
    if not given:
        candidates = [Path("~/.ssh/known_hosts").expanduser(), Path(SYSTEM_KNOWN_HOSTS)]
        return [path for path in candidates if os.access(path, os.R_OK)]
    path = Path(given).expanduser()
    try:
        path.read_bytes()
    except OSError as error:
        raise InvalidError(f"{path}, with known host keys, cannot be read: {error.strerror}") from None
    return [path]


def _read(files: list[Path]) -> asyncssh.SSHKnownHosts:
    text = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in files)
    try:
        return asyncssh.import_known_hosts(text)
    except ValueError:  # one line that cannot be read hides no other, as with ssh
        return asyncssh.import_known_hosts("\n".join(filter(_is_readable, text.splitlines())))


def _is_readable(line: str) -> bool:
    try:
        asyncssh.import_known_hosts(line)
    except ValueError:
        return False
    return True


class Identity:
    """What asyncssh needs to prove who this is: keys of files and of an SSH agent."""

    def __init__(self, identity_file: str) -> None:
        """Raises IdentityFileError where the file that is named cannot be used."""
        agent = os.environ.get("SSH_AUTH_SOCK", "")
        self.options: dict[str, Any] = {"agent_path": agent or None}
        if identity_file:
            self._use(Path(identity_file).expanduser(), agent)

    def _use(self, path: Path, agent: str) -> None:
        public = path.with_name(f"{path.name}.pub")
        try:
            asyncssh.read_private_key(path)
        except OSError as error:
            raise IdentityFileError(f"{path} cannot be read: {error.strerror}") from None
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            if "passphrase" not in str(error).lower():
                raise IdentityFileError(f"{path} is no private key: {error}") from None
            if not agent or not public.is_file():
                raise IdentityFileError(
                    f"{path} is protected by a passphrase",
                    hint=f"Load it into an SSH agent, which asks for it: ssh-add {path}",
                ) from None
            self.options |= {"client_keys": [], "agent_identities": [str(public)]}
        else:
            self.options = {"client_keys": [str(path)], "agent_path": None}
