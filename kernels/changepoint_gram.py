"""Normal equations of a piecewise linear trend beside regressors, summed segment by segment.

Parameters are ordered: slope, offset, one coefficient for each of K regressors, one slope change for each of C
changepoints. A changepoint's column is max(time - changepoint, 0), so all that is needed of it are sums over the
segments between changepoints: no column is ever built.
"""

from __future__ import annotations

from kernels._jit import B1, F64, I64, inline, kernel


@inline
def copy_matrix(source: F64, out: F64) -> None:
    """`out[:] = source` without numba's check of shapes, whose message takes half a second to compile."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = source[i, j]


@kernel
def add_products(features: F64, start: int, stop: int, sign: float, out: F64) -> None:
    """Add to `out` (K, K) the regressors' products summed over the steps start:stop, times `sign`."""
    n_features = features.shape[1]
    for step in range(start, stop):
        for j in range(n_features):
            value = sign * features[step, j]
            if value != 0.0:
                for k in range(n_features):
                    out[j, k] += value * features[step, k]


@kernel
def feature_products(features: F64, where: I64, total: F64, out: F64) -> None:
    """Sums of products of the regressors over some steps of the grid.

    Parameters
    ----------
    features : (T, K).
    where : (N,) steps with a value, rising.
    total : (K, K) the same sums over the whole grid.
    out : (K, K), replaced.

    Notes
    -----
    O(K^2 min(N, T - N)): few missing steps are taken off the total.
    """
    n_steps = features.shape[0]
    if 2 * where.size <= n_steps:
        out[:] = 0.0
        for step in where:
            add_products(features, step, step + 1, 1.0, out)
        return
    copy_matrix(total, out)
    missing = 0
    for q in range(where.size + 1):
        stop = where[q] if q < where.size else n_steps
        add_products(features, missing, stop, -1.0, out)
        missing = stop + 1


@kernel
def segment_sums(where: I64, time: F64, starts: I64, features: F64, out: F64) -> None:
    """Sums of 1, time, time^2, each regressor and time * regressor over each segment.

    Parameters
    ----------
    where : (N,) steps with a value, rising. time : (N,) their scaled times. features : (T, K).
    starts : (C + 2,) positions in `where`: 0, the first at or after each changepoint, N.
    out : (C + 2, 3 + 2 K), replaced; the last row is work space of `assemble_gram`.
    """
    n_features = features.shape[1]
    out[:] = 0.0
    for s in range(starts.size - 1):
        row = out[s]
        for q in range(starts[s], starts[s + 1]):
            t = time[q]
            row[0] += 1.0
            row[1] += t
            row[2] += t * t
            regressors = features[where[q]]
            for k in range(n_features):
                row[3 + k] += regressors[k]
            for k in range(n_features):
                row[3 + n_features + k] += t * regressors[k]


@kernel
def weighted_sums(
    where: I64, time: F64, starts: I64, features: F64, is_factor: B1, slope: F64, level: F64, out: F64, products: F64
) -> None:
    """`segment_sums` and the regressors' products for a model that is not linear, at its present parameters.

    Parameters
    ----------
    is_factor : (K,) regressors that multiply the trend: their columns are scaled by `level` (N,), the trend.
    slope : (N,) derivative of the expected value by the trend's linear term: trend columns are scaled by it.
    products : (K, K), replaced.
    """
    n_features = features.shape[1]
    out[:] = 0.0
    products[:] = 0.0
    for s in range(starts.size - 1):
        row = out[s]
        for q in range(starts[s], starts[s + 1]):
            t, u = time[q], slope[q]
            row[0] += u * u
            row[1] += u * u * t
            row[2] += u * u * t * t
            regressors = features[where[q]]
            for k in range(n_features):
                z = regressors[k] * (level[q] if is_factor[k] else 1.0)
                row[3 + k] += u * z
                row[3 + n_features + k] += u * t * z
                for j in range(k + 1):
                    products[k, j] += z * regressors[j] * (level[q] if is_factor[j] else 1.0)
    for k in range(n_features):
        for j in range(k):
            products[j, k] = products[k, j]


@kernel
def assemble_gram(sums: F64, products: F64, changepoints: F64, is_flat: bool, out: F64) -> None:
    """The Gram matrix from sums over segments.

    Parameters
    ----------
    sums : (C + 2, 3 + 2 K) as `segment_sums` fills it. products : (K, K).
    changepoints : (C,) scaled times, rising. is_flat : without a slope.
    out : (P, P), P = 2 + K + C, replaced.
    """
    n_features = products.shape[0]
    first = 2 + n_features
    tail = sums[changepoints.size + 1]
    tail[:] = 0.0
    for s in range(changepoints.size, -1, -1):
        for j in range(tail.size):
            tail[j] += sums[s, j]
        if s == 0:
            break
        c = changepoints[s - 1]
        row = first + s - 1
        out[row, 0] = tail[2] - c * tail[1]
        out[row, 1] = tail[1] - c * tail[0]
        for k in range(n_features):
            out[row, 2 + k] = tail[3 + n_features + k] - c * tail[3 + k]
        for r in range(s):
            out[row, first + r] = tail[2] - (changepoints[r] + c) * tail[1] + changepoints[r] * c * tail[0]
    out[0, 0], out[1, 0], out[1, 1] = tail[2], tail[1], tail[0]
    for k in range(n_features):
        out[2 + k, 0] = tail[3 + n_features + k]
        out[2 + k, 1] = tail[3 + k]
        for j in range(k + 1):
            out[2 + k, 2 + j] = products[k, j]
    for i in range(out.shape[0]):
        for j in range(i):
            out[j, i] = out[i, j]
    if is_flat:
        out[0, :] = 0.0
        out[:, 0] = 0.0


@kernel
def gradient(
    where: I64, time: F64, starts: I64, features: F64, is_factor: B1, residual: F64, slope: F64, level: F64,
    changepoints: F64, out: F64,
) -> None:  # fmt: skip
    """Products of the columns with the residual (N,); the other arguments as in `weighted_sums`.

    Parameters
    ----------
    out : (P,), replaced.
    """
    n_features = features.shape[1]
    out[:] = 0.0
    regressed = out[2 : 2 + n_features]
    ones = times = 0.0
    for s in range(starts.size - 2, -1, -1):
        for q in range(starts[s], starts[s + 1]):
            r = residual[q]
            scaled = r * slope[q]
            ones += scaled
            times += scaled * time[q]
            regressors = features[where[q]]
            for k in range(n_features):
                regressed[k] += r * regressors[k] * (level[q] if is_factor[k] else 1.0)
        if s > 0:
            out[2 + n_features + s - 1] = times - changepoints[s - 1] * ones
    out[0], out[1] = times, ones


@inline
def disable(enabled: B1, gram: F64, grad: F64) -> None:
    """Take the regressors that a row has not out of its normal equations."""
    for k in range(enabled.size):
        if not enabled[k]:
            gram[2 + k, :] = 0.0
            gram[:, 2 + k] = 0.0
            grad[2 + k] = 0.0
