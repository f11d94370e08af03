"""A call of a function, from anywhere: in the program, or inside another function."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar

from tunnelkit.errors import InvalidError
from tunnelkit.functions.engine import Pending, engine
from tunnelkit.functions.failure import load

__all__ = ["FunctionCall", "blocking", "gather"]

Returned = TypeVar("Returned")


def blocking(name: str) -> None:
    """Raise InvalidError in a running event loop, which ``name`` would stop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise InvalidError(
        f"{name}() would stop the event loop that is running here", hint=f"Use: await {name}.aio(…)"
    )


class _Get(Generic[Returned]):
    """:attr:`FunctionCall.get`, which is called, or awaited by ``aio``."""

    def __init__(self, call: FunctionCall[Returned]) -> None:
        self._call = call

    def __call__(self, timeout: float | None = None) -> Returned:
        """The result, waited for at most ``timeout`` seconds; 0 asks without waiting.

        Raises what the function raised; CallTimeoutError; RemoteError.
        """
        if timeout is None or timeout > 0:
            blocking("FunctionCall.get")
        return self._call._result(timeout)

    async def aio(self, timeout: float | None = None) -> Returned:
        """The coroutine; being cancelled leaves the call as it is."""
        result: Returned = load(await self._call._pending.wait_async(timeout))
        return result


class FunctionCall(Generic[Returned]):
    """A call that was made by ``spawn``. It can be handed to other functions, and be returned by them."""

    def __init__(self, pending: Pending) -> None:
        self._pending = pending

    def __repr__(self) -> str:
        return f"<FunctionCall {self.object_id}>"

    @property
    def object_id(self) -> str:
        """What identifies the call in this program."""
        return f"fc-{self._pending.number:016x}"

    @property
    def get(self) -> _Get[Returned]:
        """The result: ``call.get(timeout=None)``, or ``await call.get.aio()``."""
        return _Get(self)

    def _result(self, timeout: float | None) -> Returned:
        result: Returned = load(self._pending.wait(timeout))
        return result

    def cancel(self) -> None:
        """End the call, with its process and the calls that it has made and waits for.

        :attr:`get` raises CallCancelledError then. A call that has ended stays as it is.
        """
        self._pending.cancel()

    def __reduce__(self) -> tuple[object, ...]:
        return _found, (self._pending.number,)

    @staticmethod
    def gather(*calls: FunctionCall[Any]) -> list[Any]:
        """See :func:`gather`."""
        return gather(*calls)


def _found(number: int) -> FunctionCall[Any]:
    return FunctionCall(engine().find(number))


def gather(*calls: FunctionCall[Any]) -> list[Any]:
    """The results of ``calls``, in their order, waited for. Raises what the first that failed raised."""
    return [call.get() for call in calls]


def items(pending: Pending) -> Iterator[Any]:
    """What a generator yields, as it does. Leaving early ends it."""
    ended = False
    try:
        while (item := pending.next_item()) is not None:
            yield pickle.loads(item)
        ended = True
        load(pending.wait(None))
    finally:
        if not ended:
            pending.close()


async def items_async(pending: Pending) -> AsyncIterator[Any]:
    """The same for coroutines."""
    ended = False
    try:
        while (item := await asyncio.to_thread(pending.next_item)) is not None:
            yield pickle.loads(item)
        ended = True
        load(pending.wait(None))
    finally:
        if not ended:
            pending.close()
