"""A line search to the strong Wolfe conditions, trial by trial, as Stan's optimiser does it.

The state of a search is a row of numbers; the caller tells value and slope of each trial step and is given the next.
"""

from __future__ import annotations

import math

from kernels._jit import F64, lean_fast_inline

# Conditions of Armijo and of Wolfe, and the least trial step.
_DECREASE, _CURVATURE, _LEAST_STEP = 1e-4, 0.9, 1e-12
_LAST_TRIAL, _LAST_RESTART = 20, 10
# Values and slopes beyond it count as no numbers; a test for finite ones does not survive reordered sums.
_LARGEST = 1e300
# What a search says.
GO_ON, FOUND, FAILED = range(3)
# Numbers: value and slope at the start of the line, the trial step, what led to it, and the bracket on the line.
(VALUE, SLOPE, STEP, _FIRST, _IS_ZOOM, _N_TRIALS, _N_RESTARTS, _N_ZOOMS, _LOW, _LOW_VALUE, _LOW_SLOPE, _HIGH,
 _HIGH_VALUE, _HIGH_SLOPE, N_OF_SEARCH) = range(15)  # fmt: skip


@lean_fast_inline
def open_line(step: float, slope: float, numbers: F64) -> None:
    """Begin a search with that first trial."""
    numbers[SLOPE] = slope
    numbers[_FIRST] = numbers[STEP] = step
    numbers[_IS_ZOOM] = numbers[_N_TRIALS] = numbers[_N_RESTARTS] = numbers[_N_ZOOMS] = 0.0
    numbers[_LOW], numbers[_LOW_VALUE], numbers[_LOW_SLOPE] = _LEAST_STEP, numbers[VALUE], slope


@lean_fast_inline
def advance(value: float, slope: float, numbers: F64) -> int:
    """Take value and slope at the trial step: it is good, another is to be tried, or there is none.

    Source: Nocedal and Wright (2006), algorithms 3.5 and 3.6, with the rules of ``stan::optimization``.
    """
    return _zoom(value, slope, numbers) if numbers[_IS_ZOOM] != 0.0 else _bracket(value, slope, numbers)


@lean_fast_inline
def _bracket(value: float, slope: float, numbers: F64) -> int:
    """Longer and longer steps until one is good or two hold a good one between them."""
    trial = numbers[STEP]
    if not abs(value + slope) <= _LARGEST:
        numbers[_N_RESTARTS] += 1.0
        numbers[STEP] = 0.5 * (numbers[_LOW] + trial)
        return GO_ON if numbers[_N_RESTARTS] <= _LAST_RESTART else FAILED
    numbers[_N_RESTARTS] = 0.0
    # The bound is that of the first trial, in all trials, as it is in Stan.
    bound = numbers[VALUE] + numbers[_FIRST] * _DECREASE * numbers[SLOPE]
    if value > bound or (value >= numbers[_LOW_VALUE] and numbers[_N_TRIALS] > 0.0):
        numbers[_HIGH], numbers[_HIGH_VALUE], numbers[_HIGH_SLOPE] = trial, value, slope
        return _narrow(numbers)
    if abs(slope) <= -_CURVATURE * numbers[SLOPE]:
        return FOUND
    if slope >= 0.0:
        for k in range(3):
            numbers[_HIGH + k] = numbers[_LOW + k]
    numbers[_LOW], numbers[_LOW_VALUE], numbers[_LOW_SLOPE] = trial, value, slope
    if slope >= 0.0:
        return _narrow(numbers)
    numbers[STEP] = 10.0 * trial
    numbers[_N_TRIALS] += 1.0
    return GO_ON if numbers[_N_TRIALS] < _LAST_TRIAL else FAILED


@lean_fast_inline
def _zoom(value: float, slope: float, numbers: F64) -> int:
    """A trial between two steps that hold a good one: it is good, or takes the place of one of them."""
    trial = numbers[STEP]
    if not abs(value + slope) <= _LARGEST:
        nearest = min(numbers[_LOW], numbers[_HIGH])
        numbers[STEP] = 0.5 * (trial + nearest)
        return GO_ON if numbers[STEP] - nearest >= 1e-16 and numbers[STEP] != trial else FAILED
    if value > numbers[VALUE] + trial * _DECREASE * numbers[SLOPE] or value >= numbers[_LOW_VALUE]:
        numbers[_HIGH], numbers[_HIGH_VALUE], numbers[_HIGH_SLOPE] = trial, value, slope
        return _narrow(numbers)
    if abs(slope) <= -_CURVATURE * numbers[SLOPE]:
        return FOUND
    if slope * (numbers[_HIGH] - numbers[_LOW]) >= 0.0:
        for k in range(3):
            numbers[_HIGH + k] = numbers[_LOW + k]
    numbers[_LOW], numbers[_LOW_VALUE], numbers[_LOW_SLOPE] = trial, value, slope
    return _narrow(numbers)


@lean_fast_inline
def _narrow(numbers: F64) -> int:
    """The next trial in the bracket: the minimum of a cubic through both ends, each fifth time the middle."""
    low, high = numbers[_LOW], numbers[_HIGH]
    middle, width = 0.5 * (low + high), abs(low - high)
    if width < 1e-16 or middle in (low, high):
        return FAILED
    numbers[_IS_ZOOM] = 1.0
    numbers[_N_ZOOMS] += 1.0
    trial = middle
    if numbers[_N_ZOOMS] % 5.0 != 0.0:
        low_slope, high_slope = numbers[_LOW_SLOPE], numbers[_HIGH_SLOPE]
        mean = low_slope + high_slope - 3.0 * (numbers[_LOW_VALUE] - numbers[_HIGH_VALUE]) / (low - high)
        root = math.sqrt(max(mean * mean - low_slope * high_slope, 0.0)) * (-1.0 if high < low else 1.0)
        trial = high - (high - low) * (high_slope + root - mean) / (high_slope - low_slope + 2.0 * root)
        if not min(low, high) + 0.01 * width <= trial <= max(low, high) - 0.01 * width:
            trial = middle
    numbers[STEP] = trial
    return GO_ON


@lean_fast_inline
def first_step(numbers: F64, value: float, after: float, unit: float) -> float:
    """The first trial of the next line, from this one's: where a cubic through its ends is lowest, and a little more.

    Parameters
    ----------
    value, after : at the point found, value and slope along this line.
    unit : what this line's direction is longer than one of the method's own.
    """
    return min(1.0, 1.01 * _lowest(numbers[SLOPE] / unit, numbers[STEP] * unit, value - numbers[VALUE], after / unit))


@lean_fast_inline
def _lowest(slope: float, step: float, rise: float, after: float) -> float:
    """Where a cubic is lowest up to 1: it has this slope at 0, and at `step` is `rise` higher and has slope `after`."""
    inverse = 1.0 / step
    third = (6.0 * (slope + after) - 12.0 * rise * inverse) * (inverse * inverse)
    second = (6.0 * rise * inverse - (4.0 * slope + 2.0 * after)) * inverse
    root = math.sqrt(max(second * second - 2.0 * slope * third, 0.0))
    across = -1.0 / third
    best, lowest = _LEAST_STEP, math.inf
    for at in (_LEAST_STEP, 1.0, (second + root) * across, (second - root) * across):
        # One outside stands for the end that is next to it.
        inside = min(max(at, _LEAST_STEP), 1.0)
        value = inside * (inside * (inside * third / 3.0 + second) / 2.0 + slope)
        if value < lowest:
            best, lowest = inside, value
    return best
