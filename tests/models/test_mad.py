"""The online MAD's own claims; what holds for every model is in test_contract.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from engine import score
from engine.frame import F64, Query, State
from engine.models.base import fit
from engine.models.mad import OnlineMad
from engine.pool import Pool
from tests.naive_quantile import median_and_mad
from tests.strategies import START_MS, STEP_MS, frame_of

POOL = Pool(1)


def fitted(model: OnlineMad, values: F64) -> State:
    return fit(model, [frame_of(values)], POOL)


def band(model: OnlineMad, state: State, after: int, values: F64) -> tuple[list[Any], State]:
    """(yhat, lower, upper) for values that follow `after` steps, and the next state."""
    prediction, state = model.infer(state, frame_of(values, START_MS + STEP_MS * after))
    return [prediction.yhat, prediction.yhat_lower, prediction.yhat_upper], state


def test_the_band_is_the_median_and_threshold_raw_deviations() -> None:
    values = np.random.default_rng(1).normal(10, 3, (4, 150))
    model = OnlineMad(threshold=4.0)
    (yhat, lower, upper), _ = band(model, fitted(model, values), 150, np.full((4, 1), np.nan))
    for i, row in enumerate(values.tolist()):
        median, mad = median_and_mad(row, 1.0)
        assert_allclose(
            [yhat[i, 0], lower[i, 0], upper[i, 0]], [median, median - 4 * mad, median + 4 * mad], rtol=1e-14
        )


@pytest.mark.parametrize("decay", [1.0, 0.995])
def test_a_fit_in_any_pieces_equals_learning_point_by_point(decay: float) -> None:
    values = np.random.default_rng(3).lognormal(0, 1, (3, 2000))
    values[1, 10:200] = np.nan
    model = OnlineMad(decay=decay, compression=20)
    pieces = [frame_of(values[:, a : a + 333], START_MS + STEP_MS * a) for a in range(0, 2000, 333)]
    whole, cut = fitted(model, values), fit(model, pieces, POOL)
    _, slow = band(model, model.fresh(np.arange(3), frame_of(values)), 0, values)
    for name, column in whole.columns.items():
        assert_array_equal(cut.columns[name], column)
        assert_array_equal(slow.columns[name], column)


@pytest.mark.parametrize("strength", [1, 3])
def test_history_strength_repeats_the_history_and_leaves_what_was_fitted(strength: int) -> None:
    past, later = np.random.default_rng(5).normal(0, 1, (1, 50)), np.random.default_rng(6).normal(9, 1, (1, 60))
    model = OnlineMad(history_strength=float(strength))
    state = fitted(model, past)
    assert state.columns["seen"][0] == 50
    nothing = np.full((1, 1), np.nan)
    first, plain = band(model, state, 50, nothing)[0], band(OnlineMad(), fitted(OnlineMad(), past), 50, nothing)[0]
    assert_array_equal(first, plain)
    _, state = band(model, state, 50, later)
    (yhat, _, upper), _ = band(model, state, 110, nothing)
    repeated = np.concatenate([np.repeat(past, strength), later[0]])
    median = np.median(repeated)
    assert yhat[0, 0] == median
    assert upper[0, 0] == pytest.approx(median + 2.5 * np.median(np.abs(repeated - median)), rel=1e-14)


def test_bursts_in_a_fifth_of_the_history_hardly_move_the_band() -> None:
    rng = np.random.default_rng(7)
    clean = rng.normal(100, 2, (1, 5000))
    dirty = np.where(rng.random(clean.shape) < 0.2, 1e6, clean)
    model = OnlineMad()
    (yhat, _, upper), _ = band(model, fitted(model, dirty), 5000, np.full((1, 1), np.nan))
    assert abs(yhat[0, 0] - 100) < 2
    assert upper[0, 0] - yhat[0, 0] < 2 * 2.5 * 2 * 0.6745


def test_a_deviation_of_zero_still_tells_the_constant_from_the_rest() -> None:
    values = np.full((1, 200), 0.3)
    values[0, ::5] = 4.0  # less than half: the median deviation is 0
    model = OnlineMad()
    frame = frame_of([[0.3, 0.3001, 4.0]], START_MS + STEP_MS * 200)
    prediction, _ = model.infer(fitted(model, values), frame)
    scores = score.apply(score.resolve(model, Query("q", "up", STEP_MS)), model.warm_up, prediction, frame)
    assert scores["anomaly_score"][0, 0] == 0
    assert (scores["anomaly_score"][0, 1:] > 1).all()


def test_warm_up_counts_what_was_learned_before_the_frame() -> None:
    model = OnlineMad(min_n_samples_seen=3)
    state = fitted(model, np.array([[1.0, math.nan, 2.0], [1.0, 2.0, 3.0]]))
    prediction, state = model.infer(state, frame_of([[3.0], [4.0]], START_MS + STEP_MS * 3))
    assert model.warm_up == 3
    assert prediction.seen is not None
    assert_array_equal(prediction.seen, [2, 3])
    assert_array_equal(state.columns["seen"], [3, 4])


@pytest.mark.parametrize(("compression", "size"), [(1, 52), (10, 52), (100, 456), (1000, 4048)])
def test_state_is_17_bytes_a_centroid_whatever_was_learned(compression: int, size: int) -> None:
    values = np.random.default_rng(0).normal(0, 1, (4, 3000))
    assert fitted(OnlineMad(compression=compression), values).size_bytes == 4 * (17 * size + 32)
