"""From what a multivariate model says of channels to scores of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine import score
from engine.frame import F64, I64, Frame, Prediction
from engine.models.base import Model
from engine.score import Policy

_MOST = 1e6


def score_groups(
    model: Model, policies: Sequence[Policy], policy_of: I64, prediction: Prediction, frame: Frame
) -> dict[str, F64]:
    """The columns of a prediction by name: `anomaly_score` is (G, T), all others have a row for each channel, (S, T).

    Parameters
    ----------
    policies : one for each query; `policy_of`, (S,), is the place of each row's own.
    frame : whose groups are complete or NaN at each time, as `align` makes them.

    Notes
    -----
    Each channel is scored by its own query's policies, then the model puts these scores together. What holds for
    the whole group follows in the order of `score.apply`: 0 before all channels have learned enough, at least the
    score for values outside their range where one is. `contribution` are shares of the score: they sum to 1.
    """
    indptr = frame.indptr
    first = indptr[:-1]
    if first.size == 0:
        return {"anomaly_score": np.empty((0, frame.timestamps_ms.size)), "y": frame.values}
    columns = _of_channels(model, policies, policy_of, prediction, frame)
    own = columns.pop("anomaly_score")
    if prediction.joint is None or prediction.share is None:
        joint, share = model.joint(own, prediction, frame)
    else:
        joint, share = prediction.joint, prediction.share
    exists = np.isfinite(frame.values)
    if prediction.seen is not None:
        counts = np.abs(frame.values) <= prediction.largest
        learned = prediction.seen[:, None] + np.cumsum(counts, axis=1) - counts
        is_warm = np.logical_and.reduceat(learned >= model.warm_up, first, axis=0)
        joint = np.where(is_warm, joint, 0.0)
    limits = np.array([policy.data_range for policy in policies])[policy_of]
    is_outside = (frame.values < limits[:, :1]) | (frame.values > limits[:, 1:])
    outside_score = np.array([policy.outside_score for policy in policies])[policy_of]
    least = np.where(is_outside, outside_score[:, None], -np.inf)
    least = np.maximum.reduceat(least, first, axis=0)
    is_raised = ~(joint >= least)
    joint = np.where(np.logical_and.reduceat(exists, first, axis=0), np.where(is_raised, least, joint), np.nan)
    joint = np.where(np.isneginf(joint), np.nan, np.minimum(joint, _MOST))
    sizes = np.diff(indptr)
    share = np.where(np.repeat(is_raised & np.isfinite(least), sizes, axis=0), is_outside, share)
    return {"anomaly_score": joint, **columns, "contribution": _shares(share, joint, first, sizes)}


def _shares(share: F64, joint: F64, first: I64, sizes: I64) -> F64:
    """(S, T) shares that sum to 1 in each group that has a score; equal ones where no channel stands out."""
    share = np.where(np.isfinite(share), np.maximum(share, 0.0), 0.0)
    largest = np.repeat(np.maximum.reduceat(share, first, axis=0), sizes, axis=0)
    share = np.where(largest > 0.0, share / np.where(largest > 0.0, largest, 1.0), 1.0)
    share /= np.repeat(np.add.reduceat(share, first, axis=0), sizes, axis=0)
    return np.where(np.isfinite(np.repeat(joint, sizes, axis=0)), share, np.nan)


def _of_channels(
    model: Model, policies: Sequence[Policy], policy_of: I64, prediction: Prediction, frame: Frame
) -> dict[str, F64]:
    """Columns of `score.apply`, each row by its own policy."""
    if prediction.yhat is None:
        nothing = np.full(frame.shape, np.nan)
        return {"anomaly_score": nothing, "y": frame.values}
    used = np.unique(policy_of)
    if used.size == 1:
        return score.apply(policies[used[0]], model.warm_up, prediction, frame)
    columns: dict[str, F64] = {}
    for k in used.tolist():
        rows = np.flatnonzero(policy_of == k)
        part = replace(frame, series=frame.series[rows], values=frame.values[rows], groups=None)
        for name, column in score.apply(policies[k], model.warm_up, _take(prediction, rows), part).items():
            columns.setdefault(name, np.full(frame.shape, np.nan))[rows] = column
    return columns


def _take(prediction: Prediction, rows: I64) -> Prediction:
    """Some rows of what `score.apply` looks at."""
    names = ("yhat", "yhat_lower", "yhat_upper", "unusual", "seen")
    columns = {name: None if (array := getattr(prediction, name)) is None else array[rows] for name in names}
    extra = {name: array[rows] for name, array in prediction.extra.items()}
    return Prediction(**columns, extra=extra, largest=prediction.largest)
