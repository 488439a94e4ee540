"""ARIMA: as close as statsmodels, one step ahead of every point, forecasts, gaps, arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from engine.frame import F64, Frame, Prediction, State
from engine.models.arima import Arima
from engine.settings import Duration
from kernels.arima import expand
from kernels.arima_fit import fit_arima
from tests.naive_arima import KINDS, N_FIT, N_SERIES, one_step_errors, series
from tests.strategies import START_MS, STEP_MS

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/arima/errors.json").read_text())["cases"]


def frame_of(y: F64, first: int = 0, step_ms: int = STEP_MS) -> Frame:
    """One row of the steps from `first` on."""
    times = START_MS + step_ms * (first + np.arange(y.size, dtype=np.int64))
    return Frame(np.arange(1), times, np.ascontiguousarray(y[None]), step_ms)


def model_of(number: int, **arguments: Any) -> Arima:
    order, season, *_ = KINDS[number % len(KINDS)]
    return Arima(order=order, args={"seasonal_order": season} if season else {}, **arguments)


def fitted(number: int, **arguments: Any) -> tuple[Arima, State, Prediction]:
    """A model, its state after the fit, and predictions of what follows."""
    model, y = model_of(number, **arguments), series(number)
    state = model.fit_rows(frame_of(y[:N_FIT]))
    return model, state, model.infer(state, frame_of(y[N_FIT:], N_FIT))[0]


def yhat(prediction: Prediction) -> F64:
    assert prediction.yhat is not None
    return prediction.yhat[0]


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_one_step_errors_are_within_half_a_percent_of_statsmodels(kind: int) -> None:
    for number in range(kind, N_SERIES, len(KINDS)):
        y, case = series(number), GOLDEN[number]
        assert_allclose(y.sum(), case["sum"], rtol=1e-9)
        _, state, prediction = fitted(number)
        rms = np.sqrt(np.mean((y[N_FIT:] - yhat(prediction)) ** 2))
        assert rms <= 1.005 * case["later"]
        assert_allclose(state.columns["sigma"][0], case["sigma"], rtol=0.01)


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_predictions_are_those_of_the_fitted_coefficients(kind: int) -> None:
    model, state, prediction = fitted(kind)
    own, average, constant = expand(state.columns["raw"][0], model.orders())
    y = series(kind)
    errors = one_step_errors(y.tolist(), own.tolist(), average.tolist(), constant)
    later = y[N_FIT:] - yhat(prediction)
    # Errors before the first step are found by the fit; what they still weigh after so many steps is rounding.
    assert_allclose(later[50:], errors[N_FIT + 50 :], atol=1e-3 * state.columns["sigma"][0])


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_the_fit_is_a_minimum(kind: int) -> None:
    """No small move of any parameter leaves less."""
    y = series(kind)[:400]
    model = model_of(kind)
    state = model.fit_rows(frame_of(y))
    raw, orders = state.columns["raw"][0], model.orders()

    def left(parameters: F64) -> float:
        own, average, constant = expand(parameters, orders)
        return float(np.sum(np.square(one_step_errors(y.tolist(), own.tolist(), average.tolist(), constant))))

    # The errors before the start are 0 here and found in the fit: minima are a little apart.
    best = left(raw)
    for j in range(raw.size):
        for by in (-0.2, 0.2):
            moved = raw.copy()
            moved[j] += by * max(1.0, abs(raw[j]))
            assert left(moved) > 0.995 * best


def test_one_by_one_equals_at_once_with_gaps_and_pieces() -> None:
    model, y = model_of(4), series(4)
    later = y[N_FIT:].copy()
    later[[3, 10, 11, 12, 50]] = np.nan
    state = model.fit_rows(frame_of(y[:N_FIT]))
    whole, after = model.infer(state, frame_of(later, N_FIT))
    singles = []
    for t in range(later.size):
        prediction, state = model.infer(state, frame_of(later[t : t + 1], N_FIT + t))
        singles.append([yhat(prediction)[0], prediction.yhat_upper[0, 0]])
    assert whole.yhat_upper is not None
    assert_allclose(singles, np.transpose([whole.yhat[0], whole.yhat_upper[0]]), rtol=1e-12)
    for name, column in after.columns.items():
        assert_allclose(column, state.columns[name], rtol=1e-12)


def test_one_by_one_equals_at_once_after_a_gap_of_gathered_spans() -> None:
    model, y = model_of(4, resample_freq=Duration.parse("3m")), series(4)
    later = y[N_FIT : N_FIT + 36].copy()
    later[3:21] = np.nan
    state = model.fit_rows(frame_of(y[:N_FIT]))
    whole, _ = model.infer(state, frame_of(later, N_FIT))
    singles = []
    for t in range(later.size):
        prediction, state = model.infer(state, frame_of(later[t : t + 1], N_FIT + t))
        singles.append(prediction.yhat_upper[0, 0])
    assert_allclose(singles, whole.yhat_upper[0], rtol=1e-12)


def test_steps_that_are_left_out_are_a_gap() -> None:
    model, y = model_of(0), series(0)
    state = model.fit_rows(frame_of(y[:N_FIT]))
    later = y[N_FIT : N_FIT + 40].copy()
    later[10:30] = np.nan
    whole = yhat(model.infer(state, frame_of(later, N_FIT))[0])
    _, state = model.infer(state, frame_of(later[:10], N_FIT))
    rest = yhat(model.infer(state, frame_of(later[30:], N_FIT + 30))[0])
    assert_allclose(rest, whole[30:], rtol=1e-12)


def test_a_gap_widens_the_band_as_theory_says() -> None:
    """AR(1): the variance h steps ahead is σ² (1 - φ^2h) / (1 - φ²)."""
    model, state, _ = fitted(0)
    _, after = model.infer(state, frame_of(series(0)[N_FIT : N_FIT + 1], N_FIT))
    gap = np.full(6, np.nan)
    prediction, _ = model.infer(after, frame_of(gap, N_FIT + 1))
    own, _, _ = expand(state.columns["raw"][0], model.orders())
    phi, sigma = -own[1], state.columns["sigma"][0]
    h = np.arange(1, 7)
    expected = 2.5 * sigma * np.sqrt((1 - phi ** (2 * h)) / (1 - phi**2))
    assert prediction.yhat_upper is not None
    assert_allclose(prediction.yhat_upper[0] - yhat(prediction), expected, rtol=1e-9)


def test_forecasts_are_predictions_from_before_the_point() -> None:
    """The forecast for one step ahead of t is what a gap at t would make of the prediction at t + 1."""
    model, y = model_of(3, forecast_at=[Duration.parse("1m"), Duration.parse("5m")]), series(3)
    state = model.fit_rows(frame_of(y[:N_FIT]))
    prediction, _ = model.infer(state, frame_of(y[N_FIT : N_FIT + 1], N_FIT))
    gap, _ = model.infer(state, frame_of(np.full(6, np.nan), N_FIT))
    assert_allclose(prediction.extra["yhat_1m"][0, 0], yhat(gap)[1], rtol=1e-12)
    assert_allclose(prediction.extra["yhat_5m"][0, 0], yhat(gap)[5], rtol=1e-12)
    assert gap.yhat_lower is not None
    assert_allclose(prediction.extra["yhat_lower_5m"][0, 0], gap.yhat_lower[0, 5], rtol=1e-12)


def test_resampled_points_are_compared_with_the_span_they_are_in() -> None:
    rng = np.random.default_rng(1)
    slow = np.repeat(series(0)[:300], 5)
    model = Arima(order=[1, 0, 0], resample_freq=Duration.parse("5m"))
    y = slow + rng.normal(0, 0.01, slow.size)
    start = START_MS - START_MS % 300_000
    times = start + STEP_MS * np.arange(y.size, dtype=np.int64)
    head, tail = slice(0, 1000), slice(1000, None)
    state = model.fit_rows(Frame(np.arange(1), times[head], np.ascontiguousarray(y[None, head]), STEP_MS))
    got = yhat(model.infer(state, Frame(np.arange(1), times[tail], np.ascontiguousarray(y[None, tail]), STEP_MS))[0])
    assert (np.diff(got.reshape(-1, 5), axis=1) == 0).all()
    own, average, constant = expand(state.columns["raw"][0], model.orders())
    means = y.reshape(-1, 5).mean(axis=1)
    expected = means - one_step_errors(means.tolist(), own.tolist(), average.tolist(), constant)
    assert_allclose(got.reshape(-1, 5)[:, 0], expected[200:], rtol=1e-6)


def test_a_drift_is_forecast() -> None:
    y = 3.0 * np.arange(400) + np.random.default_rng(2).normal(0, 1, 400)
    model = Arima(order=[0, 1, 1], args={"trend": "t"}, forecast_at=[Duration.parse("50m")])
    state = model.fit_rows(frame_of(y))
    prediction, _ = model.infer(state, frame_of(np.array([1200.0]), 400))
    assert_allclose(prediction.extra["yhat_50m"][0, 0], 1350, atol=15)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"order": [1, 0]}, "order"),
        ({"order": [1, 0, 0], "args": {"trend": "t"}}, "args.trend"),
        ({"order": [1, 0, 0], "args": {"seasonal_order": [1, 0, 0]}}, "args.seasonal_order"),
        ({"order": [1, 0, 0], "args": {"seasonal_order": [1, 1, 0, 10080]}}, "args.seasonal_order"),
        ({"order": [1, 0, 0], "args": {"method": "innovations"}}, "args.method"),
        ({"order": [1, 0, 0], "resample_freq": Duration(0)}, "resample_freq"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], key: str) -> None:
    assert [problem.split(":")[0] for problem in Arima(**arguments).check()] == [key]


def test_too_few_points_leave_a_series_out() -> None:
    values = np.full((3, 50), np.nan)
    values[0] = np.random.default_rng(3).normal(0, 1, 50)
    values[1, :4] = 1, 2, 3, 4
    frame = Frame(np.arange(3), START_MS + STEP_MS * np.arange(50), values, STEP_MS)
    assert Arima(order=[2, 1, 2]).fit_rows(frame).series.tolist() == [0]


def test_rows_do_not_depend_on_each_other() -> None:
    y = np.stack([series(k)[:300] for k in (0, 3, 7)])
    model = Arima(order=[1, 0, 1])
    o = model.orders()
    together = [np.zeros((3, 3)), np.zeros(3), np.zeros(3, np.int64), np.zeros((3, 2)), np.zeros((3, 2))]
    fit_arima(y, o, *together)
    for k in range(3):
        alone = [np.zeros((1, 3)), np.zeros(1), np.zeros(1, np.int64), np.zeros((1, 2)), np.zeros((1, 2))]
        fit_arima(y[k : k + 1].copy(), o, *alone)
        for a, b in zip(alone, together, strict=True):
            assert (a[0] == b[k]).all()


def test_a_mean_is_nothing_beside_differences_and_loads() -> None:
    with_mean, without = (Arima(order=[1, 1, 0], args=args) for args in ({"trend": "c"}, {}))
    assert with_mean.check() == []
    assert with_mean.orders().has_mean == without.orders().has_mean == 0
