"""What the pipeline asks of a reader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from engine.frame import Query, Samples, Window
from engine.series import SeriesTable


class Reader(Protocol):
    """Reads queries over windows; safe for several threads."""

    def table(self, query: Query) -> SeriesTable:
        """The numbers of the query's series; the same table for the reader's whole life."""

    def read(self, query: Query, window: Window, scheduler_alias: str) -> Iterator[tuple[Window, Samples]]:
        """Consecutive pieces that cover the window in time order, each with its samples.

        Raises
        ------
        ReadError : a piece could not be read; pieces before it were good.
        """

    def placed(self, query: Query, scheduler_alias: str, seconds: float) -> None:
        """Observe how long a piece's samples took to be placed on the grid."""

    def close(self) -> None:
        """Release connections; reads that run fail."""
