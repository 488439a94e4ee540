"""From scores of channels to scores of groups: what is missing, warming up, out of range, and whose fault it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from engine.channels.joint import score_groups
from engine.frame import F64, Frame, Prediction
from engine.score import Policy
from tests.fakes import JointModel
from tests.strategies import START_MS, STEP_MS

NAN = math.nan


def frame_of(values: list[list[float]], groups: list[int]) -> Frame:
    matrix = np.array(values, dtype=np.float64).reshape(len(groups), -1)
    times = START_MS + STEP_MS * np.arange(matrix.shape[1], dtype=np.int64)
    return Frame(np.arange(len(groups)), times, matrix, STEP_MS, groups=np.array(groups))


def scored(
    values: list[list[float]], groups: list[int], *policies: Policy, policy_of: list[int] | None = None, seen: int = 99
) -> dict[str, F64]:
    """Columns where each channel is expected at 0, with a band from -1 to 1."""
    frame = frame_of(values, groups)
    zero = np.zeros(frame.shape)
    prediction = Prediction(zero, zero - 1, zero + 1, seen=np.full(len(groups), seen))
    which = np.array(policy_of or [0] * len(groups), dtype=np.int64)
    return score_groups(JointModel(), policies or (Policy(),), which, prediction, frame)


def test_each_group_has_its_own_score_and_shares() -> None:
    columns = scored([[0.5, 3.0], [1.0, 4.0], [0.0, 2.0]], [7, 7, 3])
    assert_array_equal(columns["anomaly_score"], [[1.0, 4.0], [0.0, 2.0]])
    assert_allclose(columns["contribution"], [[0.2, 9 / 25], [0.8, 16 / 25], [1.0, 1.0]])
    assert_array_equal(columns["yhat"], np.zeros((3, 2)))


def test_where_a_channel_is_missing_its_group_has_nothing() -> None:
    columns = scored([[NAN, 3.0], [NAN, 4.0], [1.0, NAN]], [0, 0, 1])
    assert_array_equal(columns["anomaly_score"], [[NAN, 4.0], [1.0, NAN]])
    assert_array_equal(np.isnan(columns["contribution"]), [[True, False], [True, False], [False, True]])


def test_where_no_channel_stands_out_shares_are_equal() -> None:
    columns = scored([[0.0], [0.0], [0.0], [0.0]], [0, 0, 0, 0])
    assert_array_equal(columns["contribution"], np.full((4, 1), 0.25))


def test_each_channel_has_its_own_policy() -> None:
    policies = Policy(direction="above_expected"), Policy(min_dev=(5.0, 5.0))
    columns = scored([[-9.0, 2.0], [4.0, 9.0]], [0, 0], *policies, policy_of=[0, 1])
    assert_array_equal(columns["anomaly_score"], [[0.0, 9.0]])
    assert_allclose(columns["contribution"][:, 1], [4 / 85, 81 / 85])


@pytest.mark.parametrize(("value", "score"), [(0.5, 0.5), (2.0, 1.01), (3.0, 3.0)])
def test_a_value_out_of_range_is_never_hidden_and_has_the_blame(value: float, score: float) -> None:
    limits = (0.0, 1.5 if value == 2.0 else 100.0)
    policies = Policy(data_range=limits, min_dev=(9.0, 9.0)) if value == 2.0 else Policy(data_range=limits), Policy()
    columns = scored([[value], [0.4]], [0, 0], *policies, policy_of=[0, 1])
    assert columns["anomaly_score"][0, 0] == score
    if value == 2.0:
        assert columns["contribution"][:, 0].argmax() == 0


def test_a_score_without_bands_is_raised_too_and_blames_those_out_of_range() -> None:
    frame = frame_of([[5.0, 1.0], [1.0, 1.0], [-1.0, 1.0]], [0, 0, 0])
    prediction = Prediction(joint=np.array([[0.3, 0.3]]), share=np.array([[0.0, 1.0], [9.0, 1.0], [0.0, 2.0]]))
    columns = score_groups(JointModel(), [Policy(data_range=(0.0, 2.0))], np.zeros(3, np.int64), prediction, frame)
    assert_array_equal(columns["anomaly_score"], [[1.01, 0.3]])
    assert_array_equal(columns["contribution"], [[0.5, 0.25], [0.0, 0.25], [0.5, 0.5]])


def test_scores_count_once_all_channels_have_learned_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JointModel, "warm_up", 4)
    columns = scored([[9.0, NAN, 9.0, 9.0], [9.0, NAN, 9.0, 9.0]], [0, 0], seen=2)
    assert_array_equal(columns["anomaly_score"], [[0.0, NAN, 0.0, 9.0]])


def test_what_adds_less_than_nothing_adds_nothing_and_scores_are_bounded() -> None:
    frame = frame_of([[1.0], [1.0]], [0, 0])
    prediction = Prediction(joint=np.array([[1e9]]), share=np.array([[-3.0], [1e-300]]))
    columns = score_groups(JointModel(), [Policy()], np.zeros(2, np.int64), prediction, frame)
    assert_array_equal(columns["anomaly_score"], [[1e6]])
    assert_array_equal(columns["contribution"], [[0.0], [1.0]])


def test_no_channel_is_no_group() -> None:
    nothing = np.empty((0, 3))
    frame = Frame(
        np.empty(0, np.int64), START_MS + STEP_MS * np.arange(3), nothing, STEP_MS, groups=np.empty(0, np.int64)
    )
    prediction = Prediction(nothing, nothing, nothing, seen=np.empty(0, np.int64))
    columns = score_groups(JointModel(), [Policy()], np.empty(0, np.int64), prediction, frame)
    assert columns["anomaly_score"].shape == (0, 3)
