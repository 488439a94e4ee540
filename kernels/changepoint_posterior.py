"""The negative log posterior of a changepoint model and its gradient, from all points or from the normal equations.

Parameters are ordered as in `changepoint_gram`; the logarithm of the noise's standard deviation follows them.
"""

from __future__ import annotations

import math

from kernels._jit import B1, F64, I64, lean_fast_inline, lean_fast_kernel, lean_inline
from kernels.lbfgs import DIRECTION

# Noise of a series that its model fits exactly, as Prophet sets it for constants.
SIGMA_MIN = 1e-9
LOG_SIGMA_MIN = math.log(SIGMA_MIN)
# Rows of `vectors`: parameters, the gradient, half the gradient of the sum of squares where a line starts and its
# change along it, precisions of normal priors, inverse scales of Laplace priors, 1 where the noise's logarithm stands.
X, GRADIENT, BASE, ALONG, PRECISION, LAPLACE, NOISE, N_VECTORS = range(8)
# Rows of `points`, by position among a series' own points.
TIME, VALUE, RESIDUAL, DERIVATIVE, LEVEL, ADDED, FACTOR, N_POINT_ROWS = range(8)


@lean_inline
def any_of(flags: B1) -> bool:
    """Whether one of them is set; numba's own takes half a second to compile."""
    found = False
    for k in range(flags.size):
        found = found or flags[k]
    return found


@lean_fast_kernel
def weighted_rows(weights: F64, n_rows: int, rows: F64, out: F64) -> None:
    """Write the sum of the first rows, each times its weight, into `out` (M,): eight rows (., M) in one pass."""
    m = out.size
    for i in range(m):
        out[i] = 0.0
    whole = n_rows - n_rows % 8
    for j in range(0, whole, 8):
        a, b, c, d = weights[j], weights[j + 1], weights[j + 2], weights[j + 3]
        e, f, g, h = weights[j + 4], weights[j + 5], weights[j + 6], weights[j + 7]
        for i in range(m):
            left = (a * rows[j, i] + b * rows[j + 1, i]) + (c * rows[j + 2, i] + d * rows[j + 3, i])
            right = (e * rows[j + 4, i] + f * rows[j + 5, i]) + (g * rows[j + 6, i] + h * rows[j + 7, i])
            out[i] += left + right
    for j in range(whole, n_rows):
        a = weights[j]
        for i in range(m):
            out[i] += a * rows[j, i]


@lean_fast_kernel
def row_products(rows: F64, x: F64, n: int, out: F64) -> None:
    """Products of each of the rows (M, .), M a multiple of 12, with `x`, over the first `n`; `out` has M at least.

    Twelve sums fill the registers: each of `x` is loaded once for twelve rows.
    """
    for i in range(0, rows.shape[0], 12):
        block, sums = rows[i : i + 12], out[i : i + 12]
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = s9 = s10 = s11 = 0.0
        for j in range(n):
            s0 += block[0, j] * x[j]
            s1 += block[1, j] * x[j]
            s2 += block[2, j] * x[j]
            s3 += block[3, j] * x[j]
            s4 += block[4, j] * x[j]
            s5 += block[5, j] * x[j]
            s6 += block[6, j] * x[j]
            s7 += block[7, j] * x[j]
            s8 += block[8, j] * x[j]
            s9 += block[9, j] * x[j]
            s10 += block[10, j] * x[j]
            s11 += block[11, j] * x[j]
        sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = s0, s1, s2, s3, s4, s5
        sums[6], sums[7], sums[8], sums[9], sums[10], sums[11] = s6, s7, s8, s9, s10, s11


@lean_fast_inline
def parabola(vectors: F64, gram: F64, base: F64, along: F64) -> tuple[float, float]:
    """How the sum of squares of a linear model goes along a line: half its slope at the start, and its curvature.

    Parameters
    ----------
    vectors : of `lbfgs_tell`, whose DIRECTION is read. gram : (M, M'), as `row_products` takes it, both at most W.
    base : (W,) half the gradient at the start. along : (W,), replaced by the change of half the gradient.
    """
    row_products(gram, vectors[DIRECTION], gram.shape[1], along)
    linear = curved = 0.0
    for j in range(base.size):
        linear += base[j] * vectors[DIRECTION, j]
        curved += along[j] * vectors[DIRECTION, j]
    return linear, curved


@lean_fast_inline
def log_posterior(n: int, at_noise: int, sse: float, step: float, direction: F64, vectors: F64) -> tuple[float, float]:
    """The negative log posterior at X, and its slope along a direction; fills GRADIENT.

    Parameters
    ----------
    n : points. at_noise : where the noise's logarithm stands.
    sse : sum of the squares of the residuals; its gradient is 2 (BASE + step ALONG).
    direction : (W,). vectors : (N_VECTORS, W).
    """
    log_sigma = max(vectors[X, at_noise], LOG_SIGMA_MIN)
    variance = math.exp(2.0 * log_sigma)
    inverse = 1.0 / variance
    of_noise = n - sse * inverse + 4.0 * variance if vectors[X, at_noise] > LOG_SIGMA_MIN else 0.0
    value = slope = 0.0
    for j in range(direction.size):
        x, laplace = vectors[X, j], vectors[LAPLACE, j]
        pull = vectors[PRECISION, j] * x
        value += 0.5 * pull * x + laplace * abs(x)
        kink = laplace if x > 0.0 else (-laplace if x < 0.0 else 0.0)
        # Were the noise's part stored by itself, the loads of whole vectors that follow would wait for it.
        gradient = (vectors[BASE, j] + step * vectors[ALONG, j]) * inverse + pull + kink + of_noise * vectors[NOISE, j]
        slope += gradient * direction[j]
        vectors[GRADIENT, j] = gradient
    return float(value + n * log_sigma + 0.5 * sse * inverse + 2.0 * variance), slope


@lean_fast_kernel
def evaluate(
    x: F64, is_logistic: bool, cap: float, starts: I64, changepoints: F64, columns: F64, is_factor: B1, points: F64,
    weights: F64,
) -> float:  # fmt: skip
    """Trend, its derivative and the residual at some parameters; returns the sum of squares.

    Parameters
    ----------
    x : (W,). cap : of logistic growth, scaled.
    starts : (C + 2,) and changepoints (C,) as in `changepoint_gram`.
    columns : (K', N or more) regressors at the row's own points, K and more rows, those zero.
    is_factor : (K,) which of them multiply the trend.
    points : (N_POINT_ROWS, T), reads TIME and VALUE, fills the other rows. weights : (K',), work space.
    """
    n, n_features = starts[starts.size - 1], is_factor.size
    time, level, derivative, factor = points[TIME], points[LEVEL], points[DERIVATIVE], points[FACTOR]
    for q in range(n):
        factor[q] = 0.0
    for factors in range(2 if any_of(is_factor) else 1):
        for k in range(n_features):
            weights[k] = x[2 + k] if is_factor[k] == (factors == 1) else 0.0
        weighted_rows(weights, n_features, columns, points[FACTOR if factors == 1 else ADDED])
    rate = x[0]
    base = -x[0] * x[1] if is_logistic else x[1]
    for s in range(starts.size - 1):
        if s > 0:
            rate += x[1 + n_features + s]
            base -= x[1 + n_features + s] * changepoints[s - 1]
        for q in range(starts[s], starts[s + 1]):
            level[q] = rate * time[q] + base
    if is_logistic:
        for q in range(n):
            share = 1.0 / (1.0 + math.exp(-level[q]))
            level[q], derivative[q] = cap * share, cap * share * (1.0 - share) * (1.0 + factor[q])
    else:
        for q in range(n):
            derivative[q] = 1.0 + factor[q]
    sse = 0.0
    for q in range(n):
        residual = points[VALUE, q] - level[q] * (1.0 + factor[q]) - points[ADDED, q]
        points[RESIDUAL, q] = residual
        sse += residual * residual
    return sse


@lean_fast_kernel
def residual_products(
    x: F64, is_logistic: bool, starts: I64, changepoints: F64, columns: F64, is_factor: B1, enabled: B1, points: F64,
    weights: F64, out: F64,
) -> None:  # fmt: skip
    """Products of the residual with the columns, which are the expected value's derivatives: after `evaluate`.

    Parameters
    ----------
    enabled : (K,) regressors that the row has.
    points : (N_POINT_ROWS, T), reads TIME and what `evaluate` filled; ADDED is work space.
    out : (W,), replaced. The others as in `evaluate`.
    """
    n, n_features = starts[starts.size - 1], is_factor.size
    for j in range(out.size):
        out[j] = 0.0
    for factors in range(2 if any_of(is_factor) else 1):
        if factors == 1:
            for q in range(n):
                points[ADDED, q] = points[RESIDUAL, q] * points[LEVEL, q]
        row_products(columns, points[ADDED if factors == 1 else RESIDUAL], n, weights)
        for k in range(n_features):
            if enabled[k] and is_factor[k] == (factors == 1):
                out[2 + k] = weights[k]
    ones = times = 0.0
    for s in range(starts.size - 2, -1, -1):
        for q in range(starts[s], starts[s + 1]):
            scaled = points[RESIDUAL, q] * points[DERIVATIVE, q]
            ones += scaled
            times += scaled * points[TIME, q]
        if s > 0:
            out[1 + n_features + s] = times - changepoints[s - 1] * ones
    out[0], out[1] = times, ones
    if is_logistic:
        # The line's intercept is minus the slope times its root, which Prophet calls offset.
        out[0], out[1] = times - x[1] * ones, -x[0] * ones
