"""Isolation forests of groups of channels that are joined in time, and share further columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels._jit import F32, F64, I16, I64, kernel
from kernels.iforest import Forest
from kernels.iforest_build import forest_build
from kernels.iforest_gains import forest_gains
from kernels.iforest_map import map_fit, map_score
from kernels.iforest_paths import path_lengths, score_rows

_LARGEST = 1e300


class GroupForests(NamedTuple):
    """What is kept of each group: a forest's trees, the scales of its further columns, its map to anomaly scores.

    threshold, feature, left, leaf, size : of `Forest`, with an axis of groups in front.
    shared_center, shared_scale : (G, m) of the further columns, which stand behind the channels.
    used : (G,) rows in each tree's sample; 0 where a group has fewer than two complete times.
    low, high : (G,) of `map_fit`.
    """

    threshold: F32
    feature: I16
    left: I16
    leaf: I16
    size: I16
    shared_center: F64
    shared_scale: F64
    used: I64
    low: F64
    high: F64


@kernel
def groups_fit(
    y: F64, indptr: I64, shared: F64, seed: int, n_sample: int, share: float, n_features: I64, is_bootstrap: bool,
    contamination: float, center: F64, scale: F64, out: GroupForests,
) -> None:  # fmt: skip
    """Build a forest of each group's channels and the further columns; a time is a row.

    Parameters
    ----------
    y : (S, T), unit of each channel's query. Times at which a channel of the group is NaN, inf or beyond 1e300 are
        no rows of it.
    indptr : (G + 1,) where the channels of each group begin in `y`.
    shared : (T, m) further columns.
    seed, is_bootstrap : as `forest_build` takes them, the same for each group; `n_features`, (G,), of each.
    n_sample, share : rows in a tree's sample: `share` of a group's rows, all if it is 0, at most `n_sample`.
    contamination : as `map_fit` takes it.
    center, scale : (S,) of each channel, as in `Forest`.
    out : zeros.

    Notes
    -----
    O(n_trees T log n_sample) a group and pass over its columns. Groups are independent.
    """
    for g in range(indptr.size - 1):
        a, b = indptr[g], indptr[g + 1]
        times = _complete(y[a:b])
        if times.size < 2:
            continue
        x = _stacked(y[a:b], shared, times)
        out.used[g] = min(n_sample, max(int(share * times.size), 1) if share > 0.0 else times.size)
        forest = _forest(center[a:b], scale[a:b], out, g)
        forest_build(x, seed, out.used[g], n_features[g], is_bootstrap, forest)
        center[a:b], scale[a:b] = forest.center[: b - a], forest.scale[: b - a]
        out.shared_center[g], out.shared_scale[g] = forest.center[b - a :], forest.scale[b - a :]
        raw = np.empty(times.size)
        score_rows(x, path_lengths(out.used[g]), forest, raw)
        out.low[g], out.high[g] = map_fit(raw, contamination)


@kernel
def groups_score(
    y: F64, indptr: I64, shared: F64, center: F64, scale: F64, forests: GroupForests, score: F64, gain: F64
) -> None:
    """Write anomaly scores of groups (G, T), 1 at the threshold of the fit; NaN where a channel is not finite.

    Parameters
    ----------
    gain : (S, T) what each channel adds, as `forest_gains` says, which takes as long as the score; or (0, 0).

    Notes
    -----
    Other arguments as of `groups_fit`. A group of which nothing moved in the fit scores 0 as long as nothing does.
    O(T n_trees log n_sample) a group.
    """
    times = np.arange(y.shape[1])
    for g in range(indptr.size - 1):
        a, b = indptr[g], indptr[g + 1]
        x = _stacked(y[a:b], shared, times)
        forest = _forest(center[a:b], scale[a:b], forests, g)
        score_rows(x, path_lengths(forests.used[g]), forest, score[g])
        for t in range(times.size):
            # A time of day is not anomalous by itself.
            is_still = True
            for i in range(a, b):
                is_still &= scale[i] == 0.0 and y[i, t] == center[i]
            score[g, t] = 0.0 if is_still else map_score(score[g, t], forests.low[g], forests.high[g])
        if gain.shape[0] > 0:
            added = np.empty(x.shape)
            forest_gains(x, forests.used[g], forest, added)
            for i in range(a, b):
                gain[i] = added[:, i - a]


@kernel
def _complete(rows: F64) -> I64:
    """Times at which all rows have a value that can be scaled."""
    is_complete = np.ones(rows.shape[1], dtype=np.bool_)
    for i in range(rows.shape[0]):
        is_complete &= np.abs(rows[i]) <= _LARGEST
    return np.flatnonzero(is_complete)


@kernel
def _stacked(rows: F64, shared: F64, times: I64) -> F64:
    """(n, d + m) values of rows and the further columns at some times."""
    d = rows.shape[0]
    x = np.empty((times.size, d + shared.shape[1]))
    for k in range(times.size):
        for i in range(d):
            x[k, i] = rows[i, times[k]]
        x[k, d:] = shared[times[k]]
    return x


@kernel
def _forest(center: F64, scale: F64, forests: GroupForests, g: int) -> Forest:
    """The forest of one group; its centers and scales are copies."""
    return Forest(
        np.concatenate((center, forests.shared_center[g])),
        np.concatenate((scale, forests.shared_scale[g])),
        forests.threshold[g],
        forests.feature[g],
        forests.left[g],
        forests.leaf[g],
        forests.size[g],
    )
