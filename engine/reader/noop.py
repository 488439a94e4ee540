"""Reader `noop`: every answer is empty."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from engine.frame import Query, Samples, Window
from engine.series import SeriesTable


class NoopReader:
    """Answers every query with nothing."""

    def __init__(self) -> None:
        self._table = SeriesTable()

    def table(self, query: Query) -> SeriesTable:
        """An empty table."""
        return self._table

    def read(self, query: Query, window: Window, scheduler_alias: str) -> Iterator[tuple[Window, Samples]]:
        """The whole window as one empty piece."""
        none = np.empty(0, dtype=np.int64)
        yield window, Samples(none, np.zeros(1, dtype=np.int64), none, np.empty(0))

    def placed(self, query: Query, scheduler_alias: str, seconds: float) -> None:
        """Nothing is measured."""

    def close(self) -> None:
        """Nothing is open."""
