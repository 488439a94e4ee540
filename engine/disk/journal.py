"""Records in a file, each appended and made durable by itself; a torn end is cut off."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from engine.disk.codec import Record, decode, encode
from engine.disk.files import sync_folder
from engine.errors import StateError

_HEAD = struct.Struct("<QII")  # length of the record, CRC-32 of it, CRC-32 of the two before


class Journal:
    """Records in the order they were appended.

    A file that could not be written to is not written to again: a record must never follow one that is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_records = 0
        self.size_bytes = 0
        self.is_broken = False

    def append(self, record: Record) -> None:
        """Add a record; it is on disk on return.

        Raises
        ------
        OSError : it could not be written, now or before.
        """
        if self.is_broken:
            raise OSError("an earlier record could not be written")
        parts = list(encode(record))
        size, check = sum(part.nbytes for part in parts), 0
        for part in parts:
            check = zlib.crc32(part, check)
        head = _HEAD.pack(size, check, zlib.crc32(struct.pack("<QI", size, check)))
        self.is_broken = True
        with open(self.path, "ab", buffering=1 << 20) as file:
            if file.tell() != self.size_bytes:
                raise OSError(f"{self.path.name} has {file.tell()} bytes, {self.size_bytes} were written")
            file.write(head)
            for part in parts:
                file.write(part)
            file.flush()
            os.fdatasync(file.fileno())
        if self.size_bytes == 0:
            sync_folder(self.path.parent)
        self.is_broken = False
        self.n_records += 1
        self.size_bytes += _HEAD.size + size

    def read(self) -> Iterator[Record]:
        """The records of the file, up to the first one that is torn or damaged; the file is cut there."""
        self.n_records = self.size_bytes = 0
        data = self._data()
        for end, record in _records(data):
            self.n_records += 1
            self.size_bytes = end
            yield record
        if self.size_bytes < len(data):
            with contextlib.suppress(OSError), open(self.path, "r+b") as file:
                file.truncate(self.size_bytes)
                os.fsync(file.fileno())

    def look(self) -> Iterator[Record]:
        """The records as `read` gives them; nothing is cut, and more may be appended meanwhile."""
        return (record for _, record in _records(self._data()[: self.size_bytes]))

    def _data(self) -> memoryview:
        try:
            return memoryview(self.path.read_bytes())
        except FileNotFoundError:
            return memoryview(b"")


def _records(data: memoryview) -> Iterator[tuple[int, Record]]:
    """Whole records from the start on, each with the place where it ends."""
    end = 0
    while (found := _next(data[end:])) is not None:
        end += found[0]
        yield end, found[1]


def _next(data: memoryview) -> tuple[int, Record] | None:
    """The first record and its size with its head; None where there is no whole one."""
    if len(data) < _HEAD.size:
        return None
    size, check, head_check = _HEAD.unpack(data[: _HEAD.size])
    body = data[_HEAD.size : _HEAD.size + size]
    if zlib.crc32(struct.pack("<QI", size, check)) != head_check or len(body) != size or zlib.crc32(body) != check:
        return None
    try:
        return _HEAD.size + size, decode(body)
    except StateError:
        return None
