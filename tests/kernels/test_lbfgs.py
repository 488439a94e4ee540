"""The search of `kernels.lbfgs` against the textbook's, point by point, and how it ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kernels.lbfgs import DIRECTION, STOP, lbfgs_memory, lbfgs_tell
from tests import naive_lbfgs
from tests.naive_lbfgs import F64, Function


def search(function: Function, start: F64, last: int = 100_000) -> tuple[F64, list[F64]]:
    """Where the kernel ends, and all points that it asked for."""
    width = (start.size + 7) // 8 * 8
    x, grad = np.zeros(width), np.zeros(width)
    x[: start.size] = start
    asked: list[F64] = []
    memory = lbfgs_memory(width)
    for _ in range(last):
        asked.append(x[: start.size].copy())
        value, grad[: start.size] = function(x[: start.size])
        slope = float(grad @ memory[0][DIRECTION])
        if lbfgs_tell(value, slope, x, grad, memory) == STOP:
            break
    return x[: start.size].copy(), asked


def rosenbrock(x: F64) -> tuple[float, F64]:
    grad = np.zeros_like(x)
    step = x[1:] - x[:-1] ** 2
    grad[:-1] = -400 * x[:-1] * step - 2 * (1 - x[:-1])
    grad[1:] += 200 * step
    return float(100 * step @ step + (1 - x[:-1]) @ (1 - x[:-1])), grad


def bowl(seed: int, n: int, kinks: float = 0.0, quartic: float = 0.0) -> Function:
    """A random parabola of condition 1e4, fourth powers, and absolute values of the first half of the coordinates."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(n, n)))[0]
    matrix, linear = turn * np.logspace(0, 4, n) @ turn.T, 10 * rng.normal(size=n)

    def function(x: F64) -> tuple[float, F64]:
        has = np.arange(n) < n // 2
        value = 0.5 * x @ matrix @ x - linear @ x + kinks * np.abs(x[has]).sum() + quartic * (x**4).sum()
        return float(value), matrix @ x - linear + kinks * np.sign(x) * has + 4 * quartic * x**3

    return function


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 20), st.sampled_from([0.0, 0.3, 3.0]))
def test_the_path_is_the_textbooks(seed: int, n: int, kinks: float) -> None:
    function = bowl(seed, n, kinks, quartic=5.0)
    start = np.random.default_rng(seed + 1).normal(size=n)
    theirs, ours = naive_lbfgs.minimise(function, start)[1], search(function, start)[1]
    # Rounding grows along a path: by the thirtieth point to what is left of 16 digits here.
    for ours_at, theirs_at in list(zip(ours, theirs, strict=False))[:30]:
        assert_allclose(ours_at, theirs_at, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("start", [[-1.2, 1.0], [-1.2, 1.0, 0.5, 2.0, -1.0, 0.3], [0.0] * 12])
def test_a_valley_is_followed_as_the_textbook_does_to_its_end(start: list[float]) -> None:
    theirs, their_path = naive_lbfgs.minimise(rosenbrock, np.array(start))
    ours, path = search(rosenbrock, np.array(start))
    assert abs(len(path) - len(their_path)) <= 5
    for ours_at, theirs_at in list(zip(path, their_path, strict=False))[:30]:
        assert_allclose(ours_at, theirs_at, rtol=1e-5, atol=1e-8)
    assert_allclose(ours, theirs, atol=1e-3)
    assert np.linalg.norm(rosenbrock(ours)[1]) < 1e-2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # without the JIT numpy tells of a last step without a change
@pytest.mark.parametrize("seed", range(5))
def test_a_parabola_ends_at_its_lowest_point(seed: int) -> None:
    function, n = bowl(seed, 9), 9
    matrix = np.array([function(row)[1] - function(np.zeros(n))[1] for row in np.eye(n)])
    best = np.linalg.solve(matrix, -function(np.zeros(n))[1])
    lowest = function(best)[0]
    assert function(search(function, np.zeros(n))[0])[0] - lowest < 1e-6 * abs(lowest)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_start_at_the_lowest_point_is_the_end() -> None:
    end, asked = search(lambda x: (float(x @ x), 2 * x), np.zeros(3))
    assert_array_equal(end, 0)
    assert len(asked) < 30


def test_values_and_gradients_that_are_no_numbers_shorten_the_step() -> None:
    def function(x: F64) -> tuple[float, F64]:
        if x[0] <= 0:
            return math.nan, np.full(2, math.inf)
        return float(100 * x[0] - math.log(x[0]) + x[1] ** 2), np.array([100 - 1 / x[0], 2 * x[1]])

    end, asked = search(function, np.array([0.05, 3.0]))
    assert_allclose(end, [0.01, 0], atol=1e-4)
    assert any(x[0] <= 0 for x in asked)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_function_without_any_value_ends_where_it_began(value: float) -> None:
    end, asked = search(lambda x: (value, np.full(3, math.nan)), np.ones(3))
    assert_array_equal(end, 1)
    assert len(asked) < 100


def test_a_function_without_a_lowest_point_comes_to_an_end() -> None:
    end, asked = search(lambda x: (float(x.sum()), np.ones(4)), np.zeros(4))
    assert np.isfinite(end).all()
    assert len(asked) < 100
