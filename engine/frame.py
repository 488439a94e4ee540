"""The data types of the straight line: Query + Window → Samples → Frame → State → Prediction → Output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engine.series import SeriesTable
from kernels.place import place_points

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Query:
    """One configured query. Policy fields that are None fall back to the model's."""

    alias: str
    expr: str
    step_ms: int
    tz: str = "UTC"
    offset_ms: int = 0
    tenant_id: str = ""
    max_points_per_query: int | None = None
    data_range: tuple[float, float] | None = None
    detection_direction: str | None = None
    min_dev_from_expected: tuple[float, float] | None = None
    min_rel_dev_from_expected: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Grid times start, start + step, …, end, none if that is before: Unix milliseconds, multiples of the step."""

    start_ms: int
    end_ms: int
    step_ms: int

    @property
    def n_steps(self) -> int:
        return max(0, (self.end_ms - self.start_ms) // self.step_ms + 1)

    def timestamps_ms(self) -> I64:
        """(n_steps,) grid times."""
        return self.start_ms + self.step_ms * np.arange(self.n_steps, dtype=np.int64)

    def split(self, max_steps: int) -> list[Window]:
        """Consecutive windows of at most `max_steps` steps that share no grid time and leave none out."""
        size = max(1, max_steps) * self.step_ms
        starts = range(self.start_ms, self.end_ms + 1, size)
        return [replace(self, start_ms=s, end_ms=min(s + size - self.step_ms, self.end_ms)) for s in starts]


def align_down(time_ms: int, step_ms: int) -> int:
    """The last multiple of the step that is not after `time_ms`."""
    return time_ms - time_ms % step_ms


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Points as received: series k owns positions indptr[k]:indptr[k+1] of the flat arrays.

    The same series may occur more than once and its points may be unsorted or repeated; the last one counts.
    """

    series: I64
    indptr: I64
    timestamps_ms: I64
    values: F64

    @property
    def n_points(self) -> int:
        return int(self.timestamps_ms.size)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A regular grid of observations; the only shape check is here.

    Parameters
    ----------
    series : (S,) numbers in the query's `SeriesTable`, without repeats.
    timestamps_ms : (T,) increasing, multiples of `step_ms`.
    values : (S, T) C-contiguous, missing is NaN; not to be written to.
    tz : IANA zone of the query, for calendar features.
    groups : (S,) for multivariate models: the group that a row, a channel, belongs to; those of one group are
        one run of rows. Else None.
    names : gives channels of one group, by number, the names that tell them apart; None where nobody has any.
    """

    series: I64
    timestamps_ms: I64
    values: F64
    step_ms: int
    tz: str = "UTC"
    groups: I64 | None = None
    names: Callable[[I64], list[str]] | None = None

    def __post_init__(self) -> None:
        values = self.values
        if values.shape != (self.series.size, self.timestamps_ms.size):
            raise ValueError(f"values {values.shape} for {self.series.size} x {self.timestamps_ms.size}")
        if values.dtype != np.float64 or not values.flags.c_contiguous:
            raise ValueError("values must be C-contiguous float64")

    @property
    def shape(self) -> tuple[int, int]:
        return self.series.size, self.timestamps_ms.size

    @property
    def indptr(self) -> I64:
        """(G + 1,) where the rows of each group begin, and the number of rows."""
        return runs(self.groups)

    def rows(self, start: int, stop: int) -> Frame:
        """Rows start:stop, without a copy."""
        groups = None if self.groups is None else self.groups[start:stop]
        return replace(self, series=self.series[start:stop], values=self.values[start:stop], groups=groups)

    def select(self, series: I64) -> Frame:
        """The given series in the given order, without groups; those this frame lacks are rows of NaN."""
        if np.array_equal(series, self.series):
            return self
        where = find(self.series, series)
        values = np.full((series.size, self.timestamps_ms.size), np.nan)
        values[where >= 0] = self.values[where[where >= 0]]
        return replace(self, series=series, values=values, groups=None)


def runs(groups: I64 | None) -> I64:
    """(G + 1,) first row of each run of equal numbers, and how many there are in all; [0] for None."""
    if groups is None or groups.size == 0:
        return np.zeros(1, dtype=np.int64)
    edges = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    return np.concatenate([[0], edges, [groups.size]])


def find(haystack: I64, needles: I64) -> I64:
    """Position in `haystack` (no repeats) of each needle, -1 where it is not there."""
    if haystack.size == 0 or needles.size == 0:
        return np.full(needles.size, -1, dtype=np.int64)
    slots = np.full(int(max(haystack.max(), needles.max())) + 1, -1, dtype=np.int64)
    slots[haystack] = np.arange(haystack.size)
    return slots[needles]


def distinct(series: I64) -> tuple[I64, I64]:
    """The distinct numbers, rising, and the place of each given one among them; no search where they rise already."""
    if np.all(series[1:] > series[:-1]):
        return series, np.arange(series.size)
    numbers, places = np.unique(series, return_inverse=True)
    return numbers, places.reshape(-1)


def pack(samples: Samples, window: Window, tz: str = "UTC") -> Frame:
    """Samples placed on the window's grid by their timestamps.

    Points off the grid or outside the window, and non-finite values, are left out: missing is NaN. Rows are
    ordered by series number. Where a series has several points at one time the last received counts.
    """
    series, row_of = distinct(samples.series)
    values = np.full((series.size, window.n_steps), np.nan)
    points = samples.indptr, samples.timestamps_ms, samples.values
    place_points(row_of, *points, window.start_ms, window.step_ms, values)
    return Frame(series, window.timestamps_ms(), values, window.step_ms, tz)


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Fitted state of one model and query: a struct of arrays, rows aligned with `series`.

    Parameters
    ----------
    series : (S,) numbers in the query's `SeriesTable`, without repeats.
    columns : by name, arrays whose first axis is S.
    shared : by name, arrays that belong to all series (a design matrix, a grid).
    groups : (S,) as in `Frame`; None of univariate models.
    group_columns : by name, arrays whose first axis is G: a row for each run of `groups`.
    is_given : whoever gets it may change its columns in place: nobody will look at them again.
    """

    series: I64
    columns: Mapping[str, NDArray[Any]]
    shared: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    groups: I64 | None = None
    group_columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    is_given: bool = False

    @property
    def indptr(self) -> I64:
        """(G + 1,) where the rows of each group begin, and the number of rows."""
        return runs(self.groups)

    @property
    def n_models(self) -> int:
        """How many models these are: one for each group, or for each series."""
        return self.series.size if self.groups is None else self.indptr.size - 1

    def changeable(self) -> dict[str, NDArray[Any]]:
        """Columns to change in place: copies, or those of a state that is given away."""
        return {name: column if self.is_given else column.copy() for name, column in self.columns.items()}

    def rows(self, start: int, stop: int) -> State:
        """Rows start:stop, without a copy; groups are not cut."""
        part = {name: column[start:stop] for name, column in self.columns.items()}
        if self.groups is None:
            return replace(self, series=self.series[start:stop], columns=part)
        a, b = np.searchsorted(self.indptr, (start, stop))
        of_groups = {name: column[a:b] for name, column in self.group_columns.items()}
        return State(self.series[start:stop], part, self.shared, self.groups[start:stop], of_groups, self.is_given)

    def take(self, rows: I64) -> State:
        """Copies of the given rows in the given order; of a state with groups, all rows of some groups."""
        taken = State(self.series[rows], {n: c[rows] for n, c in self.columns.items()}, self.shared)
        if self.groups is None:
            return taken
        groups = self.groups[rows]
        which = find(self.groups[self.indptr[:-1]], groups[runs(groups)[:-1]])
        return replace(taken, groups=groups, group_columns={n: c[which] for n, c in self.group_columns.items()})

    def updated(self, **columns: NDArray[Any]) -> State:
        """The same state with some columns, or columns of groups, replaced or added."""
        of_groups = {name: columns.pop(name, column) for name, column in self.group_columns.items()}
        return replace(self, columns={**self.columns, **columns}, group_columns=of_groups)

    @property
    def size_bytes(self) -> int:
        return sum(a.nbytes for a in (*self.columns.values(), *self.shared.values(), *self.group_columns.values()))

    @classmethod
    def concat(cls, parts: Sequence[State]) -> Self:
        """Parts one below the other; of shared arrays with one name the first part's counts.

        Rows of narrower columns end in zeros, rows of parts without a column are zeros there: what is a row's own,
        its model knows.
        """
        first = parts[0]
        sizes = [part.series.size for part in parts]
        names = dict.fromkeys(name for part in parts for name in part.columns)
        columns = {name: _below([p.columns.get(name) for p in parts], sizes) for name in names}
        shared = first.shared
        if not all(part.shared.keys() <= shared.keys() for part in parts):
            shared = {name: array for part in reversed(parts) for name, array in part.shared.items()}
        series = np.concatenate([p.series for p in parts])
        if first.groups is None:
            return cls(series, columns, shared)
        groups = np.concatenate([p.groups for p in parts if p.groups is not None])
        n_models = [part.n_models for part in parts]
        of_groups = {name: _below([p.group_columns[name] for p in parts], n_models) for name in first.group_columns}
        return cls(series, columns, shared, groups, of_groups)


def _below(arrays: Sequence[NDArray[Any] | None], sizes: Sequence[int]) -> NDArray[Any]:
    """Columns one below the other, each of its size; zeros behind the shorter ones and where one is missing."""
    known = [array for array in arrays if array is not None]
    widest = tuple(max(lengths) for lengths in zip(*(array.shape[1:] for array in known), strict=True))
    whole = [np.zeros((n, *widest), known[0].dtype) if a is None else a for a, n in zip(arrays, sizes, strict=True)]
    return np.concatenate([np.pad(a, [(0, 0), *((0, w - n) for w, n in zip(widest, a.shape[1:], strict=True))])
                           if a.shape[1:] != widest else a for a in whole])  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a model says of a frame; every array is (S, T), NaN where it has nothing to say.

    `seen` (S,): finite points that each row had learned before the frame, the warm-up counter. `score` is for models
    without a band. `unusual`, 0..1, weighs scores against a band by how far a row is from all its past. Multivariate
    ones may give `joint` (G, T), each group's score, and `share` (S, T), what channels add to it. `failed` (S,): rows.
    `largest` : values beyond it in size are not learned and count for no warm-up.
    """

    yhat: F64 | None = None
    yhat_lower: F64 | None = None
    yhat_upper: F64 | None = None
    score: F64 | None = None
    unusual: F64 | None = None
    joint: F64 | None = None
    share: F64 | None = None
    extra: Mapping[str, F64] = field(default_factory=dict)
    seen: I64 | None = None
    failed: NDArray[np.bool_] | None = None
    largest: float = 1e300

    @classmethod
    def concat(cls, parts: Sequence[Prediction]) -> Self:
        """Rows of several predictions of one model, one below the other."""

        def join(arrays: Iterable[NDArray[Any] | None]) -> Any:
            found = [a for a in arrays if a is not None]
            return np.concatenate(found) if found else None

        names = ("yhat", "yhat_lower", "yhat_upper", "score", "unusual", "joint", "share", "seen", "failed")
        joined = {name: join(getattr(p, name) for p in parts) for name in names}
        extra = {n: join(p.extra[n] for p in parts) for n in parts[0].extra}
        return cls(**joined, extra=extra, largest=parts[0].largest)


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """The columns to write of one group: by name, (S, T); non-finite cells are not written."""

    series: I64
    timestamps_ms: I64
    columns: Mapping[str, F64]

    @property
    def size_bytes(self) -> int:
        return sum(c.nbytes for c in self.columns.values())

    @property
    def n_points(self) -> int:
        """Cells that are written."""
        return sum(int(np.count_nonzero(np.isfinite(c))) for c in self.columns.values())


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """An output on its way to the writer, with all that its label prefixes are made of.

    `model_alias`, `scheduler_alias` and `preset` are empty for the oldest configs, which write none of them.
    `query_key` is the `for` label, `table` turns the output's series numbers into labels. `metric_labels` always name
    the scheduler and preset.
    """

    output: Output
    table: SeriesTable
    query_key: str
    model_alias: str
    scheduler_alias: str
    preset: str
    metric_labels: Mapping[str, str] = field(default_factory=dict)
