"""The Holt-Winters recursion, run for several sets of parameters of one row at once."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F64, fast_kernel, kernel

# Kinds of trend and season.
NONE, ADDITIVE, MULTIPLICATIVE = 0, 1, 2
# One set of parameters in each SIMD lane.
N_LANES = 16


@kernel
def advance(row: F64, trend_kind: int, season_kind: int, is_damped: bool, lanes: F64, season: F64) -> None:
    """Run all lanes over the row.

    Parameters
    ----------
    row : (T,), NaN is missing: the state advances without a correction.
    lanes : (7, N_LANES) alpha, beta, gamma, damping, and in place level, trend, sum of squared one-step errors.
    season : (m, N_LANES), in place; the step t has the phase t mod m.

    Notes
    -----
    No trend is an additive one of 0 that does not learn, no season likewise one of one phase.
    """
    if trend_kind == MULTIPLICATIVE:
        _advance_growth(row, season_kind == MULTIPLICATIVE, is_damped, lanes, season)
    elif season_kind == MULTIPLICATIVE:
        _advance_factors(row, lanes, season)
    else:
        _advance_sums(row, lanes, season)


# The three below keep their lanes in arrays of their own: only so are loops over them compiled to SIMD instructions.


@fast_kernel
def _advance_sums(row: F64, lanes: F64, season: F64) -> None:
    """Additive trend and season. NaN has no weight; lanes do not meet, so no sum depends on their layout."""
    alpha, slow, gamma, damping = lanes[0].copy(), lanes[0] * lanes[1], lanes[2].copy(), lanes[3].copy()
    level, trend, loss = lanes[4].copy(), lanes[5].copy(), lanes[6].copy()
    j = 0
    for t in range(row.size):
        x = row[t]
        weight = 1.0
        if math.isnan(x):
            x, weight = 0.0, 0.0
        pattern = season[j]
        for k in range(N_LANES):
            kept = damping[k] * trend[k]
            expected = level[k] + kept
            error = weight * (x - expected - pattern[k])
            loss[k] += error * error
            level[k] = expected + alpha[k] * error
            trend[k] = kept + slow[k] * error
            pattern[k] += gamma[k] * error
        j += 1
        if j == season.shape[0]:
            j = 0
    lanes[4], lanes[5], lanes[6] = level, trend, loss


@fast_kernel
def _advance_factors(row: F64, lanes: F64, season: F64) -> None:
    """As `_advance_sums`, the season a factor."""
    alpha, slow, gamma, damping = lanes[0].copy(), lanes[0] * lanes[1], lanes[2].copy(), lanes[3].copy()
    level, trend, loss = lanes[4].copy(), lanes[5].copy(), lanes[6].copy()
    j = 0
    for t in range(row.size):
        x = row[t]
        weight = 1.0
        if math.isnan(x):
            x, weight = 0.0, 0.0
        pattern = season[j]
        for k in range(N_LANES):
            kept = damping[k] * trend[k]
            expected = level[k] + kept
            error = weight * (x - expected * pattern[k])
            loss[k] += error * error
            scaled = error / pattern[k]
            level[k] = expected + alpha[k] * scaled
            trend[k] = kept + slow[k] * scaled
            pattern[k] += gamma[k] * (error / expected)
        j += 1
        if j == season.shape[0]:
            j = 0
    lanes[4], lanes[5], lanes[6] = level, trend, loss


@fast_kernel
def _advance_growth(row: F64, is_factor: bool, is_damped: bool, lanes: F64, season: F64) -> None:
    """As `_advance_sums`, the trend a growth by a factor a step."""
    alpha, beta, gamma, damping = lanes[0].copy(), lanes[1].copy(), lanes[2].copy(), lanes[3].copy()
    level, trend, loss, kept = lanes[4].copy(), lanes[5].copy(), lanes[6].copy(), np.empty(N_LANES)
    j = 0
    for t in range(row.size):
        x = row[t]
        weight = 1.0
        if math.isnan(x):
            x, weight = 0.0, 0.0
        pattern = season[j]
        for k in range(N_LANES):
            kept[k] = trend[k] ** damping[k] if is_damped else trend[k]
        for k in range(N_LANES):
            expected = level[k] * kept[k]
            error = weight * (x - (expected * pattern[k] if is_factor else expected + pattern[k]))
            loss[k] += error * error
            moved = expected + alpha[k] * (error / pattern[k] if is_factor else error)
            pattern[k] += gamma[k] * (error / expected if is_factor else error)
            trend[k] = kept[k] + beta[k] * (moved / level[k] - kept[k])
            level[k] = moved
        j += 1
        if j == season.shape[0]:
            j = 0
    lanes[4], lanes[5], lanes[6] = level, trend, loss
