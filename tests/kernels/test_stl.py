"""STL against recorded decompositions of statsmodels; what follows it against its naive twin."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kernels.loess import loess_table, smooth
from kernels.seasonal import seasonal_update
from kernels.stl import fit_stl, stl_decompose
from tests.naive_seasonal import NaiveSeasonal
from tests.strategies import matrices

GOLDEN = Path(__file__).parent.parent / "golden" / "stl"
CASES = json.loads((GOLDEN / "cases.json").read_text())["cases"]


def odd(length: float) -> int:
    """The odd number from here on."""
    return math.ceil(length) + (math.ceil(length) + 1) % 2


def prepared(n: int, options: dict[str, Any], iterations: dict[str, int]) -> tuple[np.ndarray, Any]:
    """Options and tables of statsmodels' arguments, with its defaults."""
    o = {f"{name}_deg": 1 for name in ("seasonal", "trend", "low_pass")} | {"seasonal": 7} | options
    jump = {name: o.get(f"{name}_jump", 1) for name in ("seasonal", "trend", "low_pass")}
    trend = o.get("trend", odd(1.5 * o["period"] / (1 - 1.5 / o["seasonal"])))
    low_pass = o.get("low_pass", odd(o["period"] + 1))
    is_robust = o.get("robust", False)
    numbers = [o[f"{name}_deg"] for name in ("seasonal", "trend", "low_pass")]
    numbers += [iterations.get("inner_iter", 2 if is_robust else 5), iterations.get("outer_iter", 15 * is_robust)]
    cycles = [
        loess_table(n // o["period"] + extra, o["seasonal"], o["seasonal_deg"], jump["seasonal"], True)
        for extra in (1, 0)
    ]
    others = [
        loess_table(n, trend, o["trend_deg"], jump["trend"], False),
        loess_table(n, low_pass, o["low_pass_deg"], jump["low_pass"], False),
    ]
    return np.array(numbers), (*cycles, *others)


def decompose(y: np.ndarray, options: dict[str, Any], iterations: dict[str, int]) -> np.ndarray:
    numbers, tables = prepared(y.size, options, iterations)
    out = np.full((3, y.size), np.nan)
    stl_decompose(y, options["period"], numbers, tables, *out)
    return out


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case["name"] for case in CASES])
def test_decompositions_equal_statsmodels(number: int) -> None:
    case = CASES[number]
    with np.load(GOLDEN / "series.npz") as arrays:
        y, expected = arrays[f"y{number}"], arrays[f"stl{number}"]
    found = decompose(y, case["options"], case["iterations"])
    keep = slice(None) if y.size == expected.shape[1] else slice(None, None, 37)
    assert_allclose(found[:, keep], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("is_robust", [False, True])
def test_gaps_are_filled_with_what_the_rest_says(is_robust: bool) -> None:
    t = np.arange(20 * 12)
    line, wave = 5 + 0.1 * t, 3 * np.sin(2 * np.pi * t / 12) + np.cos(4 * np.pi * t / 12)
    y = line + wave
    rng = np.random.default_rng(3)
    y[rng.random(y.size) < 0.2] = np.nan
    y[100:130] = np.nan
    y[[0, -1]] = np.nan
    season, trend, _ = decompose(y, {"period": 12, "robust": is_robust}, {})
    # A line and a steady wave are what the smoothers keep; the wave's range is 6, the line's 24.
    assert_allclose(season, wave, atol=0.1)
    assert_allclose(trend, line, atol=0.1)
    assert np.abs(season - wave).mean() < 0.01


def test_points_without_weight_do_not_matter() -> None:
    rng = np.random.default_rng(4)
    y = np.sin(2 * np.pi * np.arange(120) / 12) + rng.normal(0, 0.1, 120)
    table = loess_table(120, 21, 1, 1, False)
    weights = np.ones(120)
    weights[[3, 50, 51, 119]] = 0.0
    moved = y.copy()
    moved[[3, 50, 51, 119]] += 1e6
    a, b = np.empty(120), np.empty(120)
    smooth(y, weights, True, 1, table, a)
    smooth(moved, weights, True, 1, table, b)
    assert_array_equal(a, b)
    expected = np.empty(120)
    for i in range(120):
        near = np.arange(min(max(i - 10, 0), 99), min(max(i - 10, 0), 99) + 21)
        h = np.abs(near - i).max()
        w = np.clip(1 - (np.abs(near - i) / h) ** 3, 0, None) ** 3 * weights[near]
        w[np.abs(near - i) > 0.999 * h] = 0.0
        w[np.abs(near - i) <= 0.001 * h] = weights[i]
        expected[i] = np.polynomial.Polynomial.fit(near, y[near], 1, w=np.sqrt(w))(i)
    assert_allclose(a, expected, rtol=1e-9, atol=1e-9)


def fresh(n_rows: int, period: int) -> list[np.ndarray]:
    return [*np.zeros((3, n_rows)), np.zeros(n_rows, dtype=np.int64), np.full((n_rows, period), np.nan)]


def update(y: np.ndarray, first: int, state: list[np.ndarray], decay: float, is_robust: bool) -> np.ndarray:
    period = state[-1].shape[1]
    phases, out = (first + np.arange(y.shape[1])) % period, np.empty((3, *y.shape))
    seasonal_update(y, phases, np.array([0.1, 0.25]), decay, is_robust, 1.0, *state, *out)
    return out


@settings(deadline=None)
@given(matrices(max_rows=3), st.integers(1, 5), st.sampled_from([1.0, 0.9]), st.booleans(), st.integers(0, 40))
def test_points_are_predicted_and_learned_as_in_the_twin(
    y: np.ndarray, period: int, decay: float, is_robust: bool, cut: int
) -> None:
    state = fresh(y.shape[0], period)
    out = update(y, 2, state, decay, is_robust)
    phases = [(2 + t) % period for t in range(y.shape[1])]
    for i, row in enumerate(y.tolist()):
        twin = NaiveSeasonal(period, (0.1, 0.25), decay, is_robust)
        assert_allclose(out[:, i].T, twin.run(row, phases), rtol=1e-9, atol=1e-6)
        assert state[3][i] == twin.seen
    pieces, parts = fresh(y.shape[0], period), []
    for piece, first in ((y[:, :cut], 2), (y[:, cut:], 2 + cut)):
        parts.append(update(np.ascontiguousarray(piece), first, pieces, decay, is_robust))
    assert_array_equal(np.concatenate(parts, axis=2), out)
    for a, b in zip(pieces, state, strict=True):
        assert_array_equal(a, b)


def test_a_fit_leaves_the_last_season_the_trends_end_and_the_spread_of_errors_ahead() -> None:
    rng = np.random.default_rng(6)
    y = 1e9 + np.sin(2 * np.pi * np.arange(125) / 12) + rng.normal(0, 0.1, 125)
    options, tables = prepared(125, {"period": 12}, {})
    state = fresh(2, 12)
    phases = (5 + np.arange(125)) % 12
    rows = np.stack([y, np.where(np.arange(125) < 101, np.nan, y)])
    before = rows.copy()
    fit_stl(rows, phases, options, tables, np.array([0.1, 0.25]), 1.0, False, *state)
    assert_array_equal(rows, before)
    season, trend, _ = decompose(y - y[0], {"period": 12}, {})
    assert_allclose(state[0][0], trend[-1] + y[0])
    assert_allclose(state[4][0, phases[-12:]], season[-12:])
    twin = NaiveSeasonal(12, (0.1, 0.25), 1.0, False)
    twin.level, twin.seen = float(trend[0]), 125
    twin.season = {int(phases[t]): float(season[t]) for t in range(12)}
    twin.run((y - y[0]).tolist(), phases.tolist())
    assert math.sqrt(state[2][0] / state[1][0]) == pytest.approx(twin.spread, rel=1e-9)
    # 24 points are two periods, yet too few for any of 12 phases to be known twice after a gap in front.
    assert_array_equal(state[3], [125, 24])


def test_a_row_of_less_than_two_periods_is_learned_point_by_point() -> None:
    y = np.random.default_rng(8).normal(10, 1, (1, 40))
    y[0, 10:27] = np.nan
    options, tables = prepared(40, {"period": 12}, {})
    state, expected = fresh(1, 12), fresh(1, 12)
    fit_stl(y, np.arange(40) % 12, options, tables, np.array([0.1, 0.25]), 1.0, False, *state)
    update(y, 0, expected, 1.0, False)
    for a, b in zip(state, expected, strict=True):
        assert_allclose(a, b, rtol=1e-12)


@settings(deadline=None, max_examples=40)
@given(matrices(max_rows=3), st.integers(1, 6), st.booleans())
def test_no_row_breaks_a_fit(y: np.ndarray, period: int, is_robust: bool) -> None:
    n = max(y.shape[1], 2 * period)
    options, tables = prepared(n, {"period": period, "robust": is_robust}, {})
    state = fresh(y.shape[0], period)
    phases, gains = np.arange(y.shape[1]) % period, np.array([0.1, 0.25])
    fit_stl(y, phases, options, tables, gains, 1.0, is_robust, *state)
    assert_array_equal(state[3], np.isfinite(y).sum(axis=1))
    assert all(np.isfinite(column).all() for column in state[:4])
    for i in range(y.shape[0]):
        alone = fresh(1, period)
        fit_stl(y[i : i + 1], phases, options, tables, gains, 1.0, is_robust, *alone)
        for a, b in zip(alone, state, strict=True):
            assert_array_equal(a[0], b[i])
