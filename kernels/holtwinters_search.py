"""The search of Holt-Winters parameters and start values with the least loss for a row."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F64, kernel
from kernels.aligned import aligned
from kernels.holtwinters_lanes import N_LANES, NONE, Lanes, advance, own_lanes

# Positions in a row's scalars.
LEVEL, TREND, DAMPING, SPREAD, ALPHA, BETA, GAMMA, TREND_KIND, SEASON_KIND, N_POINTS, FIRST_LEVEL, FIRST_TREND = range(
    12
)
N_SCALARS = 12

# Rounds of a search from one centre: wide ones, then ever closer around the best; the better centre's goes on,
# and once more after the start values were refined.
_WIDE_ROUNDS, _CLOSE_ROUNDS, _LAST_ROUNDS, _REFINED_ROUNDS = 2, 3, 2, 4
# Centres in log-odds of alpha, beta/alpha, gamma/(1 - alpha) and the damping's range: losses of trends that hardly
# learn and of those that learn at once are two valleys.
_CENTERS = ((-1.4, -4.0, -2.2, 0.5), (-0.5, 2.0, -2.2, 0.5))
_RADIUS, _SHRINK, _FAR, _LIMIT = 5.0, 0.45, 0.7, 12.0
_REFINED_RADIUS = 0.5
# Powers of the generalised golden ratio of four dimensions: points that fill a box evenly.
_STRIDES = (0.8566748838545029, 0.733891856627126, 0.6287067210378087, 0.5385972572236101)
_DAMPING = (0.8, 0.995)


@kernel
def search(row: F64, is_damped: bool, pattern: F64, best: F64, season: F64) -> float:
    """The least loss of a row; what gave it is written to `best` and `season`.

    Parameters
    ----------
    row : (T,), NaN is missing.
    pattern : (m,) start values of the season; one of 0 without a season.
    best : a row's scalars: kinds and first level and trend are read; these two, parameters and end state written.
    season : (m,) out, the first one is of the step after the last; untouched without a season.
    """
    centers = np.array(_CENTERS)
    least, radii, found = np.full(2, math.inf), np.full(2, _RADIUS), np.zeros((2, 4))
    lanes, states, own = np.empty((7, N_LANES)), aligned(pattern.size, N_LANES), own_lanes()
    odds = np.empty((4, N_LANES))
    n_sides = 1 if best[TREND_KIND] == NONE else 2
    n_first = _WIDE_ROUNDS + _CLOSE_ROUNDS
    n_before = n_sides * n_first + _LAST_ROUNDS
    kept = math.inf
    for k in range(n_before + _REFINED_ROUNDS):
        side = k // n_first if k < n_sides * n_first else int(least[1] < least[0])
        if k == n_before and kept < math.inf:
            kept = _refine_start(row, is_damped, pattern, kept, best, season, lanes, states, own)
            least[side] = kept
            radii[side] = max(radii[side], _REFINED_RADIUS)
        for lane in range(N_LANES):
            h = k * N_LANES + lane + 1
            for d in range(4):
                away = radii[side] * (2.0 * ((h * _STRIDES[d]) % 1.0) - 1.0)
                odds[d, lane] = min(max(centers[side, d] + away, -_LIMIT), _LIMIT)
            _to_parameters(odds[:, lane], best, is_damped, lanes[:, lane])
        lanes[4], lanes[5] = best[FIRST_LEVEL], best[FIRST_TREND]
        _run(row, is_damped, pattern, best, lanes, states, own)
        winner = _winner(lanes[6], least[side])
        if winner >= 0:
            least[side] = lanes[6, winner]
            found[side] = odds[:, winner]
            if least[side] < kept:
                kept = least[side]
                _keep(lanes[:, winner], states[:, winner], row.size, best, season)
        is_wide = k < n_sides * n_first and k % n_first + 1 < _WIDE_ROUNDS
        if is_wide or not least[side] < math.inf:
            continue
        # A best one far out: the least loss may be farther still.
        moved = np.abs(found[side] - centers[side]).max() / radii[side]
        centers[side] = found[side]
        if moved < _FAR or k % n_first < _WIDE_ROUNDS:
            radii[side] *= _SHRINK
    return _refine_start(row, is_damped, pattern, kept, best, season, lanes, states, own) if kept < math.inf else kept


@kernel
def _run(row: F64, is_damped: bool, pattern: F64, best: F64, lanes: F64, states: F64, own: Lanes) -> None:
    """Losses and end states of the lanes, whose parameters and first level and trend are set."""
    lanes[6] = 0.0
    for j in range(pattern.size):
        states[j] = pattern[j]
    advance(row, int(best[TREND_KIND]), int(best[SEASON_KIND]), is_damped, lanes, states, own)


@kernel
def _refine_start(
    row: F64, is_damped: bool, pattern: F64, kept: float, best: F64, season: F64, lanes: F64, states: F64, own: Lanes
) -> float:
    """The loss after a Newton step of first level and trend; as before where none is less.

    The loss of additive forms is quadratic in the start values: six points on it are all of it.
    """
    level, trend = best[FIRST_LEVEL], best[FIRST_TREND]
    a = 0.1 * math.sqrt(kept / row.size)
    b = a * best[ALPHA] if best[TREND_KIND] < 2 else a * best[ALPHA] / abs(level)
    if a == 0.0 or b == 0.0:
        return kept
    for d, position in enumerate((ALPHA, BETA, GAMMA, DAMPING)):
        lanes[d] = best[position]
    lanes[4], lanes[5] = level, trend
    has_trend = best[TREND_KIND] != NONE
    for lane, (i, j) in enumerate(((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1))):
        lanes[4, lane] += i * a
        lanes[5, lane] += j * b if has_trend else 0.0
    _run(row, is_damped, pattern, best, lanes, states, own)
    f = lanes[6]
    gradient, curve = 0.5 * (f[1] - f[2]), f[1] + f[2] - 2 * f[0]
    gradient_2, curve_2 = 0.5 * (f[3] - f[4]), f[3] + f[4] - 2 * f[0]
    cross = f[5] - f[1] - f[3] + f[0]
    if has_trend:
        scale = curve * curve_2 - cross * cross
        up, across = (cross * gradient_2 - curve_2 * gradient) / scale, (cross * gradient - curve * gradient_2) / scale
    else:
        up, across = -gradient / curve, 0.0
    for lane in range(N_LANES):
        share = (lane + 1.0) / N_LANES
        lanes[4, lane], lanes[5, lane] = level + share * up * a, trend + share * across * b
    firsts = lanes[4:6].copy()
    _run(row, is_damped, pattern, best, lanes, states, own)
    winner = _winner(lanes[6], kept)
    if winner < 0:
        return kept
    best[FIRST_LEVEL], best[FIRST_TREND] = firsts[0, winner], firsts[1, winner]
    _keep(lanes[:, winner], states[:, winner], row.size, best, season)
    return float(lanes[6, winner])


@kernel
def _winner(losses: F64, least: float) -> int:
    """The lane with the least loss if that is less than the least so far, else -1."""
    winner = -1
    for lane in range(losses.size):
        if losses[lane] < least:
            winner, least = lane, losses[lane]
    return winner


@kernel
def _to_parameters(odds: F64, best: F64, is_damped: bool, lane: F64) -> None:
    """Parameters of a lane from log-odds."""
    alpha = 1.0 / (1.0 + math.exp(-odds[0]))
    lane[0] = alpha
    lane[1] = alpha / (1.0 + math.exp(-odds[1])) if best[TREND_KIND] != NONE else 0.0
    lane[2] = (1.0 - alpha) / (1.0 + math.exp(-odds[2])) if best[SEASON_KIND] != NONE else 0.0
    lane[3] = _DAMPING[0] + (_DAMPING[1] - _DAMPING[0]) / (1.0 + math.exp(-odds[3])) if is_damped else 1.0


@kernel
def _keep(lane: F64, state: F64, n_steps: int, best: F64, season: F64) -> None:
    best[ALPHA], best[BETA], best[GAMMA], best[DAMPING] = lane[0], lane[1], lane[2], lane[3]
    best[LEVEL], best[TREND] = lane[4], lane[5]
    if best[SEASON_KIND] != NONE:
        for j in range(state.size):
            season[j] = state[(n_steps + j) % state.size]
