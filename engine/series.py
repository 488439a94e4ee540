"""The label sets of a query's series, as numbers."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray


class SeriesTable:
    """The label sets of one query, numbered in the order they first appear; append-only, safe for threads.

    A label set's identity is its canonical text: compact JSON with sorted keys, as bytes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: dict[bytes, int] = {}
        self._texts: list[bytes] = []

    def __len__(self) -> int:
        return len(self._texts)

    def intern(self, labels: Mapping[str, str]) -> int:
        """The number of this label set, a new one for a new set."""
        text = msgspec.json.encode(labels, order="sorted")
        with self._lock:
            if (number := self._ids.setdefault(text, len(self._texts))) == len(self._texts):
                self._texts.append(text)
        return number

    def text(self, series: int) -> bytes:
        """Canonical text of a label set."""
        return self._texts[series]

    def numbers(self, texts: Sequence[bytes]) -> NDArray[np.int64]:
        """(N,) numbers of label sets by their canonical texts."""
        return np.array([self.intern(msgspec.json.decode(t, type=dict[str, str])) for t in texts], dtype=np.int64)

    def labels(self, series: int) -> dict[str, str]:
        """A label set as a mapping."""
        return msgspec.json.decode(self._texts[series], type=dict[str, str])
