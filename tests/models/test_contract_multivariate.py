"""What every multivariate model promises, tried on every class that a configuration can run, and on a small one."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from engine import score
from engine.channels.grouping import Grouping
from engine.channels.joint import score_groups
from engine.channels.table import ChannelTable
from engine.config.classes import MODELS
from engine.errors import ModelError
from engine.frame import F64, I64, Frame, Query, State
from engine.models.base import Model, align, fit, infer
from engine.models.iforest import IsolationForest
from engine.models.planned import PlannedModel
from engine.pool import Pool
from engine.series import SeriesTable
from tests.fakes import JointModel
from tests.models.test_contract import CLASSES as ONE_BY_ONE
from tests.strategies import START_MS

STEP_MS = 600_000
DAY = 144
STEPS = 3 * DAY
LATER = 40
ONE, TWO = Pool(1), Pool(2)

# What a class needs to be made, or to make something of `history`.
ARGUMENTS: dict[str, dict[str, Any]] = {"isolation_forest_multivariate": {"contamination": 0.02}}
CONTRIBUTION = {"provide_series": ["anomaly_score", "contribution", "y"]}
KINDS: dict[str, type[Model]] = {a: MODELS.settings_type(a) for a in MODELS.entries}
CLASSES = {alias: kind for alias, kind in KINDS.items() if kind.is_available and kind.is_multivariate}
VARIANTS: list[Any] = [
    pytest.param(kind(**{**CONTRIBUTION, **ARGUMENTS.get(a, {})}), id=a) for a, kind in CLASSES.items()
]
VARIANTS.append(pytest.param(JointModel(**CONTRIBUTION), id="a small one"))
if "isolation_forest_multivariate" in CLASSES:
    clocks = CLASSES["isolation_forest_multivariate"](seasonal_features=["hod"], contamination=0.02, **CONTRIBUTION)
    VARIANTS.append(pytest.param(clocks, id="isolation_forest_multivariate, hour"))
every_model = pytest.mark.parametrize("model", VARIANTS)

GROUPS = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3, 4])


def history(groups: I64 = GROUPS) -> F64:
    """Channels that move together; group 1 has gaps and infinities, one channel of 2 is constant, one of 3 empty."""
    rng = np.random.default_rng(5)
    times = np.arange(STEPS + LATER)
    common = np.sin(2 * np.pi * times / DAY) + 0.2 * rng.normal(size=(int(groups.max()) + 1, times.size))
    values = 50 + 10 * common[groups] + rng.normal(0, 0.5, (groups.size, times.size))
    if groups is GROUPS:
        values[4, 100:150] = np.nan
        values[4, [5, 200, STEPS + 5]] = np.inf, -np.inf, np.inf
        values[4, STEPS + 9] = np.nan
        values[6] = 7.5
        values[7] = np.nan
    return values


def frame_of(values: F64, start_ms: int = START_MS, groups: I64 = GROUPS) -> Frame:
    times = start_ms + STEP_MS * np.arange(values.shape[1], dtype=np.int64)
    return Frame(np.arange(values.shape[0]), times, np.ascontiguousarray(values), STEP_MS, groups=groups)


def past(values: F64, groups: I64 = GROUPS) -> Frame:
    return frame_of(values[:, :STEPS], START_MS, groups)


def later(values: F64, groups: I64 = GROUPS) -> Frame:
    return frame_of(values[:, STEPS:], START_MS + STEP_MS * STEPS, groups)


def some(frame: Frame, rows: Any) -> Frame:
    assert frame.groups is not None
    return replace(frame, series=frame.series[rows], values=frame.values[rows], groups=frame.groups[rows])


def run(model: Model, state: State, frame: Frame, pool: Pool = ONE) -> tuple[dict[str, F64], State, Frame]:
    """The columns, the next state, and the frame in the state's order."""
    state, frame = align(model, state, frame)
    prediction, state = infer(model, state, frame, pool)
    policies = [score.resolve(model, Query("q", "up", STEP_MS))]
    nothing = np.zeros(frame.series.size, dtype=np.int64)
    return score_groups(model, policies, nothing, prediction, frame), state, frame


def arrays(thing: Any) -> list[Any]:
    """All arrays inside."""
    if isinstance(thing, State):
        mappings = (thing.columns, thing.shared, thing.group_columns)
        return [thing.series, thing.groups, *(array for mapping in mappings for array in mapping.values())]
    return [thing.series, thing.timestamps_ms, thing.values, thing.groups]


def assert_same(a: Any, b: Any) -> None:
    for left, right in zip(arrays(a), arrays(b), strict=True):
        assert_array_equal(left, right)


def assert_columns(got: dict[str, F64], expected: dict[str, F64]) -> None:
    assert got.keys() == expected.keys()
    for name, column in expected.items():
        assert_array_equal(got[name], column, err_msg=name)


def test_every_registered_model_is_in_a_battery_or_planned() -> None:
    planned = {alias for alias, kind in KINDS.items() if issubclass(kind, PlannedModel)}
    assert not planned & (ONE_BY_ONE.keys() | CLASSES.keys())
    # test_custom.py runs the battery of single series over classes of its own.
    assert ONE_BY_ONE.keys() | CLASSES.keys() | planned | {"custom"} == set(MODELS.entries)


@every_model
def test_inputs_are_not_changed(model: Model) -> None:
    values = history()
    frames = [past(values), later(values)]
    before = [[a.copy() for a in arrays(f)] for f in frames]
    state = fit(model, frames[:1], ONE)
    kept = [a.copy() for a in arrays(state)]
    run(model, state, frames[1])
    for thing, copies in zip([*frames, state], [*before, kept], strict=True):
        for a, b in zip(arrays(thing), copies, strict=True):
            assert_array_equal(a, b)


@every_model
def test_state_survives_bytes_without_pickle(model: Model) -> None:
    values = history()
    state = fit(model, [past(values)], ONE)
    assert state.groups is not None
    parts = {"columns": state.columns, "shared": state.shared, "group_columns": state.group_columns}
    named = {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}
    file = io.BytesIO()
    np.savez(file, series=state.series, groups=state.groups, **named)
    file.seek(0)
    with np.load(file, allow_pickle=False) as saved:
        loaded = {part: {name: saved[f"{part}.{name}"] for name in arrays} for part, arrays in parts.items()}
        restored = State(saved["series"], groups=saved["groups"], **loaded)
    a, b = run(model, state, later(values)), run(model, restored, later(values))
    assert_columns(b[0], a[0])
    assert_same(a[1], b[1])


@every_model
def test_every_column_has_a_row_a_channel_and_every_group_column_a_row_a_group(model: Model) -> None:
    state = fit(model, [past(history())], ONE)
    assert {column.shape[0] for column in state.columns.values()} <= {state.series.size}
    assert {column.shape[0] for column in state.group_columns.values()} <= {state.n_models}
    assert all(array.dtype != object for array in arrays(state))


@every_model
def test_groups_do_not_depend_on_each_other_or_on_threads(model: Model) -> None:
    groups = np.repeat(np.arange(60), 3)
    values = history(groups)
    whole, cut = fit(model, [past(values, groups)], ONE), fit(model, [past(values, groups)], TWO)
    assert_same(whole, cut)
    columns, state, frame = run(model, whole, later(values, groups))
    threaded, state_2, _ = run(model, cut, later(values, groups), TWO)
    assert_same(state, state_2)
    assert_columns(threaded, columns)
    rows = groups == 31
    single = run(model, fit(model, [some(past(values, groups), rows)], ONE), some(later(values, groups), rows))[0]
    assert frame.groups is not None
    for name, column in columns.items():
        own = column[31:32] if name == "anomaly_score" else column[frame.groups == 31]
        assert_array_equal(single[name], own, err_msg=name)


@every_model
@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_in_which_channels_come_does_not_matter(model: Model, seed: int) -> None:
    values = history()
    order = np.random.default_rng(seed).permutation(GROUPS.size)

    def scored(order: I64) -> dict[tuple[int, ...], tuple[F64, F64]]:
        """By group what is written of it; channels are numbered in the order that they come in."""
        table = SeriesTable()
        channels = ChannelTable([Query("q", "up", STEP_MS)], [table])
        for k in order.tolist():
            table.intern({"group": str(GROUPS[k]), "k": str(k)})
        numbers = channels.number(0, np.arange(order.size))
        grouping = Grouping(channels, ["group"])
        frames = [replace(f, series=numbers, values=f.values[order]) for f in (past(values), later(values))]
        state = fit(model, [grouping.arrange(frames[0])], ONE)
        columns, _, frame = run(model, state, grouping.arrange(frames[1]))
        found = {}
        for g, (a, b) in enumerate(zip(frame.indptr[:-1], frame.indptr[1:], strict=True)):
            names = tuple(order[frame.series[a:b]].tolist())
            found[names] = columns["anomaly_score"][g], columns["contribution"][a:b]
        return found

    expected, got = scored(np.arange(GROUPS.size)), scored(order)
    assert got.keys() == expected.keys()
    for names, (scores, shares) in expected.items():
        assert_array_equal(got[names][0], scores)
        assert_array_equal(got[names][1], shares)


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
def test_a_score_is_there_exactly_where_all_channels_are_and_shares_sum_to_one(model: Model) -> None:
    values = history()
    columns, _, frame = run(model, fit(model, [past(values)], ONE), later(values))
    first = frame.indptr[:-1]
    assert frame.groups is not None
    raw = later(values).values
    there = np.array([np.isfinite(raw[g == GROUPS]).all(axis=0) for g in frame.groups[first]])
    scores = columns["anomaly_score"]
    assert_array_equal(np.isfinite(scores), there)
    assert (scores[there] >= 0).all()
    sums = np.add.reduceat(columns["contribution"], first, axis=0)
    assert_allclose(sums[there], 1.0, rtol=1e-12)
    assert np.isnan(columns["contribution"][np.repeat(~there, np.diff(frame.indptr), axis=0)]).all()
    assert (columns["contribution"][np.isfinite(columns["contribution"])] >= 0).all()


@every_model
def test_a_burst_of_one_channel_is_anomalous_and_its_fault(model: Model) -> None:
    groups = np.zeros(4, dtype=np.int64)
    values = history(groups)
    values[2, STEPS + 30] += 60
    columns, _, _ = run(model, fit(model, [past(values, groups)], ONE), later(values, groups))
    score, rest = columns["anomaly_score"][0, 30], np.delete(columns["anomaly_score"][0], 30)
    # A forest has never cut above its samples, scikit-learn's neither: a burst is as far out as the largest of them.
    is_forest = isinstance(model, IsolationForest)
    assert score > (np.quantile(rest, 0.9) if is_forest else 1.2)
    assert (rest > 1).mean() < 0.3
    assert columns["contribution"][:, 30].argmax() == 2
    assert columns["contribution"][2, 30] > 0.5


@every_model
@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.full((3, 40), np.nan), id="no value"),
        pytest.param(np.full((3, 40), 4.0), id="constant"),
        pytest.param(np.zeros((3, 40)), id="zero"),
        pytest.param(np.full((3, 40), 1e300), id="huge"),
        pytest.param(np.ones((3, 1)), id="one step"),
        pytest.param(np.array([[1.0, 2.0]] * 3), id="two steps"),
        pytest.param(np.empty((0, 40)), id="no series"),
        pytest.param(np.full((3, 40), np.inf), id="infinite"),
        pytest.param(np.array([[np.nan] * 39 + [5.0]] * 3), id="one value"),
        pytest.param(np.array([[1.0, np.nan] * 20, [np.nan, 1.0] * 20]), id="never together"),
    ],
)
def test_strange_frames_never_raise(model: Model, values: F64) -> None:
    groups = np.array([0, 0, 1])[: values.shape[0]]
    frame = frame_of(values, groups=groups)
    after = frame_of(values, START_MS + STEP_MS * values.shape[1], groups)
    try:
        state = fit(model, [frame], ONE)
    except ModelError:
        return
    columns, state, aligned = run(model, state, after)
    assert columns["anomaly_score"].shape == (state.n_models, aligned.timestamps_ms.size)
    scores = columns["anomaly_score"]
    if scores.size and (values == values[0, 0]).all() and abs(values[0, 0]) < 1e150:
        assert (scores[np.isfinite(scores)] == 0).all()


@every_model
def test_a_group_that_the_fit_did_not_see(model: Model) -> None:
    values = history()
    known = fit(model, [some(past(values), GROUPS > 0)], ONE)
    columns, state, _ = run(model, known, later(values))
    assert state.groups is not None
    assert (0 in state.groups) is model.is_online
    expected, _, frame = run(model, known, some(later(values), GROUPS > 0))
    assert frame.groups is not None
    n_known = frame.indptr.size - 1
    assert_array_equal(columns["anomaly_score"][:n_known], expected["anomaly_score"])
    if model.is_online:
        assert_array_equal(columns["anomaly_score"][n_known, : model.warm_up], 0)


@every_model
@pytest.mark.parametrize("change", ["missing", "extra"])
def test_a_group_with_other_channels_than_the_fit_is_not_scored_and_learns_nothing(model: Model, change: str) -> None:
    values = history()
    rows = np.arange(GROUPS.size) != 1
    fitted, seen = (past(values), some(later(values), rows)) if change == "missing" else (
        some(past(values), rows), later(values)
    )  # fmt: skip
    before = fit(model, [fitted], ONE)
    columns, after, frame = run(model, before, seen)
    assert frame.groups is not None
    first = frame.groups[frame.indptr[:-1]]
    assert np.isnan(columns["anomaly_score"][first == 0]).all()
    assert np.isfinite(columns["anomaly_score"][first == 2]).any()
    mine = np.flatnonzero(frame.groups == 0)
    assert_same(after.take(mine), before.take(mine))


@every_model
def test_a_group_that_is_gone_for_now_keeps_its_state(model: Model) -> None:
    values = history()
    state = fit(model, [past(values)], ONE)
    columns, after, frame = run(model, state, some(later(values), GROUPS > 0))
    assert_array_equal(frame.series, state.series)
    assert np.isnan(columns["anomaly_score"][0]).all()
    assert_same(after.rows(0, 3), state.rows(0, 3))


@every_model
def test_nothing_is_provided_that_is_not_named(model: Model) -> None:
    values = history()
    columns = run(model, fit(model, [past(values)], ONE), later(values))[0]
    assert set(model.default_series) == {"anomaly_score"}
    assert {"anomaly_score", "contribution"} <= set(columns)
    assert set(columns) <= set(model.provides)
