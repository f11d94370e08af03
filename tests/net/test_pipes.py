"""The pool of pipes: bounded, never with somebody else's bytes, gone when it is closed."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from tests.support.chain import tcp_pair
from tunnelkit.net import pipes as module
from tunnelkit.net.pipes import PIPE_SIZE, Pipe, Pipes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="splice(2) is a system call of Linux")


@pytest.fixture
def pipes():
    pool = Pipes(2)
    yield pool
    pool.close()


@pytest.fixture
def ends():
    pair = tcp_pair()
    yield pair
    for sock in pair:
        sock.close()


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_a_pipe_moves_bytes_from_socket_to_socket(pipes: Pipes, ends) -> None:
    one, two = ends
    data = os.urandom(50_000)
    one.setblocking(True)
    two.setblocking(True)
    one.sendall(data)
    pipe = pipes.take()
    assert pipe is not None
    moved = b""
    while len(moved) < len(data):
        count = pipe.fill(two.fileno(), PIPE_SIZE)
        assert pipe.held == count > 0
        assert pipe.drain(two.fileno())  # back to where it came from
        assert not pipe.held
        moved += one.recv(count, socket.MSG_WAITALL)
    assert moved == data
    pipes.give(pipe)


def test_filling_tells_nothing_yet_from_the_end(pipes: Pipes, ends) -> None:
    one, two = ends
    pipe = pipes.take()
    assert pipe is not None
    with pytest.raises(BlockingIOError):
        pipe.fill(two.fileno(), PIPE_SIZE)
    one.close()
    assert pipe.fill(two.fileno(), PIPE_SIZE) == 0
    pipes.give(pipe)


def test_a_socket_that_takes_no_more_leaves_the_rest_inside(pipes: Pipes, ends) -> None:
    one, _ = ends
    try:
        while True:
            one.send(bytes(1 << 20))
    except BlockingIOError:
        pass
    pipe = pipes.take()
    assert pipe is not None
    os.write(pipe.writer, b"x" * 1000)
    pipe.held = 1000
    assert not pipe.drain(one.fileno())
    assert pipe.held == 1000
    pipes.give(pipe)


def test_the_pool_has_a_limit_and_lends_again_what_comes_back(pipes: Pipes) -> None:
    first, second = pipes.take(), pipes.take()
    assert first is not None
    assert second is not None
    assert pipes.take() is None
    pipes.give(first)
    assert pipes.take() is first
    pipes.give(first)
    pipes.give(second)


def test_a_pipe_with_bytes_inside_is_closed_and_its_place_is_free(pipes: Pipes) -> None:
    used, other = pipes.take(), pipes.take()
    assert used is not None
    assert other is not None
    os.write(used.writer, b"somebody's")
    used.held = 10
    pipes.give(used)
    assert not is_open(used.reader)
    assert not is_open(used.writer)
    fresh = pipes.take()
    assert fresh is not None
    assert fresh is not used
    pipes.give(fresh)
    pipes.give(other)


def test_a_pool_that_is_trimmed_closes_what_nobody_uses_and_lends_as_many_as_before(pipes: Pipes) -> None:
    free, lent = pipes.take(), pipes.take()
    assert free is not None
    assert lent is not None
    pipes.give(free)
    pipes.trim()
    assert not is_open(free.reader)
    assert is_open(lent.reader)
    fresh = pipes.take()
    assert fresh is not None
    assert pipes.take() is None
    pipes.give(fresh)
    pipes.give(lent)


def test_a_closed_pool_closes_what_comes_back_and_lends_nothing() -> None:
    pool = Pipes(2)
    free, lent = pool.take(), pool.take()
    assert free is not None
    assert lent is not None
    pool.give(free)
    pool.close()
    assert not is_open(free.reader)
    assert pool.take() is None
    pool.give(lent)
    assert not is_open(lent.reader)
    assert pool.take() is None


def test_without_descriptors_there_is_no_pipe_and_no_error() -> None:
    def none_left() -> Pipe:
        raise OSError(24, "Too many open files")

    assert Pipes(2, none_left).take() is None


def test_a_user_over_the_limit_gets_a_smaller_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(module, "fcntl", refuse)
    pool = Pipes(1)
    pipe = pool.take()
    assert pipe is not None
    pool.give(pipe)
    pool.close()
