"""Scores of whole files, each from what came before it alone: fit on the head, then on, refitting where asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from engine import score
from engine.errors import ModelError
from engine.frame import F64, Frame, Prediction, Query, State, find
from engine.models.base import Model, align, fit, infer
from engine.offline.grid import Batch
from engine.offline.points import Points
from engine.pool import Pool
from engine.score import Policy

log = logging.getLogger("model")

T = TypeVar("T")

BAND = ("yhat", "yhat_lower", "yhat_upper")
COLUMNS = (*BAND, "anomaly_score")
DAY_MS = 86_400_000
# Cells that are predicted at a time: outputs of a piece are a few times as large.
_PIECE_CELLS = 1 << 21
# Batches of fewer rows than this share the threads, one batch each.
_MANY_ROWS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: a model, and how often it is refitted on the last points, as many as its head has; 0 is never."""

    model: Model
    fit_every_ms: int

    @classmethod
    def of(cls, model: Model, fit_every_ms: int | None) -> Plan:
        """By default models that do not learn from each point are refitted once a day, others never."""
        if fit_every_ms is None:
            fit_every_ms = 0 if model.is_online else DAY_MS
        return cls(model, fit_every_ms)

    def policy(self, frame: Frame) -> Policy:
        """What counts as anomalous."""
        return score.resolve(self.model, Query("score", "", frame.step_ms, frame.tz))


def score_points(plan: Plan, points: Points, batches: Sequence[Batch], pool: Pool) -> dict[str, F64]:
    """Columns by name, (N,) in input order; NaN in the head and where the model has nothing to say.

    Raises
    ------
    ModelError : no series could be fitted.
    """
    columns = {name: np.full(points.n_points, np.nan) for name in COLUMNS}

    def run(batch: Batch, its_pool: Pool) -> None:
        found, again = score_batch(plan, batch, its_pool)
        for name, grid in found.items():
            column = columns.setdefault(name, np.full(points.n_points, np.nan))
            column[batch.points] = grid[batch.rows, batch.slots]
        columns["anomaly_score"][batch.points[batch.again]] = again

    share_threads(run, batches, [batch.frame.shape[0] for batch in batches], pool)
    return columns


def share_threads(function: Callable[[T, Pool], None], batches: Sequence[T], n_rows: Sequence[int], pool: Pool) -> None:
    """Run a function over batches: large ones use all threads, small ones share them.

    Raises
    ------
    ModelError : all of them failed; some are a warning.
    """
    errors: list[str] = []

    def run(batch: T, its_pool: Pool) -> None:
        try:
            function(batch, its_pool)
        except ModelError as err:
            errors.append(str(err))

    one = Pool(1)
    large = [batch for batch, rows in zip(batches, n_rows, strict=True) if rows >= _MANY_ROWS]
    pool.map(lambda b: run(b, one), [b for b, rows in zip(batches, n_rows, strict=True) if rows < _MANY_ROWS])
    for batch in large:
        run(batch, pool)
    if len(errors) == len(batches):
        raise ModelError(errors[0])
    for error in dict.fromkeys(errors):
        log.warning("%d of %d groups of series have no scores: %s", errors.count(error), len(batches), error)


def steps(plan: Plan, frame: Frame, n_fit: int, pool: Pool) -> Iterator[tuple[int, int, Prediction, Frame]]:
    """Pieces of what follows the head, in order: first step, the one behind the last, what the model says, the frame.

    Raises
    ------
    ModelError : the head cannot be fitted.
    """
    model = plan.model
    state = _fit(model, cut(frame, 0, n_fit), pool)
    at, n_steps = n_fit, frame.timestamps_ms.size
    next_fit = at + max(1, plan.fit_every_ms // frame.step_ms) if plan.fit_every_ms else n_steps
    size = max(1, _PIECE_CELLS // max(1, frame.shape[0]))
    while at < n_steps:
        if at == next_fit:
            state = _refit(model, state, cut(frame, at - n_fit, at), pool)
            next_fit = at + max(1, plan.fit_every_ms // frame.step_ms)
        end = min(at + size, next_fit, n_steps)
        state, aligned = align(model, state, cut(frame, at, end))
        prediction, state = infer(model, state, aligned, pool)
        yield at, end, prediction, aligned
        at = end


def score_batch(plan: Plan, batch: Batch, pool: Pool) -> tuple[dict[str, F64], F64]:
    """Columns of one frame by name, each (S, T), NaN in the head; and the scores of `Batch.again`.

    Raises
    ------
    ModelError : the head cannot be fitted.
    """
    model, frame = plan.model, batch.frame
    policy = plan.policy(frame)
    columns: dict[str, F64] = {}
    again = np.full(batch.again.size, np.nan)
    for at, end, prediction, aligned in steps(plan, frame, batch.n_fit, pool):
        found = score.apply(policy, model.warm_up, prediction, aligned)
        rows = find(frame.series, aligned.series)
        for name in _wanted(model, found):
            column = columns.setdefault(name, np.full(frame.shape, np.nan))
            column[rows, at:end] = found[name]
        if again.size:
            _score_again(model, policy, batch, prediction, aligned, at, again)
    return columns, again


def cut(frame: Frame, start: int, stop: int) -> Frame:
    """Steps start:stop of a frame."""
    values = np.ascontiguousarray(frame.values[:, start:stop])
    return replace(frame, timestamps_ms=frame.timestamps_ms[start:stop], values=values)


def _wanted(model: Model, found: dict[str, F64]) -> list[str]:
    """The columns that every result has, and those that `provide_series` asks for."""
    more = score.select(model, found) if model.provide_series else {}
    return [*dict.fromkeys(name for name in (*COLUMNS, *more) if name in found and name != "y")]


def _fit(model: Model, frame: Frame, pool: Pool) -> State:
    if frame.timestamps_ms.size == 0 and model.is_online:
        return model.fresh(frame.series, frame)
    return fit(model, [frame], pool)


def _refit(model: Model, state: State, frame: Frame, pool: Pool) -> State:
    """The state of the last points; where they cannot be fitted the old one goes on, as it does in the service."""
    try:
        return _fit(model, frame, pool)
    except ModelError as err:
        log.warning("a refit failed, the state before it goes on: %s", err)
        return state


def _score_again(
    model: Model, policy: Policy, batch: Batch, prediction: Prediction, piece: Frame, at: int, out: F64
) -> None:
    """Scores of earlier points of a time that came again: their own, against the band of that time.

    Parameters
    ----------
    at : the piece's first step. `out` : (A,) scores of `Batch.again`, written where its steps are in the piece.

    Notes
    -----
    A class without a band has one score for a time, whatever the value was.
    """
    slots = batch.slots[batch.again] - at
    mine = np.flatnonzero((slots >= 0) & (slots < piece.timestamps_ms.size))
    rows = find(piece.series, batch.frame.series[batch.rows[batch.again[mine]]])
    mine, rows = mine[rows >= 0], rows[rows >= 0]
    if mine.size == 0:
        return
    slots = slots[mine]

    def of(grid: F64 | None) -> F64 | None:
        return None if grid is None else grid[rows, slots][:, None]

    seen = None
    if prediction.seen is not None:
        learned = np.cumsum(np.isfinite(piece.values), axis=1)[rows, slots] - np.isfinite(piece.values)[rows, slots]
        seen = prediction.seen[rows] + learned
    band = (of(prediction.yhat), of(prediction.yhat_lower), of(prediction.yhat_upper))
    own = Prediction(*band, of(prediction.score), of(prediction.unusual), seen=seen)
    values = np.ascontiguousarray(batch.again_values[mine][:, None])
    frame = Frame(np.arange(mine.size), piece.timestamps_ms[:1], values, piece.step_ms, piece.tz)
    out[mine] = score.apply(policy, model.warm_up, own, frame)["anomaly_score"][:, 0]
