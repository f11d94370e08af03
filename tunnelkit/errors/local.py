"""Errors of what is stored on this machine, and of commands that are started here."""

from __future__ import annotations

from tunnelkit.errors.base import TunnelkitError

__all__ = [
    "AlreadyExistsError",
    "CommandError",
    "CommandNotFoundError",
    "MasterKeyError",
    "NotFoundError",
    "StoreBusyError",
    "StoreDamagedError",
    "StoreError",
]


class CommandError(TunnelkitError):
    """The command that ``tunnelkit secret run`` should become cannot be started. Statuses as of env(1)."""

    code = "command"
    exit_status = 126


class CommandNotFoundError(CommandError):
    """There is no such command."""

    code = "command_not_found"
    exit_status = 127
    default_hint = "Is it installed, and its directory in PATH?"


class NotFoundError(TunnelkitError, LookupError):
    """There is no secret, proxy, version, environment or file of that name."""

    code = "not_found"
    exit_status = 30


class AlreadyExistsError(TunnelkitError):
    """A secret, proxy or environment of that name is there already; nothing was changed."""

    code = "already_exists"
    exit_status = 31


class StoreError(TunnelkitError):
    """The store of secrets and proxies cannot be read or written; nothing was changed."""

    code = "store"
    exit_status = 32


class StoreBusyError(StoreError):
    """Another process kept the store locked for too long."""

    code = "store_busy"
    exit_status = 32
    default_hint = "Try again; does another process hold the store open in a debugger or a backup?"


class StoreDamagedError(StoreError):
    """What the store holds is not what was written there: damaged, or tampered with."""

    code = "store_damaged"
    exit_status = 33
    default_hint = "Restore the store from a backup, or write the value again"


class MasterKeyError(StoreError):
    """The key-encryption key is missing, is not the one the store was written with, or is badly kept."""

    code = "master_key"
    exit_status = 34
