"""Auto-tuning's own claims; what holds for every model is in test_contract.py."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from engine import score
from engine.frame import F64, Frame, Prediction
from engine.models.auto import AutoTuned, _widened
from engine.models.auto_search import Scheme, search
from engine.models.auto_space import Trials, axes, merge
from engine.models.base import align, fit
from engine.models.registry import MODELS
from engine.pool import Pool
from engine.settings import decode_hook
from tests.strategies import frame_of

HOUR, DAY = 3_600_000, 24
START = 480_000 * HOUR
SCHEME = Scheme(limit=0.01, n_splits=3, train_val_ratio=3.0, is_leaky=False, prefers_small=True, seed=0)
TUNABLE = [a for a in MODELS.entries if a not in ("auto", "custom", "noop", "peer_outlier") and "multi" not in a]


def tuned(name: str, **params: Any) -> AutoTuned:
    """A model as a configuration makes it."""
    raw = {"class": "auto", "tuned_class_name": name, "optimization_params": {"anomaly_percentage": 0.01, **params}}
    return msgspec.convert(raw, AutoTuned, dec_hook=decode_hook)


def rows(n_steps: int, first: int = 0) -> F64:
    """A rhythm, a walk, a level, a level with gaps."""
    t = np.arange(2000)
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(4, t.size))
    shapes = np.stack([8 * np.sin(2 * np.pi * t / DAY), np.cumsum(rng.normal(0, 0.7, t.size)), 0 * t, 0 * t])
    values = 50 + shapes + noise
    values[3, rng.integers(0, t.size, 200)] = np.nan
    return values[:, first : first + n_steps]


def frame(values: F64, first: int = 0) -> Frame:
    return frame_of(values, START + first * HOUR, HOUR)


@pytest.mark.parametrize("name", [*TUNABLE, "zscore", "model.std.StdModel", "isolation_forest"])
def test_every_class_of_single_series_is_tuned(name: str) -> None:
    entry = MODELS.find(name)
    assert entry is not None
    if not MODELS.settings_type(entry.alias).is_available:
        pytest.skip("not available yet")
    model = tuned(name, n_trials=3)
    assert model.check() == []
    kind = MODELS.settings_type(entry.alias)
    assert (model.is_online, model.forecasts, model.default_series) == (
        kind.is_online, kind.forecasts, kind.default_series,
    )  # fmt: skip
    state = fit(model, [frame(rows(480))], Pool(1))
    prediction, _ = model.infer(*align(model, state, frame(rows(20, 480), 480)))
    column = prediction.score if prediction.yhat is None else prediction.yhat
    assert column is not None
    assert np.isfinite(column[:3]).all()


def test_each_trial_of_each_space_is_a_model() -> None:
    for name in TUNABLE:
        if not MODELS.settings_type(name).is_available:
            continue
        for step_ms in (60_000, 300_000, HOUR):
            trials = Trials(name, step_ms, {}, {}, 10_000, 0)
            assert len(trials) == len({str(arguments) for arguments in trials.arguments}) >= 1
            for number in range(len(trials)):
                trials.model(number)


def test_state_of_other_spaces_or_of_another_layout_of_the_class_is_another_layout() -> None:
    forest = MODELS.settings_type("isolation_forest_univariate")
    assert tuned("isolation_forest").layout - tuned("zscore_online").layout == forest.layout - 1
    assert tuned("zscore_online").layout > 200


@pytest.mark.parametrize("name", ["custom", "auto", "temporal_envelope_multivariate", "nothing", "noop"])
def test_what_cannot_be_tuned_is_refused(name: str) -> None:
    (problem,) = tuned(name).check()
    assert problem == f"tuned_class_name: {name}, expected a built-in class of single series"


@pytest.mark.parametrize(
    ("frozen", "problem"),
    [
        ({"z_treshold": 3}, "frozen_params.z_treshold: 3, expected some of "),
        ({"scale": [5, 5]}, "frozen_params.scale: [5, 5], expected beside tuned_class_name"),
        ({"queries": ["a"]}, "frozen_params.queries: ['a'], expected beside tuned_class_name"),
        ({"provide_series": ["yhat"]}, "frozen_params.provide_series: ['yhat'], expected beside tuned_class_name"),
        ({"z_threshold": float("inf")}, "frozen_params.z_threshold: inf, expected a finite number"),
    ],
)
def test_frozen_arguments_that_would_have_no_effect_are_problems(frozen: dict[str, Any], problem: str) -> None:
    assert any(problem in text for text in tuned("zscore_online", frozen_params=frozen).check())


def test_frozen_arguments_that_the_class_has_no_use_for_are_said() -> None:
    found = tuned("zscore_online", frozen_params={"args": {"a": 1}}).without_effect()
    assert list(found) == ["optimization_params.frozen_params.args"]
    assert tuned("zscore_online", frozen_params={"strange": 1}).without_effect() == {}


@pytest.mark.parametrize("name", ["std", "zscore_online"])
def test_warm_up_is_the_same_in_one_batch_as_point_by_point(name: str) -> None:
    """Trials whose class is cold for longer or shorter than the first one."""
    model = tuned(name, n_trials=40)
    values = np.where(np.arange(400) < 300, np.nan, rows(400))
    state = fit(model, [frame(values[:, :316])], Pool(1))
    for trial in range(len(model.trials(HOUR))):
        own = model.trials(HOUR).model(trial)
        prediction = Prediction(np.zeros((1, 60)), seen=np.array([0]))
        (seen,) = _widened(prediction, np.ones(1), own, model.warm_up).seen
        assert seen + own.warm_up == model.warm_up
    policy = score.Policy()
    later = frame(values[:, 316:], 316)
    later = later.select(state.series)
    whole = score.apply(policy, model.warm_up, model.infer(state, later)[0], later)["anomaly_score"]
    singles = []
    for t in range(later.shape[1]):
        piece = frame(values[:, 316 + t : 317 + t], 316 + t).select(state.series)
        prediction, state = model.infer(state, piece)
        singles.append(score.apply(policy, model.warm_up, prediction, piece)["anomaly_score"][:, 0])
    assert_array_equal(whole, np.transpose(singles))


def test_frozen_arguments_are_checked_and_in_every_trial() -> None:
    (problem,) = tuned("zscore_online", frozen_params={"z_threshold": -1}).check()
    assert problem.startswith("optimization_params.frozen_params: ")
    trials = tuned("std", frozen_params={"z_threshold": 7.5, "args": {"robust": True}}).trials(HOUR)
    assert all(a["z_threshold"] == 7.5 and a["args"]["robust"] is True for a in trials.arguments)
    assert merge({"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}, "d": 1}
    # What is frozen is searched no more: no trial is tried twice.
    assert len(trials) < len(tuned("std").trials(HOUR))


def test_the_first_trial_is_the_class_as_it_is() -> None:
    model = tuned("zscore_online", n_trials=1)
    plain = MODELS.settings_type("zscore_online")()
    values = rows(480)
    state = fit(model, [frame(values)], Pool(1))
    expected, _ = plain.infer(fit(plain, [frame(values)], Pool(1)), frame(rows(50, 480), 480))
    got, _ = model.infer(state, frame(rows(50, 480), 480))
    assert_array_equal(got.yhat, expected.yhat)
    wide = state.columns["widen"]
    assert (wide >= 1).all()
    assert_allclose(got.yhat_upper - got.yhat, wide[:, None] * (expected.yhat_upper - expected.yhat))


@pytest.mark.parametrize("name", ["zscore_online", "std", "quantile_online"])
def test_each_row_is_predicted_by_its_own_trial(name: str) -> None:
    model, values, later = tuned(name), rows(960), frame(rows(100, 960), 960)
    state = fit(model, [frame(values)], Pool(1))
    assert np.unique(state.columns["trial"]).size > 1
    got, _ = model.infer(state, later)
    for row in range(4):
        alone = model.trials(HOUR).model(int(state.columns["trial"][row]))
        own = fit(alone, [frame(values).rows(row, row + 1)], Pool(1))
        expected, _ = alone.infer(own, later.rows(row, row + 1))
        assert expected.yhat is not None
        assert got.yhat is not None
        assert_array_equal(got.yhat[row], expected.yhat[0])


def test_a_walk_is_given_a_short_memory_and_a_level_a_long_one() -> None:
    model = tuned("zscore_online")
    state = fit(model, [frame(rows(1900))], Pool(1))
    chosen = [model.trials(HOUR).arguments[number] for number in state.columns["trial"].tolist()]
    assert chosen[1].get("decay", 1.0) < 1
    assert chosen[2] == {"history_strength": 30.0}


@pytest.mark.parametrize(("n_hours", "start"), [(480, 1), (40, 0)])
def test_where_a_class_has_a_start_others_must_be_clearly_better(
    n_hours: int, start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = tuned("zscore_online").trials(HOUR)
    assert trials.start == 1
    for later, expected in ((1.0, start), (0.93, start), (0.9, 2)):
        losses = {id(trials.model(k)): loss for k, loss in enumerate([1.0, 1.0, later])}

        def judge(model: Any, parts: Any, scheme: Scheme, of: dict[int, float] = losses) -> Any:
            return np.full(1, of[id(model)]), np.ones(1), 8.0

        monkeypatch.setattr("engine.models.auto_search._judge", judge)
        choice = search(trials, frame(rows(n_hours)).rows(0, 1), Scheme(0.01, 1, 0.5, False, True, 0), lambda: np.inf)
        assert choice.trial.tolist() == [expected]


def test_a_start_that_does_not_go_with_what_is_frozen_is_none() -> None:
    assert tuned("holtwinters").trials(HOUR).start == 1
    assert tuned("holtwinters", frozen_params={"args": {"trend": None}}).trials(HOUR).start == 0
    assert tuned("zscore_online", n_trials=1).trials(HOUR).start == 0
    assert tuned("std").trials(HOUR).start == 0


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("zscore_online", {}, (1, 0.5, False, True)),
        ("zscore_online", {"n_splits": 3, "train_val_ratio": 3}, (3, 3.0, False, True)),
        ("holtwinters", {}, (1, 0.5, True, False)),
        ("temporal_envelope", {}, (3, 3.0, True, True)),
        ("std", {}, (3, 3.0, True, False)),
    ],
)
def test_each_class_is_judged_in_its_own_way(
    name: str, params: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    schemes: list[Scheme] = []

    def fake(trials: Trials, block: Frame, scheme: Scheme, left: Any) -> Any:
        schemes.append(scheme)
        return search(trials, block, scheme, lambda: -1.0)

    monkeypatch.setattr("engine.models.auto.search", fake)
    fit(tuned(name, **params), [frame(rows(200))], Pool(1))
    (scheme,) = schemes
    assert (scheme.n_splits, scheme.train_val_ratio, scheme.is_moved, scheme.by_error) == expected


def test_a_band_is_widened_until_alerts_keep_to_the_limit() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_t(3, size=(2, 2000))
    shares = []
    for limit in (0.0, 0.001, 0.2):
        model = tuned("zscore_online", anomaly_percentage=limit, n_trials=1)
        state = fit(model, [frame(values[:, :1500])], Pool(1))
        found, _ = model.infer(state, frame(values[:, 1500:], 1500))
        outside = (found.yhat_upper < values[:, 1500:]) | (found.yhat_lower > values[:, 1500:])
        shares.append(float(outside.mean()))
    assert shares[0] <= shares[1] <= shares[2]
    assert shares[0] < 0.006
    assert state.columns["widen"].tolist() == [1.0, 1.0]  # a limit, not a target


@pytest.mark.parametrize(("name", "start"), [("zscore_online", 1), ("std", 0)])
def test_a_fit_that_has_no_time_is_that_of_the_start(name: str, start: int) -> None:
    model = tuned(name, timeout=1e-9)
    state = fit(model, [frame(rows(480))], Pool(1))
    assert_array_equal(state.columns["trial"], start)


def test_blocks_share_the_time_of_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block's search ends when its part of what is left is over, so the last one ends in time."""
    ends: list[float] = []
    now = 1000.0
    monkeypatch.setattr("engine.models.auto.time.monotonic", lambda: now)

    def fake(trials: Trials, block: Frame, scheme: Scheme, left: Any) -> Any:
        nonlocal now
        if block.shape[1] != 480:  # what compiles, before the clock starts
            assert not ends
            return search(trials, block, scheme, left)
        ends.append(now + left())
        now = ends[-1]
        return search(trials, block, scheme, lambda: -1.0)

    monkeypatch.setattr("engine.models.auto.search", fake)
    values = rows(480)
    blocks = [frame(values).rows(k, k + 1) for k in range(4)]
    state = fit(tuned("zscore_online", timeout=8), blocks, Pool(1))
    assert ends == [1002.0, 1004.0, 1006.0, 1008.0]
    assert_array_equal(state.series, np.arange(4))


def test_the_seed_orders_the_trials() -> None:
    first, again, other = (tuned("std", seed=seed).trials(HOUR).arguments for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first[0] == other[0] == {}
    assert len(axes("std", HOUR)) == 3


def test_keys_that_change_nothing_are_named() -> None:
    model = tuned("zscore_online", optimized_business_params=["detection_direction"], n_jobs=4, exact=True)
    assert set(model.without_effect()) == {
        "optimization_params.optimized_business_params",
        "optimization_params.n_jobs",
    }
    assert tuned("zscore_online").without_effect() == {}


def test_prophet_keeps_to_the_clock_of_its_zone() -> None:
    model = tuned("prophet")
    assert not any("tz_aware" in arguments for arguments in model.trials(HOUR, "UTC").arguments)
    assert all(arguments["tz_aware"] for arguments in model.trials(HOUR, "Europe/Warsaw").arguments)
    utc = tuned("prophet", frozen_params={"tz_aware": False}).trials(HOUR, "Europe/Warsaw")
    assert not any(arguments["tz_aware"] for arguments in utc.arguments)
