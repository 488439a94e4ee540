"""What a comparison is: the same data for all contenders, one of which is ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from engine.frame import F64, Frame

STEP_MS = 300_000
PERIOD = 288
WEEKS_2 = 4_032
START_MS = 1_718_582_400_000
OURS = "engine"


@dataclass(frozen=True)
class Contender:
    """A way to do the work.

    Parameters
    ----------
    run : of values (S, T), or of what the case's `data` made; its result is compared where the case has a `check`.
    n_series : that are timed; the time is scaled to the case's number.
    rounds : how often; the median counts.
    bar : how many times faster ours is to be.
    """

    run: Callable[[F64], object]
    n_series: int
    rounds: int = 1
    bar: float | None = None


@dataclass(frozen=True)
class Case:
    """A comparison.

    Parameters
    ----------
    n_series : that times are given for.
    data : values of so many series.
    check : of our result and another's on the same few series, what is the same about them.
    """

    title: str
    contenders: Mapping[str, Contender]
    n_series: int = 1_000
    data: Callable[[int], F64] = field(default=lambda n: series(n))
    check: Callable[[F64, F64], str] | None = None
    n_checked: int = 3


def series(n_series: int, n_steps: int = WEEKS_2, period: int = PERIOD) -> F64:
    """Above zero: a level, a trend, two daily waves, lower weekends, noise that remembers, some spikes."""
    rng = np.random.default_rng(20)
    t = np.arange(n_steps)
    day = 2 * np.pi * t / period
    level = rng.uniform(50, 500, (n_series, 1))
    wave = level * rng.uniform(0.05, 0.3, (n_series, 1))
    phases = rng.uniform(0, 2 * np.pi, (2, n_series, 1))
    noise = rng.standard_normal((n_series, n_steps)) * level * 0.02
    for k in range(1, n_steps):
        noise[:, k] += 0.6 * noise[:, k - 1]
    values = level * (1 + rng.normal(0, 0.1, (n_series, 1)) * t / n_steps) + noise
    values += wave * np.sin(day + phases[0]) + 0.3 * wave * np.sin(2 * day + phases[1])
    values -= 0.3 * wave * (t // period % 7 >= 5)
    for _ in range(max(1, n_steps // 1_000)):
        values[np.arange(n_series), rng.integers(0, n_steps, n_series)] += 0.5 * level[:, 0]
    return values


def with_gaps(n_series: int) -> F64:
    """The same with 1 % missing."""
    values = series(n_series)
    values[np.random.default_rng(21).random(values.shape) < 0.01] = np.nan
    return values


def frame_of(values: F64, step_ms: int = STEP_MS) -> Frame:
    """The values as a model takes them."""
    times = START_MS + step_ms * np.arange(values.shape[1], dtype=np.int64)
    return Frame(np.arange(values.shape[0]), times, values, step_ms)


def largest_difference(ours: F64, theirs: F64) -> str:
    """How far apart results are, in units of the values' size."""
    scale = np.nanmax(np.abs(theirs))
    return f"equal to {np.nanmax(np.abs(ours - theirs)) / scale:.0e}"
