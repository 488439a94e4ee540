"""The channels of several queries, numbered in the order they first appear."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from engine.frame import I64, Query
from engine.series import SeriesTable


class ChannelTable:
    """A channel is a series of one of some queries: the query's place among them and its label set; safe for threads.

    Parameters
    ----------
    queries : in the order of their aliases.
    tables : of each query's series.
    """

    def __init__(self, queries: Sequence[Query], tables: Sequence[SeriesTable]) -> None:
        self.queries = tuple(queries)
        self.tables = tuple(tables)
        self._lock = threading.Lock()
        self._numbers = [np.empty(0, dtype=np.int64) for _ in queries]
        self.query_of: I64 = np.empty(0, dtype=np.int64)
        self.series_of: I64 = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return int(self.series_of.size)

    def number(self, query: int, series: I64) -> I64:
        """Channels of a query's series, new ones for new series."""
        if series.size == 0:
            return series
        with self._lock:
            numbers = self._numbers[query]
            if (size := int(series.max()) + 1) > numbers.size:
                numbers = np.concatenate([numbers, np.full(max(size, 2 * numbers.size) - numbers.size, -1)])
                self._numbers[query] = numbers
            new = np.unique(series[numbers[series] < 0])
            if new.size:
                numbers[new] = len(self) + np.arange(new.size)
                self.query_of = np.concatenate([self.query_of, np.full(new.size, query)])
                self.series_of = np.concatenate([self.series_of, new])
            return numbers[series]

    def labels(self, channel: int) -> dict[str, str]:
        """A channel's label set, without the name of its query."""
        return self.tables[int(self.query_of[channel])].labels(int(self.series_of[channel]))

    def key(self, channel: int) -> tuple[int, bytes]:
        """What a channel is, as a key to sort by: its query and its canonical label text."""
        query = int(self.query_of[channel])
        return query, self.tables[query].text(int(self.series_of[channel]))

    def text(self, channel: int) -> bytes:
        """What a channel is, as text: its query's place, a space, labels."""
        return b"%d %b" % self.key(channel)

    def numbers(self, texts: Sequence[bytes]) -> I64:
        """(N,) channels by their texts."""
        found = np.empty(len(texts), dtype=np.int64)
        parts = [text.partition(b" ") for text in texts]
        query_of = np.array([int(query) for query, _, _ in parts], dtype=np.int64)
        for query, table in enumerate(self.tables):
            rows = np.flatnonzero(query_of == query)
            found[rows] = self.number(query, table.numbers([parts[row][2] for row in rows.tolist()]))
        return found

    def names(self, channels: I64) -> list[str]:
        """What tells some channels apart: their query's alias; with labels where that has several of them."""
        query_of = self.query_of[channels]
        n_alike = np.bincount(query_of, minlength=len(self.queries))[query_of]
        return [
            self.queries[query].alias if n == 1 else self.name(channel)
            for channel, query, n in zip(channels.tolist(), query_of.tolist(), n_alike.tolist(), strict=True)
        ]

    def name(self, channel: int) -> str:
        """A channel for log lines."""
        query, text = self.key(channel)
        return f"{self.queries[query].alias}{text.decode()}"
