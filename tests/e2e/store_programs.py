"""What tests of the store run in processes of their own: ``python -m tests.e2e.store_programs NAME …``.

One process imports what is needed and forks the others, which is what makes hundreds of them quick.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tunnelkit import Proxy, Secret
from tunnelkit.config import rotation
from tunnelkit.config.home import open_store, shared_store
from tunnelkit.config.names import check_values
from tunnelkit.config.store import Kind, Ref, Store, Write
from tunnelkit.errors import AlreadyExistsError, TunnelkitError

SHARED = Ref(Kind.SECRET, "shared", "main")


def own(name: str) -> Ref:
    return Ref(Kind.SECRET, name, "main")


def kills(directory: Path, rounds: int) -> None:
    """Kill ``rounds`` writers, each after some of its writes or in the middle of one."""
    choose = random.Random(5)
    acknowledged: set[str] = set()
    for number in range(rounds):
        said, say = os.pipe()
        if not (child := os.fork()):
            os.close(said)
            _write_until_killed(directory, number, say)
        os.close(say)
        with os.fdopen(said) as lines:
            for line in lines:
                acknowledged.add(line.strip())
                if not choose.randrange(4):
                    break
            time.sleep(choose.random() / 500)  # so that each moment of a write has its turn
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            acknowledged |= {line.strip() for line in lines if line.endswith("\n")}
        if not number % 20:
            _check_integrity(directory)
    _check_integrity(directory)
    with contextlib.closing(open_store(directory, environ={})) as store:
        there = {entry.ref.name for entry in store.entries(Kind.SECRET, "main")} - {SHARED.name}
        assert acknowledged <= there, acknowledged - there
        assert len(there) <= len(acknowledged) + rounds  # one of each may have been done and not said
        for name in there:
            _check_whole(store, own(name))
        for version in store.history(SHARED):
            _check_whole(store, SHARED, version.number)
    print(f"{len(acknowledged)} acknowledged")


def _write_until_killed(directory: Path, number: int, say: int) -> None:
    try:
        store = open_store(directory, environ={})
        for count in range(10_000):
            name = f"r{number}-{count}"
            store.write(own(name), check_values({"A": name * 50, "B": name * 50}))
            os.write(say, f"{name}\n".encode())
            store.write(SHARED, check_values({"A": name, "B": name}), mode=Write.REPLACE)
    except TunnelkitError:
        traceback.print_exc()
    finally:
        os._exit(1)


def _check_whole(store: Store, ref: Ref, version: int | None = None) -> None:
    variables = store.read(ref, version=version)
    assert variables["A"] == variables["B"]
    assert ref == SHARED or variables["A"].reveal() == ref.name * 50


def _check_integrity(directory: Path) -> None:
    connection = sqlite3.connect(directory / "store.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


def rotations(directory: Path, rounds: int) -> None:
    """Kill ``rounds`` rotations of the key at some moment."""
    choose = random.Random(6)
    rotation.BATCH = 5
    with contextlib.closing(open_store(directory, environ={})) as store:
        for number in range(50):
            name = f"s{number}"
            store.write(own(name), check_values({"A": name * 50, "B": name * 50}))
    for _ in range(rounds):
        if not (child := os.fork()):
            try:
                open_store(directory, environ={}).rotate_key()
            finally:
                os._exit(0)
        time.sleep(choose.random() / 50)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with contextlib.closing(open_store(directory, environ={})) as store:
            for number in range(50):
                _check_whole(store, own(f"s{number}"))
    _check_integrity(directory)
    with contextlib.closing(open_store(directory, environ={})) as store:
        store.rotate_key()
        for number in range(50):
            _check_whole(store, own(f"s{number}"))


def crowd(directory: Path, processes: int, writes: int) -> None:
    """Several processes that open a store which is not there yet, and write at once."""
    children = []
    for number in range(processes):
        if not (child := os.fork()):
            os._exit(_in_crowd(directory, number, writes))
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * processes
    _check_integrity(directory)
    with contextlib.closing(open_store(directory, environ={})) as store:
        assert store.entry(SHARED).version == processes * writes
        assert len(store.read(SHARED)) == processes * writes  # no update was lost
        for number in range(processes):
            assert store.entry(own(f"p{number}")).version == writes
    assert len(list((directory / "keys").iterdir())) == 1


def _in_crowd(directory: Path, number: int, writes: int) -> int:
    try:
        store = open_store(directory, environ={})
        for count in range(writes):
            mine = check_values({f"P{number}_{count}": str(count)})
            try:
                store.write(SHARED, mine)
            except AlreadyExistsError:
                store.write(SHARED, mine, mode=Write.UPDATE)
            store.write(own(f"p{number}"), mine, mode=Write.REPLACE)
            assert store.read(own(f"p{number}")).keys() == mine.keys()
        return 0
    except (TunnelkitError, AssertionError):
        traceback.print_exc()
        return 1


def everything(directory: Path) -> None:
    """Do all that can be done with a secret, and all that goes wrong; its value comes on standard input."""
    logging.basicConfig(level=logging.DEBUG)
    canary = sys.stdin.readline().strip()
    os.environ["TUNNELKIT_HOME"] = str(directory)
    values = {"CANARY": canary, "MORE": f"x\n{canary}\n"}
    Secret.objects.create("one", values)
    Proxy.objects.create("way", gateway=f"http://u:{canary}@gateway.example:1")
    one, held, way = Secret.from_name("one"), Secret.from_dict(values), Proxy.from_name("way")
    for _ in range(3):
        one.update({"CANARY": canary + canary})
    shared_store().rollback(own("one"), 1)
    shared_store().rotate_key()
    assert one.reveal() == values
    print(
        one, held, way, one.info(), held.info(), way.info(), way.route(), shared_store().audit(), flush=True
    )
    failing: list[Callable[[], object]] = [
        lambda: Secret.objects.create("one", values),
        lambda: Secret.objects.create("two", values, environment_name="nowhere"),
        lambda: Secret.objects.create(canary * 9, values),
        lambda: Secret.objects.create(f"A={canary}", values),
        lambda: Secret.from_dict({"A": canary + "\0"}),
        lambda: Secret.from_dict({"A": canary + "\ud800"}),
        lambda: Secret.from_dict({canary + "=": ""}),
        lambda: Proxy.objects.create("two", gateway=f"http://u:{canary}@h/path"),
        lambda: Proxy.objects.create("two", gateway=f"http://u:{canary}@[h"),
        lambda: held.update(values),
        lambda: __import__("pickle").dumps(held),
        lambda: one.update({"A" * 300: canary}),
    ]
    for call in failing:
        try:
            call()
        except TunnelkitError:
            traceback.print_exc()
        else:
            raise AssertionError("nothing failed")
    Secret.objects.create("gone", values)
    Secret.objects.delete("gone")
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    name, directory, *numbers = sys.argv[1:]
    globals()[name](Path(directory), *map(int, numbers))
