"""Named arrays and a few facts as bytes: plain, versioned, without objects of any language."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import StateError

# Numbers and booleans of the machine's own width, little-endian, and text.
_DTYPE = re.compile(r"[<|][iufb][1248]|<U\d{1,5}")
_ALIGNMENT = 64
_LENGTH_BYTES = 4
_LONGEST_HEADER = 64 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Facts that JSON can say, and arrays by name."""

    facts: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class _Array(msgspec.Struct, array_like=True):
    name: str
    dtype: str
    shape: list[int]


class _Header(msgspec.Struct):
    facts: dict[str, Any]
    arrays: list[_Array]


_headers = msgspec.json.Decoder(_Header)


def is_plain(array: NDArray[Any]) -> bool:
    """Whether an array can be written."""
    return _DTYPE.fullmatch(array.dtype.newbyteorder("<").str) is not None


def encode(record: Record) -> Iterator[memoryview]:
    """A record as buffers, to be written one after the other; arrays are not copied unless they are strided.

    Raises
    ------
    StateError : an array holds objects.
    """
    arrays = {name: np.ascontiguousarray(a) if a.ndim else a.reshape(1) for name, a in record.arrays.items()}
    for name, array in arrays.items():
        if not is_plain(array):
            raise StateError(f"{name} holds {array.dtype}, which has no plain form")
    described = [_Array(name, a.dtype.str, list(a.shape)) for name, a in arrays.items()]
    header = msgspec.json.encode(_Header(dict(record.facts), described))
    header += b" " * (-(_LENGTH_BYTES + len(header)) % _ALIGNMENT)
    yield memoryview(len(header).to_bytes(_LENGTH_BYTES, "little") + header)
    for array in arrays.values():
        if array.size:
            yield array.data.cast("B") if array.dtype.kind != "U" else memoryview(array.tobytes())
            yield memoryview(b"\0" * (-array.nbytes % _ALIGNMENT))


def decode(data: memoryview) -> Record:
    """The record that `encode` made these bytes of; its arrays are copies.

    Raises
    ------
    StateError : these are other bytes.
    """
    try:
        header_bytes = int.from_bytes(data[:_LENGTH_BYTES], "little")
        if header_bytes > min(len(data), _LONGEST_HEADER):
            raise StateError("the header is longer than the file")
        start = _LENGTH_BYTES + header_bytes
        header = _headers.decode(data[_LENGTH_BYTES:start])
        arrays = {}
        for each in header.arrays:
            if _DTYPE.fullmatch(each.dtype) is None or any(size < 0 for size in each.shape):
                raise StateError(f"{each.name}: {each.dtype} {each.shape} is no array of numbers or text")
            dtype, count = np.dtype(each.dtype), int(np.prod(each.shape, dtype=object))
            size = count * dtype.itemsize
            if size > len(data) - start:
                raise StateError(f"{each.name} is longer than the file")
            arrays[each.name] = np.frombuffer(data[start : start + size], dtype, count).reshape(each.shape).copy()
            start += size + -size % _ALIGNMENT
    except (msgspec.DecodeError, ValueError, TypeError, OverflowError) as err:
        raise StateError(f"not a record of state: {err}") from err
    return Record(header.facts, arrays)
