"""The envelope's kernel against its definition step by step, and what holds for any data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from engine.frame import F64, Frame
from engine.models.envelope import TemporalEnvelope
from engine.models.envelope_args import EnvelopeHolidays
from engine.models.envelope_calendar import calendar, n_bins
from tests import naive_envelope
from tests.strategies import cuts, frame_of, matrices

TEN_MINUTES = 600_000
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no season": {"seasonalities": []},
    "spiky": {"seasonalities": ["hod_spiky", "weekpart_plateau"], "loss_reactivity": 1.5, "changepoint_window": 4},
    "lopsided": {"quantiles": [0.1, 0.6], "iqr_threshold": 0.5, "alpha": 0.05, "min_n_samples_seen": 1},
    "holidays": {
        "holidays": EnvelopeHolidays(special_events=["11-16", "2023-11-18"]),
        "seasonalities": ["hod_plateau"],
    },
}


def predicted(model: TemporalEnvelope, frame: Frame) -> tuple[F64, ...]:
    """yhat, lower, upper and how unusual, (S, T) each."""
    prediction, _ = model.infer(model.fresh(frame.series, frame), frame)
    band = prediction.yhat, prediction.yhat_lower, prediction.yhat_upper, prediction.unusual
    assert all(column is not None for column in band)
    return band


def twin(model: TemporalEnvelope, frame: Frame) -> F64:
    """The same from the definition, (4, S, T)."""
    holidays = model.holidays.parsed()
    places = calendar(model.seasonalities, holidays, frame.timestamps_ms, frame.step_ms, frame.tz)
    bins = n_bins(model.seasonalities, holidays)
    rates = model.rates(frame.step_ms)
    rows = [naive_envelope.run(row, frame.timestamps_ms, places, rates, bins) for row in frame.values.tolist()]
    return np.array(rows).reshape(*frame.shape, 4).transpose(2, 0, 1)


def lively(n_steps: int) -> F64:
    """Four days and more of rhythm, noise, a burst, a shift, a gap, a rare count, a constant that ends."""
    rng = np.random.default_rng(3)
    t = np.arange(n_steps)
    values = 50 + 10 * np.sin(2 * np.pi * t / 144) + rng.normal(0, 1, (4, n_steps))
    values[0, 300:310] += 40
    values[0, 500:] += 25
    values[1, 350:400] = np.nan
    values[1, 402] = np.inf
    values[2] = rng.poisson(0.05, n_steps)
    values[3] = np.where(t < 450, 7.0, values[3])
    return values


@pytest.mark.parametrize("arguments", VARIANTS.values(), ids=VARIANTS)
def test_every_step_equals_the_definition(arguments: dict[str, Any]) -> None:
    model = TemporalEnvelope(**arguments)
    frame = frame_of(lively(700), step_ms=TEN_MINUTES)
    for got, wanted in zip(predicted(model, frame), twin(model, frame), strict=True):
        assert_allclose(got, wanted, rtol=1e-7, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(matrices(max_steps=60))
def test_any_values_equal_the_definition(values: F64) -> None:
    model = TemporalEnvelope(min_n_samples_seen=2)
    frame = frame_of(values)
    for got, wanted in zip(predicted(model, frame), twin(model, frame), strict=True):
        # A residual that is nothing but rounding is as large as its scale in both, but not the same one.
        assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # without the JIT numpy tells of the overflow provoked here
@settings(deadline=None, max_examples=60)
@given(st.data(), matrices(st.floats(-1e300, 1e300), max_steps=60))
def test_pieces_equal_one_call_and_bounds_keep_their_order(data: st.DataObject, values: F64) -> None:
    model = TemporalEnvelope(min_n_samples_seen=2)
    frame = frame_of(values)
    whole = predicted(model, frame)
    state, parts = model.fresh(frame.series, frame), []
    for cut in data.draw(cuts(values.shape[1])):
        piece = Frame(frame.series, frame.timestamps_ms[cut], np.ascontiguousarray(values[:, cut]), frame.step_ms)
        prediction, state = model.infer(state, piece)
        parts.append((prediction.yhat, prediction.yhat_lower, prediction.yhat_upper, prediction.unusual))
    for k, column in enumerate(whole):
        assert_array_equal(np.concatenate([p[k] for p in parts], axis=1), column)
    yhat, lower, upper, unusual = whole
    there = np.isfinite(yhat)
    assert (lower[there] <= yhat[there]).all()
    assert (yhat[there] <= upper[there]).all()
    assert ((unusual >= 0) & (unusual <= 1)).all()


def test_learning_alone_leaves_the_same_state_as_predicting() -> None:
    model, frame = TemporalEnvelope(), frame_of(lively(700), step_ms=TEN_MINUTES)
    fresh = model.fresh(frame.series, frame)
    learned, (_, inferred) = model.learn(fresh, frame), model.infer(fresh, frame)
    for name, column in learned.columns.items():
        assert_array_equal(column, inferred.columns[name])


def test_later_points_change_nothing_before_them() -> None:
    model, values = TemporalEnvelope(), lively(700)
    other = values.copy()
    other[:, 600:] = 1e9
    for a, b in zip(predicted(model, frame_of(values)), predicted(model, frame_of(other)), strict=True):
        assert_array_equal(a[:, :600], b[:, :600])


def test_an_update_is_cheap_in_memory() -> None:
    """The state does not grow with time: 96 + 28 bins twice, 24 hours thrice, 96 quarters twice, 50 scalars."""
    model, frame = TemporalEnvelope(), frame_of(lively(700))
    state = model.learn(model.fresh(frame.series, frame), frame)
    assert state.size_bytes / frame.series.size == 8 * (2 * 124 + 3 * 24 + 2 * 96 + 50)
