"""A function of an app, and the ways to call it."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar

from tunnelkit.errors import InvalidError
from tunnelkit.functions.call import FunctionCall, blocking, items, items_async
from tunnelkit.functions.engine import Pending, engine
from tunnelkit.functions.failure import load, serialize
from tunnelkit.functions.spec import Spec

__all__ = ["Function"]

AHEAD = 64
"""Calls of one ``map`` that are made before the first result is taken."""

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


class Function(Generic[Parameters, Returned]):
    """What ``@app.function()`` makes of a function.

    ``f.local(…)`` calls it right here; ``f.remote(…)`` in a process of its own, and waits;
    ``f.spawn(…)`` does not wait; ``f.map(inputs)`` calls it for each input. The blocking forms have
    an ``aio`` each for coroutines.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        functools.update_wrapper(self, spec.call)
        self.remote = _Remote[Parameters, Returned](self)
        self.spawn = _Spawn[Parameters, Returned](self)
        self.map = _Map[Returned](self, star=False)
        self.starmap = _Map[Returned](self, star=True)

    def __repr__(self) -> str:
        return f"<Function {self.spec.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise InvalidError(
            f"{self.spec.name} was called directly",
            hint=f"{self.spec.name}.local(…) runs here, {self.spec.name}.remote(…) in a process of its own",
        )

    @property
    def local(self) -> Callable[Parameters, Returned]:
        """The function itself: no process, no secrets, no proxy."""
        return self.spec.call

    @property
    def remote_gen(self) -> _Remote[Parameters, Returned]:
        """The same as :attr:`remote`, by the name that generators have for it elsewhere."""
        return self.remote

    def submit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pending:
        """Have it called. Raises SerializationError."""
        arguments = serialize((args, kwargs), f"An argument of {self.spec.name}")
        return engine().submit(self.spec, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        # What a function knows is for its own process. Others get what they need to ask for a call.
        return _handle, (self.spec.key, self.spec.name, self.spec.is_generator)


def _handle(key: str, name: str, is_generator: bool) -> Function[Any, Any]:
    def elsewhere(*_: Any, **__: Any) -> NoReturn:
        raise InvalidError(
            f"{name} is another function, whose code and secrets are not here",
            hint=f"Call {name}.remote(…), or put what both need into a plain function",
        )

    def elsewhere_generator(*_: Any, **__: Any) -> Any:
        yield elsewhere()

    return Function(Spec(key, name, elsewhere_generator if is_generator else elsewhere))


class _Remote(Generic[Parameters, Returned]):
    """Calls a function and waits; of a generator, the items come as they are yielded."""

    def __init__(self, function: Function[Parameters, Returned]) -> None:
        self._function = function

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        """Raises what the function raises, with its traceback; RemoteError; FunctionTimeoutError."""
        blocking(f"{self._function.spec.name}.remote")
        pending = self._function.submit(args, kwargs)
        result: Any
        if self._function.spec.is_generator:
            result = items(pending)
        else:
            try:
                result = load(pending.wait(None))
            except KeyboardInterrupt:
                pending.cancel()
                raise
        return result  # type: ignore[no-any-return]

    def aio(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Any:
        """The coroutine, whose cancellation ends the call; of a generator, an asynchronous iterator."""
        pending = self._function.submit(args, kwargs)
        return items_async(pending) if self._function.spec.is_generator else _result(pending)


async def _result(pending: Pending) -> Any:
    try:
        return load(await pending.wait_async(None))
    except asyncio.CancelledError:
        pending.cancel()
        raise


class _Spawn(Generic[Parameters, Returned]):
    """Calls a function and does not wait."""

    def __init__(self, function: Function[Parameters, Returned]) -> None:
        self._function = function

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> FunctionCall[Returned]:
        """The call, which ends with the program if nobody waits for it."""
        return FunctionCall(self._function.submit(args, kwargs))

    async def aio(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> FunctionCall[Returned]:
        """The same: making a call stops no event loop."""
        return self(*args, **kwargs)


class _Map(Generic[Returned]):
    """Calls a function for each input; results come in the order of the inputs."""

    def __init__(self, function: Function[Any, Returned], *, star: bool) -> None:
        self._function = function
        self._star = star

    def _submit(self, inputs: tuple[Iterable[Any], ...], kwargs: dict[str, Any] | None) -> Iterator[Pending]:
        if self._function.spec.is_generator:
            raise InvalidError(f"{self._function.spec.name} is a generator, which map cannot call")
        for one in inputs[0] if self._star else zip(*inputs, strict=False):
            yield self._function.submit(tuple(one), kwargs or {})

    def __call__(
        self, *inputs: Iterable[Any], kwargs: dict[str, Any] | None = None, return_exceptions: bool = False
    ) -> Iterator[Any]:
        """As ``map``: with several ``inputs``, an argument from each. ``kwargs`` go to every call.

        With ``return_exceptions`` a failed call's exception stands in the place of its result;
        otherwise it is raised, and the calls behind it are cancelled. Inputs are read ahead of the
        results by a bounded number.
        """
        blocking(f"{self._function.spec.name}.map")
        waiting: deque[Pending] = deque()
        calls = self._submit(inputs, kwargs)
        try:
            while _fill(waiting, calls):
                yield _loaded(lambda: load(waiting[0].wait(None)), return_exceptions)
                waiting.popleft()
        finally:
            for call in waiting:
                call.cancel()

    async def aio(
        self, *inputs: Iterable[Any], kwargs: dict[str, Any] | None = None, return_exceptions: bool = False
    ) -> AsyncIterator[Any]:
        """The same for coroutines: ``async for result in f.map.aio(inputs)``."""
        waiting: deque[Pending] = deque()
        calls = self._submit(inputs, kwargs)
        try:
            while _fill(waiting, calls):
                outcome = await waiting[0].wait_async(None)
                yield _loaded(lambda outcome=outcome: load(outcome), return_exceptions)  # type: ignore[misc]
                waiting.popleft()
        finally:
            for call in waiting:
                call.cancel()


def _fill(waiting: deque[Pending], calls: Iterator[Pending]) -> bool:
    while len(waiting) < AHEAD:
        call = next(calls, None)
        if call is None:
            break
        waiting.append(call)
    return bool(waiting)


def _loaded(result: Callable[[], Any], return_exceptions: bool) -> Any:
    try:
        return result()
    except Exception as error:
        if return_exceptions:
            return error
        raise
