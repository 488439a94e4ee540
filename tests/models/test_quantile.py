"""The seasonal quantiles' own claims; what holds for every model is in test_contract.py."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from engine import score
from engine.frame import F64, Frame, Query, State
from engine.models.base import fit
from engine.models.quantile import OnlineQuantile
from engine.pool import Pool
from engine.settings import Duration, Pair
from tests.strategies import START_MS, frame_of

POOL = Pool(1)
HOUR_MS = 3_600_000
DAILY: dict[str, Any] = {"seasonal_interval": Duration(24 * HOUR_MS), "min_subseason": Duration(2 * HOUR_MS)}


def hours(values: Any, after: int = 0, tz: str = "UTC", step_ms: int = HOUR_MS) -> Frame:
    start_ms = START_MS - START_MS % (24 * HOUR_MS)
    frame = frame_of(values, start_ms + after * step_ms, step_ms)
    return Frame(frame.series, frame.timestamps_ms, frame.values, step_ms, tz)


def band(model: OnlineQuantile, state: State, frame: Frame) -> tuple[F64, F64, F64]:
    prediction, _ = model.infer(state, frame)
    assert prediction.yhat is not None
    assert prediction.yhat_lower is not None
    assert prediction.yhat_upper is not None
    return prediction.yhat, prediction.yhat_lower, prediction.yhat_upper


def test_each_two_hours_have_their_own_quantiles() -> None:
    values = np.random.default_rng(1).normal(0, 1, (2, 24 * 30)) + np.arange(720) % 24
    model = OnlineQuantile(quantiles=[0.1, 0.5, 0.8], iqr_threshold=0.5, global_smoothing=0.25, **DAILY)
    state = fit(model, [hours(values)], POOL)
    found = band(model, state, hours(np.full((2, 24), np.nan), 720))
    for i, row in enumerate(values):
        of_all = np.quantile(row, [0.5, 0.1, 0.8])
        for hour in range(24):
            own = row[np.arange(720) % 24 // 2 == hour // 2]
            expected = 0.25 * of_all + 0.75 * np.quantile(own, [0.5, 0.1, 0.8])
            margin = 0.5 * np.subtract(*np.quantile(own, [0.75, 0.25]))
            # The sketch of all 720 points is no longer exact.
            assert_allclose([b[i, hour] for b in found], expected + np.array([0, -margin, margin]), atol=0.1)


@pytest.mark.parametrize("tz", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("start", ["1970-01-01", "2023-10-30", "2023-10-30T06:30:00+02:00"])
def test_parts_are_cut_on_the_wall_clock_of_the_zone(tz: str, start: str) -> None:
    interval, part = 36 * HOUR_MS, 3 * HOUR_MS
    model = OnlineQuantile(
        seasonal_interval=Duration(interval), min_subseason=Duration(part), season_starts_from=start
    )  # fmt: skip
    # From before the end of daylight saving time in 2023 until after it.
    first_ms = int(datetime(2023, 11, 3, tzinfo=UTC).timestamp()) * 1000
    times = first_ms + 1_800_000 * np.arange(200)
    found = model.parts(Frame(np.arange(1), times, np.zeros((1, 200)), 1_800_000, tz))
    begin = datetime.fromisoformat(start)
    begin = begin.astimezone(ZoneInfo(tz)).replace(tzinfo=None) if begin.tzinfo else begin
    for t, at in zip(times, found, strict=True):
        clock = datetime.fromtimestamp(t / 1000, ZoneInfo(tz)).replace(tzinfo=None)
        assert at == (clock - begin).total_seconds() * 1000 % interval // part


def test_after_a_change_of_clocks_the_same_hour_is_still_the_same_part() -> None:
    # Noon in New York has a value of its own, before and after 2023-11-05.
    zone = ZoneInfo("America/New_York")
    first_ms = int(datetime(2023, 10, 20, 4, tzinfo=UTC).timestamp()) * 1000
    times = first_ms + HOUR_MS * np.arange(24 * 24)
    clocks = np.array([datetime.fromtimestamp(t / 1000, zone).hour for t in times])
    values = np.where(clocks == 12, 100.0, 0.0)[None]
    frame = Frame(np.arange(1), times, values, HOUR_MS, "America/New_York")
    model = OnlineQuantile(seasonal_interval=Duration(24 * HOUR_MS), min_subseason=Duration(HOUR_MS))
    state = model.fresh(frame.series, frame)
    yhat, _, _ = band(model, state, frame)
    assert_array_equal(yhat[0, 24 * 10 :], values[0, 24 * 10 :])


def test_a_part_without_four_points_has_the_band_of_all() -> None:
    # Only the first two hours of each day: six points there, then none elsewhere.
    values = np.full((1, 24 * 3), np.nan)
    values[0, [0, 1, 24, 25, 48, 49]] = 1.0, 2.0, 3.0, 4.0, 5.0, 6.0
    values[0, [10, 34, 58]] = 100.0
    model = OnlineQuantile(**DAILY)
    yhat, _, _ = band(model, fit(model, [hours(values)], POOL), hours(np.full((1, 24), np.nan), 72))
    of_all = np.nanmedian(values)
    assert yhat[0, 0] == 3.5
    assert_array_equal(yhat[0, [4, 10, 20]], of_all)
    values[0, 11] = 200.0
    yhat, _, _ = band(model, fit(model, [hours(values)], POOL), hours(np.full((1, 24), np.nan), 72))
    assert yhat[0, 10] == 100.0


def test_trap_22_the_decay_reaches_the_sketch_of_all_points_too() -> None:
    values = np.concatenate([np.full((1, 24 * 20), 5.0), np.full((1, 24 * 20), 9.0)], axis=1)
    model = OnlineQuantile(decay=0.9, global_smoothing=1.0, **DAILY)
    yhat, lower, _ = band(model, fit(model, [hours(values)], POOL), hours(np.full((1, 1), np.nan), 960))
    assert yhat[0, 0] == lower[0, 0] == 9.0


@pytest.mark.parametrize("strength", [1, 3])
def test_history_strength_repeats_the_history_and_leaves_what_was_fitted(strength: int) -> None:
    rng = np.random.default_rng(5)
    past, later = rng.normal(0, 1, (1, 50)), rng.normal(9, 1, (1, 60))
    model = OnlineQuantile(history_strength=float(strength), quantiles=[0.1, 0.5, 0.9])
    state = fit(model, [hours(past)], POOL)
    assert state.columns["count"][0, -1] == 50
    _, state = model.infer(state, hours(later, 50))
    repeated = np.concatenate([np.repeat(past, strength), later[0]])
    found = band(model, state, hours(np.full((1, 1), np.nan), 110))
    assert_allclose([b[0, 0] for b in found], np.quantile(repeated, [0.5, 0.1, 0.9]), rtol=1e-12)


@pytest.mark.parametrize("decay", [1.0, 0.995])
def test_a_fit_in_any_pieces_equals_learning_point_by_point(decay: float) -> None:
    values = np.random.default_rng(3).lognormal(0, 1, (3, 1500))
    values[1, 10:200] = np.nan
    model = OnlineQuantile(decay=decay, compression=20, use_transform=True, **DAILY)
    whole = fit(model, [hours(values)], POOL)
    cut = fit(model, [hours(values[:, a : a + 333], a) for a in range(0, 1500, 333)], POOL)
    slow = model.fresh(np.arange(3), hours(values))
    for t in range(1500):
        _, slow = model.infer(slow, hours(values[:, t : t + 1], t))
    for name, column in whole.columns.items():
        assert_array_equal(cut.columns[name], column)
        assert_array_equal(slow.columns[name], column)


def test_trap_12_the_transform_is_used_and_stays_finite() -> None:
    values = np.exp(np.random.default_rng(7).normal(0, 200, (1, 3000)))
    plain, logs = OnlineQuantile(iqr_threshold=3.0), OnlineQuantile(iqr_threshold=3.0, use_transform=True)
    found = [band(m, fit(m, [hours(values)], POOL), hours(np.full((1, 1), np.nan), 3000)) for m in (plain, logs)]
    assert np.isfinite(found).all()
    # Between neighbours that are powers of ten apart the middle is another one.
    few = np.array([[0.0, 1.0, 1e6, 1e12]])
    yhat = [band(m, fit(m, [hours(few)], POOL), hours(np.full((1, 1), np.nan), 4))[0][0, 0] for m in (plain, logs)]
    assert yhat[0] == 500_000.5
    assert yhat[1] == pytest.approx(np.expm1((np.log1p(1) + np.log1p(1e6)) / 2))


def test_the_scale_widens_each_side_of_the_band() -> None:
    model = OnlineQuantile(scale=Pair((1.0, 3.0)))
    values = np.random.default_rng(8).normal(0, 1, (1, 500))
    frame = hours(np.zeros((1, 1)), 500)
    prediction, _ = model.infer(fit(model, [hours(values)], POOL), frame)
    columns = score.apply(score.resolve(model, Query("q", "up", HOUR_MS)), model.warm_up, prediction, frame)
    assert prediction.yhat is not None
    assert prediction.yhat_upper is not None
    half = prediction.yhat_upper - prediction.yhat
    assert_allclose(columns["yhat_upper"] - columns["yhat"], 3 * half, rtol=1e-12)


def test_warm_up_counts_all_points_and_not_those_of_a_part() -> None:
    model = OnlineQuantile(min_n_samples_seen=3, **DAILY)
    state = fit(model, [hours([[1.0, np.nan, 2.0, np.nan], [1.0, 2.0, 3.0, 4.0]])], POOL)
    prediction, _ = model.infer(state, hours([[3.0], [4.0]], 4))
    assert model.warm_up == 3
    assert prediction.seen is not None
    assert_array_equal(prediction.seen, [2, 4])
    # A view of another layout would have the score's kernel compiled again.
    assert prediction.seen.flags.c_contiguous


def test_the_state_is_twelve_bytes_a_centroid_and_sixteen_a_part() -> None:
    # Two weeks at five minutes, 84 parts of 48 points, all of them different; 200 centroids for all points at most.
    values = np.random.default_rng(9).normal(0, 1, (2, 14 * 288))
    model = OnlineQuantile(seasonal_interval=Duration(168 * HOUR_MS), min_subseason=Duration(2 * HOUR_MS))
    state = fit(model, [hours(values, step_ms=300_000)], POOL)
    assert (state.columns["end"][:, -2] == 14 * 288).all()
    width = state.columns["mean"].shape[1]
    assert 14 * 288 + 130 < width <= 14 * 288 + 200 + 255
    assert state.size_bytes == 2 * (12 * width + 85 * (4 + 8 + 8))
    plain = OnlineQuantile()
    assert fit(plain, [hours(values)], POOL).size_bytes == 2 * (12 * 200 + 20)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"quantiles": [0.5, 0.1, 0.9]}, "quantiles: "),
        ({"quantiles": [0.1, 0.9]}, "quantiles: "),
        ({"seasonal_interval": Duration(10), "min_subseason": Duration(3)}, "min_subseason: 3ms, expected an exact"),
        ({"min_subseason": Duration(3)}, "min_subseason: 3ms, expected an exact divisor"),
        ({"seasonal_interval": Duration(20_000), "min_subseason": Duration(1)}, "min_subseason: 1ms, expected at most"),
        ({"season_starts_from": "2020-02-30"}, "season_starts_from: 2020-02-30, expected a date"),
    ],
)
def test_what_cannot_be_is_a_problem(options: dict[str, Any], text: str) -> None:
    problems = OnlineQuantile(**options).check()
    assert len(problems) == 1
    assert problems[0].startswith(text)
