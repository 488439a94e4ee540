"""The multivariate envelope's recursion against its plain twin, and common factors against numpy's linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from engine.frame import F64
from engine.models.envelope_calendar import Holidays, calendar, n_bins
from engine.models.envelope_mv import TemporalEnvelopeMultivariate
from kernels._jit import kernel
from kernels.envelope_mv import envelope_mv_run
from kernels.envelope_mv_state import N_CHANNEL, N_GROUP, Channels, JointRates, Scratch
from kernels.envelope_state import Calendar
from kernels.factors import basis_renew, moments_add, row_distance
from tests.naive_envelope_mv import Envelope

STEP_MS = 3_600_000
SEASONS = ("hod_smooth", "dow_plateau")
HOLIDAYS = Holidays(days=("01-03",))
BINS = n_bins(SEASONS, HOLIDAYS)


def fresh(n_channels: int, rank: int) -> Channels:
    sketch = np.random.default_rng(1).standard_normal((max(16, 2 * rank), rank))
    grids = (np.zeros((n_channels, width)) for width in (N_CHANNEL, BINS, rank, rank, rank))
    scalars, profile, basis, moments, loadings = grids
    return Channels(scalars, profile, basis, moments, loadings, np.zeros(N_GROUP), np.zeros(BINS), sketch)


def places(n_steps: int, start: int = 0) -> Calendar:
    times = STEP_MS * np.arange(start, start + n_steps, dtype=np.int64)
    return calendar(SEASONS, HOLIDAYS, times, STEP_MS, "UTC")


def run(y: F64, rates: JointRates, state: Channels, start: int = 0) -> dict[str, F64]:
    (n_channels, n_steps), rank = y.shape, state.basis.shape[1]
    rows = np.empty((7, n_channels))
    grid, row, bins, gains = np.empty((rank, rank)), np.empty(rank), np.empty(6, np.int64), np.empty(6)
    work = Scratch(*(rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6]), *(grid, row, bins, gains))
    out = {name: np.empty((n_channels, n_steps)) for name in ("yhat", "lower", "upper")}
    out["far"], out["blame"] = np.empty(n_steps), np.empty((n_channels, n_steps))
    envelope_mv_run(y, places(n_steps, start), rates, state, work, *out.values())
    return out


def channels(n_channels: int, n_steps: int) -> F64:
    """Two common factors, a rhythm, bursts, a shift, a gap and a channel that begins to change late."""
    rng = np.random.default_rng(n_channels)
    y = rng.normal(0, 1, (n_channels, 2)) @ rng.normal(0, 1, (2, n_steps)) + rng.normal(0, 0.5, (n_channels, n_steps))
    y += 3 * np.sin(2 * np.pi * np.arange(n_steps) / 24)
    y[0, 200:203] += 40
    y[-1, 260:] += 9
    y[1, [50, 300]] = np.nan, np.inf
    if n_channels > 2:
        y[2, :180] = 4.0
    return y


SETTINGS = [
    {},
    {"score_aggregation": "max", "iqr_threshold": 1.0, "quantiles": [0.1, 0.8]},
    {"score_aggregation": "mean", "changepoint_window": 3, "alpha": 0.05},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("n_channels", "rank"), [(2, 2), (7, 0), (7, 3), (12, 4)])
def test_it_computes_what_its_page_says(n_channels: int, rank: int, settings: dict[str, object]) -> None:
    rates = TemporalEnvelopeMultivariate(**settings).joint_rates(STEP_MS)._replace(memory=400.0)
    y, state = channels(n_channels, 700), fresh(n_channels, rank)
    twin = Envelope(rates, state.sketch, n_channels, BINS)
    clock = places(700)
    for t in range(700):
        twin.step(y[:, t], clock, t)
    for name, got in run(y, rates, state).items():
        assert_allclose(got, np.array(twin.out[name]).T, rtol=1e-6, atol=1e-9, err_msg=name)


def test_two_calls_equal_one_and_learning_equals_inference_bit_for_bit() -> None:
    y, rates = channels(6, 500), TemporalEnvelopeMultivariate().joint_rates(STEP_MS)
    whole, cut, learned = fresh(6, 3), fresh(6, 3), fresh(6, 3)
    expected = run(y, rates, whole)
    parts = [run(np.ascontiguousarray(y[:, a:b]), rates, cut, a) for a, b in ((0, 1), (1, 170), (170, 500))]
    for name, array in expected.items():
        assert_array_equal(np.concatenate([part[name] for part in parts], axis=-1), array)
    rows, nothing = np.empty((7, 6)), np.empty((0, 0))
    work = Scratch(
        *(rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6]),
        *(np.empty((3, 3)), np.empty(3), np.empty(6, np.int64), np.empty(6)),
    )
    envelope_mv_run(y, places(500), rates, learned, work, nothing, nothing, nothing, np.empty(0), nothing)
    for a, b, c in zip(whole, cut, learned, strict=True):
        assert_array_equal(a, b)
        assert_array_equal(a, c)


@kernel
def measure(row: F64, loadings: F64, own: F64, gram: F64, solved: F64) -> float:
    return row_distance(row, loadings, own, gram, solved)


@kernel
def follow(rows: F64, size: F64, n_block: int, basis: F64, moments: F64, loadings: F64, own: F64) -> None:
    for t in range(rows.shape[0]):
        moments_add(rows[t], size, 1.0, basis, moments)
        if (t + 1) % n_block == 0:
            basis_renew(t + 1.0, rows[t], basis, moments, loadings, own)


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_the_distance_is_mahalanobis_under_the_factors(rank: int) -> None:
    rng = np.random.default_rng(rank)
    row, loadings, own = rng.normal(0, 2, 9), rng.normal(0, 1, (9, rank)), rng.uniform(0.1, 2, 9)
    expected = np.sqrt(row @ np.linalg.inv(loadings @ loadings.T + np.diag(own)) @ row)
    assert_allclose(measure(row, loadings, own, np.empty((rank, rank)), np.empty(rank)), expected, rtol=1e-9)


def test_factors_become_the_leading_eigenvectors_of_the_correlation() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(0, 1, (20_000, 3)) @ (rng.normal(0, 1, (3, 15)) * np.array([[3.0], [2.0], [1.2]]))
    rows += rng.normal(0, 0.5, rows.shape)
    size = rows.std(axis=0)
    basis = np.ascontiguousarray(np.linalg.qr(rng.normal(0, 1, (15, 3)))[0])
    moments, loadings, own = np.zeros((15, 3)), np.zeros((15, 3)), np.ones(15)
    follow(rows, size, 250, basis, moments, loadings, own)
    correlation = (rows / size).T @ (rows / size) / len(rows)
    values, vectors = np.linalg.eigh(correlation)
    leading = vectors[:, -3:]
    assert_allclose(np.linalg.svd(leading.T @ basis)[1], 1.0, atol=1e-3)
    common = 0.85 * leading @ np.diag(values[-3:]) @ leading.T
    # Within their span directions turn slowly, so what they share is known a little less well than the span.
    assert_allclose(loadings @ loadings.T, common, atol=0.07)
    assert_allclose((loadings**2).sum(axis=1) + own, 1.0, rtol=1e-12)


def test_a_direction_without_variance_is_found_later() -> None:
    rng = np.random.default_rng(4)
    flat = np.outer(rng.normal(0, 1, 600), [1.0, 1.0, 0.0, 0.0])
    both = flat[:300] + np.outer(rng.normal(0, 1, 300), [0.0, 0.0, 1.0, 1.0])
    basis, moments, loadings, own = np.eye(4)[:, :2].copy(), np.zeros((4, 2)), np.zeros((4, 2)), np.ones(4)
    follow(np.concatenate([flat, both, both, both, both]), np.ones(4), 100, basis, moments, loadings, own)
    assert_allclose(np.linalg.svd(basis.T @ np.array([[1, 0], [1, 0], [0, 1], [0, 1]]))[1], np.sqrt(2), atol=1e-6)
