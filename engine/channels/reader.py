"""Several queries read as one: their series are channels, their pieces end at the same times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from engine.channels.table import ChannelTable
from engine.frame import Query, Samples, Window
from engine.reader.base import Reader
from engine.series import SeriesTable


class ChannelReader:
    """A `Reader` of a set of queries that asks another one for each of them.

    Its samples are numbered by `channels`; its table is for the label sets of groups. One query that cannot be read
    fails the whole set: nothing is fitted or scored on some of the channels.

    Parameters
    ----------
    queries : with one step.
    """

    def __init__(self, reader: Reader, queries: Sequence[Query]) -> None:
        self._reader = reader
        ordered = sorted(queries, key=lambda query: query.alias)
        self.channels = ChannelTable(ordered, [reader.table(query) for query in ordered])
        self._table = SeriesTable()

    @property
    def query(self) -> Query:
        """The set as one query: its aliases joined, its points as late as those of the latest, the first one's zone.

        Several queries have no policies together.
        """
        queries = self.channels.queries
        first, alias = queries[0], ",".join(query.alias for query in queries)
        offset_ms = min(query.offset_ms for query in queries)
        if len(queries) == 1:
            return replace(first, expr="")
        return Query(alias, "", first.step_ms, first.tz, offset_ms, first.tenant_id, first.max_points_per_query)

    def table(self, query: Query) -> SeriesTable:
        """Label sets of groups."""
        return self._table

    def read(self, query: Query, window: Window, scheduler_alias: str) -> Iterator[tuple[Window, Samples]]:
        """Consecutive pieces of all queries: as short as their ends allow."""
        reads = [self._reader.read(each, window, scheduler_alias) for each in self.channels.queries]
        ends = [window.start_ms - window.step_ms] * len(reads)
        start_ms, gathered = window.start_ms, list[Samples]()
        while min(ends) < window.end_ms:
            which = ends.index(min(ends))
            piece, samples = next(reads[which])
            ends[which] = piece.end_ms
            gathered.append(replace(samples, series=self.channels.number(which, samples.series)))
            if min(ends) == max(ends):
                yield replace(window, start_ms=start_ms, end_ms=piece.end_ms), _together(gathered)
                start_ms, gathered = piece.end_ms + window.step_ms, []
        for each in reads:  # what a reader does at the end of an answer
            next(each, None)

    def placed(self, query: Query, scheduler_alias: str, seconds: float) -> None:
        """The time is told as the first query's."""
        self._reader.placed(self.channels.queries[0], scheduler_alias, seconds)

    def close(self) -> None:
        """The inner reader is its owner's to close."""


def _together(parts: Sequence[Samples]) -> Samples:
    counts = np.concatenate([np.diff(part.indptr) for part in parts])
    return Samples(
        np.concatenate([part.series for part in parts]),
        np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]),
        np.concatenate([part.timestamps_ms for part in parts]),
        np.concatenate([part.values for part in parts]),
    )
