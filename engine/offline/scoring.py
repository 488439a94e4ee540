"""Scores of whole files, each from what came before it alone: fit on the head, then on, refitting where asked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine import score
from engine.errors import ModelError
from engine.frame import F64, I64, Frame, Prediction, Query, State, find
from engine.models.base import Model, align, fit, infer
from engine.offline.grid import Batch
from engine.offline.points import Points
from engine.pool import Pool
from engine.score import Policy

log = logging.getLogger("model")

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
    errors: list[str] = []

    def run(batch: Batch, its_pool: Pool) -> None:
        try:
            found = score_batch(plan, batch, its_pool)
        except ModelError as err:
            errors.append(str(err))
            return
        for name, grid in found.items():
            column = columns.setdefault(name, np.full(points.n_points, np.nan))
            column[batch.points] = grid[batch.rows, batch.slots]
        _score_repeats(plan, points, batch, columns)

    one = Pool(1)
    pool.map(lambda batch: run(batch, one), [b for b in batches if b.frame.shape[0] < _MANY_ROWS])
    for batch in batches:
        if batch.frame.shape[0] >= _MANY_ROWS:
            run(batch, pool)
    if len(errors) == len(batches):
        raise ModelError(errors[0])
    for error in dict.fromkeys(errors):
        log.warning("%d of %d groups of series have no scores: %s", errors.count(error), len(batches), error)
    return columns


def score_batch(plan: Plan, batch: Batch, pool: Pool) -> dict[str, F64]:
    """Columns of one frame by name, each (S, T), NaN in the head.

    Raises
    ------
    ModelError : the head cannot be fitted.
    """
    model, frame, n_fit = plan.model, batch.frame, batch.n_fit
    state = _fit(model, cut(frame, 0, n_fit), pool)
    policy = plan.policy(frame)
    columns: dict[str, F64] = {}
    at, n_steps = n_fit, frame.timestamps_ms.size
    next_fit = at + plan.fit_every_ms // frame.step_ms if plan.fit_every_ms else n_steps
    size = max(1, _PIECE_CELLS // max(1, frame.shape[0]))
    while at < n_steps:
        if at == next_fit:
            state = _refit(model, state, cut(frame, at - n_fit, at), pool)
            next_fit = at + max(1, plan.fit_every_ms // frame.step_ms)
        end = min(at + size, next_fit, n_steps)
        piece = cut(frame, at, end)
        state, aligned = align(model, state, piece)
        prediction, state = infer(model, state, aligned, pool)
        found = score.apply(policy, model.warm_up, prediction, aligned)
        rows = find(frame.series, aligned.series)
        for name in _wanted(model, found):
            column = columns.setdefault(name, np.full(frame.shape, np.nan))
            column[rows, at:end] = found[name]
        at = end
    return columns


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


def _score_repeats(plan: Plan, points: Points, batch: Batch, columns: dict[str, F64]) -> None:
    """Points whose time came again have the band of their time, and a score of their own inside it."""
    own: I64 = batch.points[~batch.counts]
    if own.size == 0:
        return
    scored = np.isfinite(columns["anomaly_score"][own])
    columns["anomaly_score"][own[~np.isfinite(points.values[own])]] = np.nan
    own = own[scored & np.isfinite(columns["yhat"][own]) & np.isfinite(points.values[own])]
    if own.size == 0:
        return
    y, yhat, lower, upper = (
        np.ascontiguousarray(c[own][:, None]) for c in (points.values, *(columns[n] for n in BAND))
    )
    frame = Frame(np.arange(own.size), batch.frame.timestamps_ms[:1], y, batch.frame.step_ms, batch.frame.tz)
    policy = replace(plan.policy(frame), scale=(1.0, 1.0), clip=False)
    found = score.apply(policy, 0, Prediction(yhat, lower, upper), frame)
    columns["anomaly_score"][own] = found["anomaly_score"][:, 0]
