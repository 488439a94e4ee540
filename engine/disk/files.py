"""Files that are whole or not there: written aside, made durable, renamed; checked when they are read."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from engine.errors import StateError

MAGIC = b"engine state 1\n\0"
_DIGEST_BYTES = 16


def write_whole(path: Path, parts: Iterable[memoryview]) -> int:
    """Write a file so that after a crash at any moment it is as before or whole; its size in bytes.

    Raises
    ------
    OSError : it could not be written; what there was of it is gone.
    """
    aside = path.with_name(path.name + ".part")
    digest = hashlib.blake2b(MAGIC, digest_size=_DIGEST_BYTES)
    try:
        with open(aside, "wb", buffering=1 << 20) as file:
            file.write(MAGIC)
            for part in parts:
                digest.update(part)
                file.write(part)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    sync_folder(path.parent)
    return size


def read_whole(path: Path) -> memoryview:
    """What `write_whole` was given.

    Raises
    ------
    StateError : the file is not there, or not as it was written.
    """
    try:
        data = memoryview(path.read_bytes())
    except OSError as err:
        raise StateError(f"{path.name} cannot be read: {err.strerror}") from err
    if data[: len(MAGIC)] != MAGIC:
        raise StateError(f"{path.name} is no state of this release")
    body = data[len(MAGIC) : -_DIGEST_BYTES]
    digest = hashlib.blake2b(MAGIC, digest_size=_DIGEST_BYTES)
    digest.update(body)
    if digest.digest() != data[-_DIGEST_BYTES:]:
        raise StateError(f"{path.name} is damaged")
    return body


def sync_folder(folder: Path) -> None:
    """Make names that were added or removed durable."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def lock(folder: Path, wait_s: float) -> int:
    """Claim a folder for this process until the descriptor returned is closed.

    Parameters
    ----------
    wait_s : how long another process may still use it.

    Raises
    ------
    OSError : it is in use, or cannot be written to.
    """
    number = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number
        except OSError as err:
            if time.monotonic() >= deadline:
                os.close(number)
                raise OSError(err.errno, "in use by another process") from None
            time.sleep(0.1)
