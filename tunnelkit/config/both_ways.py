"""Methods that block, with a coroutine of the same arguments beside them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, Generic, ParamSpec, Self, TypeVar, overload

__all__ = ["Call", "both_ways"]

Owner = TypeVar("Owner")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Call(Generic[Parameters, Result]):
    """A bound method: call it, or await :meth:`aio`."""

    def __init__(self, call: Callable[Parameters, Result]) -> None:
        self._call = call

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return self._call(*args, **kwargs)

    async def aio(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        """The same in a thread; what was begun is done, even if the one who waits is cancelled."""
        import asyncio  # a good part of the start of a program that never awaits

        return await asyncio.to_thread(self._call, *args, **kwargs)


class both_ways(Generic[Owner, Parameters, Result]):  # noqa: N801 - a decorator
    """Makes ``method.aio(...)`` out of a method that blocks."""

    def __init__(self, method: Callable[Concatenate[Owner, Parameters], Result]) -> None:
        self.__doc__ = method.__doc__
        self._method = method

    @overload
    def __get__(self, owner: None, kind: type[Owner]) -> Self: ...
    @overload
    def __get__(self, owner: Owner, kind: type[Owner]) -> Call[Parameters, Result]: ...
    def __get__(self, owner: Owner | None, kind: type[Owner]) -> Self | Call[Parameters, Result]:
        if owner is None:
            return self
        return Call(functools.partial(self._method, owner))
