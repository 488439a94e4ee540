"""One fetch for all that want the same window of a query: models of single series, and sets of channels."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from engine.frame import Query, Samples, Window
from engine.reader.base import Reader
from engine.series import SeriesTable

# Longer windows, those of fits, are read piece by piece by each on its own: they are not held in memory.
_MOST_STEPS = 16
# An answer that is older may lack points that have come since.
_FRESH_S = 10.0


@dataclass(slots=True, eq=False)
class _Fetch:
    """An answer that is on its way or there; `takers` have had it."""

    window: Window
    takers: set[object]
    begun_s: float = field(default_factory=time.monotonic)
    is_done: threading.Event = field(default_factory=threading.Event)
    pieces: list[tuple[Window, Samples]] = field(default_factory=list)
    error: Exception | None = None


class SharedReads:
    """The reads of one scheduler whose queries have several users; safe for threads."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._lock = threading.Lock()
        self._users: Counter[str] = Counter()
        self._fetches: dict[str, _Fetch] = {}

    def user(self, queries: Sequence[Query]) -> Reader:
        """A reader for somebody who reads these queries."""
        self._users.update(query.alias for query in queries)
        return _User(self)

    def read(
        self, user: object, query: Query, window: Window, scheduler_alias: str
    ) -> Iterator[tuple[Window, Samples]]:
        """As `Reader.read`. Who asks twice for one window wants a new answer."""
        if self._users[query.alias] < 2 or window.n_steps > _MOST_STEPS:
            yield from self.reader.read(query, window, scheduler_alias)
            return
        fetch, is_mine = self._join(user, query.alias, window)
        if is_mine:
            try:
                fetch.pieces.extend(self.reader.read(query, window, scheduler_alias))
            except Exception as err:  # noqa: BLE001 - raised below, for each of them
                fetch.error = err
            finally:
                fetch.is_done.set()
        fetch.is_done.wait()
        yield from fetch.pieces
        if fetch.error is not None:
            raise fetch.error

    def _join(self, user: object, alias: str, window: Window) -> tuple[_Fetch, bool]:
        """The fetch that has the window, and whether it has to be begun."""
        with self._lock:
            fetch = self._fetches.get(alias)
            is_new = (
                fetch is None
                or fetch.window != window
                or user in fetch.takers
                or time.monotonic() - fetch.begun_s > _FRESH_S
            )
            if fetch is None or is_new:
                self._fetches[alias] = fetch = _Fetch(window, set())
            fetch.takers.add(user)
            if len(fetch.takers) == self._users[alias]:
                del self._fetches[alias]
            return fetch, is_new


class _User:
    """One user's reader."""

    def __init__(self, shared: SharedReads) -> None:
        self._shared = shared

    def table(self, query: Query) -> SeriesTable:
        return self._shared.reader.table(query)

    def read(self, query: Query, window: Window, scheduler_alias: str) -> Iterator[tuple[Window, Samples]]:
        return self._shared.read(self, query, window, scheduler_alias)

    def placed(self, query: Query, scheduler_alias: str, seconds: float) -> None:
        self._shared.reader.placed(query, scheduler_alias, seconds)

    def close(self) -> None:
        """The inner reader is its owner's to close."""
