"""One call, from its submission to its outcome, as the engine has it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from enum import Enum

from tunnelkit.functions.messages import Kind, Outcome, new_call
from tunnelkit.functions.spec import Spec

__all__ = ["Follower", "Job", "State"]


class State(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


Follower = Callable[[Kind, bytes], None]
"""Gets each ITEM of a call, and then its VALUE or ERROR."""


class Job:
    """A call. Its state changes in the engine's loop; the rest is for all threads."""

    def __init__(self, spec: Spec, arguments: bytes, number: int | None = None) -> None:
        self.spec = spec
        self.arguments = arguments
        self.number = new_call() if number is None else number
        self.state = State.WAITING
        self.zone = spec.zone
        self.egress = ""
        """How the traffic of the call is pinned, where it is."""
        self.outcome: Future[Outcome] = Future()
        self.yielded = False
        """Whether a generator has given an item: it is not tried again then."""
        self.pid = 0
        self._followers: list[Follower] = []
        self._items: list[bytes] = []  # yielded before anybody followed; a window of them at most
        self.consumed: Callable[[], None] = lambda: None
        """Tells the function's process that an item has been consumed."""
        self.closed: Callable[[], None] = lambda: None
        """Tells it that nobody wants the rest."""

    def __repr__(self) -> str:
        return f"<Job {self.number:x} of {self.spec.name}, {self.state.value}>"

    @property
    def done(self) -> bool:
        return self.outcome.done()

    def follow(self, follower: Follower) -> None:
        """Have ``follower`` told what comes, and what nobody has been told yet."""
        for item in self._items:
            follower(Kind.ITEM, item)
        self._items.clear()
        if self.done:
            outcome = self.outcome.result()
            follower(outcome.kind, outcome.payload)
        else:
            self._followers.append(follower)

    @property
    def followed(self) -> bool:
        """Whether anybody waits for what comes."""
        return bool(self._followers)

    def unfollow(self, follower: Follower) -> None:
        if follower in self._followers:
            self._followers.remove(follower)

    def item(self, payload: bytes) -> None:
        """A generator has yielded."""
        self.yielded = True
        if not self._followers:
            self._items.append(payload)
        for follower in self._followers:
            follower(Kind.ITEM, payload)

    def settle(self, outcome: Outcome) -> None:
        """The call has ended."""
        self.state = State.DONE if outcome.kind is Kind.VALUE else State.FAILED
        self.outcome.set_result(outcome)
        self.arguments = b""
        self.consumed = self.closed = lambda: None
        followers, self._followers = self._followers, []
        for follower in followers:
            follower(outcome.kind, outcome.payload)
