"""Which series of a query's answers are taken: not more than allowed, and none that this service writes itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from engine.errors import ReadError
from engine.frame import I64, Frame

log = logging.getLogger("reader")

# Many times what VictoriaMetrics keeps: 40 labels of 4 KiB.
_MOST_LABELS, _LONGEST_LABELS = 256, 1 << 20


class Labels(Protocol):
    """What numbers of series stand for."""

    def labels(self, number: int) -> Mapping[str, str]: ...


class Room:
    """How many series all queries together may still take; safe for threads.

    Parameters
    ----------
    n_series : None has no end.
    """

    def __init__(self, n_series: int | None) -> None:
        self._left = n_series
        self._mutex = threading.Lock()

    def take(self, wanted: int) -> int:
        """How many of so many series there is room for; they are taken."""
        with self._mutex:
            if self._left is None:
                return wanted
            given = min(wanted, self._left)
            self._left -= given
            return given


class Admission:
    """The series of one query in one scheduler, in the order they come; what was taken stays.

    Parameters
    ----------
    query_alias : for messages.
    table : labels by number.
    most : series of this query; None for as many as `room` has.
    is_own : whether a label set is one that this service writes.
    """

    def __init__(
        self,
        query_alias: str,
        table: Labels,
        most: int | None,
        room: Room,
        is_own: Callable[[Mapping[str, str]], bool],
    ) -> None:
        self._query_alias = query_alias
        self._table = table
        self._most = most
        self._room = room
        self._is_own = is_own
        self._is_known = np.zeros(0, dtype=np.bool_)
        self._is_taken = np.zeros(0, dtype=np.bool_)
        self._n_taken = 0
        self.n_refused = 0

    def admit(self, frame: Frame) -> Frame:
        """The rows that are taken; labels are looked at once for each series.

        Raises
        ------
        ReadError : the query reads what this service writes.
        """
        self._meet(frame.series)
        taken = self._is_taken[frame.series]
        return frame if taken.all() else frame.select(frame.series[taken])

    def _meet(self, series: I64) -> None:
        top = int(series.max(initial=-1)) + 1
        if top > self._is_known.size:
            more = np.zeros(max(top, 2 * self._is_known.size) - self._is_known.size, dtype=np.bool_)
            self._is_known = np.concatenate([self._is_known, more])
            self._is_taken = np.concatenate([self._is_taken, more])
        new = series[~self._is_known[series]]
        if new.size == 0:
            return
        is_short = np.ones(new.size, dtype=np.bool_)
        for k, number in enumerate(new.tolist()):
            labels = self._table.labels(number)
            is_short[k] = len(labels) <= _MOST_LABELS and sum(map(len, labels.values())) <= _LONGEST_LABELS
            if self._is_own(labels):
                raise ReadError(
                    f"query {self._query_alias!r} reads what this service writes, as {dict(labels)}: it would feed on "
                    'itself and is not run; leave these series out of it, as with {model_alias=""}',
                    "own_output",
                )
        self._is_known[new] = True
        if not is_short.all():
            self.n_refused += int(np.count_nonzero(~is_short))
            log.warning("query %r: %d series have labels beyond all bounds and are not taken",
                        self._query_alias, np.count_nonzero(~is_short))  # fmt: skip
            new = new[is_short]
        wanted = new.size if self._most is None else min(new.size, self._most - self._n_taken)
        given = self._room.take(wanted)
        self._is_taken[new[:given]] = True
        self._n_taken += given
        if given < new.size:
            is_first = self.n_refused == 0
            self.n_refused += new.size - given
            bound = "settings.max_series.per_query" if wanted < new.size else "settings.max_series.total"
            log.log(
                logging.WARNING if is_first else logging.DEBUG,
                "query %r: %d series are not taken, %d are (%s)",
                *(self._query_alias, self.n_refused, self._n_taken, bound),
            )
