"""Normal equations of a piecewise linear trend beside regressors, summed segment by segment.

Parameters are ordered: slope, offset, one coefficient for each of K regressors, one slope change for each of C
changepoints. A changepoint's column is max(time - changepoint, 0), so all that is needed of it are sums over the
segments between changepoints: no column is ever built.
"""

from __future__ import annotations

from kernels._jit import F64, I64, inline, kernel


@inline
def copy_matrix(source: F64, out: F64) -> None:
    """`out[:] = source` without numba's check of shapes, whose message takes half a second to compile."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = source[i, j]


@inline
def clear_cross(at: int, gram: F64) -> None:
    """Take one parameter out of the Gram matrix (M, W): its row and its column."""
    for j in range(gram.shape[1]):
        gram[at, j] = 0.0
    for i in range(gram.shape[0]):
        gram[i, at] = 0.0


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
def segment_sums(where: I64, time: F64, starts: I64, changepoints: F64, features: F64, out: F64) -> None:
    """Sums of 1, u, u^2, each regressor and u * regressor over each segment, u the time since the segment's start.

    Parameters
    ----------
    where : (N,) steps with a value, rising. time : (N,) their scaled times. features : (T, K).
    starts : (C + 2,) positions in `where`: 0, the first at or after each changepoint, N. changepoints : (C,).
    out : (C + 1, 3 + 2 K), replaced.
    """
    n_features = features.shape[1]
    out[:] = 0.0
    for s in range(starts.size - 1):
        row = out[s]
        since = changepoints[s - 1] if s > 0 else 0.0
        for q in range(starts[s], starts[s + 1]):
            u = time[q] - since
            row[0] += 1.0
            row[1] += u
            row[2] += u * u
            regressors = features[where[q]]
            for k in range(n_features):
                row[3 + k] += regressors[k]
            for k in range(n_features):
                row[3 + n_features + k] += u * regressors[k]


@kernel
def assemble_gram(sums: F64, products: F64, changepoints: F64, out: F64) -> None:
    """The Gram matrix from sums over segments.

    Parameters
    ----------
    sums : (C + 1, 3 + 2 K) as `segment_sums` fills it; replaced by the sums over all that follows each start.
    products : (K, K). changepoints : (C,) scaled times, rising.
    out : (M, W), M and W at least P = 2 + K + C, replaced; zero past P.

    Notes
    -----
    Times count from the segment's own start: the trend's sums have no negative terms, so no digits cancel.
    """
    n_features = products.shape[0]
    first = 2 + n_features
    out[:] = 0.0
    for s in range(changepoints.size, -1, -1):
        tail, since = sums[s], changepoints[s - 1] if s > 0 else 0.0
        if s < changepoints.size:
            later, shift = sums[s + 1], changepoints[s] - since
            tail[2] += later[2] + shift * (2.0 * later[1] + shift * later[0])
            tail[1] += later[1] + shift * later[0]
            tail[0] += later[0]
            for k in range(n_features):
                tail[3 + n_features + k] += later[3 + n_features + k] + shift * later[3 + k]
                tail[3 + k] += later[3 + k]
        if s > 0:
            row = out[first + s - 1]
            row[0], row[1] = tail[2] + since * tail[1], tail[1]
            for k in range(n_features):
                row[2 + k] = tail[3 + n_features + k]
            for r in range(s):
                row[first + r] = tail[2] + (since - changepoints[r]) * tail[1]
    whole = sums[0]
    out[0, 0], out[1, 0], out[1, 1] = whole[2], whole[1], whole[0]
    for k in range(n_features):
        out[2 + k, 0], out[2 + k, 1] = whole[3 + n_features + k], whole[3 + k]
        for j in range(k + 1):
            out[2 + k, 2 + j] = products[k, j]
    for i in range(first + changepoints.size):
        for j in range(i):
            out[j, i] = out[i, j]
