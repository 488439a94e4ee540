"""What `auto` judges a trial by: points that it finds, alerts too many, distance from the series, its two sides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.frame import F64

# Weight of the mean error, in ranges, against the share of displaced points that is not found.
_ERROR_WEIGHT = 0.25
# An error in ranges counts as no more.
_FARTHEST = 10.0
# To judge the sides of a band each point is displaced once, by these ranges in turn; it weighs as 3 among 97 others.
_SIZES = (0.3, 0.6, 0.9, 1.2, 1.5)
_RARITY = 3 / 97


def losses(columns: dict[str, F64], is_moved: F64, span: F64, limit: float) -> F64:
    """(S,) displaced points that are not found, alerts at others beyond the limit, a quarter of the mean error."""
    scores = columns["anomaly_score"]
    there = np.isfinite(scores)
    calm = there & (is_moved == 0)
    n_calm = np.maximum(calm.sum(axis=1), 1)
    found = average_precision(np.where(there, scores, -1.0), there & (is_moved > 0))
    excess = np.maximum((calm & (scores > 1)).sum(axis=1) / n_calm - limit, 0.0)
    error = np.zeros(span.size)
    if "yhat" in columns:
        is_known = calm & np.isfinite(columns["yhat"])
        away = np.abs(np.where(is_known, columns["y"], 0.0) - np.where(is_known, columns["yhat"], 0.0))
        error = np.minimum(away / span[:, None], _FARTHEST).sum(axis=1) / n_calm
    loss: F64 = (1.0 - found) + excess + _ERROR_WEIGHT * error
    return loss


def widening(scores: F64, is_moved: F64, limit: float) -> F64:
    """(S,) factor of at least 1 by which a band is to be widened so that alerts at calm points keep to the limit."""
    calm = np.isfinite(scores) & (is_moved == 0)
    n_above = np.floor(limit * np.maximum(calm.sum(axis=1), 1)).astype(np.int64)
    ordered = np.sort(np.where(calm, scores, -1.0), axis=1)
    at_limit = ordered[np.arange(scores.shape[0]), np.maximum(ordered.shape[1] - 1 - n_above, 0)]
    factor: F64 = np.maximum(at_limit, 1.0)
    return factor


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


def average_precision(scores: F64, truth: NDArray[np.bool_], weight: float = 1.0) -> F64:
    """(S,) area under precision over recall, points in falling order of their scores; 1 where nothing is true.

    Parameters
    ----------
    weight : of a true point; others have 1. Of equal scores the first point is first.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = np.take_along_axis(truth, order, axis=1)
    true = weight * np.cumsum(hits, axis=1)
    precision = true / np.maximum(true + np.cumsum(~hits, axis=1), np.finfo(float).tiny)
    n_true = hits.sum(axis=1)
    area: F64 = np.where(n_true > 0, (hits * precision).sum(axis=1) / np.maximum(n_true, 1), 1.0)
    return area


def walls(values: F64) -> tuple[F64, F64]:
    """(S,) least and largest value that a row can have: where it is for a share of 1 %, there is a wall.

    Infinite without one: fewer than none and more than all are no incidents.
    """
    ordered = np.sort(np.where(np.isfinite(values), values, np.nan), axis=1)
    last = np.maximum(np.isfinite(ordered).sum(axis=1) - 1, 0)
    rows = np.arange(values.shape[0])
    low, least, most, high = (ordered[rows, np.round(q * last).astype(np.int64)] for q in (0.0, 0.01, 0.99, 1.0))
    return np.where(low == least, low, -np.inf), np.where(high == most, high, np.inf)


def moved(values: F64, span: F64, bounds: tuple[F64, F64]) -> F64:
    """Each point displaced, upwards and downwards in turn, within the walls."""
    step = np.arange(values.shape[1])
    shift = np.array(_SIZES)[step // 2 % len(_SIZES)] * np.where(step % 2, -1.0, 1.0)
    low, high = bounds
    return np.clip(values + shift * span[:, None], low[:, None], high[:, None])


def found_beside(scores: F64, displaced: F64) -> F64:
    """(S,) average precision of displaced points among those that are not, by the scores of both."""
    both = np.concatenate([scores, displaced], axis=1)
    there = np.isfinite(both)
    truth = there & (np.arange(both.shape[1]) >= scores.shape[1])
    return average_precision(np.where(there, both, -1.0), truth, _RARITY)
