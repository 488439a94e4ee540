"""Which policy holds for a model on a query, and which columns come out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from engine.config.single import make_model
from engine.frame import Frame, Prediction, Query
from engine.models.zscore import OnlineZscore
from engine.score import DEFAULT_OUTSIDE_SCORE, Policy, apply, resolve, select
from engine.settings import UNBOUNDED, Duration, Pair, Range
from tests.strategies import frame_of


def query(**keys: Any) -> Query:
    return Query("q", "up", 60_000, **keys)


def band(yhat: list[float], half: float, **more: Any) -> Prediction:
    centre = np.array([yhat])
    return Prediction(centre, centre - half, centre + half, **more)


def test_without_any_key_nothing_is_silenced() -> None:
    assert resolve(OnlineZscore(), query()) == Policy()


@pytest.mark.parametrize(
    ("key", "field", "of_model", "of_query"),
    [
        ("detection_direction", "direction", "above_expected", "below_expected"),
        ("min_dev_from_expected", "min_dev", Pair((1.0, 2.0)), Pair((3.0, 4.0))),
        ("min_rel_dev_from_expected", "min_rel_dev", Pair((1.0, 2.0)), Pair((3.0, 4.0))),
        ("data_range", "data_range", Range((0.0, 5.0)), Range((1.0, 9.0))),
    ],
)
def test_a_query_wins_over_its_model(key: str, field: str, of_model: Any, of_query: Any) -> None:
    model = OnlineZscore(**{key: of_model})
    assert getattr(resolve(model, query()), field) == of_model
    assert getattr(resolve(model, query(**{key: of_query})), field) == of_query
    assert getattr(resolve(OnlineZscore(), query(**{key: of_query})), field) == of_query


@pytest.mark.parametrize(
    ("key", "field", "off"),
    [
        ("min_dev_from_expected", "min_dev", Pair((0.0, 0.0))),
        ("min_rel_dev_from_expected", "min_rel_dev", Pair((0.0, 0.0))),
        ("data_range", "data_range", UNBOUNDED),
        ("detection_direction", "direction", "both"),
    ],
)
def test_an_explicit_neutral_value_of_a_query_overrides_its_model(key: str, field: str, off: Any) -> None:
    strict = {"detection_direction": "above_expected", "data_range": Range((0.0, 1.0))}.get(key, Pair((5.0, 5.0)))
    assert getattr(resolve(OnlineZscore(**{key: strict}), query(**{key: off})), field) == off


def test_the_score_out_of_range_comes_from_model_then_settings_then_default() -> None:
    own, plain = OnlineZscore(anomaly_score_outside_data_range=3.0), OnlineZscore()
    assert resolve(own, query(), 5.0).outside_score == 3
    assert resolve(plain, query(), 5.0).outside_score == 5
    assert resolve(plain, query()).outside_score == DEFAULT_OUTSIDE_SCORE == 1.01
    assert resolve(OnlineZscore(anomaly_score_outside_data_range=0.0), query(), 5.0).outside_score == 0
    assert resolve(plain, query(), 0.0).outside_score == 0


def test_scale_and_clipping_are_the_models() -> None:
    policy = resolve(OnlineZscore(scale=Pair((2.0, 3.0)), clip_predictions=True), query())
    assert (policy.scale, policy.clip) == ((2.0, 3.0), True)


def test_columns_are_named_and_the_prediction_is_left_alone() -> None:
    frame = frame_of([[1.0, 9.0, math.nan]])
    prediction = band([1.0, 1.0, 1.0], 2.0, extra={"trend": np.array([[7.0, 7.0, 7.0]])})
    columns = apply(Policy(scale=(1.0, 2.0)), 0, prediction, frame)
    assert set(columns) == {"anomaly_score", "y", "yhat", "yhat_lower", "yhat_upper", "trend"}
    assert_array_equal(columns["anomaly_score"], [[0, 2, math.nan]])
    assert_array_equal(columns["yhat_upper"], [[5, 5, math.nan]])
    assert_array_equal(columns["y"], frame.values)
    assert_array_equal(columns["trend"], [[7, 7, math.nan]])
    assert_array_equal(prediction.yhat_upper, [[3, 3, 3]])
    assert_array_equal(prediction.extra["trend"], [[7, 7, 7]])


def test_every_policy_reaches_the_kernel() -> None:
    frame, prediction = frame_of([[5.0, -5.0, 20.0]]), band([0.0, 0.0, 0.0], 1.0)
    for policy, expected in (
        (Policy(), [5, 5, 20]),
        (Policy(direction="above_expected"), [5, 0, 20]),
        (Policy(min_dev=(5.0, 4.0)), [5, 0, 20]),
        (Policy(min_rel_dev=(5.0, 5.0)), [5, 5, 20]),  # yhat is 0
        (Policy(data_range=(-9.0, 9.0), outside_score=30.0), [5, 5, 30]),
        (Policy(scale=(5.0, 2.5)), [2, 1, 8]),
        (Policy(data_range=(1.0, 90.0), clip=True, outside_score=2.0), [1e6, 1e6, 1e6]),
    ):
        scores = apply(policy, 0, prediction, frame)["anomaly_score"][0]
        if policy.clip:
            assert (scores > 2).all()  # the clipped expectation is inside its range
        else:
            assert_array_equal(scores, expected, err_msg=str(policy))


def test_warm_up_goes_on_from_what_each_row_has_seen() -> None:
    frame = frame_of([[9.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    prediction = Prediction(*(np.full((2, 3), v) for v in (0.0, -1.0, 1.0)), seen=np.array([0, 2]))
    assert_array_equal(apply(Policy(), 2, prediction, frame)["anomaly_score"], [[0, 0, 9], [9, 9, 9]])
    without = Prediction(prediction.yhat, prediction.yhat_lower, prediction.yhat_upper)
    assert_array_equal(apply(Policy(), 0, without, frame)["anomaly_score"], np.full((2, 3), 9.0))


def test_a_model_without_a_band_keeps_its_scores() -> None:
    frame = frame_of([[1.0, math.nan, 99.0]])
    given = Prediction(score=np.array([[0.4, 3.0, 0.4]]))
    columns = apply(Policy(data_range=(0.0, 9.0), min_dev=(50.0, 50.0)), 0, given, frame)
    assert set(columns) == {"anomaly_score", "y"}
    assert_array_equal(columns["anomaly_score"], [[0.4, math.nan, 1.01]])
    assert_array_equal(given.score, [[0.4, 3.0, 0.4]])


COLUMNS = {
    name: np.zeros((1, 1))
    for name in (
        *("anomaly_score", "y", "yhat", "yhat_lower", "yhat_upper", "trend"),
        *("yhat_1h", "yhat_lower_1h", "yhat_upper_1h", "yhat_1h30m", "trend_lower"),
    )
}


@pytest.mark.parametrize(
    ("provide_series", "written"),
    [
        (["anomaly_score"], ["anomaly_score"]),
        (["y", "timestamp", "anomaly_score"], ["y", "anomaly_score"]),
        (["yhat", "yhat_upper"], ["yhat", "yhat_1h", "yhat_1h30m", "yhat_upper", "yhat_upper_1h"]),  # no score added
        (["trend"], ["trend"]),
        (["trend", "seasonal"], ["trend"]),
    ],
)
def test_what_is_written_is_what_provide_series_says(provide_series: list[str], written: list[str]) -> None:
    assert list(select(OnlineZscore(provide_series=provide_series), COLUMNS)) == written


def test_without_provide_series_the_class_decides() -> None:
    names = set(select(OnlineZscore(), {n: c for n, c in COLUMNS.items() if "1h" not in n}))
    assert names == set(OnlineZscore.default_series) == {"anomaly_score", "y", "yhat", "yhat_lower", "yhat_upper"}


@pytest.mark.parametrize("offset", ["1h", "90m", "1.5h", "+1h", "P1D", "PT1H30M", "500ms"])
def test_forecasts_are_told_from_bounds_by_their_offset(offset: str) -> None:
    forecast = f"yhat_{Duration.parse(offset).as_configured}"
    columns = {forecast: np.zeros((1, 1)), "yhat_lower": np.zeros((1, 1))}
    assert list(select(OnlineZscore(provide_series=["yhat"]), columns)) == [forecast]


@pytest.mark.parametrize("huge", [1e200, 1.5e300])
@pytest.mark.parametrize("name", ["zscore_online", "mad_online", "quantile_online", "std", "temporal_envelope"])
def test_values_too_large_to_be_learned_count_for_the_warm_up_in_no_batch(name: str, huge: float) -> None:
    model, _ = make_model(name, {"period": 1} if name == "std" else {})
    y = np.random.default_rng(0).normal(size=(1, 40))
    y[0, 3:9] = huge
    frame = frame_of(y)
    state = model.fresh(frame.series, frame)
    whole = apply(Policy(), model.warm_up, model.infer(state, frame)[0], frame)["anomaly_score"]
    for t in range(40):
        piece = Frame(frame.series, frame.timestamps_ms[t : t + 1], y[:, t : t + 1].copy(), frame.step_ms)
        prediction, state = model.infer(state, piece)
        assert apply(Policy(), model.warm_up, prediction, piece)["anomaly_score"][0, 0] == whole[0, t], t
