"""A clean series seldom alarms, and about as seldom whatever its shape: 500 made-up ones, default arguments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine import score
from engine.frame import F64, Frame, Query
from engine.models.base import infer
from engine.models.envelope import TemporalEnvelope
from engine.pool import Pool

N_WARM, N_SCORED, N_EACH = 4_320, 40_320, 50
DAY, WEEK = 1_440, 10_080


def autoregressive(rng: np.random.Generator, n: int) -> F64:
    """First order, unit variance."""
    phi = rng.uniform(0.3, 0.95)
    # A moving sum of shocks, cut where the weights are gone.
    weights = phi ** np.arange(400)
    return np.convolve(rng.normal(0, np.sqrt(1 - phi**2), n + 399), weights, mode="valid")


def heteroscedastic(rng: np.random.Generator, n: int) -> F64:
    """Noise that is up to nine times as wide by day as by night."""
    return rng.normal(0, 1, n) * (1 + 0.8 * np.sin(2 * np.pi * np.arange(n) / DAY))


def peak(rng: np.random.Generator, n: int) -> F64:
    """Noise and a narrow bell at the same time every day."""
    bell = np.exp(-0.5 * ((np.arange(n) % DAY - 700) / rng.uniform(5, 40)) ** 2)
    return rng.normal(0, 1, n) + rng.uniform(3, 20) * bell


NOISE: dict[str, Callable[[np.random.Generator, int], F64]] = {
    "normal": lambda rng, n: rng.normal(0, 1, n),
    "laplace": lambda rng, n: rng.laplace(0, 0.7, n),
    "uniform": lambda rng, n: rng.uniform(-1.7, 1.7, n),
    "autoregressive": autoregressive,
    "lognormal": lambda rng, n: rng.lognormal(0, 0.6, n),
    "heteroscedastic": heteroscedastic,
    "daily peak": peak,
    "t with 3 degrees of freedom": lambda rng, n: rng.standard_t(3, n) / 1.7,
}


def rhythm(rng: np.random.Generator, n: int) -> F64:
    """None to three seasons with a harmonic each, and sometimes a trend."""
    t = np.arange(n)
    total = rng.integers(0, 2) * rng.uniform(-9, 9) * t / n
    for period in rng.permutation([DAY, WEEK, 60])[: rng.integers(0, 4)]:
        phase, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 3)
        total += size * (np.sin(2 * np.pi * t / period + phase) + 0.3 * np.sin(4 * np.pi * t / period + 2 * phase))
    return total


def clean(kind: str, rng: np.random.Generator, n: int) -> F64:
    """One series of a kind."""
    if kind == "counts":
        shape = rhythm(rng, n)
        return rng.poisson(np.exp(rng.uniform(-1, 4) + shape / (1 + np.abs(shape).max()))).astype(np.float64)
    if kind == "ratio":
        return 1 / (1 + np.exp(-rng.uniform(-2, 3) - 0.5 * rhythm(rng, n) - rng.normal(0, 0.3, n)))
    return 10 ** rng.uniform(-2, 5) * (10 + rhythm(rng, n) + NOISE[kind](rng, n))


KINDS = [*NOISE, "counts", "ratio"]


@pytest.fixture(scope="module")
def shares() -> dict[str, F64]:
    """By kind the share of scored points above 1, of each series."""
    model, query, n = TemporalEnvelope(), Query("clean", "clean", 60_000), N_WARM + N_SCORED
    found = {}
    for number, kind in enumerate(KINDS):
        rng = np.random.default_rng(100 + number)
        values = np.array([clean(kind, rng, n) for _ in range(N_EACH)])
        frame = Frame(np.arange(N_EACH), 60_000 * np.arange(n), values, 60_000)
        prediction, _ = infer(model, model.fresh(frame.series, frame), frame, Pool(2))
        columns = score.apply(score.resolve(model, query), model.warm_up, prediction, frame)
        found[kind] = (columns["anomaly_score"][:, N_WARM:] > 1).mean(axis=1)
    return found


def test_at_least_95_percent_of_clean_series_alarm_between_2_and_50_times_in_10000_points(
    shares: dict[str, F64],
) -> None:
    limits = {kind: 0.015 if kind.startswith("t with") else 0.005 for kind in KINDS}
    inside = np.concatenate([(share >= 0.0002) & (share <= limits[kind]) for kind, share in shares.items()])
    assert inside.size == 500
    assert inside.mean() >= 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_series_stands_out(shares: dict[str, F64], kind: str) -> None:
    assert 0.0002 <= np.median(shares[kind]) <= 0.0025
