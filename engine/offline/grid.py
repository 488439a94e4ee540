"""Points to regular grids: series that share a grid and a fit part become rows of one frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.errors import InputError
from engine.frame import F64, I64, Frame
from engine.offline.points import Points
from engine.settings import Duration
from kernels._jit import B1

DEFAULT_FRACTION = 0.15
_DEFAULT_STEP_MS = 60_000
# A grid may have gaps, but more slots than this for each point say that there is no grid.
_MAX_SLOTS_PER_POINT = 1000
_MAX_SLOTS = 5_000_000
# The same for all series together, which must fit into memory.
_MAX_CELLS_PER_POINT = 20
_MAX_CELLS = 50_000_000


@dataclass(frozen=True, slots=True)
class Head:
    """The part of each series that is fitted and not scored: one of a time, a number of rows, a share of them."""

    window_ms: int | None = None
    rows: int | None = None
    fraction: float = DEFAULT_FRACTION

    def n_slots(self, slots: I64, step_ms: int) -> int:
        """Grid slots of the head, from the sorted slots of a series' rows."""
        if self.window_ms is not None:
            return int(slots[0]) + max(1, -(-self.window_ms // step_ms))
        n_rows = self.rows if self.rows is not None else math.ceil(self.fraction * slots.size)
        return 0 if n_rows == 0 else int(slots[min(n_rows, slots.size) - 1]) + 1


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A frame and where its points come from.

    Parameters
    ----------
    n_fit : steps of the head.
    points : (P,) positions in the input. `rows`, `slots` : (P,) their places in the frame.
    counts : (P,) whether the point is the one in its place; others of the same time came earlier.
    again : positions of these others in `points`; `again_values` : their values.
    """

    frame: Frame
    n_fit: int
    points: I64
    rows: I64
    slots: I64
    counts: B1
    again: I64
    again_values: F64


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """One series on its own grid, which starts at `start_ms`; `points` are in the order of time."""

    series: int
    step_ms: int
    start_ms: int
    n_slots: int
    n_fit: int
    points: I64
    slots: I64


def make_batches(points: Points, head: Head, tz: str) -> list[Batch]:
    """Frames of all series, in the order in which their first series appear.

    Raises
    ------
    InputError : the times of a series are no grid.
    """
    order = np.lexsort((points.times_ms, points.series))
    bounds = np.flatnonzero(np.diff(points.series[order], prepend=-1, append=-1))
    groups: dict[tuple[int, ...], list[_Row]] = {}
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        row = _row(points, order[start:stop], head)
        groups.setdefault((row.step_ms, row.start_ms, row.n_slots, row.n_fit), []).append(row)
    check_cells(sum(key[2] * len(rows) for key, rows in groups.items()), points.n_points)
    return [_batch(points, rows, tz) for rows in groups.values()]


def check_cells(n_cells: int, n_points: int) -> None:
    """Whether grids are full enough to be held in memory.

    Raises
    ------
    InputError : they are not.
    """
    if n_cells > max(_MAX_CELLS, _MAX_CELLS_PER_POINT * n_points):
        raise InputError(f"{n_points:,} points on grids of {n_cells:,} times: expected regular times")


def _row(points: Points, own: I64, head: Head) -> _Row:
    times = points.times_ms[own]
    series = int(points.series[own[0]])
    step_ms = find_step(times)
    start_ms = (int(times[0]) + step_ms // 2) // step_ms * step_ms
    slots = (times - start_ms + step_ms // 2) // step_ms
    n_slots = int(slots[-1]) + 1
    if n_slots > max(_MAX_SLOTS, _MAX_SLOTS_PER_POINT * own.size):
        text = f"{own.size} points over {Duration(int(times[-1] - times[0]))} with a usual distance of"
        raise InputError(f"series {points.table.labels(series)}: {text} {Duration(step_ms)}: expected regular times")
    return _Row(series, step_ms, start_ms, n_slots, head.n_slots(slots, step_ms), own, slots)


def find_step(times_ms: I64) -> int:
    """The step of sorted times: their most frequent distance if half of all are that, else the median one.

    A median is rounded to whole seconds, if it has any.
    """
    distances = np.diff(times_ms)
    distances = distances[distances > 0]
    if distances.size == 0:
        return _DEFAULT_STEP_MS
    found, counts = np.unique(distances, return_counts=True)
    most = int(np.argmax(counts))
    if 2 * int(counts[most]) >= distances.size:
        return int(found[most])
    median = float(np.median(distances))
    return round(median / 1000) * 1000 if median >= 1000 else max(1, round(median))


def _batch(points: Points, group: Sequence[_Row], tz: str) -> Batch:
    head = group[0]
    values = np.full((len(group), head.n_slots), np.nan)
    rows = np.repeat(np.arange(len(group)), [row.points.size for row in group])
    own, slots = np.concatenate([row.points for row in group]), np.concatenate([row.slots for row in group])
    # In input order: of points in one place the last one counts.
    order = np.argsort(own, kind="stable")
    own, rows, slots = own[order], rows[order], slots[order]
    finite = np.isfinite(points.values[own])
    values[rows[finite], slots[finite]] = points.values[own[finite]]
    winner = np.full(values.shape, -1, dtype=np.int64)
    winner[rows, slots] = np.arange(own.size)
    winner[rows[finite], slots[finite]] = np.flatnonzero(finite)
    counts = winner[rows, slots] == np.arange(own.size)
    times = head.start_ms + head.step_ms * np.arange(head.n_slots, dtype=np.int64)
    series = np.array([row.series for row in group], dtype=np.int64)
    again = np.flatnonzero(~counts)
    frame = Frame(series, times, values, head.step_ms, tz)
    return Batch(frame, head.n_fit, own, rows, slots, counts, again, points.values[own[again]])
