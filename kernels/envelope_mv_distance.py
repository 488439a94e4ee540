"""Distance of a whole row of the multivariate envelope from what is usual, under the channels' common factors."""

from __future__ import annotations

import math

from kernels._jit import F64, lean_inline
from kernels.envelope_mv_parts import TAIL_SHARE, tail_step
from kernels.envelope_mv_state import (
    BLAME,
    DISTANCE,
    DISTANCE_SUM,
    DISTANCE_WEIGHT,
    FACTOR_WEIGHT,
    JOINT_RUN,
    JOINT_TAIL,
    MOVED,
    NEXT,
    RELIEF,
    SQUARES,
    UNIQUE,
    WEIGHT,
    Channels,
    JointRates,
    Scratch,
)
from kernels.factors import basis_renew, moments_add, sketch_add

# Beyond the quantile by this factor of what it has above the mean lies the threshold.
_MARGIN = 1.1
# It falls to 1 while fewer rows than this share are beyond the threshold: short tails get a closer one.
_ALARM_SHARE = 0.0004
# After so many rows a quantile that is still being found counts half: the threshold is twice as far above the mean.
_DOUBT = 300.0
# An excess teaches the threshold fully for so many rows; a long anomaly must not become the norm.
_FULL_RUN, _LATE = 8.0, 0.1
# A row further off than so many mean distances counts as if it were there, and teaches the less.
_LIMIT = 10.0
# The smoothed distance counts up to so many times the present one: a row that is as expected scores 0 at once.
_PRESENT = 3.0
# The mean distance is at least this: where hardly anything moves, what does is not endlessly far.
_LEAST_DISTANCE = 0.3
# Distances up to this share of the mean score 0.
_CALM = 0.5
# Rows whose sizes nobody knows yet; factors are set at so many more, then each time after twice as many, up to a bound.
_UNKNOWN, _INTERVAL = 16.0, 288.0


@lean_inline
def mean_distance(group: F64) -> float:
    """Mean distance of a row over memory."""
    mean = group[DISTANCE_SUM] / group[DISTANCE_WEIGHT] if group[DISTANCE_WEIGHT] > 0.0 else 0.0
    return max(mean, _LEAST_DISTANCE)


@lean_inline
def joint_threshold(group: F64) -> float:
    """Smoothed distance, in means, that is just anomalous for the default width."""
    margin = (_MARGIN - group[RELIEF]) * (1.0 + _DOUBT / max(group[MOVED], 1.0))
    return float(1.0 + margin * max(math.exp(group[JOINT_TAIL]) - 1.0, 0.02))


@lean_inline
def joint_distance(distance: float, rates: JointRates, group: F64) -> float:
    """How far a row is from what is usual, smoothed; 1 is just anomalous. Returns 0 for a row just as expected."""
    if group[MOVED] == 0.0:
        return 0.0
    limited = clipped_distance(distance, group)
    smoothed = group[DISTANCE] + settling(group, rates) * (limited - group[DISTANCE])
    far = min(smoothed, _PRESENT * limited) / mean_distance(group)
    return float(max(far - _CALM, 0.0) / (joint_threshold(group) - _CALM) / rates.width)


@lean_inline
def settling(group: F64, rates: JointRates) -> float:
    """Rate at which distances are smoothed; the first rows stand alone."""
    return 1.0 if group[MOVED] < 16.0 else rates.smooth


@lean_inline
def clipped_distance(distance: float, group: F64) -> float:
    """A distance, no further than so many means once these are known."""
    return min(distance, _LIMIT * mean_distance(group)) if group[MOVED] > 50.0 else distance


@lean_inline
def learn_distance(group: F64, distance: float, rates: JointRates) -> float:
    """Mean and smoothed distance and the quantile of the latter; returns the weight with which the row may teach."""
    limited = clipped_distance(distance, group)
    n = group[MOVED] + 1.0
    group[DISTANCE] += settling(group, rates) * (limited - group[DISTANCE])
    if group[DISTANCE_WEIGHT] >= rates.memory:
        group[DISTANCE_SUM] *= 1.0 - 1.0 / rates.memory
        group[DISTANCE_WEIGHT] *= 1.0 - 1.0 / rates.memory
    group[DISTANCE_SUM] += limited
    group[DISTANCE_WEIGHT] += 1.0
    if n > 16.0:
        excess = math.log(max(group[DISTANCE] / mean_distance(group), 1e-9))
        is_beyond = group[DISTANCE] > mean_distance(group) * joint_threshold(group)
        moved = group[RELIEF] + 0.03 * (_ALARM_SHARE - (1.0 if is_beyond else 0.0))
        group[RELIEF] = min(max(moved, 0.0), _MARGIN - 1.0)
        step = tail_step(n)
        if excess > group[JOINT_TAIL]:
            group[JOINT_RUN] += 1.0
            group[JOINT_TAIL] += (1.0 - TAIL_SHARE) * step * (1.0 if group[JOINT_RUN] <= _FULL_RUN else _LATE)
        else:
            group[JOINT_RUN] = 0.0
            group[JOINT_TAIL] -= TAIL_SHARE * step
    return limited / distance if distance > 0.0 else 1.0


@lean_inline
def learn_blame(state: Channels, rates: JointRates, scratch: Scratch) -> None:
    """Smoothed squared deviations; none is larger than the distance of a row may be."""
    limit = _LIMIT * mean_distance(state.group) if state.group[MOVED] > 50.0 else math.inf
    for c in range(scratch.deviation.size):
        size = min(abs(scratch.deviation[c]), limit)
        state.scalars[c, BLAME] += settling(state.group, rates) * (size * size - state.scalars[c, BLAME])


@lean_inline
def learn_factors(state: Channels, weight: float, rates: JointRates, scratch: Scratch) -> None:
    """Sums of squares and co-moments, and now and then new factors from them."""
    group = state.group
    if group[WEIGHT] >= rates.memory:
        group[WEIGHT] *= 1.0 - 1.0 / rates.memory
        for c in range(scratch.error.size):
            state.scalars[c, SQUARES] *= 1.0 - 1.0 / rates.memory
    group[WEIGHT] += weight
    for c in range(scratch.error.size):
        state.scalars[c, SQUARES] += weight * scratch.error[c] * scratch.error[c]
    n = group[MOVED] - _UNKNOWN
    if n < 0.0:
        return
    n_start = state.sketch.shape[0]
    if n < n_start:
        sketch_add(scratch.error, scratch.size, state.sketch[int(n)], state.moments)
    else:
        group[FACTOR_WEIGHT] += weight
        moments_add(scratch.error, scratch.size, weight, state.basis, state.moments)
    if n + 1.0 == n_start:
        group[NEXT] = 2.0 * n_start
        _renew(1.0, state, scratch)
        _forget(0.0, state)
    elif n + 1.0 == group[NEXT]:
        if group[NEXT] < _INTERVAL:  # the first distances were measured with sizes that nobody knew yet
            group[DISTANCE_SUM] *= 0.125
            group[DISTANCE_WEIGHT] *= 0.125
        group[NEXT] += min(group[NEXT], _INTERVAL)
        _renew(group[FACTOR_WEIGHT], state, scratch)
        if group[FACTOR_WEIGHT] > rates.memory:
            _forget(rates.memory / group[FACTOR_WEIGHT], state)


@lean_inline
def _renew(total: float, state: Channels, scratch: Scratch) -> None:
    unique = state.scalars[:, UNIQUE]
    basis_renew(total, scratch.deviation, state.basis, state.moments, state.loadings, unique)


@lean_inline
def _forget(share: float, state: Channels) -> None:
    """Keep a share of the moments; nothing of them makes the factors start anew, in the directions known so far."""
    for c in range(state.moments.shape[0]):
        for j in range(state.moments.shape[1]):
            state.moments[c, j] *= share
            state.loadings[c, j] *= 1.0 if share > 0.0 else 0.0
        state.scalars[c, UNIQUE] = state.scalars[c, UNIQUE] if share > 0.0 else 1.0
    state.group[FACTOR_WEIGHT] *= share
