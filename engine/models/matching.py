"""State and frame of a multivariate model: groups whose channels are those of the fit, joined on the grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from engine.frame import F64, I64, Frame, State, find

_NONE: I64 = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """State and frame with the same rows, and the groups with points that were left out of the frame.

    Parameters
    ----------
    extra : groups with a channel that their state does not know; all their rows are NaN.
    missing : groups without a channel that their state has; all their rows are NaN.
    unknown : groups that the state does not know; they have no rows.
    """

    state: State
    frame: Frame
    extra: I64
    missing: I64
    unknown: I64


def match(state: State, frame: Frame, fresh: Callable[[I64, Frame], State] | None = None) -> Match:
    """The state's channels with the frame's values, and all groups of the frame found fit or left out.

    A channel is there if the frame has a finite value of it. At a time when a channel of a group is missing all of
    the group's are NaN.

    Parameters
    ----------
    fresh : of an online model, `Model.fresh`: groups that the state does not know get a state on the spot.
    """
    is_there = np.isfinite(frame.values).any(axis=1)
    groups = groups_of(frame)
    unknown = np.setdiff1d(groups[is_there], groups_of(state))
    if fresh is not None and unknown.size:
        new = _rows(frame, is_there & np.isin(groups, unknown))
        state = State.concat([state, fresh(new.series, new)])
        unknown = _NONE
    where = find(frame.series, state.series)
    values = np.full((state.series.size, frame.timestamps_ms.size), np.nan)
    values[where >= 0] = frame.values[where[where >= 0]]
    extra = np.unique(groups[is_there & (find(state.series, frame.series) < 0) & ~np.isin(groups, unknown)])
    there = np.isin(state.series, frame.series[is_there])
    present = np.isin(groups_of(state), groups_of(state)[there])
    missing = np.setdiff1d(groups_of(state)[present & ~there], extra)
    values[np.isin(groups_of(state), np.concatenate([extra, missing]))] = np.nan
    aligned = replace(frame, series=state.series, values=joined(values, state.indptr), groups=state.groups)
    return Match(state, aligned, extra, missing, unknown)


def groups_of(rows: State | Frame) -> I64:
    """(S,) group of each row; a state or frame that has none has no row."""
    return _NONE if rows.groups is None else rows.groups


def joined(values: F64, indptr: I64) -> F64:
    """(S, T) values, NaN in all rows of a group at times when one of them is not finite."""
    if indptr.size == 1:
        return values
    complete = np.logical_and.reduceat(np.isfinite(values), indptr[:-1], axis=0)
    if complete.all():
        return values
    return np.where(np.repeat(complete, np.diff(indptr), axis=0), values, np.nan)


def _rows(frame: Frame, keep: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Frame:
    groups = None if frame.groups is None else frame.groups[keep]
    return replace(frame, series=frame.series[keep], values=frame.values[keep], groups=groups)
