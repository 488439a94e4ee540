"""Isolation forests of many series that share further columns: the place of each time in its day, week or year."""

from __future__ import annotations

import numpy as np

from kernels._jit import F64, I64, kernel
from kernels.iforest import Forest
from kernels.iforest_build import forest_build
from kernels.iforest_map import map_fit, map_score
from kernels.iforest_paths import path_lengths, score_rows

_LARGEST = 1e300


@kernel
def rows_fit(
    y: F64, shared: F64, seed: int, n_sample: int, share: float, n_features: int, is_bootstrap: bool,
    contamination: float, forests: Forest, used: I64, low: F64, high: F64,
) -> None:  # fmt: skip
    """Build a forest of each row's values and the shared columns.

    Parameters
    ----------
    y : (S, T), unit of the query. NaN, inf and what is beyond 1e300 is no sample.
    shared : (T, m) further columns.
    seed, n_features, is_bootstrap : as `forest_build` takes them, the same for each row.
    n_sample, share : rows in a tree's sample: `share` of a row's samples, all if it is 0, at most `n_sample`.
    contamination : as `map_fit` takes it.
    forests : zeros, a forest's arrays with an axis of rows in front.
    used : (S,) rows in each tree's sample; 0 where a row has fewer than two samples.
    low, high : (S,) of `map_fit`.

    Notes
    -----
    O(n_trees T log n_sample) a row. Rows are independent.
    """
    for i in range(y.shape[0]):
        times = np.flatnonzero(np.abs(y[i]) <= _LARGEST)
        if times.size < 2:
            continue
        x = _stacked(y[i], shared, times)
        used[i] = min(n_sample, max(int(share * times.size), 1) if share > 0.0 else times.size)
        forest = _forest(forests, i)
        forest_build(x, seed, used[i], n_features, is_bootstrap, forest)
        raw = np.empty(times.size)
        score_rows(x, path_lengths(used[i]), forest, raw)
        low[i], high[i] = map_fit(raw, contamination)


@kernel
def rows_score(y: F64, shared: F64, forests: Forest, used: I64, low: F64, high: F64, out: F64) -> None:
    """Write anomaly scores (S, T): 1 at the threshold of the fit, more for outliers; NaN where `y` is not finite.

    A series that never moved in the fit scores 0 as long as it does not. Arguments as of `rows_fit`; a row takes
    O(T n_trees log n_sample).
    """
    times = np.arange(y.shape[1])
    lengths = np.empty(0)
    for i in range(y.shape[0]):
        if lengths.size != used[i] + 1:
            lengths = path_lengths(used[i])
        score_rows(_stacked(y[i], shared, times), lengths, _forest(forests, i), out[i])
        for t in range(y.shape[1]):
            # A time of day is not anomalous by itself.
            is_still = forests.scale[i, 0] == 0.0 and y[i, t] == forests.center[i, 0]
            out[i, t] = 0.0 if is_still else map_score(out[i, t], low[i], high[i])


@kernel
def _stacked(row: F64, shared: F64, times: I64) -> F64:
    """(n, 1 + m) values of a row and the shared columns at some times."""
    x = np.empty((times.size, 1 + shared.shape[1]))
    for k in range(times.size):
        x[k, 0] = row[times[k]]
        for f in range(shared.shape[1]):
            x[k, 1 + f] = shared[times[k], f]
    return x


@kernel
def _forest(forests: Forest, i: int) -> Forest:
    """The arrays of one row."""
    return Forest(
        forests.center[i],
        forests.scale[i],
        forests.threshold[i],
        forests.feature[i],
        forests.left[i],
        forests.leaf[i],
        forests.size[i],
    )
