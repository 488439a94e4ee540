"""The online z-score's own claims; what holds for every model is in test_contract.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from engine.frame import State
from engine.models.base import fit
from engine.models.zscore import OnlineZscore
from engine.pool import Pool
from tests.naive_moments import moments
from tests.strategies import START_MS, STEP_MS, cuts, frame_of, matrices

POOL = Pool(1)


def fitted(model: OnlineZscore, values: np.ndarray) -> State:
    return fit(model, [frame_of(values)], POOL)


def next_frame(values: np.ndarray, after: np.ndarray):
    return frame_of(values, START_MS + STEP_MS * after.shape[1])


@settings(deadline=None)
@given(matrices(max_rows=3, max_steps=20), st.sampled_from([1.0, 0.99, 0.3]), st.sampled_from([0.0, 2.5]))
def test_each_band_is_the_mean_and_threshold_deviations_of_what_came_before(
    values: np.ndarray, decay: float, z_threshold: float
) -> None:
    model = OnlineZscore(decay=decay, z_threshold=z_threshold)
    frame = frame_of(values)
    prediction, _ = model.infer(model.fresh(frame.series, frame), frame)
    assert prediction.yhat is not None
    assert prediction.yhat_lower is not None
    assert prediction.yhat_upper is not None
    for i, row in enumerate(values.tolist()):
        for t in range(len(row)):
            _, mean, std = moments(row[:t], decay)
            expected = [mean, mean - z_threshold * std, mean + z_threshold * std]
            got = [a[i, t] for a in (prediction.yhat, prediction.yhat_lower, prediction.yhat_upper)]
            assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(matrices(max_rows=3), st.sampled_from([1.0, 0.99]), st.data())
def test_a_fit_does_not_depend_on_how_its_window_is_cut(values: np.ndarray, decay: float, data: st.DataObject) -> None:
    if values.shape[0] == 0:
        return
    model, frame = OnlineZscore(decay=decay), frame_of(values)
    pieces = [frame_of(values[:, c], int(frame.timestamps_ms[c.start])) for c in data.draw(cuts(values.shape[1]))]
    whole, cut = fit(model, [frame], POOL), fit(model, pieces, POOL)
    finite = np.abs(values[np.isfinite(values)])
    for name, column in whole.columns.items():
        assert_allclose(
            cut.columns[name], column, rtol=1e-12, atol=1e-13 * finite.max(initial=0) ** (1 + (name == "m2"))
        )


def test_a_fit_equals_learning_point_by_point() -> None:
    values = np.random.default_rng(3).normal(70, 4, (5, 600))
    values[1, 10:200] = np.nan
    model = OnlineZscore()
    quick, slow = fitted(model, values), model.infer(model.fresh(np.arange(5), frame_of(values)), frame_of(values))[1]
    for name in ("weight", "mean", "m2", "seen"):
        assert_allclose(quick.columns[name], slow.columns[name], rtol=1e-12)


@pytest.mark.parametrize("decay", [1.0, 0.996])
@pytest.mark.parametrize("strength", [0.5, 3.0])
def test_history_strength_repeats_the_history_and_leaves_what_was_fitted(decay: float, strength: float) -> None:
    past, later = np.random.default_rng(5).normal(0, 1, (2, 1, 300))
    model = OnlineZscore(decay=decay, history_strength=strength)
    plain = OnlineZscore(decay=decay)
    state, reference = fitted(model, past), fitted(plain, past)
    first, _ = model.infer(state, next_frame(later[:, :1], past))
    plain_first, _ = plain.infer(reference, next_frame(later[:, :1], past))
    assert first.yhat is not None
    assert plain_first.yhat is not None
    assert first.yhat[0, 0] == plain_first.yhat[0, 0]
    assert_array_equal(state.columns["seen"], reference.columns["seen"])
    # A mean over the past, each point with `strength` times its weight, and the later points.
    _, state = model.infer(state, next_frame(later, past))
    weights = decay ** np.arange(599, -1, -1.0)
    weights[:300] *= strength
    assert state.columns["mean"][0] == pytest.approx(
        np.average(np.concatenate([past, later], axis=1)[0], weights=weights)
    )


def test_the_effective_sample_limit_of_a_decay() -> None:
    state = fitted(OnlineZscore(decay=0.9), np.arange(1000.0).reshape(1, -1))
    assert state.columns["weight"][0] == pytest.approx(1 / (1 - 0.9))
    # The newest N points carry 1 - decay**N of all weight.
    weights = 0.9 ** np.arange(999, -1, -1.0)
    assert weights[-22:].sum() / weights.sum() == pytest.approx(1 - 0.9**22)
    assert state.columns["mean"][0] == pytest.approx(np.average(np.arange(1000.0), weights=weights))


def test_warm_up_counts_what_was_learned_before_the_frame() -> None:
    model = OnlineZscore(min_n_samples_seen=3)
    state = fitted(model, np.array([[1.0, math.nan, 2.0], [1.0, 2.0, 3.0]]))
    prediction, state = model.infer(state, next_frame(np.array([[3.0], [4.0]]), np.empty((2, 3))))
    assert model.warm_up == 3
    assert prediction.seen is not None
    assert_array_equal(prediction.seen, [2, 3])
    assert_array_equal(state.columns["seen"], [3, 4])


def test_state_is_40_bytes_a_series() -> None:
    state = fitted(OnlineZscore(), np.zeros((100, 50)))
    assert state.size_bytes == 100 * 40
