"""What an agent brings to an SSH connection. Importing this does not import asyncssh."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SshOptions"]


@dataclass(frozen=True, slots=True)
class SshOptions:
    """Empty fields: what ``ssh`` itself would use, apart from ``~/.ssh/config``."""

    identity_file: str = ""
    """The private key to prove; empty: those of the SSH agent and of ``~/.ssh``."""

    known_hosts: str = ""
    """The file that says whose host keys are trusted; empty: ``~/.ssh/known_hosts`` and the system's."""

    host_key: str = ""
    """``SHA256:…``, the fingerprint that the host key has to have; known_hosts does not count then."""

    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    """Seconds of silence after which an SSH server is asked for a sign of life, and after which it is given
    up. A relay names its own."""
