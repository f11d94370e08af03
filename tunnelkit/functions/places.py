"""Places in which calls run: so many in all, and so many of each function."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque

from tunnelkit.functions.spec import Spec

__all__ = ["Places"]


class Places:
    """Handed out in the order in which they were asked for; between functions, in turn."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[tuple[Spec, asyncio.Future[None]]]] = OrderedDict()

    async def take(self, spec: Spec) -> None:
        """A place for a call of ``spec``, waited for."""
        if self._is_free(spec) and spec.key not in self._waiting:
            self._taken[spec.key] += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(spec.key, deque()).append((spec, place))
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                self.give(spec)  # it came in the same moment
            raise

    def retake(self, spec: Spec) -> None:
        """A call that had lent its place goes on at once, for it holds a process already."""
        self._taken[spec.key] += 1

    def give(self, spec: Spec) -> None:
        """A place is free: its call has ended, or waits for another."""
        self._taken[spec.key] -= 1
        while self._hand_one_out():
            pass

    def _is_free(self, spec: Spec) -> bool:
        mine = self._taken[spec.key]
        return self._taken.total() < self._most and (spec.concurrency is None or mine < spec.concurrency)

    def _hand_one_out(self) -> bool:
        for key, waiting in list(self._waiting.items()):
            while waiting and waiting[0][1].done():
                waiting.popleft()  # cancelled
            if not waiting:
                del self._waiting[key]
            elif self._is_free(waiting[0][0]):
                _, place = waiting.popleft()
                self._taken[key] += 1
                place.set_result(None)
                if waiting:
                    self._waiting.move_to_end(key)
                else:
                    del self._waiting[key]
                return True
        return False
