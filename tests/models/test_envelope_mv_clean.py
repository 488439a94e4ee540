"""A clean group seldom alarms, and about as seldom whatever its channels are like: default arguments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine import score
from engine.channels.joint import score_groups
from engine.frame import F64, Frame, Query
from engine.models.base import fit
from engine.models.envelope_mv import TemporalEnvelopeMultivariate
from engine.pool import Pool

STEP_MS, DAY = 300_000, 288
N_WARM, N_SCORED = 14 * DAY, 60 * DAY
SIZES = (2, 5, 19, 50)


def waves(rng: np.random.Generator, n_rows: int, n: int, phi: float) -> F64:
    """First-order autoregressive rows of unit variance."""
    weights = phi ** np.arange(200) * np.sqrt(1 - phi**2)
    return np.array([np.convolve(rng.normal(0, 1, n + 199), weights, mode="valid") for _ in range(n_rows)])


def mixed(rng: np.random.Generator, n_channels: int, factors: F64) -> F64:
    """Channels that share factors, each in its own way."""
    return np.asarray(rng.normal(0, 1, (n_channels, factors.shape[0])) @ factors)


def day(n: int) -> F64:
    return np.asarray(np.sin(2 * np.pi * np.arange(n) / DAY))


def counts(rng: np.random.Generator, c: int, n: int) -> F64:
    """Rare to frequent events with a common load and a rhythm."""
    rate = 10 ** rng.uniform(-2, 2, (c, 1)) * np.exp(0.3 * waves(rng, 1, n, 0.95)) * (1 + 0.5 * day(n))
    return rng.poisson(rate).astype(np.float64)


def collinear(rng: np.random.Generator, c: int, n: int) -> F64:
    """Two channels are one, another never changes."""
    values = rng.normal(0, 1, (c, n))
    values[-1] = values[0]
    values[1] = 7.0
    return values


KINDS: dict[str, Callable[[np.random.Generator, int, int], F64]] = {
    "independent": lambda rng, c, n: rng.normal(0, 1, (c, n)),
    "factors": lambda rng, c, n: mixed(rng, c, rng.normal(0, 1, (3, n))) + rng.normal(0, 0.5, (c, n)),
    "autoregressive": lambda rng, c, n: mixed(rng, c, waves(rng, 3, n, 0.9)) + 0.5 * waves(rng, c, n, 0.8),
    "seasonal": lambda rng, c, n: 5 * day(n) + mixed(rng, c, waves(rng, 3, n, 0.7)) + rng.normal(0, 0.5, (c, n)),
    "heavy tails": lambda rng, c, n: mixed(rng, c, rng.standard_t(3, (3, n))) + 0.5 * rng.standard_t(3, (c, n)),
    "mixed scales": lambda rng, c, n: (
        10.0 ** rng.integers(-6, 9, (c, 1))
        * np.exp(0.25 * mixed(rng, c, waves(rng, 3, n, 0.7)) + rng.normal(0, 0.25, (c, n)))
    ),
    "counts": counts,
    "more noise by day": lambda rng, c, n: 3 * day(n) + (1 + 0.8 * day(n)) * rng.normal(0, 1, (c, n)),
    "wandering": lambda rng, c, n: np.cumsum(rng.normal(0, 0.02, (c, n)), axis=1) + rng.normal(0, 1, (c, n)),
    "rounded": lambda rng, c, n: np.round(0.5 + 0.02 * mixed(rng, c, waves(rng, 3, n, 0.9)), 2),
    "collinear": collinear,
}  # fmt: skip


def share_above_one(
    model: TemporalEnvelopeMultivariate, values: F64, step_ms: int = STEP_MS, n_warm: int = N_WARM
) -> float:
    """Percent of the rows after the first ones that score above 1."""
    times = step_ms * np.arange(values.shape[1], dtype=np.int64)
    groups = np.zeros(values.shape[0], dtype=np.int64)
    frame = Frame(np.arange(values.shape[0]), times, np.ascontiguousarray(values), step_ms, groups=groups)
    first = Frame(frame.series, times[:1], values[:, :1].copy(), step_ms, groups=groups)
    prediction, _ = model.infer(fit(model, [first], Pool(1)), frame)
    policies = [score.resolve(model, Query("q", "up", step_ms))]
    scores = score_groups(model, policies, groups, prediction, frame)["anomaly_score"][0]
    return float(100 * (scores[n_warm:] > 1).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_between_2_and_50_in_10000_rows_of_clean_groups_are_above_one(kind: str) -> None:
    shares = {}
    for n_channels in SIZES:
        rng = np.random.default_rng([n_channels, list(KINDS).index(kind)])
        values = KINDS[kind](rng, n_channels, N_WARM + N_SCORED)
        shares[n_channels] = share_above_one(TemporalEnvelopeMultivariate(), values)
    assert min(shares.values()) >= 0.02, shares
    assert max(shares.values()) <= 0.5, shares


@pytest.mark.parametrize("aggregation", ["max", "mean"])
@pytest.mark.parametrize("kind", ["independent", "autoregressive", "heavy tails", "counts"])
def test_the_same_holds_however_channels_are_aggregated(kind: str, aggregation: str) -> None:
    values = KINDS[kind](np.random.default_rng(9), 12, N_WARM + N_SCORED)
    model = TemporalEnvelopeMultivariate(score_aggregation=aggregation)
    assert 0.02 <= share_above_one(model, values) <= 0.5


@pytest.mark.parametrize("step_ms", [15_000, 60_000, 3_600_000])
@pytest.mark.parametrize("kind", ["factors", "autoregressive", "heavy tails"])
def test_the_same_holds_at_other_steps(kind: str, step_ms: int) -> None:
    values = KINDS[kind](np.random.default_rng(8), 12, N_WARM + N_SCORED)
    assert 0.02 <= share_above_one(TemporalEnvelopeMultivariate(), values, step_ms) <= 0.5


def test_a_group_that_begins_cold_seldom_alarms_on_its_first_day() -> None:
    kinds = [kind for kind in KINDS if kind != "counts"]  # where the first event of a channel is news
    model = TemporalEnvelopeMultivariate()
    shares = [
        share_above_one(model, KINDS[kind](np.random.default_rng(seed), c, DAY), n_warm=16)
        for kind in kinds
        for c in (2, 19)
        for seed in (1, 2, 3)
    ]
    assert np.mean(shares) <= 0.5
