"""The search of `auto`: trials judged on later parts of the window that they have not learned, all series at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from engine import score
from engine.errors import ModelError
from engine.frame import F64, I64, Frame, Prediction, State
from engine.models.auto_loss import block_error, found_beside, losses, moved, walls, widening
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
# Losses that differ by less are equal.
_TIE = 1e-3
_WIDEST = 10.0
# Share by which a loss must be less than that of the trial to start from.
_LEAD = 0.08
# What an uneven band must find more of displaced points than an even one.
_SIDES_LEAD = 0.02
# On shorter windows the trial to start from is the class as it is, with an even band.
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

    Where the start has stayed, uneven bands of the class as it is are tried at the end: one that finds clearly more
    is taken. Each point is displaced then, against a band that learns none of it.
    """
    n_rows = frame.shape[0]
    is_long = frame.shape[1] * frame.step_ms >= _LEAST_START_MS
    start = trials.start if is_long else 0
    splits = [_Split.of(frame, edges, scheme, k) for k, edges in enumerate(_splits(frame.shape[1], scheme))]
    best, size = np.full(n_rows, np.inf), np.full(n_rows, np.inf)
    trial, widen = np.full(n_rows, start, dtype=np.int64), np.ones(n_rows)
    # The fit with what was found learns so many times what one trial learns.
    whole = max(1.0, frame.shape[1] / max(1, sum(split.edges[1] - split.edges[0] for split in splits)))
    slowest, n_tried = 0.0, 0

    def has_time(n: int) -> bool:
        return seconds_left() >= _MARGIN * slowest * n + slowest * whole * n_rows

    for number in range(start, trials.n_even if splits else 0):
        try:
            model = trials.model(number)
        except ModelError:
            continue
        for rows in _batches(n_rows):
            if not has_time(rows.size):
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
    for rows in _batches(n_rows if splits and is_long and len(trials) > trials.n_even else 0):
        if not has_time(rows.size):
            return Choice(trial, widen, n_tried)
        started = time.perf_counter()
        uneven, factor = _uneven(trials, [split.part(rows) for split in splits], scheme)
        slowest = max(slowest, (time.perf_counter() - started) / rows.size)
        is_taken = (trial[rows] == start) & (uneven > 0)
        trial[rows[is_taken]], widen[rows[is_taken]] = uneven[is_taken], factor[is_taken]
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
            known, n, frame, prediction = _predicted(model, part)
        except ModelError:
            return np.full(n_rows, np.inf), factor, math.inf
        n_bytes = max(n_bytes, n)
        columns = score.apply(score.Policy(), 0, prediction, frame)
        if scheme.by_error:
            own = block_error(columns, part.is_moved, part.span[known], max(1, round(_HOUR_MS / frame.step_ms)))
        else:
            own = losses(columns, part.is_moved, part.span[known], scheme.limit)
        missed = np.ones(n_rows, dtype=bool)
        missed[known] = False
        loss[known] += own / len(parts)
        loss[missed] = np.inf
        wide = widening(columns["anomaly_score"], part.is_moved, scheme.limit)
        factor[known] = np.maximum(factor[known], wide)
    return loss, np.minimum(factor, _WIDEST), n_bytes


def _uneven(trials: Trials, parts: list[_Part], scheme: Scheme) -> tuple[I64, F64]:
    """Each row's trial with an uneven band, 0 if an even one finds about as much, and its widening factor."""
    numbers = [0, *range(trials.n_even, len(trials))]
    shape = len(numbers), parts[0].span.size
    found, factor = np.zeros(shape), np.ones(shape)
    try:
        for part in parts:
            known, _, frame, prediction = _predicted(trials.model(0), part)
            displaced = replace(frame, values=moved(frame.values, part.span[known], walls(part.train.values[known])))
            for k, number in enumerate(numbers):
                policy = score.Policy(scale=trials.model(number).scale)
                scores, away = (
                    score.apply(policy, 0, prediction, each)["anomaly_score"] for each in (frame, displaced)
                )
                found[k, known] += found_beside(scores, away) / len(parts)
                factor[k, known] = np.maximum(factor[k, known], widening(scores, part.is_moved, scheme.limit))
    except ModelError:
        return np.zeros(shape[1], dtype=np.int64), np.ones(shape[1])
    best = np.where(found.max(axis=0) > found[0] + _SIDES_LEAD, found.argmax(axis=0), 0)
    return np.array(numbers)[best], np.minimum(factor[best, np.arange(shape[1])], _WIDEST)


def _predicted(model: Model, part: _Part) -> tuple[I64, float, Frame, Prediction]:
    """Rows of a part that a model has a state of, bytes of that a row, what of them is judged and how it is predicted.

    Raises
    ------
    ModelError : it cannot be fitted.
    """
    state = fit_alone(model, part.train)
    frame = part.valid.select(state.series)
    prediction, _ = model.infer(state, frame)
    return state.series, state.size_bytes / max(1, state.series.size), frame, prediction


def fit_alone(model: Model, frame: Frame) -> State:
    """A state from scratch of one frame, in the calling thread."""
    if model.fit_by == "rows":
        return model.fit_rows(frame)
    return model.finish(model.learn(model.fresh(frame.series, frame), frame))
