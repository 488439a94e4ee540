"""What the multivariate envelope says of groups of channels, and what its arguments and policies do."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from engine import score
from engine.channels.joint import score_groups
from engine.errors import ModelError
from engine.frame import F64, Frame, Query, State
from engine.models.base import align, fit, infer
from engine.models.envelope_args import EnvelopeHolidays
from engine.models.envelope_mv import TemporalEnvelopeMultivariate
from engine.pool import Pool
from kernels.envelope_mv import envelope_mv_run

STEP_MS, DAY = 300_000, 288
PAST, LATER = 20 * DAY, 2 * DAY
POOL = Pool(1)


def channels(n_channels: int = 6, seed: int = 3, n_steps: int = PAST + LATER) -> F64:
    """Two common factors and a daily rhythm."""
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 1, (n_channels, 2)) @ rng.normal(0, 1, (2, n_steps))
    return common + rng.normal(0, 0.5, (n_channels, n_steps)) + 50 + 5 * np.sin(2 * np.pi * np.arange(n_steps) / DAY)


def frame_of(values: F64, start: int = 0) -> Frame:
    times = STEP_MS * np.arange(start, start + values.shape[1], dtype=np.int64)
    groups = np.zeros(values.shape[0], dtype=np.int64)
    return Frame(np.arange(values.shape[0]), times, np.ascontiguousarray(values), STEP_MS, groups=groups)


def learned(model: TemporalEnvelopeMultivariate, values: F64, n_past: int = PAST) -> State:
    return fit(model, [frame_of(values[:, :n_past])], POOL)


def columns_of(
    model: TemporalEnvelopeMultivariate,
    state: State,
    values: F64,
    start: int = PAST,
    queries: list[Query] | None = None,
) -> dict[str, F64]:
    """Columns of values from `start`; of several queries each has one channel."""
    state, frame = align(model, state, frame_of(values, start))
    policies = [score.resolve(model, query) for query in queries or [Query("q", "up", STEP_MS)]]
    policy_of = np.arange(values.shape[0]) if queries else np.zeros(values.shape[0], dtype=np.int64)
    return score_groups(model, policies, policy_of, infer(model, state, frame, POOL)[0], frame)


def after(model: TemporalEnvelopeMultivariate, values: F64, queries: list[Query] | None = None) -> dict[str, F64]:
    """Columns of the later part."""
    return columns_of(model, learned(model, values), values[:, PAST:], PAST, queries)


def next_row(model: TemporalEnvelopeMultivariate, state: State, row: F64, **more: Any) -> dict[str, F64]:
    """Columns of one row that would come after the past."""
    return columns_of(model, state, np.asarray(row)[:, None], PAST, **more)


@pytest.fixture(scope="module")
def bands() -> tuple[State, F64, F64, F64]:
    """A state with default arguments and `max`, and the band it gives the next row."""
    model = TemporalEnvelopeMultivariate(score_aggregation="max")
    state = learned(model, channels())
    columns = next_row(model, state, channels()[:, PAST])
    return state, columns["yhat"][:, 0], columns["yhat_lower"][:, 0], columns["yhat_upper"][:, 0]


@pytest.mark.parametrize("aggregation", ["max", "mean", "l2"])
def test_a_row_exactly_as_expected_scores_0(bands: tuple[State, F64, F64, F64], aggregation: Any) -> None:
    model = TemporalEnvelopeMultivariate(score_aggregation=aggregation)
    assert next_row(model, bands[0], bands[1])["anomaly_score"][0, 0] == 0


@pytest.mark.parametrize("channel", range(6))
@pytest.mark.parametrize("bound", [2, 3])
def test_a_channel_at_its_bound_alone_scores_1_with_max(
    bands: tuple[State, F64, F64, F64], channel: int, bound: int
) -> None:
    row = bands[1].copy()
    row[channel] = bands[bound][channel]
    model = TemporalEnvelopeMultivariate(score_aggregation="max")
    # Not much more than 1: it also leaves what it has in common with the others.
    assert 1 - 1e-9 <= next_row(model, bands[0], row)["anomaly_score"][0, 0] < 1.3


@pytest.mark.parametrize("aggregation", ["max", "mean", "l2"])
def test_all_channels_at_their_bounds_score_at_least_1(bands: tuple[State, F64, F64, F64], aggregation: Any) -> None:
    model = TemporalEnvelopeMultivariate(score_aggregation=aggregation)
    assert next_row(model, bands[0], bands[3])["anomaly_score"][0, 0] >= 1 - 1e-9


def test_a_combination_that_never_was_is_anomalous_though_no_channel_leaves_its_band() -> None:
    values = np.repeat(np.random.default_rng(1).normal(0, 1, (1, PAST + LATER)), 6, axis=0)
    values += np.random.default_rng(2).normal(0, 0.2, values.shape)
    values[3:, PAST + 100 : PAST + 112] = 1.5
    values[:3, PAST + 100 : PAST + 112] = -1.5
    columns = after(TemporalEnvelopeMultivariate(), values)
    inside = (values[:, PAST:] > columns["yhat_lower"]) & (values[:, PAST:] < columns["yhat_upper"])
    assert inside[:, 100:112].all()
    assert columns["anomaly_score"][0, 102:112].min() > 1
    unaware = after(TemporalEnvelopeMultivariate(dependency_rank=0), values)
    assert unaware["anomaly_score"][0, 102:112].max() < 1


def test_what_many_channels_show_a_little_is_anomalous() -> None:
    values = np.random.default_rng(4).normal(0, 1, (40, PAST + LATER))
    values[:, PAST + 50 : PAST + 56] *= 1.6
    assert after(TemporalEnvelopeMultivariate(), values)["anomaly_score"][0, 52:56].max() > 1


def test_a_burst_alarms_each_time_and_calm_returns_within_the_hour() -> None:
    values = channels()
    values[2, PAST + np.array([30, 230])] += 60
    columns = after(TemporalEnvelopeMultivariate(), values)
    scores = columns["anomaly_score"][0]
    assert scores[[30, 230]].min() > 3
    assert (columns["contribution"][:, [30, 230]].argmax(axis=0) == 2).all()
    assert scores[42:230].max() < 1


@pytest.mark.parametrize("policy", [{"detection_direction": "below_expected"}, {"min_dev_from_expected": (99.0, 99.0)},
                                    {"min_rel_dev_from_expected": (300.0, 300.0)}])  # fmt: skip
def test_a_channel_whose_policy_zeroes_its_deviation_adds_nothing(policy: dict[str, Any]) -> None:
    values = channels()
    values[2, PAST + 30 : PAST + 40] += 60
    plain = [Query(f"q{k}", "up", STEP_MS) for k in range(6)]
    own = [replace(query, **policy) if k == 2 else query for k, query in enumerate(plain)]
    model = TemporalEnvelopeMultivariate()
    assert after(model, values, plain)["anomaly_score"][0, 30:40].min() > 2
    columns = after(model, values, own)
    assert columns["anomaly_score"][0, 30:40].max() < 1
    assert_array_equal(columns["contribution"][2, 30:40], 0)


def test_a_channel_out_of_its_range_is_never_hidden_and_to_blame() -> None:
    values = channels()
    values[4, PAST + 9] = 1000
    queries = [Query(f"q{k}", "up", STEP_MS, data_range=(0.0, 999.0)) for k in range(6)]
    model = TemporalEnvelopeMultivariate(min_dev_from_expected=(1e6, 1e6), anomaly_score_outside_data_range=7.0)
    columns = after(model, values, queries)
    assert columns["anomaly_score"][0, 9] == 7
    assert columns["contribution"][4, 9] == 1
    assert columns["anomaly_score"][0, 10:].max() == 0


def test_scale_widens_bands_and_lowers_all_that_the_channels_add() -> None:
    values = channels()
    values[:, PAST + 30 : PAST + 60] += 4
    once, twice = after(TemporalEnvelopeMultivariate(), values), after(
        TemporalEnvelopeMultivariate(scale=(2.0, 2.0)), values
    )  # fmt: skip
    assert_allclose(twice["yhat_upper"] - twice["yhat"], 2 * (once["yhat_upper"] - once["yhat"]), rtol=1e-6)
    assert_allclose(twice["anomaly_score"], once["anomaly_score"] / 2, rtol=1e-6)


BASE = after(TemporalEnvelopeMultivariate(), channels())


@pytest.mark.parametrize(
    "change",
    [
        {"quantiles": [0.1, 0.9]},
        {"iqr_threshold": 3.0},
        {"alpha": 0.02},
        {"loss_reactivity": 1.0},
        {"seasonalities": []},
        {"seasonalities": ["hod_plateau"]},
        {"dependency_rank": 1},
        {"dependency_rank": 0},
        {"score_aggregation": "mean"},
        {"score_aggregation": "max"},
        {"random_state": 7},
        {"holidays": EnvelopeHolidays(special_events=["01-21"])},
    ],
)
def test_every_argument_has_an_effect(change: dict[str, Any]) -> None:
    got = after(TemporalEnvelopeMultivariate(**change), channels())["anomaly_score"]
    assert (got != BASE["anomaly_score"]).any()
    assert np.isfinite(got).all()


@pytest.mark.parametrize(
    "extreme",
    [
        {"quantiles": [0.0, 1.0]},
        {"quantiles": [0.5, 0.50001], "iqr_threshold": 0.0},
        {"quantiles": [0.6, 0.9]},
        {"alpha": 1.0},
        {"loss_reactivity": 1e-9},
        {"loss_reactivity": 1e9},
        {"changepoint_window": 1},
        {"dependency_rank": 10_000},
        {"random_state": -1},
    ],
)
def test_extreme_arguments_give_scores(extreme: dict[str, Any]) -> None:
    columns = after(TemporalEnvelopeMultivariate(**extreme), channels())
    assert np.isfinite(columns["anomaly_score"]).all()
    assert (columns["yhat_lower"] < columns["yhat"]).all()
    assert (columns["yhat_upper"] > columns["yhat"]).all()


def test_iqr_threshold_sets_how_much_is_anomalous() -> None:
    shares = [
        (after(TemporalEnvelopeMultivariate(iqr_threshold=k), channels())["anomaly_score"] > 1).mean()
        for k in (0.5, 1, 2)
    ]
    assert shares[0] > shares[1] > shares[2]


def test_scores_count_after_min_n_samples_seen_rows_of_the_group() -> None:
    values = channels()
    values[0, [30, 90]] += 90
    state = learned(TemporalEnvelopeMultivariate(), values, 1)
    for n in (16, 50):
        model = TemporalEnvelopeMultivariate(min_n_samples_seen=n)
        scores = columns_of(model, state, values[:, 1:200], 1)["anomaly_score"][0]
        assert (scores[: n - 1] == 0).all()
        assert (scores[n - 1 : 29] > 0).all()
        assert (scores[29] > 1) == (n == 16)
        assert scores[89] > 1


def test_a_level_shift_alarms_and_is_followed_once_confirmed() -> None:
    values = channels()
    values[1, PAST:] += 12

    def last_alarm(window: int) -> int:
        columns = after(TemporalEnvelopeMultivariate(changepoint_window=window), values)
        assert columns["anomaly_score"][0, 0] > 1
        assert columns["contribution"][:, 3].argmax() == 1
        return int(np.flatnonzero(columns["anomaly_score"][0] > 1)[-1])

    ends = [last_alarm(window) for window in (4, 16, 64)]
    assert ends[0] < ends[1] < ends[2]
    assert ends[1] < DAY


def test_a_constant_channel_is_silent_until_it_changes_and_a_dead_one_keeps_the_group_from_nothing_else() -> None:
    values = channels()
    values[5] = 3.0
    assert after(TemporalEnvelopeMultivariate(), values)["anomaly_score"].max() < 1.5
    values[5, PAST + 20] = 3.5
    columns = after(TemporalEnvelopeMultivariate(), values)
    assert columns["anomaly_score"][0, 20] > 1
    assert columns["contribution"][:, 20].argmax() == 5
    values[5, PAST + 40 : PAST + 50] = np.nan
    gone = after(TemporalEnvelopeMultivariate(), values)["anomaly_score"][0]
    assert_array_equal(np.isnan(gone), (np.arange(LATER) >= 40) & (np.arange(LATER) < 50))


@pytest.mark.parametrize(("row", "value"), [(45, 1e120), (400, 1e149)])
def test_a_value_beyond_all_bounds_ends_no_group(row: int, value: float) -> None:
    values = np.random.default_rng(0).normal(0, 1e-9, (3, 500))
    values[0, row] = value
    state = learned(TemporalEnvelopeMultivariate(), values, 500)
    for name, column in {**state.columns, **state.group_columns}.items():
        assert np.isfinite(column).all(), name


def test_another_order_of_channels_gives_the_same_scores_but_for_rounding() -> None:
    values, order = channels(), np.array([3, 0, 5, 1, 4, 2])
    got = after(TemporalEnvelopeMultivariate(), values[order])
    assert_allclose(got["anomaly_score"], BASE["anomaly_score"], rtol=1e-6, atol=1e-9)
    assert_allclose(got["contribution"], BASE["contribution"][order], rtol=1e-6, atol=1e-9)


def test_units_of_channels_do_not_matter() -> None:
    units = 10.0 ** np.arange(-6, 6)[::2, None]
    got = after(TemporalEnvelopeMultivariate(), channels() * units)
    assert_allclose(got["anomaly_score"], BASE["anomaly_score"], rtol=1e-5, atol=1e-6)


def test_wide_groups_are_warned_of_wider_ones_are_left_out_and_an_error_if_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = TemporalEnvelopeMultivariate(max_channels=4, recommended_max_channels=2)
    frame = replace(frame_of(channels(10, n_steps=60)), groups=np.repeat([0, 1, 2], [5, 2, 3]))
    with caplog.at_level(logging.WARNING):
        state = fit(model, [frame], POOL)
    assert state.groups is not None
    assert_array_equal(state.groups, [1, 1, 2, 2, 2])
    assert_array_equal(state.series, np.arange(5, 10))
    assert len([r for r in caplog.records if "max_channels" in r.getMessage()]) == 2
    with pytest.raises(ModelError, match="max_channels \\(4\\)"):
        fit(model, [frame_of(channels(5, n_steps=60))], POOL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"recommended_max_channels": 20, "max_channels": 10}, "at most max_channels"), ({"args": {"a": 1}}, "args")],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], words: str) -> None:
    assert any(words in problem for problem in TemporalEnvelopeMultivariate(**arguments).check())


def test_the_kernel_is_compiled_once() -> None:
    model = TemporalEnvelopeMultivariate(dependency_rank=0, seasonalities=[])
    after(model, channels(2, n_steps=PAST + 10))
    assert len(getattr(envelope_mv_run, "signatures", [()])) <= 1
