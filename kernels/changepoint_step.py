"""One step of the fit: the residual at some parameters, and the optimum of the model linearised there."""

from __future__ import annotations

import math

from kernels._jit import B1, F64, I64, inline, kernel
from kernels.l1 import solve_l1

# Noise of a series that its model fits exactly, as Prophet sets it for constants.
SIGMA_MIN = 1e-9
# Rows of `points`, by position among a series' own points; the last two by grid step.
TIME, VALUE, RESIDUAL, DERIVATIVE, LEVEL, ADDED, FACTOR, N_POINT_ROWS = range(8)
# Rows of `vectors`.
THETA, TARGET, TRIAL, GRADIENT, PRECISION, LINEAR, RIDGE, SIGN, AIM, STEP, N_VECTORS = range(11)


@inline
def noise_variance(sse: float, n: int) -> float:
    """The most probable variance under the half-normal prior of scale 0.5: the root of 4 v^2 + n v = sse."""
    return max(2.0 * sse / (n + math.sqrt(n * n + 16.0 * sse)), SIGMA_MIN * SIGMA_MIN)


@kernel
def penalty(theta: F64, precision: F64, tau: float, n_free: int) -> float:
    """The parameters' part of the negative log posterior."""
    total = 0.0
    for j in range(n_free):
        total += 0.5 * precision[j] * theta[j] * theta[j]
    for j in range(n_free, theta.size):
        total += abs(theta[j]) / tau
    return total


@inline
def add_regressors(theta: F64, columns: F64, is_factor: B1, added: F64, factor: F64) -> None:
    """Sums over the regressors: what is added to the trend, and 1 plus what multiplies it.

    Parameters
    ----------
    theta : (P,), coefficients from position 2 on. columns : (K, T). is_factor : (K,) which sum each belongs to.
    added, factor : (T,), replaced.
    """
    added[:] = 0.0
    factor[:] = 1.0
    for k in range(columns.shape[0]):
        coefficient = theta[2 + k]
        if coefficient != 0.0:
            total = factor if is_factor[k] else added
            for i in range(total.size):
                total[i] += coefficient * columns[k, i]


@kernel
def evaluate(
    theta: F64, is_logistic: bool, cap: float, where: I64, starts: I64, changepoints: F64, columns: F64, is_factor: B1,
    points: F64,
) -> float:  # fmt: skip
    """Trend, its derivative and the residual at some parameters; returns the sum of squares.

    Parameters
    ----------
    theta : (2 + K + C,). cap : of logistic growth, scaled.
    where : (N,) grid steps with a value. starts : (C + 2,) and changepoints (C,) as in `changepoint_gram`.
    columns : (K, T) regressors.
    points : (N_POINT_ROWS, T), reads TIME and VALUE, fills the other rows.
    """
    add_regressors(theta, columns, is_factor, points[ADDED], points[FACTOR])
    changes = theta[2 + columns.shape[0] :]
    rate = theta[0]
    base = -theta[0] * theta[1] if is_logistic else theta[1]
    sse = 0.0
    for s in range(starts.size - 1):
        if s > 0:
            rate += changes[s - 1]
            base -= changes[s - 1] * changepoints[s - 1]
        for q in range(starts[s], starts[s + 1]):
            trend, derivative = rate * points[TIME, q] + base, 1.0
            if is_logistic:
                share = 1.0 / (1.0 + math.exp(-trend))
                trend, derivative = cap * share, cap * share * (1.0 - share)
            factor = points[FACTOR, where[q]]
            residual = points[VALUE, q] - trend * factor - points[ADDED, where[q]]
            points[DERIVATIVE, q] = derivative * factor
            points[LEVEL, q] = trend
            points[RESIDUAL, q] = residual
            sse += residual * residual
    return sse


@inline
def solve_step(
    gram: F64, sse: float, n: int, tau: float, n_free: int, variance: float, n_rounds: int, vectors: F64, table: F64,
    active: B1,
) -> float:  # fmt: skip
    """Optimum of the model linearised at THETA into TARGET, the noise in the loop; returns the noise's variance.

    Parameters
    ----------
    gram : (P, P). sse : sum of squares of the `n` residuals at THETA.
    tau : scale of the slope changes' prior. n_free : parameters before them.
    variance : to start from; 0 starts from the fit without slope changes.
    n_rounds : at most this many rounds of parameters given the noise, noise given the parameters.
    vectors : (N_VECTORS, P), reads THETA, GRADIENT, PRECISION. table : (P, P + 1), active : (P,) work space.
    """
    theta, out, grad, step = vectors[THETA], vectors[TARGET], vectors[GRADIENT], vectors[STEP]
    size = theta.size
    for i in range(size):
        vectors[LINEAR, i] = grad[i]
        out[i] = theta[i] if i < n_free or variance > 0.0 else 0.0
        for j in range(size):
            vectors[LINEAR, i] += gram[i, j] * theta[j]
    for done in range(n_rounds):
        is_first = variance == 0.0
        for i in range(size):
            vectors[RIDGE, i] = vectors[PRECISION, i] * (sse / n if is_first else variance)
        limit = math.inf if is_first else variance / tau
        solve_l1(gram, vectors[LINEAR], vectors[RIDGE], limit, n_free, out, table, active, vectors[SIGN], vectors[AIM])
        left = sse
        for i in range(size):
            step[i] = out[i] - theta[i]
        for i in range(size):
            product = 0.0
            for j in range(size):
                product += gram[i, j] * step[j]
            left += step[i] * (product - 2.0 * grad[i])
        before, variance = variance, noise_variance(max(left, 0.0), n)
        if done + 1 == n_rounds or abs(variance - before) <= 1e-9 * variance:
            break
    return variance
