"""Prophet against recorded predictions of the `prophet` package, and what its settings promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from engine.errors import ModelError
from engine.frame import Frame, State
from engine.models.civil import civil_ms
from engine.models.prophet import Prophet
from engine.models.prophet_compress import compress
from engine.pool import Pool
from engine.settings import decode_hook

GOLDEN = Path(__file__).parent.parent / "golden" / "prophet"
HEAD = json.loads((GOLDEN / "cases.json").read_text())
HOUR, DAY = 3_600_000, 86_400_000
START = HEAD["start_ms"]
# In deviations of the residuals, over the fit and over the day ahead.
IN_FIT, AHEAD = 0.05, 0.1


def frame(values: Any, start_ms: int = START, step_ms: int = HOUR, tz: str = "UTC") -> Frame:
    rows = np.ascontiguousarray(np.atleast_2d(np.asarray(values, dtype=np.float64)))
    return Frame(np.arange(len(rows)), start_ms + step_ms * np.arange(rows.shape[1]), rows, step_ms, tz)


def after(fitted: Frame, n_steps: int = 24) -> Frame:
    start_ms = int(fitted.timestamps_ms[-1]) + fitted.step_ms
    return frame(np.zeros((fitted.shape[0], n_steps)), start_ms, fitted.step_ms, fitted.tz)


def series(n_rows: int = 3, n_days: int = 15, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(24 * n_days + 1) / 24
    return 20 + 3 * np.sin(2 * np.pi * t) + np.cos(2 * np.pi * t / 7) + 0.4 * rng.normal(size=(n_rows, t.size))


def configured(**fields: Any) -> Prophet:
    """A model as a configuration makes it."""
    return msgspec.convert({"class": "prophet", **fields}, Prophet, dec_hook=decode_hook)


@pytest.mark.parametrize("number", range(len(HEAD["cases"])), ids=[case["name"] for case in HEAD["cases"]])
def test_predictions_equal_the_package(number: int) -> None:
    case = HEAD["cases"][number]
    with np.load(GOLDEN / "series.npz") as arrays:
        y, (yhat, lower, upper) = arrays[f"y{number}"], arrays[f"prophet{number}"]
    model = Prophet(args=case["args"], seasonalities=case["seasonalities"])
    assert model.check() == []
    fitted = frame(y)
    state = model.fit_rows(fitted)
    found = model.infer(state, frame(np.zeros(yhat.size)))[0]
    has = np.isfinite(y)
    deviation = max(np.std((y - yhat[: y.size])[has]), 1e-9 * np.abs(y[has]).max())
    off = (found.yhat[0] - yhat) / deviation
    assert np.sqrt(np.mean(off[: y.size][has] ** 2)) < IN_FIT
    assert np.sqrt(np.mean(off[y.size :] ** 2)) < AHEAD
    ratio = (found.yhat_upper - found.yhat_lower)[0] / (upper - lower)
    assert_allclose([np.median(ratio[: y.size]), np.median(ratio[y.size :])], 1.0, atol=0.02)


def test_rows_can_be_cut_anywhere() -> None:
    y = series(130, 4)
    y[3, 40:90] = np.nan
    y[70, :50] = np.nan
    model, whole = Prophet(), frame(y)
    state = model.fit_rows(whole)
    parts = [model.fit_rows(whole.rows(a, b)) for a, b in ((0, 1), (1, 71), (71, 130))]
    joined = State.concat(parts)
    for name, column in state.columns.items():
        assert_array_equal(column, joined.columns[name])
    for a, b in ((0, 130), (3, 4), (64, 99)):
        found = model.infer(state.rows(a, b), after(whole).rows(a, b))[0]
        for name in ("yhat", "yhat_lower", "yhat_upper"):
            assert_array_equal(getattr(found, name), getattr(model.infer(state, after(whole))[0], name)[a:b])


def test_one_step_is_predicted_as_among_many() -> None:
    model, fitted = Prophet(), frame(series())
    state = model.fit_rows(fitted)
    many = model.infer(state, after(fitted))[0]
    one = model.infer(state, frame(np.zeros((3, 1)), int(fitted.timestamps_ms[-1]) + 10 * HOUR))[0]
    assert one.yhat.shape == (3, 1)
    assert_allclose(one.yhat_upper, many.yhat_upper[:, 9:10], rtol=1e-12)


def test_state_alone_predicts_whatever_the_values_are() -> None:
    model, fitted = Prophet(), frame(series())
    state = model.fit_rows(fitted)
    later = after(fitted)
    missing = Frame(later.series, later.timestamps_ms, np.full(later.shape, np.nan), HOUR)
    assert_array_equal(model.infer(state, later)[0].yhat, model.infer(state, missing)[0].yhat)


def test_rows_with_too_few_points_are_left_out() -> None:
    y = series(4)
    y[1] = np.nan
    y[2, 1:] = np.inf
    y[3, 2:] = np.nan
    state = Prophet().fit_rows(frame(y))
    assert_array_equal(state.series, [0, 3])
    assert np.isfinite(Prophet().infer(state, frame(y[[0, 3]]))[0].yhat).all()


def test_a_window_of_one_step_is_an_error() -> None:
    with pytest.raises(ModelError, match="at least two steps"):
        Prophet().fit_rows(frame([[1.0], [2.0]]))


def test_a_constant_has_a_thin_band_around_it() -> None:
    fitted = frame(np.full((2, 400), [[5.0], [0.0]]))
    found = Prophet().infer(Prophet().fit_rows(fitted), after(fitted))[0]
    assert_array_equal(found.yhat, np.broadcast_to([[5.0], [0.0]], (2, 24)))
    assert (found.yhat_upper > found.yhat).all()
    assert_allclose(found.yhat_upper, found.yhat, atol=1e-6)


def test_components_add_up() -> None:
    args = {"country_holidays": "US", "holidays_mode": "multiplicative"}
    names = ["trend", "additive_terms", "multiplicative_terms", "weekly", "daily", "holidays", "trend_lower"]
    model = Prophet(args=args, provide_series=names)
    assert model.check() == []
    y = series(2, 28)
    fitted = frame(y, START + 7 * DAY)  # the fourth of July inside
    found = model.infer(model.fit_rows(fitted), fitted)[0]
    parts = found.extra
    assert list(parts) == names
    assert_allclose(parts["weekly"] + parts["daily"], parts["additive_terms"], atol=1e-12)
    assert_allclose(parts["holidays"], parts["multiplicative_terms"])
    assert_allclose(found.yhat, parts["trend"] * (1 + parts["multiplicative_terms"]) + parts["additive_terms"])
    days = (fitted.timestamps_ms // DAY) == 19908
    assert (parts["holidays"][:, days] != 0).all()
    assert (parts["holidays"][:, ~days] == 0).all()
    assert_array_equal(parts["trend_lower"], parts["trend"])


def test_holidays_fall_on_the_zones_days() -> None:
    model = Prophet(args={"country_holidays": "US"}, provide_series=["Independence Day"])
    fitted = frame(series(1, 28), START + 7 * DAY, tz="America/New_York")
    found = model.infer(model.fit_rows(fitted), fitted)[0].extra["Independence Day"][0]
    hit = fitted.timestamps_ms[found != 0]
    assert (hit[0] % DAY, hit[-1] % DAY, hit.size) == (4 * HOUR, 3 * HOUR, 24)


def test_forecasts_are_the_later_predictions_named_as_configured() -> None:
    model = configured(forecast_at=["60m", "1d"])
    fitted = frame(series())
    state = model.fit_rows(fitted)
    found = model.infer(state, after(fitted, 4))[0]
    later = model.infer(state, after(fitted, 28))[0]
    assert_allclose(found.extra["yhat_60m"], later.yhat[:, 1:5], rtol=1e-12)
    assert_allclose(found.extra["yhat_upper_1d"], later.yhat_upper[:, 24:28], rtol=1e-12)
    assert_allclose(found.extra["yhat_lower_1d"], later.yhat_lower[:, 24:28], rtol=1e-12)


def test_the_band_widens_after_the_fit_only() -> None:
    bend = np.abs((np.arange(24 * 20) / 24) % 8 - 4)
    rng = np.random.default_rng(0)
    fitted = frame(10 + bend + 0.1 * rng.normal(size=bend.size))
    model = Prophet(args={"interval_width": 0.98})
    state = model.fit_rows(fitted)
    inside, ahead = (model.infer(state, part)[0] for part in (fitted, after(fitted, 72)))
    widths = (inside.yhat_upper - inside.yhat_lower)[0]
    assert_allclose(widths, widths[0], rtol=1e-9)
    grown = (ahead.yhat_upper - ahead.yhat_lower)[0]
    assert (np.diff(grown) > 0).all()
    assert grown[-1] > 1.5 * widths[0]


def test_tz_aware_seasons_follow_the_wall_clock_over_a_change_of_offset() -> None:
    start = 1_729_468_800_000  # 2024-10-21T00:00Z; Berlin's clock goes back on the 27th
    n = 24 * 14
    stamps = start + HOUR * np.arange(n)
    hour = civil_ms(stamps, "Europe/Berlin") // HOUR % 24
    y = 10 + 5 * ((hour >= 8) & (hour < 18))
    fitted = frame(y, start, tz="Europe/Berlin")
    off = [
        np.std(y - model.infer(model.fit_rows(fitted), fitted)[0].yhat[0])
        for model in (Prophet(tz_seasonalities=["hod"]), Prophet(tz_aware=True), Prophet())
    ]
    assert off[0] < 0.05 < off[1] < off[2]


def test_clock_values_and_cyclical_encoding() -> None:
    y = series(1, 28)
    names = ["hod", "dow", "minute", "month"]
    for cyclical in (False, True):
        model = Prophet(tz_seasonalities=names, tz_use_cyclical_encoding=cyclical, provide_series=names)
        assert model.check() == []
        found = model.infer(model.fit_rows(frame(y)), frame(y))[0]
        assert np.std(y - found.yhat) < 0.45
        assert sorted(found.extra) == sorted(names)
    levels = Prophet(tz_seasonalities=["hod"], provide_series=["hod"])
    hod = levels.infer(levels.fit_rows(frame(y)), frame(y))[0].extra["hod"][0]
    assert np.unique(hod.round(12)).size == 24


def test_compression_gathers_points_and_can_restore_the_noise() -> None:
    y = series(1, 20)
    y[0, 30:33] = np.nan
    gathered = compress(frame(y), 4 * HOUR, is_median=True)
    assert_allclose(gathered.values[0, 0], np.median(y[0, :4]))
    assert_allclose(gathered.values[0, 7], np.nanmedian(y[0, 28:32]))
    assert_array_equal(gathered.timestamps_ms[:2] - START, [1.5 * HOUR, 5.5 * HOUR])
    assert_allclose(compress(frame(y), 4 * HOUR, is_median=False).values[0, 8], np.nanmean(y[0, 32:36]))
    assert compress(frame(y), HOUR, is_median=False).shape == y.shape
    widths = {}
    for name, fields in {"full": None, "narrow": {"adjust_boundaries": False}, "wide": {}}.items():
        compression = None if fields is None else {"window": "4h", **fields}
        model = configured(compression=compression)
        found = model.infer(model.fit_rows(frame(y)), frame(y))[0]
        widths[name] = found.yhat_upper[0, 0] - found.yhat[0, 0]
    assert widths["narrow"] < 0.8 * widths["full"]
    assert_allclose(widths["wide"], widths["full"], rtol=0.15)


def test_rising_values_and_scaling_leave_the_relative_band_alone() -> None:
    y = series(1)
    model = Prophet()
    # By a power of two, which rounds nothing: where the search ends depends on the last digits.
    one, more = (model.infer(model.fit_rows(frame(v)), frame(v))[0] for v in (y, 1024 * y))
    assert_allclose(more.yhat_upper, 1024 * one.yhat_upper, rtol=1e-9)


def test_pool_and_state_bytes_change_nothing() -> None:
    from engine.models import base

    fitted, model, pool = frame(series(200, 3)), Prophet(args={"interval_width": 0.98}), Pool(2)
    state = base.fit(model, [fitted.rows(0, 77), fitted.rows(77, 200)], pool)
    one = model.fit_rows(fitted)
    for name, column in one.columns.items():
        assert_array_equal(column, state.columns[name])
    assert_array_equal(
        base.infer(model, state, after(fitted), pool)[0].yhat_lower, model.infer(one, after(fitted))[0].yhat_lower
    )
    pool.close()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"args": {"foo": 1}}, "args.foo: is not honoured; expected some of growth, changepoints"),
        ({"args": {"stan_threads": 1}}, "args.stan_threads: is not honoured"),
        ({"args": {"growth": "cubic"}}, "args.growth: 'cubic', invalid enum value"),
        ({"args": {"interval_width": 1.5}}, "args.interval_width: 1.5, expected `float` < 1"),
        ({"args": {"mcmc_samples": 300}}, "args.mcmc_samples: 300, expected 0"),
        ({"args": {"uncertainty_samples": 0}}, "args.uncertainty_samples: 0, expected an integer >= 1"),
        ({"args": {"growth": "logistic"}}, "args.cap: missing, expected the highest possible value"),
        ({"args": {"growth": "logistic", "cap": 1, "floor": 2}}, "args.cap: 1.0, expected more than floor"),
        ({"args": {"floor": 0}}, "args.floor: 0.0, has a meaning only with growth: logistic"),
        ({"args": {"country_holidays": "Atlantis"}}, "args.country_holidays: Atlantis, expected a country's code"),
        ({"args": {"changepoints": ["soon"]}}, "args.changepoints: 'soon', expected a date like"),
        ({"args": {"holidays": [{"ds": "2024-01-01"}]}}, "args.holidays: "),
        ({"args": {"weekly_seasonality": "yes"}}, "args.weekly_seasonality: 'yes', "),
        ({"seasonalities": [{"name": "x", "period": 1}]}, "seasonalities[0]: "),
        (
            {"seasonalities": [{"name": "trend", "period": 1, "fourier_order": 1}]},
            "seasonalities: trend, expected a name",
        ),
        ({"tz_seasonalities": ["hour"]}, "tz_seasonalities[0]: {'name': 'hour'}, invalid enum value"),
        ({"tz_seasonalities": ["hod", "hod"]}, "seasonalities: hod, expected each name once"),
        ({"provide_series": ["wekly"]}, "provide_series: wekly, expected some of anomaly_score, y, yhat"),
        ({"forecast_at": ["-1h"]}, "forecast_at: -1h, expected a time ahead"),
    ],
)
def test_a_bad_setting_is_named_with_what_was_expected(fields: dict[str, Any], problem: str) -> None:
    problems = configured(**fields).check()
    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_all_documented_arguments_are_honoured() -> None:
    args = {
        "growth": "linear", "changepoints": ["2024-06-20"], "n_changepoints": 5, "changepoint_range": 0.9,
        "yearly_seasonality": "auto", "weekly_seasonality": True, "daily_seasonality": 3,
        "holidays": [{"ds": "2024-06-20", "holiday": "fair"}], "seasonality_mode": "multiplicative",
        "seasonality_prior_scale": 5, "holidays_prior_scale": 5, "changepoint_prior_scale": 0.1, "mcmc_samples": 0,
        "interval_width": 0.9, "uncertainty_samples": 100, "scaling": "minmax", "holidays_mode": "additive",
        "country_holidays": "UnitedStates",
    }  # fmt: skip
    wanted = ["anomaly_score", "fair", "Juneteenth National Independence Day", "weekly_upper", "yhat_1h"]
    model = configured(args=args, provide_series=wanted, forecast_at=["1h"])
    assert model.check() == []
    found = model.infer(model.fit_rows(frame(series())), frame(series()))[0]
    assert set(found.extra) == {"fair", wanted[2], "weekly_upper", "yhat_1h", "yhat_lower_1h", "yhat_upper_1h"}
