"""Exceptions on their way between processes: the same type arrives, with the traceback it had there."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from pathlib import Path
from typing import Any

from tunnelkit.errors import RemoteError, SerializationError
from tunnelkit.functions.messages import MAX_PAYLOAD, Kind, Outcome, dump

__all__ = ["RemoteTraceback", "load", "outcome_of_error", "outcome_of_value", "serialize"]

_HERE = str(Path(__file__).parent)


class RemoteTraceback(Exception):  # noqa: N818 - it is never raised, and says where another was
    """Where an exception was raised, in the process that raised it: the ``__cause__`` of the exception."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def serialize(value: Any, what: str) -> bytes:
    """A pickle of ``value``. Raises SerializationError, which calls it ``what``."""
    import cloudpickle  # imported where it is needed: `import tunnelkit` stays at a millisecond

    try:
        data: bytes = cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except RecursionError:
        raise SerializationError(
            f"{what} cannot be sent to another process: it is nested too deeply"
        ) from None
    except SerializationError:
        raise
    except Exception as error:  # whatever a __reduce__ of the program raises
        raise SerializationError(f"{what} cannot be sent to another process: {error}") from error
    if len(data) > MAX_PAYLOAD:
        raise SerializationError(
            f"{what} has {len(data):,} bytes as a pickle; {MAX_PAYLOAD:,} is the most",
            hint="Write it to a file or a store, and pass its name",
        )
    return data


def outcome_of_value(value: Any, name: str) -> Outcome:
    """The outcome of a call that returned ``value``."""
    return Outcome(Kind.VALUE, serialize(value, f"What {name} returned"))


def outcome_of_error(error: BaseException, *, text: str | None = None) -> Outcome:
    """The outcome of a call that raised ``error``; ``text`` is its traceback, taken from it if None."""
    if text is None:
        text = _traceback(error)
    summary = traceback.format_exception_only(type(error), error)[-1].strip()
    pickled = b""
    try:
        if isinstance(error, Exception):  # SystemExit and its like are for that process alone
            pickled = serialize(error, "An exception")
            pickle.loads(pickled)  # an exception whose __init__ takes more than its message fails here
    except Exception:  # noqa: BLE001 - any failure of the program's own class: its text still arrives
        pickled = b""
    return Outcome(Kind.ERROR, dump((pickled, summary, text)))


def _traceback(error: BaseException) -> str:
    if error.__traceback__ is None:
        return ""
    chain = traceback.TracebackException.from_exception(error)
    frames = [frame for frame in chain.stack if not frame.filename.startswith(_HERE)]
    chain.stack = traceback.StackSummary.from_list(frames)
    return "".join(chain.format())


def load(outcome: Outcome) -> Any:
    """What the call returned; or raises what it raised."""
    if outcome.kind is Kind.VALUE:
        try:
            return pickle.loads(outcome.payload)
        except Exception as error:
            raise SerializationError(f"What the call returned cannot be read here: {error}") from error
    pickled, summary, text = pickle.loads(outcome.payload)
    raised: Exception = RemoteError(f"The call raised {summary}")
    with contextlib.suppress(Exception):  # as above, a class that exists there and not here
        raised = pickle.loads(pickled) if pickled else raised
    if text:
        raised.__cause__ = RemoteTraceback(text)
    raise raised
