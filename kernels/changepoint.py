"""Prophet's maximum a posteriori fit: a piecewise trend with sparse slope changes, and regressors, row by row."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import B1, F64, I64, kernel
from kernels.changepoint_gram import (
    add_products,
    assemble_gram,
    feature_products,
    gradient,
    segment_sums,
    weighted_sums,
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
from kernels.changepoint_step import (
    DERIVATIVE,
    GRADIENT,
    LEVEL,
    N_POINT_ROWS,
    N_VECTORS,
    PRECISION,
    RESIDUAL,
    TARGET,
    THETA,
    TIME,
    TRIAL,
    VALUE,
    evaluate,
    noise_variance,
    penalty,
    solve_step,
)

# Standard deviation of the priors of slope and offset.
_TREND_SCALE = 5.0


@kernel
def _disable(enabled: B1, gram: F64, grad: F64) -> None:
    """Take the regressors that a row has not out of its normal equations."""
    for k in range(enabled.size):
        if not enabled[k]:
            gram[2 + k, :] = 0.0
            gram[:, 2 + k] = 0.0
            grad[2 + k] = 0.0


@kernel
def _in_slope_and_offset(theta: F64, gram: F64, grad: F64) -> None:
    """Change of variables of a logistic trend: from the line's intercept to its root, which Prophet calls offset."""
    m, k = theta[1], theta[0]
    for j in range(theta.size):
        gram[0, j], gram[1, j] = gram[0, j] - m * gram[1, j], -k * gram[1, j]
    for i in range(theta.size):
        gram[i, 0], gram[i, 1] = gram[i, 0] - m * gram[i, 1], -k * gram[i, 1]
    grad[0], grad[1] = grad[0] - m * grad[1], -k * grad[1]


@kernel
def _fit_linear(
    where: I64, starts: I64, changepoints: F64, features: F64, columns: F64, is_factor: B1, enabled: B1, tau: float,
    points: F64, vectors: F64, gram: F64, table: F64, active: B1,
) -> float:  # fmt: skip
    """Optimum of a model that is linear in its parameters, from THETA into THETA; returns the noise's variance."""
    n, n_free = where.size, 2 + enabled.size
    theta = vectors[THETA]
    sse = evaluate(theta, False, 0.0, where, starts, changepoints, columns, is_factor, points)
    variance = 0.0
    for _ in range(4):
        gradient(where, points[TIME], starts, features, is_factor, points[RESIDUAL], points[DERIVATIVE], points[LEVEL],
                 changepoints, vectors[GRADIENT])  # fmt: skip
        _disable(enabled, gram, vectors[GRADIENT])
        variance = solve_step(gram, sse, n, tau, n_free, variance, 200, vectors, table, active)
        theta[:] = vectors[TARGET]
        sse = evaluate(theta, False, 0.0, where, starts, changepoints, columns, is_factor, points)
        exact = noise_variance(sse, n)
        # The step's own sum of squares cancels where the fit is much closer than the start was: then start from here.
        is_exact = abs(exact - variance) <= 1e-7 * exact
        variance = exact
        if is_exact:
            break
    return variance


@kernel
def _fit_curved(
    is_logistic: bool, is_flat: bool, cap: float, where: I64, starts: I64, changepoints: F64, features: F64,
    columns: F64, is_factor: B1, enabled: B1, tau: float, points: F64, vectors: F64, gram: F64, products: F64,
    sums: F64, table: F64, active: B1,
) -> float:  # fmt: skip
    """As `_fit_linear` for logistic growth and factors: Gauss-Newton steps, shortened until the posterior rises."""
    n, n_free = where.size, 2 + enabled.size
    theta, target, trial, precision = vectors[THETA], vectors[TARGET], vectors[TRIAL], vectors[PRECISION]
    sse = evaluate(theta, is_logistic, cap, where, starts, changepoints, columns, is_factor, points)
    variance = noise_variance(sse, n)
    n_small = 0
    for _ in range(200):
        weighted_sums(
            where, points[TIME], starts, features, is_factor, points[DERIVATIVE], points[LEVEL], sums, products
        )
        assemble_gram(sums, products, changepoints, gram)
        gradient(where, points[TIME], starts, features, is_factor, points[RESIDUAL], points[DERIVATIVE], points[LEVEL],
                 changepoints, vectors[GRADIENT])  # fmt: skip
        _disable(enabled, gram, vectors[GRADIENT])
        if is_logistic:
            _in_slope_and_offset(theta, gram, vectors[GRADIENT])
        if is_flat:
            gram[0, :] = 0.0
            gram[:, 0] = 0.0
        solve_step(gram, sse, n, tau, n_free, variance, 1, vectors, table, active)
        before = 0.5 * sse / variance + penalty(theta, precision, tau, n_free)
        after, share = before, 2.0
        while share > 1e-6:
            share *= 0.5
            for j in range(theta.size):
                trial[j] = target[j] if share == 1.0 else theta[j] + share * (target[j] - theta[j])
            sse = evaluate(trial, is_logistic, cap, where, starts, changepoints, columns, is_factor, points)
            after = 0.5 * sse / variance + penalty(trial, precision, tau, n_free)
            if after <= before:
                break
        if not after <= before:
            break
        theta[:] = trial
        old, variance = variance, noise_variance(sse, n)
        # Gains are in log probability: two steps in a row that do not matter are the end.
        n_small = n_small + 1 if before - after < 1e-7 and abs(variance - old) < 1e-7 * variance else 0
        if n_small == 2:
            break
    return variance


@kernel
def fit_changepoints(
    y: F64, time: F64, features: F64, rules: F64, options: F64, given: F64, scalars: F64, changepoints: F64,
    changes: F64, coefficients: F64,
) -> None:  # fmt: skip
    """Most probable parameters of Prophet's model for each row.

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
    for the sums plus O(P^2) per variable that enters or leaves, P = 2 + K + C; rows with gaps add O(K^2) per missing
    point; a curved one O(N K^2) per step. Memory O(T + P^2). Raises nothing.

    Source: Taylor and Letham (2018), doi:10.1080/00031305.2017.1380080, and the `prophet` package's Stan program.
    """
    n_steps, n_features = features.shape
    n_changes = changepoints.shape[1]
    size = 2 + n_features + n_changes
    columns = features.T.copy()
    is_factor, enabled = rules[IS_FACTOR] != 0.0, np.zeros(n_features, np.bool_)
    steps, starts = np.empty(n_steps, np.int64), np.empty(n_changes + 2, np.int64)
    points, vectors = np.zeros((N_POINT_ROWS, n_steps)), np.zeros((N_VECTORS, size))
    gram, shared, table = np.empty((size, size)), np.empty((size, size)), np.empty((size, size + 1))
    products, total = np.empty((n_features, n_features)), np.zeros((n_features, n_features))
    sums, active = np.empty((n_changes + 2, 3 + 2 * n_features)), np.empty(size, np.bool_)
    is_logistic, is_flat = options[GROWTH] == LOGISTIC, options[GROWTH] == FLAT
    tau, theta = options[CHANGEPOINT_SCALE], vectors[THETA]
    add_products(features, 0, n_steps, 1.0, total)
    vectors[PRECISION, :2] = _TREND_SCALE**-2
    vectors[PRECISION, 2 : 2 + n_features] = rules[PRIOR_SCALE] ** -2
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
        if is_logistic and not cap > 0.0:
            scalars[i, N_POINTS] = 0.0
            continue
        find_starts(points[TIME], n, cps, starts)
        enable(rules, points[TIME], n, span, enabled)
        start_search(is_logistic, cap, points[VALUE], n, theta)
        if is_logistic or is_factor.any():
            variance = _fit_curved(is_logistic, is_flat, cap, where, starts, cps, features, columns, is_factor, enabled,
                                   tau, points, vectors, gram, products, sums, table, active)  # fmt: skip
        else:
            if where[0] != shared_first or where[n - 1] != shared_last or where[n - 1] - where[0] + 1 != n:
                feature_products(features, where, total, products)
                segment_sums(where, points[TIME], starts, features, sums)
                assemble_gram(sums, products, cps, gram)
                if is_flat:
                    gram[0, :] = 0.0
                    gram[:, 0] = 0.0
                if where[n - 1] - where[0] + 1 == n:
                    shared[:] = gram
                    shared_first, shared_last = where[0], where[n - 1]
            else:
                gram[:] = shared
            variance = _fit_linear(where, starts, cps, features, columns, is_factor, enabled, tau, points, vectors,
                                   gram, table, active)  # fmt: skip
        if not (math.isfinite(variance) and math.isfinite(theta.sum())):
            scalars[i, N_POINTS] = 0.0
            continue
        scalars[i, SLOPE], scalars[i, OFFSET], scalars[i, SIGMA] = theta[0], theta[1], math.sqrt(variance)
        coefficients[i] = theta[2 : 2 + n_features]
        changes[i] = theta[2 + n_features :]
