"""Numbers of series on disk: what a file says they stand for, and the numbers of this process for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.disk.codec import Record
from engine.errors import StateError

I64 = NDArray[np.int64]


class Names(Protocol):
    """What numbers of series stand for, as text that outlives the process."""

    def text(self, number: int) -> bytes: ...

    def numbers(self, texts: Sequence[bytes]) -> I64: ...


class WrittenNames:
    """Which numbers a file says the names of, so that each is written once."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._is_written = np.zeros(0, dtype=np.bool_)

    def new(self, numbers: I64) -> dict[str, Any]:
        """Arrays of a record that name those of the increasing numbers which are not in the file."""
        top = int(numbers[-1]) + 1 if numbers.size else 0
        known = self._is_written
        if top > known.size:
            known = np.concatenate([known, np.zeros(max(top, 2 * known.size) - known.size, dtype=np.bool_)])
            self._is_written = known
        new = numbers[~known[numbers]]
        known[new] = True
        texts = [self._names.text(number) for number in new.tolist()]
        sizes = np.array([len(text) for text in texts], dtype=np.int64)
        return {"names": new, "names.sizes": sizes, "names.texts": np.frombuffer(b"".join(texts), dtype=np.uint8)}


class ReadNumbers:
    """Numbers of this process for those of the one that wrote a file."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._here = np.full(0, -1, dtype=np.int64)

    def learn(self, record: Record) -> None:
        """Take the names that a record has."""
        old, sizes = record.arrays["names"], record.arrays["names.sizes"]
        text, ends = record.arrays["names.texts"].tobytes(), np.cumsum(sizes).tolist()
        texts = [text[end - size : end] for end, size in zip(ends, sizes.tolist(), strict=True)]
        top = int(old.max(initial=-1)) + 1
        if top > self._here.size:
            self._here = np.concatenate([self._here, np.full(top - self._here.size, -1, dtype=np.int64)])
        self._here[old] = self._names.numbers(texts)

    def here(self, numbers: I64) -> I64:
        """The numbers of this process.

        Raises
        ------
        StateError : one has no name.
        """
        found: I64 = self._here[numbers]
        if (found < 0).any():
            raise StateError("a series has no name")
        return found
