"""Directories and files that nobody else may read."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from tunnelkit.errors import MasterKeyError, StoreError, TunnelkitError

__all__ = ["MAX_KEY_FILE", "expanded", "private_directory", "private_file", "read_private", "write_private"]

MAX_KEY_FILE = 4096
"""Bytes read of a file with a key or a passphrase: no more than a long one needs."""

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def private_directory(path: Path) -> None:
    """Make ``path`` with mode 0700, or check that it is one of ours with that mode. Raises StoreError.

    One that exists is never changed: who says ``TUNNELKIT_HOME=/srv`` does not want others locked out of it.
    """
    try:
        if _make(path):
            return
        status = path.stat()
    except OSError as error:
        raise StoreError(f"{path} cannot be made or read: {error.strerror}", hint=_ELSEWHERE) from None
    if not stat.S_ISDIR(status.st_mode):
        raise StoreError(f"{path} is not a directory", hint=_ELSEWHERE)
    _check(path, status, StoreError, fix=f"chmod 700 {path}")


_ELSEWHERE = "Name another directory with TUNNELKIT_HOME"


def _make(path: Path) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(0o700)
    except FileExistsError:
        return False
    path.chmod(0o700)  # the umask may have taken bits of it
    return True


def private_file(path: Path) -> None:
    """Make an empty ``path`` with mode 0600, or check that it is a file of ours with that mode.

    A file that exists is not opened here: closing it would release the locks that SQLite has on it in this
    process (POSIX, fcntl: any descriptor's close ends them all). Raises StoreError.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):  # another process was faster
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            os.fchmod(descriptor, 0o600)
            os.close(descriptor)
        return
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{path} is not a regular file", hint="Move away what is there")
    _check(path, status, StoreError, fix=f"chmod 600 {path}")


def expanded(path: str | os.PathLike[str]) -> Path:
    """``path`` with its ``~``, which stays where this user has no home: then no such file is found."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises RuntimeError


def read_private(path: Path) -> str:
    """The text of a file that only its owner may read. Raises MasterKeyError, which never shows it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise MasterKeyError(f"{path} is not a regular file", hint="Give the file with the key")
            _check(path, status, MasterKeyError, fix=f"chmod 600 {path}")
            data = file.read(MAX_KEY_FILE)
    except OSError as error:
        raise MasterKeyError(f"{path} cannot be read: {error.strerror}", hint=_RESTORE) from None
    return data.decode("utf-8", errors="replace").strip()


_RESTORE = "Without the key that a store was written with, its values cannot be read"


def write_private(path: Path, text: str) -> None:
    """Write ``path`` with mode 0600: whole, on the disk, or not at all. Raises OSError."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        try:
            os.fchmod(file.fileno(), 0o600)
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(file.name).unlink()
            raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _check(path: Path, status: os.stat_result, kind: type[TunnelkitError], *, fix: str) -> None:
    # A file of root's may be a mounted key; a directory of root's would be nothing we can write to.
    if status.st_uid not in (os.geteuid(), 0):
        raise kind(f"{path} belongs to another user", hint="Use files of your own")
    if status.st_mode & OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        raise kind(f"Others can use {path} (its mode is {mode:04o})", hint=f"Run: {fix}")
