"""The rolling quantile's own claims; what holds for every model is in test_contract.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from engine.frame import State
from engine.models.base import fit
from engine.models.rolling_quantile import RollingQuantile
from engine.pool import Pool
from tests.naive_quantile import window_quantiles
from tests.strategies import START_MS, STEP_MS, frame_of

POOL = Pool(1)


def fitted(model: RollingQuantile, values: np.ndarray) -> State:
    return fit(model, [frame_of(values)], POOL)


@pytest.mark.parametrize("window_steps", [1, 50, 400])
def test_inference_goes_on_where_the_fit_ended(window_steps: int) -> None:
    values = np.random.default_rng(1).normal(10, 3, (3, 300))
    values[1, 150:190] = np.nan
    model = RollingQuantile(quantile=0.9, window_steps=window_steps, iqr_threshold=2.0)
    prediction, _ = model.infer(fitted(model, values[:, :200]), frame_of(values[:, 200:], START_MS + 200 * STEP_MS))
    assert prediction.yhat is not None
    assert prediction.yhat_lower is not None
    assert prediction.yhat_upper is not None
    for i, row in enumerate(values.tolist()):
        for t in range(100):
            # Half of two interquartile ranges on either side.
            center, low, high, q1, q3 = window_quantiles(row[: 200 + t], window_steps, [0.5, 1 - 0.9, 0.9, 0.25, 0.75])
            assert prediction.yhat[i, t] == center
            assert prediction.yhat_lower[i, t] == pytest.approx(low - (q3 - q1), rel=1e-14)
            assert prediction.yhat_upper[i, t] == pytest.approx(high + (q3 - q1), rel=1e-14)


def test_only_unseen_points_are_predicted_and_none_is_in_its_own_window() -> None:
    model = RollingQuantile(quantile=0.9, window_steps=3)
    prediction, _ = model.infer(fitted(model, np.array([[1.0, 2.0, 3.0]])), frame_of([[900.0]], START_MS + 3 * STEP_MS))
    assert prediction.yhat is not None
    assert_array_equal(prediction.yhat, [[2.0]])


def test_a_fit_in_any_pieces_equals_learning_point_by_point() -> None:
    values = np.random.default_rng(3).normal(0, 1, (3, 400))
    values[1, 10:200] = np.nan
    model = RollingQuantile(quantile=0.95, window_steps=60)
    pieces = [frame_of(values[:, a : a + 77], START_MS + STEP_MS * a) for a in range(0, 400, 77)]
    frame = frame_of(values)
    _, slow = model.infer(model.fresh(frame.series, frame), frame)
    cut, whole = fit(model, pieces, POOL), fitted(model, values)
    for name, column in whole.columns.items():
        assert_array_equal(cut.columns[name], column)
        assert_array_equal(slow.columns[name], column)


def test_a_new_level_is_the_expectation_after_half_a_window() -> None:
    values = np.random.default_rng(3).normal(0, 1, (1, 200))
    values[0, 100:] += 50
    model = RollingQuantile(quantile=0.9, window_steps=40)
    prediction, _ = model.infer(model.fresh(np.arange(1), frame_of(values)), frame_of(values))
    assert prediction.yhat is not None
    assert (prediction.yhat[0, 101:118] < 5).all()
    assert (prediction.yhat[0, 122:] > 45).all()


def test_warm_up_counts_what_was_learned_before_the_frame() -> None:
    model = RollingQuantile(quantile=0.9, window_steps=2, min_n_samples_seen=3)
    state = fitted(model, np.array([[1.0, math.nan, 2.0], [1.0, 2.0, 3.0]]))
    prediction, state = model.infer(state, frame_of([[3.0], [4.0]], START_MS + STEP_MS * 3))
    assert model.warm_up == 3
    assert prediction.seen is not None
    assert_array_equal(prediction.seen, [2, 3])
    assert_array_equal(state.columns["seen"], [3, 4])


def test_state_is_16_bytes_a_step_of_the_window() -> None:
    values = np.random.default_rng(0).normal(0, 1, (4, 300))
    assert fitted(RollingQuantile(quantile=0.9, window_steps=50), values).size_bytes == 4 * (16 * 50 + 8)
