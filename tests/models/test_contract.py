"""What every model promises, tried on every class that a configuration can run."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from engine import score
from engine.config.classes import MODELS
from engine.errors import ModelError
from engine.frame import F64, Frame, Prediction, Query, State
from engine.models.auto import OptimizationParams
from engine.models.base import Model, align, fit, infer
from engine.pool import Pool
from engine.settings import Duration
from tests import strategies
from tests.strategies import START_MS

# Three days, so that daily rhythm is learned where a model learns any.
STEP_MS = 600_000
DAY = 144
STEPS = 3 * DAY
LATER = 50
ONE, TWO = Pool(1), Pool(2)


def available() -> dict[str, type[Model]]:
    """By alias, every class that exists and models each series by itself."""
    types: dict[str, type[Model]] = {}
    for alias in MODELS.entries:
        try:
            kind = MODELS.settings_type(alias)
        except ModuleNotFoundError:
            continue
        if kind.is_available and not kind.is_multivariate and alias != "custom":  # its classes: test_custom.py
            types[alias] = kind
    return types


TUNING = OptimizationParams(anomaly_percentage=0.01, n_trials=4)
# What a class needs to be made, or to know of the rhythm in `history`.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "auto": {"tuned_class_name": "zscore_online", "optimization_params": TUNING},
    "holtwinters": {"seasonality": Duration(DAY * STEP_MS)},
    "std": {"period": DAY},
    "rolling_quantile": {"quantile": 0.95, "window_steps": DAY},
    "arima": {"order": [2, 0, 1]},
    # Its "auto" finds most points of an even rhythm anomalous, as scikit-learn does.
    "isolation_forest_univariate": {"contamination": 0.1},
}

CLASSES = available()
VARIANTS: list[Any] = [pytest.param(kind(**ARGUMENTS.get(a, {})), id=a) for a, kind in CLASSES.items()]
if "zscore_online" in CLASSES:
    VARIANTS.append(pytest.param(CLASSES["zscore_online"](decay=0.99, history_strength=2.0), id="zscore_online, decay"))
if "mad_online" in CLASSES:
    VARIANTS.append(pytest.param(CLASSES["mad_online"](decay=0.99, history_strength=2.0), id="mad_online, decay"))
if "holtwinters" in CLASSES:
    damped = CLASSES["holtwinters"](**ARGUMENTS["holtwinters"], args={"trend": "add", "damped_trend": True})
    VARIANTS.append(pytest.param(damped, id="holtwinters, trend"))
    VARIANTS.append(pytest.param(CLASSES["holtwinters"](), id="holtwinters, season found"))
if "std" in CLASSES:
    robust = CLASSES["std"](**ARGUMENTS["std"], args={"robust": True}, decay=0.99)
    VARIANTS.append(pytest.param(robust, id="std, robust"))
    VARIANTS.append(pytest.param(CLASSES["std"](period=[DAY, 2 * DAY]), id="std, two periods"))
    VARIANTS.append(pytest.param(CLASSES["std"](), id="std, period found"))
if "quantile_online" in CLASSES:
    season = {"seasonal_interval": Duration(DAY * STEP_MS), "min_subseason": Duration(6 * STEP_MS)}
    parts = CLASSES["quantile_online"](**season, iqr_threshold=1.0, decay=0.99)
    VARIANTS.append(pytest.param(parts, id="quantile_online, parts of the day"))
if "isolation_forest_univariate" in CLASSES:
    clocks = CLASSES["isolation_forest_univariate"](seasonal_features=["hod"], contamination=0.1)
    VARIANTS.append(pytest.param(clocks, id="isolation_forest_univariate, hour"))
if "auto" in CLASSES:
    for tuned in ("std", "holtwinters"):
        model = CLASSES["auto"](tuned_class_name=tuned, optimization_params=TUNING)
        VARIANTS.append(pytest.param(model, id=f"auto, {tuned}"))
every_model = pytest.mark.parametrize("model", VARIANTS)


def history(n_rows: int = 6) -> F64:
    """Rhythm and noise; row 1 has gaps, row 2 is constant, row 3 is empty, row 4 has one value, row 5 infinities."""
    rng = np.random.default_rng(11)
    times = np.arange(STEPS + LATER)
    values = 50 + 10 * np.sin(2 * np.pi * times / DAY) + rng.normal(0, 1, (n_rows, times.size))
    if n_rows >= 6:
        values[1, 100:250] = np.nan
        values[1, STEPS + 3] = np.nan
        values[2] = 7.5
        values[3] = np.nan
        values[4, :-1] = np.nan
        values[5, [5, 50, STEPS + 5]] = np.inf, -np.inf, np.inf
    return values


def frame_of(values: F64, start_ms: int = START_MS) -> Frame:
    return strategies.frame_of(values, start_ms, STEP_MS)


def past(values: F64) -> Frame:
    return frame_of(values[:, :STEPS])


def later(values: F64) -> Frame:
    return frame_of(values[:, STEPS:], START_MS + STEP_MS * STEPS)


def run(model: Model, state: State, frame: Frame, pool: Pool = ONE) -> tuple[dict[str, F64], State, Frame]:
    """The columns that would be written, the next state, and the frame in the state's order."""
    state, frame = align(model, state, frame)
    prediction, state = infer(model, state, frame, pool)
    policy = score.resolve(model, Query("q", "up", STEP_MS))
    return score.apply(policy, model.warm_up, prediction, frame), state, frame


def arrays(thing: Frame | State | Prediction) -> list[Any]:
    """All arrays inside."""
    if isinstance(thing, Frame):
        return [thing.series, thing.timestamps_ms, thing.values]
    if isinstance(thing, State):
        return [thing.series, *thing.columns.values(), *thing.shared.values()]
    parts = [thing.yhat, thing.yhat_lower, thing.yhat_upper, thing.score, thing.seen, *thing.extra.values()]
    return [p for p in parts if p is not None]


def assert_same(a: Any, b: Any) -> None:
    """Bit for bit the same arrays."""
    for left, right in zip(arrays(a), arrays(b), strict=True):
        assert_array_equal(left, right)


@every_model
def test_inputs_are_not_changed(model: Model) -> None:
    values = history()
    frames = [past(values), later(values)]
    before = [[a.copy() for a in arrays(f)] for f in frames]
    state = fit(model, frames[:1], ONE)
    state, aligned = align(model, state, frames[1])
    kept = [a.copy() for a in arrays(state)]
    infer(model, state, aligned, ONE)
    for frame, arrays_before in zip(frames, before, strict=True):
        for a, b in zip(arrays(frame), arrays_before, strict=True):
            assert_array_equal(a, b)
    for a, b in zip(arrays(state), kept, strict=True):
        assert_array_equal(a, b)


@every_model
def test_state_survives_bytes_without_pickle(model: Model) -> None:
    values = history()
    state = fit(model, [past(values)], ONE)
    file = io.BytesIO()
    shared = {f"shared.{n}": a for n, a in state.shared.items()}
    np.savez(file, series=state.series, **{f"column.{n}": a for n, a in state.columns.items()}, **shared)
    file.seek(0)
    with np.load(file, allow_pickle=False) as saved:
        loaded = State(
            saved["series"],
            {n: saved[f"column.{n}"] for n in state.columns},
            {n: saved[f"shared.{n}"] for n in state.shared},
        )
    kept, restored = run(model, state, later(values)), run(model, loaded, later(values))
    assert kept[0].keys() == restored[0].keys()
    for name, column in kept[0].items():
        assert_array_equal(restored[0][name], column)
    assert_same(kept[1], restored[1])


@every_model
def test_every_column_of_the_state_has_a_row_a_series(model: Model) -> None:
    state = fit(model, [past(history())], ONE)
    assert {column.shape[0] for column in state.columns.values()} <= {state.series.size}
    assert all(column.dtype != object for column in arrays(state))


@every_model
def test_the_same_input_gives_the_same_result(model: Model) -> None:
    values = history()
    first, second = fit(model, [past(values)], ONE), fit(model, [past(values)], ONE)
    assert_same(first, second)
    a, b = run(model, first, later(values)), run(model, second, later(values))
    for name, column in a[0].items():
        assert_array_equal(b[0][name], column)
    for name, column in run(model, first, later(values))[0].items():
        assert_array_equal(a[0][name], column, err_msg=f"{name} of a second inference from one state")


@every_model
def test_rows_do_not_depend_on_each_other_or_on_threads(model: Model) -> None:
    values = history(150)
    whole, cut = fit(model, [past(values)], ONE), fit(model, [past(values)], TWO)
    assert_same(whole, cut)
    columns, state, frame = run(model, whole, later(values))
    threaded, state_2, _ = run(model, cut, later(values), TWO)
    assert_same(state, state_2)
    for name, column in columns.items():
        assert_array_equal(threaded[name], column)
    alone = fit(model, [past(values).rows(70, 71)], ONE)
    single, _, _ = run(model, alone, later(values).rows(70, 71))
    where = int(np.flatnonzero(frame.series == 70)[0])
    for name, column in columns.items():
        assert_array_equal(single[name][0], column[where], err_msg=name)


@every_model
def test_the_order_of_rows_does_not_matter(model: Model) -> None:
    values = history(20)
    order = np.random.default_rng(2).permutation(20)
    frame = past(values)
    shuffled = Frame(frame.series[order], frame.timestamps_ms, np.ascontiguousarray(frame.values[order]), STEP_MS)
    columns, _, aligned = run(model, fit(model, [frame], ONE), later(values))
    other, _, other_aligned = run(model, fit(model, [shuffled], ONE), later(values))
    back = np.argsort(other_aligned.series)[np.searchsorted(np.sort(other_aligned.series), aligned.series)]
    for name, column in columns.items():
        assert_array_equal(other[name][back], column, err_msg=name)


@every_model
def test_one_by_one_equals_at_once(model: Model) -> None:
    values = history()
    frame = later(values)
    state = fit(model, [past(values)], ONE)
    columns, end, _ = run(model, state, frame)
    step_state = state
    for t in range(frame.timestamps_ms.size):
        point = frame_of(frame.values[:, t : t + 1], int(frame.timestamps_ms[t]))
        got, step_state, _ = run(model, step_state, point)
        for name, column in columns.items():
            assert_array_equal(got[name][:, 0], column[:, t], err_msg=f"{name} at step {t}")
    assert_same(end, step_state)
    if not model.is_online:
        assert_same(end, state)


@every_model
def test_bounds_are_in_order_and_the_score_is_missing_exactly_where_the_value_is(model: Model) -> None:
    values = history()
    columns, _, frame = run(model, fit(model, [past(values)], ONE), later(values))
    there = np.isfinite(frame.values)
    assert_array_equal(np.isfinite(columns["anomaly_score"]), there)
    assert (columns["anomaly_score"][there] >= 0).all()
    if "yhat" in columns:
        known = np.isfinite(columns["yhat"])
        assert (columns["yhat_lower"][known] <= columns["yhat"][known]).all()
        assert (columns["yhat"][known] <= columns["yhat_upper"][known]).all()
        assert known[frame.series == 0].all()


@every_model
def test_a_burst_is_anomalous_and_the_rest_mostly_is_not(model: Model) -> None:
    values = history()[:1]
    values[0, STEPS + 30] += 60
    columns, _, _ = run(model, fit(model, [past(values)], ONE), later(values))
    scores = columns["anomaly_score"][0]
    assert scores[30] > 1.5
    assert (np.delete(scores, 30) > 1).mean() < 0.5


# With the reason.
NOT_THE_SAME_SHIFTED = {"prophet": "its priors are relative to the largest value, as in the package"}


@every_model
@pytest.mark.parametrize(("factor", "shift"), [(1.0, 512.0), (4.0, 0.0), (0.0625, -64.0)])
def test_shifting_and_scaling_leave_scores_alone(model: Model, factor: float, shift: float) -> None:
    values = history()[:2]
    if shift and (reason := NOT_THE_SAME_SHIFTED.get(str(model.__struct_config__.tag))):
        pytest.skip(reason)
    plain = run(model, fit(model, [past(values)], ONE), later(values))[0]["anomaly_score"]
    moved = run(model, fit(model, [past(factor * values + shift)], ONE), later(factor * values + shift))[0]
    np.testing.assert_allclose(moved["anomaly_score"], plain, rtol=1e-6, atol=1e-6)


@every_model
@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.full((3, 40), np.nan), id="no value"),
        pytest.param(np.full((2, 40), 4.0), id="constant"),
        pytest.param(np.zeros((2, 40)), id="zero"),
        pytest.param(np.full((2, 40), 1e300), id="huge"),
        pytest.param(np.ones((2, 1)), id="one step"),
        pytest.param(np.array([[1.0, 2.0]]), id="two steps"),
        pytest.param(np.empty((0, 40)), id="no series"),
        pytest.param(np.full((1, 40), np.inf), id="infinite"),
        pytest.param(np.array([[np.nan] * 39 + [5.0]]), id="one value"),
    ],
)
def test_strange_frames_never_raise(model: Model, values: F64) -> None:
    frame = frame_of(values)
    after = frame_of(values, START_MS + STEP_MS * values.shape[1])
    try:
        state = fit(model, [frame], ONE)
    except ModelError:
        assert not np.isfinite(values).any() or not model.is_online
        return
    columns, state, aligned = run(model, state, after)
    assert columns["anomaly_score"].shape == aligned.shape
    if aligned.shape[0] and (values == values[0, 0]).all() and abs(values[0, 0]) < 1e150:
        assert (columns["anomaly_score"][np.isfinite(aligned.values)] == 0).all()


@every_model
def test_a_constant_that_moves_is_anomalous(model: Model) -> None:
    values = history()[2:3]
    values[0, STEPS + 5] = 7.6
    columns, _, _ = run(model, fit(model, [past(values)], ONE), later(values))
    assert (columns["anomaly_score"][0, :5] == 0).all()
    assert columns["anomaly_score"][0, 5] > 1


@every_model
def test_a_series_that_the_fit_did_not_see(model: Model) -> None:
    values = history(4)
    values[3] += 1000
    known = fit(model, [past(values).rows(0, 3)], ONE)
    columns, state, frame = run(model, known, later(values))
    assert (3 in frame.series) is model.is_online
    assert (3 in state.series) is model.is_online
    expected = run(model, known, later(values).rows(0, 3))[0]
    for name, column in expected.items():
        assert_array_equal(columns[name][:3], column, err_msg=name)
    if model.is_online:
        # A cold start: nothing is scored before the warm-up is over.
        assert_array_equal(columns["anomaly_score"][3, : model.warm_up], 0)


@every_model
def test_a_series_that_is_gone_for_now_keeps_its_state(model: Model) -> None:
    values = history(3)
    state = fit(model, [past(values)], ONE)
    columns, after, frame = run(model, state, later(values).rows(1, 3))
    assert_array_equal(frame.series, state.series)
    assert np.isnan(columns["anomaly_score"][0]).all()
    for a, b in zip(arrays(after.rows(0, 1)), arrays(state.rows(0, 1)), strict=True):
        assert_array_equal(a, b)


@every_model
def test_nothing_is_provided_that_is_not_named(model: Model) -> None:
    values = history(2)
    columns = run(model, fit(model, [past(values)], ONE), later(values))[0]
    assert set(model.default_series) <= set(columns)
    assert not model.provides or set(model.default_series) <= set(model.provides)  # empty: names depend on its data
