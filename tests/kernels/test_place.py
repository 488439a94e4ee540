"""Points on a grid against a mapping of places to the last value."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kernels.place import place_points

POINTS = st.lists(st.tuples(st.integers(-30, 90), st.sampled_from([1.0, 2.0, math.nan, math.inf])), max_size=8)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), POINTS), max_size=6), st.integers(1, 6), st.sampled_from([7, 10]))
def test_the_last_finite_value_at_a_grid_time_counts(
    received: list[tuple[int, list[tuple[int, float]]]], n_steps: int, step_ms: int
) -> None:
    places: dict[tuple[int, int], float] = {}
    for row, points in received:
        for time_ms, value in points:
            if time_ms in range(20, 20 + n_steps * step_ms, step_ms) and math.isfinite(value):
                places[row, (time_ms - 20) // step_ms] = value
    expected, out = np.full((4, n_steps), np.nan), np.full((4, n_steps), np.nan)
    for place, value in places.items():
        expected[place] = value
    flat = [point for _, points in received for point in points]
    place_points(
        np.array([row for row, _ in received], dtype=np.int64),
        np.cumsum([0, *(len(points) for _, points in received)]),
        np.array([time_ms for time_ms, _ in flat], dtype=np.int64),
        np.array([value for _, value in flat]),
        20,
        step_ms,
        out,
    )
    assert_array_equal(out, expected)
