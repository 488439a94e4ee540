"""The search of `auto`: trials judged on later parts of the window that they have not learned, all series at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import score
from engine.errors import ModelError
from engine.frame import F64, I64, Frame, State
from engine.models.auto_space import DAY_MS, Trials
from engine.models.base import Model

# Rows that are judged between two looks at the clock; the first of a trial are few, to learn what it costs.
_ROWS, _FIRST_ROWS = 64, 4
# A batch is not begun if one and a half times as long as the slowest one so far, by row, would be too long.
_MARGIN = 1.5
# Lengths of displaced stretches in points, and sizes in ranges of the series (1 % to 99 %).
_LENGTHS = (1, 4, 16, 64, 256)
_SIZES = (0.3, 1.5)
_SHARE = 0.15
# Weight of the mean error, in ranges, against the share of displaced points that is not found.
_ERROR_WEIGHT = 0.25
# An error in ranges counts as no more.
_FARTHEST = 10.0
# Losses that differ by less are equal.
_TIE = 1e-3
_WIDEST = 10.0
# Share by which a loss must be less than that of the trial to start from; on windows of less than two days that is the
# class as it is.
_LEAD = 0.08
_LEAST_START_MS = 2 * DAY_MS
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Scheme:
    """How trials are judged.

    Parameters
    ----------
    limit : largest share of points that may be anomalous.
    is_leaky : validation parts are learned too, and together they are the whole window.
    prefers_small : equal losses are decided by the size of the fitted state, else by order.
    is_moved, by_error : as in `Judging`.
    """

    limit: float
    n_splits: int
    train_val_ratio: float
    is_leaky: bool
    prefers_small: bool
    seed: int
    is_moved: bool = True
    by_error: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """For each row its best trial, and the factor by which its band is widened so that alerts keep to the limit."""

    trial: I64
    widen: F64
    n_tried: int


def search(trials: Trials, frame: Frame, scheme: Scheme, seconds_left: Callable[[], float]) -> Choice:
    """The best trial of each row.

    Parameters
    ----------
    seconds_left : until when the search may go on, fit with its outcome included; rows that were not judged keep the
        trial to start from.

    Notes
    -----
    A trial's loss is (1) the share of displaced points that are not found: in a copy of each validation part some
    stretches are moved by known amounts, and the average precision is that of the scores against them; (2) the share of
    other points above 1 that exceeds the limit; (3) a quarter of the mean of abs(y - yhat) at other points, in
    ranges of the series. Stretches are the same for all trials and rows, so rows are independent.

    For some classes it is the error alone: the root of the mean square of hourly means of y - yhat. Noise of single
    points says nothing of a memory, and hours that go astray weigh more.
    """
    n_rows = frame.shape[0]
    start = trials.start if frame.shape[1] * frame.step_ms >= _LEAST_START_MS else 0
    splits = [_Split.of(frame, edges, scheme, k) for k, edges in enumerate(_splits(frame.shape[1], scheme))]
    best, size = np.full(n_rows, np.inf), np.full(n_rows, np.inf)
    trial, widen = np.full(n_rows, start, dtype=np.int64), np.ones(n_rows)
    # The fit with what was found learns so many times what one trial learns.
    whole = max(1.0, frame.shape[1] / max(1, sum(split.edges[1] - split.edges[0] for split in splits)))
    slowest, n_tried = 0.0, 0
    for number in range(start, len(trials) if splits else 0):
        try:
            model = trials.model(number)
        except ModelError:
            continue
        for rows in _batches(n_rows):
            needed = _MARGIN * slowest * rows.size + slowest * whole * n_rows
            if seconds_left() < needed:
                return Choice(trial, widen, n_tried)
            started = time.perf_counter()
            loss, factor, n_bytes = _judge(model, [split.part(rows) for split in splits], scheme)
            slowest = max(slowest, (time.perf_counter() - started) / rows.size)
            is_better = loss < best[rows] - _TIE
            if scheme.prefers_small:
                is_better |= (loss < np.inf) & (loss <= best[rows] + _TIE) & (n_bytes < size[rows])
            better = rows[is_better]
            to_beat = (1 - _LEAD) * loss if trials.judging.has_start and number == start else loss
            best[better], size[better], trial[better], widen[better] = (
                to_beat[is_better], n_bytes, number, factor[is_better],
            )  # fmt: skip
        n_tried += 1
    return Choice(trial, widen, n_tried)


def _batches(n_rows: int) -> Iterator[I64]:
    first = 0
    while first < n_rows:
        last = min(n_rows, first + (_ROWS if first else _FIRST_ROWS))
        yield np.arange(first, last, dtype=np.int64)
        first = last


def _splits(n_steps: int, scheme: Scheme) -> list[tuple[int, int, int, int]]:
    """First and last step to learn, first and last one to judge, of each split; none where the window is too short."""
    k = scheme.n_splits
    if scheme.is_leaky:
        edges = [n_steps * i // k for i in range(k + 1)]
        found = [(0, n_steps, edges[i], edges[i + 1]) for i in range(k)]
    else:
        n_val = int(n_steps / (scheme.train_val_ratio + k))
        n_train = round(scheme.train_val_ratio * n_val)
        ends = [n_steps - (k - 1 - i) * n_val for i in range(k)]
        found = [(max(0, end - n_val - n_train), end - n_val, end - n_val, end) for end in ends]
    return [split for split in found if split[3] - split[2] >= 8 and split[1] - split[0] >= 8]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One split of some rows: what to learn, what to judge with its displaced steps (T,), and ranges (S,)."""

    train: Frame
    valid: Frame
    is_moved: F64
    span: F64


@dataclass(frozen=True, slots=True, eq=False)
class _Split:
    """One split of all rows; copies are made of a few rows at a time."""

    frame: Frame
    edges: tuple[int, int, int, int]
    shift: F64
    span: F64

    @classmethod
    def of(cls, frame: Frame, edges: tuple[int, int, int, int], scheme: Scheme, number: int) -> _Split:
        a, b, c, d = edges
        spans = [_range(frame.values[rows[0] : rows[-1] + 1, a:b]) for rows in _batches(frame.shape[0])]
        span = np.concatenate(spans) if spans else np.empty(0)
        rng = np.random.default_rng(scheme.seed + number)
        return cls(frame, edges, _displacements(d - c, rng) if scheme.is_moved else np.zeros(d - c), span)

    def part(self, rows: I64) -> _Part:
        """Some rows, numbered from 0."""
        chosen = slice(int(rows[0]), int(rows[-1]) + 1)
        a, b, c, d = self.edges
        span, whole = self.span[chosen], self.frame.values[chosen]
        train = self._frame(np.ascontiguousarray(whole[:, a:b]), a)
        valid = self._frame(whole[:, c:d] + self.shift * span[:, None], c)
        return _Part(train, valid, (self.shift != 0).astype(np.float64), span)

    def _frame(self, values: F64, first: int) -> Frame:
        frame = self.frame
        times_ms = frame.timestamps_ms[first : first + values.shape[1]]
        return Frame(np.arange(values.shape[0], dtype=np.int64), times_ms, values, frame.step_ms, frame.tz)


def _range(values: F64) -> F64:
    """(S,) distance of the 1 % and 99 % quantiles; something above 0 where nothing varies."""
    ordered = np.sort(np.where(np.isfinite(values), values, np.nan), axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    rows = np.arange(values.shape[0])
    low, high = (ordered[rows, np.maximum(np.round(q * (count - 1)), 0).astype(np.int64)] for q in (0.01, 0.99))
    span = np.nan_to_num(high - low)
    fallback = np.maximum(0.01 * np.abs(np.nan_to_num(high)), 1e-6)
    result: F64 = np.where((span > 0) & np.isfinite(span), span, fallback)
    return result


def _displacements(n_steps: int, rng: np.random.Generator) -> F64:
    """(T,) shifts in ranges, 0 for most steps."""
    shift = np.zeros(n_steps)
    while np.count_nonzero(shift) < max(1, _SHARE * n_steps):
        length = max(1, min(int(rng.choice(_LENGTHS)), n_steps // 20))
        first = int(rng.integers(0, n_steps - length + 1))
        shift[first : first + length] = rng.choice([-1.0, 1.0]) * rng.uniform(*_SIZES)
    return shift


def _judge(model: Model, parts: list[_Part], scheme: Scheme) -> tuple[F64, F64, float]:
    """Loss and widening factor of each row, and bytes of state a row."""
    n_rows = parts[0].span.size
    loss, factor, n_bytes = np.zeros(n_rows), np.ones(n_rows), 0.0
    for part in parts:
        try:
            state = fit_alone(model, part.train)
        except ModelError:
            return np.full(n_rows, np.inf), factor, math.inf
        n_bytes = max(n_bytes, state.size_bytes / max(1, state.series.size))
        known = state.series
        frame = part.valid.select(known)
        prediction, _ = model.infer(state, frame)
        columns = score.apply(score.Policy(), 0, prediction, frame)
        own, wide = _loss(columns, part.is_moved, part.span[known], scheme)
        if scheme.by_error:
            own = block_error(columns, part.is_moved, part.span[known], max(1, round(_HOUR_MS / frame.step_ms)))
        missed = np.ones(n_rows, dtype=bool)
        missed[known] = False
        loss[known] += own / len(parts)
        loss[missed] = np.inf
        factor[known] = np.maximum(factor[known], wide)
    return loss, np.minimum(factor, _WIDEST), n_bytes


def _loss(columns: dict[str, F64], is_moved: F64, span: F64, scheme: Scheme) -> tuple[F64, F64]:
    scores = columns["anomaly_score"]
    there = np.isfinite(scores)
    calm = there & (is_moved == 0)
    n_calm = np.maximum(calm.sum(axis=1), 1)
    found = average_precision(np.where(there, scores, -1.0), there & (is_moved > 0))
    excess = np.maximum((calm & (scores > 1)).sum(axis=1) / n_calm - scheme.limit, 0.0)
    error = np.zeros(span.size)
    if "yhat" in columns:
        is_known = calm & np.isfinite(columns["yhat"])
        away = np.abs(np.where(is_known, columns["y"], 0.0) - np.where(is_known, columns["yhat"], 0.0))
        error = np.minimum(away / span[:, None], _FARTHEST).sum(axis=1) / n_calm
    ordered = np.sort(np.where(calm, scores, -1.0), axis=1)
    n_above = np.floor(scheme.limit * n_calm).astype(np.int64)
    at_limit = ordered[np.arange(span.size), np.maximum(ordered.shape[1] - 1 - n_above, 0)]
    return (1.0 - found) + excess + _ERROR_WEIGHT * error, np.maximum(at_limit, 1.0)


def block_error(columns: dict[str, F64], is_moved: F64, span: F64, n_block: int) -> F64:
    """(S,) root of the mean square of block means of y - yhat, in ranges, displaced points left out."""
    known = np.isfinite(columns["y"]) & np.isfinite(columns["yhat"]) & (is_moved == 0)
    y, yhat = (np.where(known, columns[name], 0.0) for name in ("y", "yhat"))
    away = np.clip((y - yhat) / span[:, None], -_FARTHEST, _FARTHEST)
    first = np.arange(0, known.shape[1], n_block)
    count = np.add.reduceat(known, first, axis=1, dtype=np.int64)
    means = np.add.reduceat(away, first, axis=1) / np.maximum(count, 1)
    error: F64 = np.sqrt((means**2).sum(axis=1) / np.maximum((count > 0).sum(axis=1), 1))
    return error


def average_precision(scores: F64, truth: NDArray[np.bool_]) -> F64:
    """(S,) area under precision over recall, points in falling order of their scores; 1 where nothing is true."""
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = np.take_along_axis(truth, order, axis=1).astype(np.float64)
    precision = np.cumsum(hits, axis=1) / np.arange(1, scores.shape[1] + 1)
    n_true = hits.sum(axis=1)
    area: F64 = np.where(n_true > 0, (hits * precision).sum(axis=1) / np.maximum(n_true, 1), 1.0)
    return area


def fit_alone(model: Model, frame: Frame) -> State:
    """A state from scratch of one frame, in the calling thread."""
    if model.fit_by == "rows":
        return model.fit_rows(frame)
    return model.finish(model.learn(model.fresh(frame.series, frame), frame))
