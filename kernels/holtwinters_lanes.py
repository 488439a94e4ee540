"""The Holt-Winters recursion, run for several sets of parameters of one row at once."""

from __future__ import annotations

import math

from kernels._jit import F64, fast_kernel, kernel
from kernels.aligned import aligned

# Kinds of trend and season.
NONE, ADDITIVE, MULTIPLICATIVE = 0, 1, 2
# One set of parameters in each SIMD lane.
N_LANES = 16


# Each row of `advance`'s lanes in an array of its own, one for alpha times beta, one for what is left of the trend.
Lanes = tuple[F64, F64, F64, F64, F64, F64, F64, F64]


@kernel
def own_lanes() -> Lanes:
    """Work space of `advance`, each where a cache line begins: else a row takes up to a third longer, by chance."""
    return (
        aligned(1, N_LANES)[0], aligned(1, N_LANES)[0], aligned(1, N_LANES)[0], aligned(1, N_LANES)[0],
        aligned(1, N_LANES)[0], aligned(1, N_LANES)[0], aligned(1, N_LANES)[0], aligned(1, N_LANES)[0],
    )  # fmt: skip


@kernel
def advance(row: F64, trend_kind: int, season_kind: int, is_damped: bool, lanes: F64, season: F64, own: Lanes) -> None:
    """Run all lanes over the row.

    Parameters
    ----------
    row : (T,), NaN is missing: the state advances without a correction.
    lanes : (7, N_LANES) alpha, beta, gamma, damping, and in place level, trend, sum of squared one-step errors.
    season : (m, N_LANES), in place; the step t has the phase t mod m.
    own : as `own_lanes` makes it.

    Notes
    -----
    No trend is an additive one of 0 that does not learn, no season likewise one of one phase.
    """
    for i in range(lanes.shape[0]):
        for k in range(N_LANES):
            own[i][k] = lanes[i, k]
    if trend_kind == MULTIPLICATIVE:
        _advance_growth(row, season_kind == MULTIPLICATIVE, is_damped, season, own)
    elif season_kind == MULTIPLICATIVE:
        _advance_factors(row, season, own)
    else:
        _advance_sums(row, season, own)
    for i in range(4, lanes.shape[0]):
        for k in range(N_LANES):
            lanes[i, k] = own[i][k]


# The three below keep their lanes in arrays of their own: only so are loops over them compiled to SIMD instructions.


@fast_kernel
def _advance_sums(row: F64, season: F64, own: Lanes) -> None:
    """Additive trend and season. NaN has no weight; lanes do not meet, so no sum depends on their layout."""
    alpha, slow, gamma, damping, level, trend, loss, _ = own
    for k in range(N_LANES):
        slow[k] *= alpha[k]
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


@fast_kernel
def _advance_factors(row: F64, season: F64, own: Lanes) -> None:
    """As `_advance_sums`, the season a factor."""
    alpha, slow, gamma, damping, level, trend, loss, _ = own
    for k in range(N_LANES):
        slow[k] *= alpha[k]
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


@fast_kernel
def _advance_growth(row: F64, is_factor: bool, is_damped: bool, season: F64, own: Lanes) -> None:
    """As `_advance_sums`, the trend a growth by a factor a step."""
    alpha, beta, gamma, damping, level, trend, loss, kept = own
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
