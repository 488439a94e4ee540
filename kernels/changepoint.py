"""Prophet's maximum a posteriori fit: a piecewise trend with sparse slope changes, and regressors, row by row."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import B1, F64, kernel
from kernels.aligned import aligned
from kernels.changepoint_descent import descend
from kernels.changepoint_gram import (
    add_products,
    assemble_gram,
    clear_cross,
    copy_matrix,
    feature_products,
    segment_sums,
)
from kernels.changepoint_posterior import (
    LAPLACE,
    N_POINT_ROWS,
    N_VECTORS,
    NOISE,
    PRECISION,
    SIGMA_MIN,
    TIME,
    VALUE,
    X,
    any_of,
)
from kernels.changepoint_row import (
    CAP,
    CHANGEPOINT_SCALE,
    FLAT,
    GROWTH,
    IS_FACTOR,
    LOGISTIC,
    N_CHANGES,
    N_POINTS,
    OFFSET,
    PRIOR_SCALE,
    SCALE,
    SHIFT,
    SIGMA,
    SLOPE,
    SPAN,
    START,
    enable,
    find_starts,
    place_changepoints,
    read_row,
    start_search,
)

# Standard deviation of the priors of slope and offset.
_TREND_SCALE = 5.0


@kernel
def _disable(enabled: B1, gram: F64) -> None:
    """Take what a row has not out of its normal equations."""
    for k in range(enabled.size):
        if not enabled[k]:
            clear_cross(2 + k, gram)


@kernel
def fit_changepoints(
    y: F64, time: F64, features: F64, rules: F64, options: F64, given: F64, scalars: F64, changepoints: F64,
    changes: F64, coefficients: F64,
) -> None:  # fmt: skip
    """Parameters of Prophet's model for each row, as probable as its optimiser makes them.

    ``value = trend(time) * (1 + factors) + terms + noise`` in the row's own scale, the trend linear or logistic in
    pieces, with normal priors on slope, offset and regressors, Laplace priors on the changes of slope and a half-normal
    prior on the noise.

    Parameters
    ----------
    y : (S, T). NaN or inf: no point.
    time : (T,) days, rising. features : (T, K) regressors at those times.
    rules : (4, K) of each regressor: scale of its prior, 1 if it is a factor, and the least span and the spacing,
        in days, from and below which a row has it.
    options : (7,) by the positions above. Without a floor FLOOR is NaN.
    given : (G,) times of changepoints, rising; empty places N_CHANGEPOINTS of them.
    scalars : (S, 9), changepoints, changes : (S, C), coefficients : (S, K), all zero, filled. Changepoints are in the
        row's scaled time, C = max(G, N_CHANGEPOINTS), unused ones are past its end. A row that could not be fitted
        (fewer than two points, a cap not above its floor, values beyond what doubles can square) keeps N_POINTS = 0.

    Notes
    -----
    Rows are independent: results are the same bit for bit however rows are cut or ordered. A linear model costs O(N K)
    for the sums plus O(P^2) for each of some thousand steps, P = 3 + K + C; rows with gaps add O(K^2) per missing
    point; a curved one O(N K) per step. Memory O(K T + P^2). Raises nothing.

    Source: Taylor and Letham (2018), doi:10.1080/00031305.2017.1380080, and the `prophet` package's Stan program.
    """
    n_steps, n_features = features.shape
    n_changes = changepoints.shape[1]
    n_free, n_all = 2 + n_features, 2 + n_features + n_changes
    # As the loops over them take them: rows of the Gram matrix and regressors by twelve, its columns by eight, all else
    # by 32, as many as one turn of a loop takes: what is left over is done four by four.
    n_rows, padded = (n_all + 11) // 12 * 12, (n_features + 11) // 12 * 12
    n_columns, width = (n_all + 7) // 8 * 8, (max(n_all + 1, n_rows) + 31) // 32 * 32
    columns, own = aligned(padded, n_steps), aligned(padded, n_steps)
    for k in range(n_features):
        for t in range(n_steps):
            columns[k, t] = features[t, k]
    is_factor, enabled = np.zeros(n_features, np.bool_), np.zeros(n_features, np.bool_)
    steps, starts = np.empty(n_steps, np.int64), np.empty(n_changes + 2, np.int64)
    points, vectors, weights = aligned(N_POINT_ROWS, n_steps), aligned(N_VECTORS, width), np.zeros(padded)
    gram, shared = aligned(n_rows, n_columns), aligned(n_rows, n_columns)
    products, total = np.empty((n_features, n_features)), np.zeros((n_features, n_features))
    sums = np.empty((n_changes + 1, 3 + 2 * n_features))
    growth, x = options[GROWTH], vectors[X]
    add_products(features, 0, n_steps, 1.0, total)
    # Element by element: numba compiles what may fail in whole arrays, and its messages, for seconds.
    vectors[PRECISION, 0] = vectors[PRECISION, 1] = _TREND_SCALE**-2
    for k in range(n_features):
        is_factor[k] = rules[IS_FACTOR, k] != 0.0
        vectors[PRECISION, 2 + k] = 1.0 / (rules[PRIOR_SCALE, k] * rules[PRIOR_SCALE, k])
    for j in range(n_free, n_all):
        vectors[LAPLACE, j] = 1.0 / options[CHANGEPOINT_SCALE]
    vectors[NOISE, n_all] = 1.0
    is_curved = growth == LOGISTIC or any_of(is_factor)
    shared_first, shared_last = -1, -1
    for i in range(y.shape[0]):
        n = read_row(y[i], time, options, steps, points, scalars[i])
        if n < 2:
            continue
        where, cps = steps[:n], changepoints[i]
        start, span = scalars[i, START], scalars[i, SPAN]
        scalars[i, N_CHANGES] = place_changepoints(points[TIME], n, options, given, start, span, cps)
        if scalars[i, SIGMA] > 0.0:
            continue
        cap = (options[CAP] - scalars[i, SHIFT]) / scalars[i, SCALE]
        if growth == LOGISTIC and not cap > 0.0:
            scalars[i, N_POINTS] = 0.0
            continue
        find_starts(points[TIME], n, cps, starts)
        enable(rules, points[TIME], n, span, enabled)
        start_search(growth, cap, points[VALUE], n, x)
        if not is_curved:
            is_whole = where[n - 1] - where[0] + 1 == n
            if is_whole and where[0] == shared_first and where[n - 1] == shared_last:
                copy_matrix(shared, gram)
            else:
                feature_products(features, where, total, products)
                segment_sums(where, points[TIME], starts, cps, features, sums)
                assemble_gram(sums, products, cps, gram)
                if growth == FLAT:
                    clear_cross(0, gram)
                if is_whole:
                    copy_matrix(gram, shared)
                    shared_first, shared_last = where[0], where[n - 1]
            _disable(enabled, gram)
        if n < n_steps:
            for k in range(n_features):
                for q in range(n):
                    own[k, q] = columns[k, where[q]]
        value = descend(growth, cap, starts, cps, columns if n == n_steps else own, is_factor, enabled, points, vectors,
                        weights, gram)  # fmt: skip
        for j in range(width):
            value += x[j]
        if not math.isfinite(value):
            scalars[i, N_POINTS] = 0.0
            continue
        scalars[i, SLOPE], scalars[i, OFFSET], scalars[i, SIGMA] = x[0], x[1], max(math.exp(x[n_all]), SIGMA_MIN)
        for k in range(n_features):
            coefficients[i, k] = x[2 + k]
        for j in range(n_changes):
            changes[i, j] = x[n_free + j]
