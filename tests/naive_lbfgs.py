"""The twin of `kernels.lbfgs`: the textbook's two loops over whole vectors, one function call at a time.

Nocedal and Wright (2006), algorithms 3.5 (bracket), 3.6 (zoom) and 7.4 (direction), with Stan's constants and rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Function = Callable[[F64], tuple[float, F64]]
EPSILON = float(np.finfo(np.float64).eps)


def minimise(function: Function, x: F64, last_step: int = 10_000) -> tuple[F64, list[F64]]:
    """Where the search ends, and all points at which it asked for the function."""
    asked: list[F64] = []

    def call(at: F64) -> tuple[float, F64]:
        asked.append(at.copy())
        value, grad = function(at)
        return (value, grad) if np.isfinite(value) and np.isfinite(grad).all() else (math.nan, grad)

    value, grad = call(x)
    pairs: list[tuple[F64, F64]] = []
    direction, first = -grad, 1e-3
    for step_number in range(1, last_step + 1):
        is_reset = step_number == 1
        found = search(call, x, value, grad, direction, first)
        if found is None and not is_reset:
            is_reset, direction = True, -grad
            found = search(call, x, value, grad, direction, 1e-3)
        if found is None:
            return x, asked
        step, new_x, new_value, new_grad = found
        s, y = new_x - x, new_grad - grad
        scale = (s @ y) / (y @ y)
        # A line against the gradient counts as one of the quasi-Newton method with the curvature just met.
        unit = 1 / scale if is_reset else 1.0
        pairs = [] if is_reset else pairs[-4:]
        pairs.append((s, y))
        first = min(
            1.0, 1.01 * lowest(grad @ direction / unit, step * unit, new_value - value, new_grad @ direction / unit)
        )
        fall, size = abs(value - new_value), max(abs(new_value), 1.0)
        before, x, value, grad = value, new_x, new_value, new_grad
        direction = two_loops(grad, pairs)
        is_still = fall < 1e-12 or np.linalg.norm(grad) < 1e-8 or np.linalg.norm(s) < 1e-8
        if is_still or fall < 1e4 * EPSILON * max(abs(before), size) or -(direction @ grad) < 1e7 * EPSILON * size:
            break
    return x, asked


def two_loops(grad: F64, pairs: list[tuple[F64, F64]]) -> F64:
    """The quasi-Newton direction."""
    q, weights = -grad, []
    for s, y in reversed(pairs):
        weights.append((s @ q) / (s @ y))
        q = q - weights[-1] * y
    s, y = pairs[-1]
    q = q * ((s @ y) / (y @ y))
    for (s, y), weight in zip(pairs, reversed(weights), strict=True):
        q = q + (weight - (y @ q) / (s @ y)) * s
    return q


def search(
    call: Function, x: F64, value: float, grad: F64, direction: F64, first: float
) -> tuple[float, F64, float, F64] | None:
    """Step, point, value and gradient of a point that meets both conditions; None where none was found."""
    slope = grad @ direction
    low, trial, n_restarts = (1e-12, value, slope), first, 0
    for n_trials in range(20):
        point = x + trial * direction
        new_value, new_grad = call(point)
        while not math.isfinite(new_value):
            n_restarts += 1
            if n_restarts > 10:
                return None
            trial = 0.5 * (low[0] + trial)
            point = x + trial * direction
            new_value, new_grad = call(point)
        n_restarts, new_slope = 0, new_grad @ direction
        here = trial, new_value, new_slope
        if new_value > value + first * 1e-4 * slope or (new_value >= low[1] and n_trials > 0):
            return zoom(call, x, value, slope, direction, low, here)
        if abs(new_slope) <= -0.9 * slope:
            return trial, point, new_value, new_grad
        if new_slope >= 0:
            return zoom(call, x, value, slope, direction, here, low)
        low, trial = here, 10 * trial
    return None


def zoom(
    call: Function, x: F64, value: float, slope: float, direction: F64, low: tuple[float, float, float],
    high: tuple[float, float, float],
) -> tuple[float, F64, float, F64] | None:  # fmt: skip
    """As `search`, between two steps, each with value and slope."""
    for number in range(1, 1000):
        (a, value_a, slope_a), (b, value_b, slope_b) = low, high
        middle = 0.5 * (a + b)
        if abs(a - b) < 1e-16 or middle in (a, b):
            return None
        trial = middle
        if number % 5:
            mean = slope_a + slope_b - 3 * (value_a - value_b) / (a - b)
            root = math.copysign(math.sqrt(max(mean * mean - slope_a * slope_b, 0.0)), b - a)
            with np.errstate(all="ignore"):
                trial = float(
                    b - (b - a) * np.float64(slope_b + root - mean) / np.float64(slope_b - slope_a + 2 * root)
                )
            if not min(a, b) + 0.01 * abs(a - b) <= trial <= max(a, b) - 0.01 * abs(a - b):
                trial = middle
        point = x + trial * direction
        new_value, new_grad = call(point)
        while not math.isfinite(new_value):
            shorter = 0.5 * (trial + min(a, b))
            if shorter - min(a, b) < 1e-16 or shorter == trial:
                return None
            trial, point = shorter, x + shorter * direction
            new_value, new_grad = call(point)
        new_slope = new_grad @ direction
        here = trial, new_value, new_slope
        if new_value > value + trial * 1e-4 * slope or new_value >= value_a:
            high = here
        elif abs(new_slope) <= -0.9 * slope:
            return trial, point, new_value, new_grad
        else:
            high = low if new_slope * (b - a) >= 0 else high
            low = here
    raise AssertionError("a bracket that does not close")


def lowest(slope: float, step: float, rise: float, after: float) -> float:
    """Where in [1e-12, 1] the cubic through (0, 0) and (step, rise), with these slopes there, is lowest.

    The roots of its derivative are the schoolbook's, as in Stan: where the cubic is nearly a parabola digits cancel.
    """
    # The cubic is c1 t + c2 t^2 / 2 + c3 t^3 / 6.
    with np.errstate(all="ignore"):
        c3 = np.float64(-12 * rise + 6 * step * (slope + after)) / step**3
        c2 = -(4 * slope + 2 * after) / step + 6 * rise / step**2
        root = np.sqrt(c2 * c2 - 2 * slope * c3)
        places = [1e-12, 1.0, *(t for t in (-(c2 + root) / c3, -(c2 - root) / c3) if 1e-12 < t < 1)]
    return float(min(places, key=lambda t: slope * t + c2 * t * t / 2 + c3 * t**3 / 6))
