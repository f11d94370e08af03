"""The store among processes that are killed, disks that are full, and people who look."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import program
from tunnelkit.config.home import open_store
from tunnelkit.config.names import check_values
from tunnelkit.config.store import Kind, Ref, Store
from tunnelkit.errors import NotFoundError, StoreError

ROOT = Path(__file__).parents[2]

A = Ref(Kind.SECRET, "a", "main")

mounts = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.e2e.store_programs", *map(str, arguments)]


def run(*arguments: object) -> str:
    done = subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_killed_while_writing(tmp_path: Path) -> None:
    """Each write that was acknowledged is there, none is half there, and the file is whole."""
    said = run("kills", tmp_path / "home", 200)
    assert int(said.split()[0]) > 100


def test_killed_while_changing_the_key(tmp_path: Path) -> None:
    run("rotations", tmp_path / "home", 40)


def test_eight_processes_at_once(tmp_path: Path) -> None:
    run("crowd", tmp_path / "home", 8, 25)


@contextlib.contextmanager
def mounted(path: Path, *arguments: str) -> Iterator[None]:
    path.mkdir(exist_ok=True)
    subprocess.run([program("mount"), *arguments, str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run([program("umount"), "--lazy", str(path)], check=True)


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[Store]:
    store = open_store(directory, environ={})
    try:
        yield store
    finally:
        store.close()


@mounts
@pytest.mark.needs("mount")
def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=1m,mode=700", "none"):
        written = []
        with opened(disk / "home") as store:

            def fill() -> None:
                for number in range(1000):
                    store.write(A._replace(name=f"s{number}"), check_values({"K": str(number) * 20_000}))
                    written.append(number)

            with pytest.raises(StoreError, match=r"full|disk") as raised:
                fill()
            assert raised.value.code == "store"
            assert len(written) > 5
            for number in written:
                ref = A._replace(name=f"s{number}")
                assert store.read(ref)["K"].reveal() == str(number) * 20_000
            with pytest.raises(NotFoundError):
                store.read(A._replace(name=f"s{len(written)}"))
        with opened(disk / "home") as store:  # as the next process finds it
            with contextlib.suppress(StoreError):  # which may not be able to open it, but says so
                assert len(store.entries(Kind.SECRET, "main")) == len(written)
            subprocess.run([program("mount"), "-o", "remount,size=8m", str(disk)], check=True)
            assert len(store.entries(Kind.SECRET, "main")) == len(written)
            store.write(A, check_values({"K": "room again"}))
            assert store.read(A)["K"].reveal() == "room again"


@mounts
@pytest.mark.needs("mount")
def test_a_disk_without_room_for_a_key(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=256k,mode=700", "none"):
        with opened(disk / "home") as store:
            assert store.entries(Kind.SECRET, "main") == []
            filler = disk / "filler"
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            with pytest.raises(StoreError):
                store.write(A, check_values({"K": "v"}))
            keys = disk / "home" / "keys"
            assert not keys.exists() or [path for path in keys.iterdir() if path.stat().st_size] == []
            filler.unlink()
            store.write(A, check_values({"K": "v"}))
            assert store.read(A)["K"].reveal() == "v"


@mounts
@pytest.mark.needs("mount")
def test_a_read_only_directory(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with opened(home) as store:
        store.write(A, check_values({"K": "v"}))
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    bound = tmp_path / "bound"
    with mounted(bound, "--bind", str(home)):
        subprocess.run([program("mount"), "-o", "remount,bind,ro", str(bound)], check=True)
        with opened(bound) as store:
            for use in (lambda: store.write(A, {}), lambda: store.read(A), lambda: store.delete(A)):
                with pytest.raises(StoreError, match="read-only"):
                    use()
        with opened(bound / "below") as store, pytest.raises(StoreError, match=r"Read-only.*TUNNELKIT_HOME"):
            store.read(A)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_a_value_is_found_nowhere(tmp_path: Path) -> None:
    """Not in a file, a log, a traceback, a list of processes or a temporary directory."""
    canary = "canary" + os.urandom(8).hex()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TUNNELKIT_")}
    environ |= {"TMPDIR": str(temporary), "HOME": str(tmp_path), "TUNNELKIT_LOG": "debug"}
    with (
        (tmp_path / "stderr").open("wb") as stderr,
        subprocess.Popen(
            command("everything", tmp_path / "home"),
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{canary}\n".encode())
        child.stdin.flush()
        output = b""
        while line := child.stdout.readline():
            output += line
            if line == b"ready\n":
                break
        shown = b"".join(_read(path) for path in Path("/proc").glob("[0-9]*/cmdline"))
        shown += _read(Path(f"/proc/{child.pid}/environ"))
        while_running = _found(canary, tmp_path)
        child.stdin.write(b"go\n")
        child.stdin.close()
        output += child.stdout.read()
    errors = (tmp_path / "stderr").read_text()
    assert child.returncode == 0, errors
    assert b"ready" in output
    assert errors.count("Traceback") >= 12
    for text in (output, errors.encode(), shown):
        assert not _forms(canary) & _which(canary, text)
    assert while_running == _found(canary, tmp_path) == []
    assert list(temporary.iterdir()) == []


def _forms(canary: str) -> set[bytes]:
    """How a value might be written: as it is, in base64 at each offset, in hexadecimal, backwards."""
    text = canary.encode()
    return {
        text,
        text.hex().encode(),
        text[::-1],
        *(base64.b64encode(bytes(offset) + text)[4:-4] for offset in range(3)),
        canary.encode("utf-16-le"),
    }


def _which(canary: str, text: bytes) -> set[bytes]:
    return {form for form in _forms(canary) if form in text}


def _found(canary: str, directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and _which(canary, path.read_bytes())]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # a process that has ended
        return b""
