"""The isolation forest's own claims; what holds for every model is in test_contract.py."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from engine.errors import ModelError
from engine.frame import F64, Frame, State
from engine.models.base import fit
from engine.models.iforest import Contamination, IsolationForest, seasonal_columns
from engine.pool import Pool
from tests.strategies import START_MS, frame_of

POOL = Pool(1)
HOUR_MS = 3_600_000
FEATURES: Any = ["minute", "hod", "dow", "month"]


def scores(model: IsolationForest, state: State, frame: Frame) -> F64:
    prediction, after = model.infer(state, frame)
    assert after is state
    assert prediction.score is not None
    return prediction.score


def hours(values: F64, start_ms: int = START_MS, tz: str = "UTC") -> Frame:
    frame = frame_of(values, start_ms - start_ms % HOUR_MS, HOUR_MS)
    return Frame(frame.series, frame.timestamps_ms, frame.values, HOUR_MS, tz)


@pytest.mark.parametrize("features", [[], ["hod", "dow"]])
@pytest.mark.parametrize("contamination", [0.01, 0.2])
def test_the_share_of_the_fit_that_is_anomalous_is_the_contamination(features: Any, contamination: float) -> None:
    values = np.random.default_rng(1).normal(0, 1, (3, 1000))
    model = IsolationForest(contamination=Contamination(contamination), seasonal_features=features)
    found = scores(model, fit(model, [hours(values)], POOL), hours(values))
    # Values that share a step share a score.
    assert_allclose((found > 1).mean(axis=1), contamination, atol=0.006)
    assert_array_equal(found.min(axis=1), 0)


def test_with_its_hour_a_value_is_anomalous_that_is_usual_at_another_hour() -> None:
    rng = np.random.default_rng(2)
    times = np.arange(24 * 60)
    values = 10 * np.sin(2 * np.pi * times / 24) + rng.normal(0, 0.5, times.size)
    probe = values[-48:].copy()
    probe[30] = values[-48 + 36]  # halfway up, six hours after which it is at its height
    results = []
    for features in ([], ["hod"]):
        model = IsolationForest(contamination=Contamination(0.01), seasonal_features=features)
        state = fit(model, [hours(values[None, :-48])], POOL)
        start_ms = START_MS + (times.size - 48) * HOUR_MS
        results.append(scores(model, state, hours(probe[None], start_ms))[0])
    assert results[0][30] < 1 < results[1][30]
    assert np.delete(results[1], 30).mean() < 0.9


def test_a_series_that_never_moved_is_anomalous_when_it_does_also_beside_its_hour() -> None:
    model = IsolationForest(seasonal_features=["hod"])
    state = fit(model, [hours(np.full((1, 400), 7.5))], POOL)
    found = scores(model, state, hours(np.array([[7.5, 7.6, 7.5]]), START_MS + 400 * HOUR_MS))[0]
    assert found[1] > 1
    assert_array_equal(found[[0, 2]], 0)


@pytest.mark.parametrize("tz", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_clocks_are_civil_also_where_they_are_changed(tz: str) -> None:
    # From before the end of daylight saving time in 2023 until after the new year.
    start_ms = int(datetime(2023, 10, 28, tzinfo=UTC).timestamp()) * 1000
    times = start_ms + 1_800_000 * np.arange(48 * 80)
    frame = Frame(np.arange(1), times, np.zeros((1, times.size)), 1_800_000, tz)
    columns = seasonal_columns(FEATURES, frame)
    clocks = [datetime.fromtimestamp(t / 1000, ZoneInfo(tz)) for t in times]
    parts = np.array([[c.minute / 60, c.hour / 24, (c.isoweekday() - 1) / 7, (c.month - 1) / 12] for c in clocks])
    angles = 2 * np.pi * parts
    assert_allclose(columns, np.concatenate([np.sin(angles), np.cos(angles)], axis=1), atol=1e-12)


def test_the_state_of_a_series_is_three_kilobytes_or_its_trees() -> None:
    values = np.random.default_rng(3).normal(0, 1, (4, 3000))
    alone, seasonal = IsolationForest(), IsolationForest(seasonal_features=["hod"])
    assert fit(alone, [hours(values)], POOL).size_bytes == 4 * (511 * 6 + 2 + 5 * 8)
    # 92 splits a tree: threshold, column, left subtree; leaves; sizes; center and scale of three columns.
    assert fit(seasonal, [hours(values)], POOL).size_bytes == 4 * (100 * (92 * 7 + 1 + 2) + 6 * 8 + 3 * 8)


@pytest.mark.parametrize(
    ("args", "differs"),
    [
        ({"random_state": 42}, False),
        ({"random_state": None}, False),
        ({"n_estimators": 100, "max_samples": "auto", "max_features": 1.0, "bootstrap": False}, False),
        ({"max_samples": 256}, False),
        ({"max_samples": 0.5}, True),
        ({"random_state": 7}, True),
        ({"n_estimators": 10}, True),
        ({"bootstrap": True}, True),
        ({"max_features": 1}, True),
    ],
)
def test_arguments_of_scikit_learn_are_honoured(args: dict[str, Any], differs: bool) -> None:
    frame = hours(np.random.default_rng(4).normal(0, 1, (1, 1000)))
    plain, other = IsolationForest(seasonal_features=["hod"]), IsolationForest(seasonal_features=["hod"], args=args)
    assert not other.check()
    a, b = (scores(m, fit(m, [frame], POOL), frame) for m in (plain, other))
    assert (a != b).any() == differs


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({"n_trees": 9}, "args.n_trees: is not honoured; expected some of n_estimators, max_samples, max_features"),
        ({"contamination": 0.1}, "args.contamination: is not honoured"),
        ({"n_estimators": 0}, "args.n_estimators: 0, expected `int` >= 1"),
        ({"max_samples": 1.5}, "args.max_samples: 1.5, expected `float` <= 1.0"),
        ({"max_samples": "all"}, "args.max_samples: 'all', invalid enum value"),
        ({"max_features": 0}, "args.max_features: 0, expected `int` >= 1"),
        ({"bootstrap": "maybe"}, "args.bootstrap: 'maybe', expected `bool`"),
    ],
)
def test_arguments_that_are_not_honoured_are_problems(args: dict[str, Any], text: str) -> None:
    problems = IsolationForest(args=args).check()
    assert len(problems) == 1
    assert problems[0].startswith(text)


def test_trap_9_contamination_may_be_text_but_must_be_a_share() -> None:
    assert Contamination.parse("0.05") == Contamination.parse(0.05) == 0.05
    assert Contamination.parse("auto") == 0
    for wrong in ("nan", "inf", 0, 0.51, True, None, "some", [0.1]):
        with pytest.raises(ValueError, match="auto"):
            Contamination.parse(wrong)


def test_a_window_without_steps_is_refused_in_words() -> None:
    frame = Frame(np.arange(2), np.empty(0, dtype=np.int64), np.empty((2, 0)), HOUR_MS)
    with pytest.raises(ModelError, match="at least one step"):
        IsolationForest().fit_rows(frame)
