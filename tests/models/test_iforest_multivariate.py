"""Isolation forest over channels: scikit-learn's scores of the same rows, a plain walk of the trees, groups, shares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from engine.frame import F64, Frame, State
from engine.models.base import fit, infer
from engine.models.iforest import Contamination
from engine.models.iforest_multivariate import IsolationForestMultivariate
from engine.pool import Pool
from kernels.iforest import Forest
from tests import naive_iforest as naive
from tests.strategies import START_MS, STEP_MS

GOLDEN = Path(__file__).parent.parent / "golden" / "isolation_forest"
SETS = json.loads((GOLDEN / "agreement.json").read_text(encoding="utf-8"))["sets"]
ONE = Pool(1)


def frame_of(columns: F64, groups: list[int] | None = None) -> Frame:
    """Times as rows of `columns`, channels of one group unless told otherwise."""
    n_steps, n_channels = columns.shape
    times = START_MS + STEP_MS * np.arange(n_steps, dtype=np.int64)
    numbers = np.array(groups or [0] * n_channels)
    return Frame(np.arange(n_channels), times, np.ascontiguousarray(columns.T), STEP_MS, groups=numbers)


def joint(model: IsolationForestMultivariate, state: State, frame: Frame) -> F64:
    found = infer(model, state, frame, ONE)[0].joint
    assert found is not None
    return found


def raw_scores(state: State, group: int, scores: F64) -> F64:
    """What the map to anomaly scores was given; where it is above 0."""
    low, high = (state.group_columns[name][group] for name in ("low", "high"))
    return np.asarray(low + scores * (high - low))


@pytest.mark.parametrize(("k", "name"), list(enumerate(SETS)))
def test_raw_scores_are_those_of_scikit_learn(k: int, name: str) -> None:
    with np.load(GOLDEN / "sets.npz") as golden:
        x, reference = golden[f"x{k}"].astype(float), golden[f"scores{k}"] / 65535
    ours = []
    for seed in range(8):
        model = IsolationForestMultivariate(args={"random_state": seed})
        state = fit(model, [frame_of(x)], ONE)
        ours.append(raw_scores(state, 0, joint(model, state, frame_of(x))[0]))
    assert_allclose(np.mean(ours, axis=0), reference.mean(axis=0), atol=0.03)


def test_scores_are_the_mean_path_lengths_of_the_trees() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_t(3, (500, 6)).round(1)
    model = IsolationForestMultivariate(contamination=Contamination(0.1), args={"n_estimators": 20})
    frame = frame_of(x, [0, 0, 4, 2, 2, 2])
    state = fit(model, [frame], ONE)
    scores = joint(model, state, frame)
    for g, (a, b) in enumerate(((0, 2), (2, 3), (3, 6))):
        parts = {name: array[g] for name, array in state.group_columns.items() if name in Forest._fields}
        forest = Forest(center=state.columns["center"][a:b], scale=state.columns["scale"][a:b], **parts)
        walked = np.array([naive.score(forest, row, 256) for row in x[:, a:b]])
        low, high = walked.min(), np.quantile(walked, 0.9)
        assert_allclose(scores[g], (walked - low) / (high - low), atol=1e-5)


def test_the_share_of_times_above_one_is_the_contamination() -> None:
    x = np.random.default_rng(1).normal(0, 1, (2_000, 4))
    model = IsolationForestMultivariate(contamination=Contamination(0.03))
    scores = joint(model, fit(model, [frame_of(x)], ONE), frame_of(x))
    assert (scores > 1).mean() == pytest.approx(0.03, abs=0.002)


def test_times_with_a_missing_channel_are_left_out_of_the_fit() -> None:
    x = np.random.default_rng(2).normal(0, 1, (600, 3))
    holes = x.copy()
    holes[::3, 1] = np.nan
    holes[1, 0] = np.inf
    kept = np.isfinite(holes).all(axis=1)
    model = IsolationForestMultivariate()
    with_holes, without = fit(model, [frame_of(holes)], ONE), fit(model, [frame_of(x[kept])], ONE)
    for name, column in without.group_columns.items():
        assert_array_equal(with_holes.group_columns[name], column, err_msg=name)


def test_a_group_without_two_complete_times_is_left_out() -> None:
    x = np.random.default_rng(2).normal(0, 1, (50, 4))
    x[1:, 0] = np.nan
    state = fit(IsolationForestMultivariate(), [frame_of(x, [0, 0, 1, 1])], ONE)
    assert state.groups is not None
    assert state.groups.tolist() == [1, 1]
    assert state.series.tolist() == [2, 3]


def test_a_channel_that_never_moved_and_does_is_anomalous_and_to_blame() -> None:
    x = np.random.default_rng(2).normal(0, 1, (500, 3))
    x[:, 1] = 7.0
    model = IsolationForestMultivariate(provide_series=["contribution"])
    state = fit(model, [frame_of(x)], ONE)
    now = frame_of(np.array([[0.0, 7.0, 0.0], [0.0, 7.1, 0.0]]))
    prediction = infer(model, state, now, ONE)[0]
    assert prediction.joint is not None
    assert prediction.share is not None
    assert prediction.joint[0, 0] < 1 < prediction.joint[0, 1]
    assert prediction.share[:, 1].argmax() == 1
    assert_array_equal(prediction.share[[0, 2], 1], 0)


def test_the_hour_tells_what_is_usual() -> None:
    """At night low, by day high: high at night is rarer than by day, though high and night are both common."""
    hours = np.arange(24 * 60) % 24
    rng = np.random.default_rng(4)
    day = np.where((hours >= 8) & (hours < 20), 1.0, 0.0)[:, None] * 50 + rng.normal(0, 1, (hours.size, 2))
    times = START_MS // 86_400_000 * 86_400_000 + 3_600_000 * np.arange(hours.size, dtype=np.int64)
    frame = Frame(np.arange(2), times, np.ascontiguousarray(day.T), 3_600_000, groups=np.zeros(2, dtype=np.int64))
    model = IsolationForestMultivariate(seasonal_features=["hod"], contamination=Contamination(0.02))
    state = fit(model, [frame], ONE)
    values = np.array([[50.0, 50.0]] * 2)
    now = Frame(np.arange(2), times[[2, 14]], np.ascontiguousarray(values.T), 3_600_000, groups=np.zeros(2, np.int64))
    at_night, by_day = joint(model, state, now)[0]
    assert at_night > 2 * by_day
