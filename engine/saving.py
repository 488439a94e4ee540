"""A group's fitted state to records of the state folder and back."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from engine.disk.codec import Record, is_plain
from engine.disk.names import Names, ReadNumbers, WrittenNames
from engine.errors import ModelError, StateError
from engine.frame import I64, Frame, State
from engine.group import NEVER, Group
from engine.metrics import Metrics
from engine.series import SeriesTable
from engine.state.store import Keeper
from engine.writer.base import Writer

log = logging.getLogger("state")

# The same trouble is not logged again sooner than this.
_REPEAT_S = 600.0


class Saver:
    """Keeps one group's state for whoever goes on with it: on disk, or in the same process.

    On disk that is all of it after a fit, and after each inference the points that it consumed.

    To restore is to load the last snapshot and to infer those points again: state is a function of a fit and of the
    points after it, so what is written each time is small for every model, however large its state is.

    Parameters
    ----------
    names : of the numbers in the group's state.
    identity : only state of the same identity is used again.
    keeper : of the files; None keeps nothing on disk.
    writer : what it has not on disk or delivered is not committed as consumed.
    """

    def __init__(
        self, group: Group, names: Names, identity: str, keeper: Keeper | None, writer: Writer, metrics: Metrics
    ) -> None:
        self.identity = identity
        self._group = group
        self._writer = writer
        self._names = names
        self._keeper = keeper
        self._seconds = metrics.state_seconds.labels(**group.names)
        self._errors = metrics.state_errors.labels(**group.names)
        self._size = metrics.state_bytes.labels(**group.names)
        self._written = WrittenNames(names)
        self._wants_snapshot = False
        self._facts: Mapping[str, Any] = {}
        self._logged_at = -_REPEAT_S
        group.keeps_consumed = keeper is not None
        # Data time of a fit whose state was there and cannot be used.
        self.lost_at_ms: int | None = None

    def restore(self, table: SeriesTable, carried: Record | None = None) -> Mapping[str, Any] | None:
        """Give the group its state; what `save` was told then, or None where there is none to use.

        Parameters
        ----------
        carried : state from the same process, used instead of that on disk.
        """
        if carried is not None:
            return self._restore(table, carried, iter(()))
        if self._keeper is None:
            return None
        found = self._keeper.load()
        self.lost_at_ms = self._keeper.lost_at_ms
        return None if found is None else self._restore(table, *found)

    def carry(self, ttl_ms: int | None = None) -> Record | None:
        """The group's state as it is now, for `restore`; None where there is none.

        Parameters
        ----------
        ttl_ms : series without a point for so long before the newest one are left out.
        """
        with self._group.at_rest():
            since_ms = NEVER if ttl_ms is None else self._group.seen.newest_ms() - ttl_ms
            return None if self._group.state is None else self._snapshot(since_ms)

    def _restore(self, table: SeriesTable, snapshot: Record, records: Iterator[Record]) -> Mapping[str, Any] | None:
        started = time.monotonic()
        try:
            numbers = ReadNumbers(self._names)
            numbers.learn(snapshot)
            state, seen = _state(snapshot, numbers), _column(snapshot, "seen.series", numbers)
            written_to = snapshot.facts["written_to"]
            self._group.restore(
                state, snapshot.arrays["is_fitted"], seen, snapshot.arrays["seen.times"], snapshot.facts["fitted_to_ms"]
            )
            n_records = 0
            for n_records, record in enumerate(records, 1):  # noqa: B007 - the count is logged
                numbers.learn(record)
                written_to = record.facts["written_to"]
                for frame in _frames(record, numbers):
                    self._group.replay(frame, table)
            if self._writer.has_lost(snapshot.facts["of_fit"]["written_to"], written_to):
                raise StateError("results that belong to it were damaged on disk before they were written")
        except (StateError, ModelError, LookupError, TypeError, ValueError, OSError) as err:
            log.warning("State of %s cannot be used and is fitted anew: %s", self._shown, err)
            self._group.forget()
            self.lost_at_ms = snapshot.facts.get("of_fit", {}).get("at_ms")
            return None
        self._wants_snapshot = True  # numbers on disk are those of the process that wrote them
        self._facts = snapshot.facts["of_fit"]
        message = "State of %s restored: %d series, %d later inferences, in %.2f s"
        log.info(message, self._shown, state.series.size, n_records, time.monotonic() - started)
        return self._facts

    def save(self, facts: Mapping[str, Any]) -> None:
        """Commit a new fit.

        Parameters
        ----------
        facts : of the fit, for whoever restores it.
        """
        self._facts = {**facts, "written_to": self._writer.position()}
        self._commit(is_fit=True)

    def commit(self) -> None:
        """Commit what was inferred since the last commit."""
        self._commit(is_fit=False)

    def _commit(self, *, is_fit: bool) -> None:
        if self._keeper is None:
            return
        started = time.perf_counter()
        try:
            with self._group.at_rest() as consumed:
                if self._group.state is None or not (is_fit or consumed) or not self._is_plain(self._group.state):
                    return
                if not self._writer.is_safe():
                    self._wants_snapshot = True
                    return
                if is_fit or self._wants_snapshot or self._keeper.wants_snapshot:
                    self._keeper.save(self._snapshot(), self._facts["at_ms"])
                    self._wants_snapshot = False
                else:
                    self._keeper.append(self._record(consumed))
        except StateError as err:
            self._errors.inc()
            if time.monotonic() - self._logged_at >= _REPEAT_S:
                self._logged_at = time.monotonic()
                log.error("%s; it is tried again at each inference", err)
            return
        self._logged_at = -_REPEAT_S
        self._size.set(self._keeper.size_bytes)
        self._seconds.observe(time.perf_counter() - started)

    def _snapshot(self, since_ms: int = NEVER) -> Record:
        """All of the state; of series that were not seen since a time nothing."""
        group = self._group
        state = group.state
        assert state is not None
        seen = group.seen.known()
        seen = seen[group.seen.get(seen) >= since_ms]
        rows = np.flatnonzero(group.seen.get(state.series) >= since_ms)
        is_fitted = group.is_fitted(state)[rows]
        state = state if rows.size == state.series.size else state.take(rows)
        arrays = {"series": state.series, "is_fitted": is_fitted}
        arrays |= {"seen.series": seen, "seen.times": group.seen.get(seen)}
        arrays |= {f"columns.{name}": column for name, column in state.columns.items()}
        arrays |= {f"shared.{name}": array for name, array in state.shared.items()}
        arrays |= {f"group_columns.{name}": column for name, column in state.group_columns.items()}
        if state.groups is not None:
            arrays["groups"] = state.groups
        self._written = WrittenNames(self._names)
        arrays |= self._written.new(np.union1d(state.series, seen))
        return Record(
            {"fitted_to_ms": group.fitted_to_ms, "of_fit": dict(self._facts), "written_to": self._writer.position()},
            arrays,
        )

    def _record(self, frames: Sequence[Frame]) -> Record:
        """What was consumed; series that all frames have in common are written once."""
        arrays: dict[str, Any] = {}
        for k, frame in enumerate(frames):
            if k == 0 or not np.array_equal(frame.series, frames[k - 1].series):
                arrays[f"{k}.series"] = frame.series
            arrays |= {f"{k}.times": frame.timestamps_ms, f"{k}.values": frame.values}
        arrays |= self._written.new(np.unique(np.concatenate([frame.series for frame in frames])))
        facts = {"step_ms": frames[0].step_ms, "tz": frames[0].tz, "n_frames": len(frames)}
        return Record({**facts, "written_to": self._writer.position()}, arrays)

    def _is_plain(self, state: State) -> bool:
        """State of objects, which some custom models have, stays in memory."""
        return all(is_plain(array) for array in (*state.columns.values(), *state.group_columns.values()))

    @property
    def _shown(self) -> str:
        names = self._group.names
        return f"model {names['model_alias']!r}, query {names['query_key']!r}"


def _column(record: Record, name: str, numbers: ReadNumbers) -> I64:
    return numbers.here(record.arrays[name])


def _state(record: Record, numbers: ReadNumbers) -> State:
    def named(prefix: str) -> dict[str, Any]:
        return {n.removeprefix(prefix): a for n, a in record.arrays.items() if n.startswith(prefix)}

    return State(
        _column(record, "series", numbers),
        named("columns."),
        named("shared."),
        record.arrays.get("groups"),
        named("group_columns."),
    )


def _frames(record: Record, numbers: ReadNumbers) -> list[Frame]:
    frames: list[Frame] = []
    series = np.empty(0, dtype=np.int64)
    for k in range(record.facts["n_frames"]):
        if f"{k}.series" in record.arrays:
            series = _column(record, f"{k}.series", numbers)
        times, values = record.arrays[f"{k}.times"], record.arrays[f"{k}.values"]
        frames.append(Frame(series, times, values, record.facts["step_ms"], record.facts["tz"]))
    return frames
