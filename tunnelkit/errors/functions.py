"""Errors of calls of functions."""

from __future__ import annotations

from tunnelkit.errors.base import TunnelkitError

__all__ = [
    "CallCancelledError",
    "CallTimeoutError",
    "ClusterError",
    "FunctionError",
    "FunctionTimeoutError",
    "RemoteError",
    "ScriptError",
    "SerializationError",
]


class FunctionError(TunnelkitError):
    """A call of a function did not come to its end."""

    code = "function"
    exit_status = 40


class RemoteError(FunctionError):
    """The process of a function died, or raised what cannot be brought here."""

    code = "remote"
    exit_status = 40


class FunctionTimeoutError(FunctionError, TimeoutError):
    """A call took longer than its function may, and was ended."""

    code = "function_timeout"
    exit_status = 41
    default_hint = "Give the function more with timeout=, or less to do"


class CallTimeoutError(FunctionError, TimeoutError):
    """The result of a call was not there in time. The call goes on."""

    code = "call_timeout"
    exit_status = 41


class CallCancelledError(FunctionError):
    """The call was cancelled."""

    code = "call_cancelled"
    exit_status = 42


class ClusterError(FunctionError):
    """The Ray cluster that calls are to run on cannot be reached, has gone, or does not fit."""

    code = "cluster"
    exit_status = 45
    default_hint = "Start one with `ray start --head`, or name it with RAY_ADDRESS=HOST:PORT"


class ScriptError(FunctionError):
    """A script cannot be loaded, or its entry point cannot be called from a command line."""

    code = "script"
    exit_status = 44


class SerializationError(FunctionError):
    """A function, an argument or a result cannot be sent to another process."""

    code = "serialization"
    exit_status = 43
    default_hint = "Files, sockets, locks and connections stay in their process: make them in the function"
