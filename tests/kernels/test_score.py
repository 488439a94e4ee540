"""The fused score kernel against its definition in exact fractions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kernels.score import score_band, score_given
from tests.naive_score import Point, Rules, score_point
from tests.strategies import HOLES, HUGE, ORDINARY

DIRECTIONS = {"both": 0, "above_expected": 1, "below_expected": -1}


def kernel(
    rules: Rules, y: Any, seen: Any, warm_up: int, yhat: Any, lower: Any, upper: Any, unusual: Any = None
) -> tuple[np.ndarray, ...]:
    """(score, yhat, lower, upper) of the kernel, (S, T); the arguments are not changed."""
    values = np.array(y, dtype=np.float64, order="C")
    band = [np.array(a, dtype=np.float64, order="C") for a in (yhat, lower, upper)]
    out = np.empty_like(values)
    pairs = [np.array(p, dtype=np.float64) for p in (rules.min_dev, rules.min_rel_dev, rules.data_range)]
    score_band(
        values,
        np.array(seen, dtype=np.int64),
        warm_up,
        1e150,
        DIRECTIONS[rules.direction],
        *pairs,
        rules.outside_score,
        np.array(rules.scale, dtype=np.float64),
        rules.clip,
        np.empty((0, 0)) if unusual is None else np.array(unusual, dtype=np.float64, order="C"),
        *band,
        out,
    )
    return out, *band


def score_of(rules: Rules, y: float, yhat: float, lower: float, upper: float) -> float:
    """The score of one point after warm-up."""
    return float(kernel(rules, [[y]], [0], 0, [[yhat]], [[lower]], [[upper]])[0][0, 0])


WHOLE = st.integers(-1000, 1000).map(float)
LIMITS = st.sampled_from([0.0, 1.0, 10.0, 29.0, 250.0])
RANGES = st.one_of(
    st.just((-math.inf, math.inf)),
    st.tuples(WHOLE, WHOLE).map(lambda p: (min(p), max(p))),
    WHOLE.map(lambda v: (v, math.inf)),
)
RULES = st.builds(
    Rules,
    direction=st.sampled_from(list(DIRECTIONS)),
    min_dev=st.tuples(LIMITS, LIMITS),
    min_rel_dev=st.tuples(LIMITS, LIMITS),
    data_range=RANGES,
    outside_score=st.sampled_from([0.0, 1.01, 7.0]),
    scale=st.tuples(st.sampled_from([0.5, 1.0, 3.0]), st.sampled_from([0.5, 1.0, 3.0])),
    clip=st.booleans(),
)


@st.composite
def bands(draw: st.DrawFn, values: st.SearchStrategy[float]) -> tuple[float, float, float, float]:
    """(y, yhat, lower, upper): any distance, width from zero, sometimes without a band or without a value."""
    yhat = draw(values)
    widths = st.one_of(st.just(0.0), st.floats(0, 1e-9), st.floats(0, 1e6))
    below, above = draw(widths), draw(widths)
    y = draw(st.one_of(values, HOLES, st.just(yhat), st.just(yhat + above), st.just(yhat - below)))
    if draw(st.integers(0, 9)) == 0:
        return y, math.nan, math.nan, math.nan
    return y, yhat, yhat - below, yhat + above


def assert_points(got: tuple[np.ndarray, ...], expected: list[list[Point]]) -> None:
    """All four columns of every point."""
    for column, name in zip(got, Point._fields, strict=True):
        wanted = np.array([[getattr(p, name) for p in row] for row in expected]).reshape(column.shape)
        assert_allclose(column, wanted, rtol=1e-12, atol=1e-300 if name != "score" else 1e-12, err_msg=name)


@settings(deadline=None)
@given(RULES, st.integers(0, 4), st.lists(bands(st.one_of(WHOLE, ORDINARY, HUGE)), min_size=1, max_size=8), st.data())
def test_every_point_equals_the_definition(
    rules: Rules, warm_up: int, points: list[tuple[float, float, float, float]], data: st.DataObject
) -> None:
    seen = data.draw(st.integers(0, 6))
    expected, learned = [], seen
    for y, yhat, lower, upper in points:
        expected.append(score_point(rules, y, learned=learned, warm_up=warm_up, yhat=yhat, lower=lower, upper=upper))
        learned += abs(y) <= 1e150
    y, yhat, lower, upper = np.array(points).T.reshape(4, 1, -1)
    assert_points(kernel(rules, y, [seen], warm_up, yhat, lower, upper), [expected])


@settings(deadline=None)
@given(RULES, st.lists(st.tuples(bands(WHOLE), st.floats(0, 1)), min_size=1, max_size=8))
def test_a_score_is_weighed_by_how_unusual_the_row_is(
    rules: Rules, points: list[tuple[tuple[float, float, float, float], float]]
) -> None:
    expected = [
        score_point(rules, y, learned=9, warm_up=3, yhat=yhat, lower=lower, upper=upper, unusual=weight)
        for (y, yhat, lower, upper), weight in points
    ]
    y, yhat, lower, upper = np.array([band for band, _ in points]).T.reshape(4, 1, -1)
    unusual = [[weight for _, weight in points]]
    assert_points(kernel(rules, y, [9], 3, yhat, lower, upper, unusual), [expected])


@pytest.mark.parametrize("unusual", [0.0, 0.3, 1.0])
def test_a_weighed_score_is_0_at_yhat_1_at_a_bound_and_never_falls_outwards(unusual: float) -> None:
    y = np.linspace(10, 20, 10_001)
    score = kernel(Rules(), [y], [9], 0, *([np.full(y.size, v)] for v in (10, 8, 14)), [np.full(y.size, unusual)])[0][0]
    assert score[0] == 0
    assert score[4000] == 1
    assert (np.diff(score) >= 0).all()
    assert ((score[4001:] > 1) == (unusual > 0)).all()


@settings(deadline=None)
@given(RULES, st.lists(bands(st.one_of(ORDINARY, HUGE)), min_size=1, max_size=8))
def test_bounds_keep_their_order_and_scores_are_finite(
    rules: Rules, points: list[tuple[float, float, float, float]]
) -> None:
    y, yhat, lower, upper = np.array(points).T.reshape(4, 1, -1)
    score, centre, low, high = kernel(rules, y, [9], 3, yhat, lower, upper)
    there = np.isfinite(centre)
    assert (low[there] <= centre[there]).all()
    assert (centre[there] <= high[there]).all()
    assert_array_equal(there, np.isfinite(y) & np.isfinite(yhat))
    assert ((score[there] >= 0) & (score[there] <= max(1e6, rules.outside_score))).all()
    assert np.isnan(score[~np.isfinite(y)]).all()


@pytest.mark.parametrize(
    ("y", "score"),
    [(10, 0), (13, 1), (11.5, 0.5), (16, 2), (8, 1), (6, 2), (9, 0.5)],
)
def test_the_score_is_the_distance_in_half_widths_of_its_side(y: float, score: float) -> None:
    assert score_of(Rules(), y, 10, 8, 13) == score


@pytest.mark.parametrize("constant", [0.0, 1e-20, 5.0, -1e15, 1e300])
def test_a_constant_scores_0_at_itself_and_more_than_1_off_it(constant: float) -> None:
    assert score_of(Rules(), constant, constant, constant, constant) == 0
    for off in (constant + max(1e-6 * abs(constant), 1e-6), constant - max(1e-6 * abs(constant), 1e-6)):
        assert 1 < score_of(Rules(), off, constant, constant, constant) <= 1e6


def test_the_score_is_capped_so_that_storage_keeps_small_ones() -> None:
    assert score_of(Rules(), 1e300, -1e300, -1e300, -1e300) == 1e6
    assert score_of(Rules(), 0.8e308, -0.8e308, -0.8e308, 0.8e308) == 1


@pytest.mark.parametrize(
    ("rules", "y", "is_kept"),
    [
        (Rules(min_dev=(0, 3)), 13.0, False),  # equality is filtered
        (Rules(min_dev=(0, 3)), 13.5, True),
        (Rules(min_dev=(3, 0)), 13.0, True),  # the other side's limit
        (Rules(min_dev=(3, 0)), 7.0, False),
        (Rules(min_rel_dev=(20, 20)), 8.0, False),
        (Rules(min_rel_dev=(20, 20)), 7.9, True),
        (Rules(min_dev=(1, 1), min_rel_dev=(0, 50)), 14.0, False),  # both must be exceeded
        (Rules(min_dev=(1, 5), min_rel_dev=(0, 1)), 14.0, False),
        (Rules(direction="above_expected"), 5.0, False),
        (Rules(direction="above_expected"), 15.0, True),
        (Rules(direction="below_expected"), 15.0, False),
        (Rules(direction="below_expected"), 5.0, True),
        (Rules(data_range=(11, 100)), 15.0, False),  # the expectation itself is impossible
        (Rules(data_range=(0, 10)), 9.0, True),  # bounds are inside
    ],
)
def test_policies_silence_a_score(rules: Rules, y: float, is_kept: bool) -> None:
    assert (score_of(rules, y, 10, 9.5, 10.5) > 0) is is_kept


@pytest.mark.parametrize(("y", "percent"), [(129.0, 29.0), (107.0, 7.0), (157.0, 57.0)])
def test_equality_of_the_relative_deviation_survives_rounding(y: float, percent: float) -> None:
    assert score_of(Rules(min_rel_dev=(percent, percent)), y, 100, 99, 101) == 0


def test_at_an_expectation_of_0_every_deviation_is_infinite_percent() -> None:
    assert score_of(Rules(min_rel_dev=(1e9, 1e9)), 0.5, 0, -0.1, 0.1) == pytest.approx(5)


def test_a_value_out_of_its_range_scores_whatever_else_holds() -> None:
    rules = Rules(direction="below_expected", min_dev=(99, 99), data_range=(-5, 5), outside_score=1.01)
    for learned in (0, 100):
        score, *_ = kernel(rules, [[6.0, -6.0, 5.0]], [learned], 16, [[0.0] * 3], [[-1.0] * 3], [[1.0] * 3])
        assert_array_equal(score, [[1.01, 1.01, 0.0]])


def test_a_computed_score_above_the_fixed_one_stays() -> None:
    assert score_of(Rules(data_range=(-5, 5), outside_score=1.01), 8, 0, -2, 2) == 4


def test_without_a_band_a_value_out_of_its_range_still_scores() -> None:
    nan = math.nan
    assert score_of(Rules(data_range=(0, 5), outside_score=2.0), 6, nan, nan, nan) == 2
    assert math.isnan(score_of(Rules(data_range=(0, 5)), 4, nan, nan, nan))


def test_with_clipping_the_expectation_is_never_out_of_range() -> None:
    rules = Rules(data_range=(0, 10), clip=True)
    score, yhat, lower, upper = kernel(rules, [[4.0]], [0], 0, [[-3.0]], [[-5.0]], [[2.0]])
    assert (yhat[0, 0], lower[0, 0], upper[0, 0]) == (0, 0, 2)
    assert score[0, 0] == 2
    assert score_of(rules._replace(clip=False), 4, -3, -5, 2) == 0


def test_a_clipped_band_with_nothing_in_the_range_says_nothing_of_values_in_it() -> None:
    rules = Rules(data_range=(0, 10), clip=True, outside_score=2.0)
    assert score_of(rules, 0.5, -0.01, -3, -0.005) == 0
    assert score_of(rules, 9, 12, 11, 13) == 0
    assert score_of(rules, 11, 12, 11, 13) == 2
    # A constant at the end of the range is in it.
    assert score_of(rules, 0.5, 0, 0, 0) == 1e6


def test_scale_takes_the_lower_side_first() -> None:
    _, _, lower, upper = kernel(Rules(scale=(2, 3)), [[10.0]], [0], 0, [[10.0]], [[9.0]], [[12.0]])
    assert (lower[0, 0], upper[0, 0]) == (8, 16)


def test_warm_up_counts_finite_values_only_and_leaves_the_band() -> None:
    y = [[50.0, math.nan, 50.0, math.inf, 50.0, 50.0]]
    score, yhat, _, _ = kernel(Rules(), y, [1], 3, np.zeros((1, 6)), -np.ones((1, 6)), np.ones((1, 6)))
    assert_array_equal(score, [[0, math.nan, 0, math.nan, 50, 50]])
    assert_array_equal(yhat, [[0, math.nan, 0, math.nan, 0, 0]])


def test_warm_up_does_not_count_values_that_are_too_large_to_be_learned() -> None:
    y = [[1.0, 2e150, 1.0, 50.0]]
    score, *_ = kernel(Rules(), y, [0], 2, np.zeros((1, 4)), -np.ones((1, 4)), np.ones((1, 4)))
    assert_array_equal(score, [[0, 0, 0, 50]])
    out = np.full((1, 4), 3.0)
    score_given(np.array(y), np.zeros(1, dtype=np.int64), 2, 1e150, np.array([-math.inf, math.inf]), 1.01, out)
    assert_array_equal(out, [[0, 0, 0, 3]])


def test_scores_of_a_model_without_a_band_meet_the_policies_that_need_none() -> None:
    out = np.array([[0.5, 3.0, 3.0, 0.5, math.nan, math.inf]])
    y = np.array([[1.0, 1.0, math.nan, 9.0, 9.0, 1.0]])
    score_given(y, np.zeros(1, dtype=np.int64), 1, 1e150, np.array([0.0, 5.0]), 1.01, out)
    assert_array_equal(out, [[0, 3, math.nan, 1.01, 1.01, 1e6]])


def test_no_series_and_no_step_are_fine() -> None:
    for shape in ((0, 3), (3, 0)):
        empty = np.empty(shape)
        score, *_ = kernel(Rules(), empty, np.zeros(shape[0]), 1, empty, empty, empty)
        assert score.shape == shape


def test_the_kernels_are_compiled_once() -> None:
    for compiled in (score_band, score_given):
        assert len(getattr(compiled, "signatures", [()])) <= 1
