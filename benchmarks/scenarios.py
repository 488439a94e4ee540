"""Seeded series with labelled incidents for `quality.py`: ten shapes that metrics have, eight ways to go wrong.

An id never changes its meaning: results of different releases are compared by it. A scenario that must differ gets a
new id.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Rng = np.random.Generator

STEP_S = 300
DAY = 86_400 // STEP_S
N_DAYS = 42
N_STEPS = N_DAYS * DAY
# The head is a third: what needs two weeks to learn has them.
FIT_FRACTION = "0.3334"
_START_S = 1_767_571_200  # a Monday, 00:00 UTC
_N_INCIDENTS = 6


def _hours() -> F64:
    return np.arange(N_STEPS) % DAY / DAY * 24


def _is_weekend() -> NDArray[np.bool_]:
    return np.arange(N_STEPS) // DAY % 7 >= 5


def _ar(rng: Rng, phi: float) -> F64:
    """Noise of unit size in which each value keeps a share of the one before."""
    noise = rng.standard_normal(N_STEPS) * np.sqrt(1 - phi * phi)
    for t in range(1, N_STEPS):
        noise[t] += phi * noise[t - 1]
    return noise


def _daily() -> F64:
    return np.sin((_hours() - 9) / 24 * 2 * np.pi)


def _office() -> F64:
    plateau = 1 / (1 + np.exp(-(_hours() - 8) * 4)) - 1 / (1 + np.exp(-(_hours() - 18) * 4))
    return np.where(_is_weekend(), 0.2, 1.0) * plateau


# Each gives values and the size of their noise, by which incidents are measured.
SHAPES: dict[str, Callable[[Rng], tuple[F64, F64]]] = {
    "flat": lambda rng: (50 + rng.standard_normal(N_STEPS), np.ones(N_STEPS)),
    "daily": lambda rng: (50 + 10 * _daily() + rng.standard_normal(N_STEPS), np.ones(N_STEPS)),
    "office": lambda rng: (20 + 60 * _office() + 2 * rng.standard_normal(N_STEPS), np.full(N_STEPS, 2.0)),
    "trend": lambda rng: (
        np.linspace(100, 160, N_STEPS) + 8 * _daily() + 1.5 * _ar(rng, 0.5),
        np.full(N_STEPS, 1.5),
    ),
    "sluggish": lambda rng: (30 + 3 * _ar(rng, 0.97), np.full(N_STEPS, 3.0)),
    "skewed": lambda rng: (10 * np.exp(0.3 * _ar(rng, 0.3) + 0.3 * _daily()), 3 * np.exp(0.3 * _daily())),
    "counts": lambda rng: (
        rng.poisson(25 + 20 * _daily()).astype(float),
        np.sqrt(25 + 20 * _daily()),
    ),
    "ratio": lambda rng: (1 - rng.beta(4, 200, N_STEPS), np.full(N_STEPS, 0.01)),
    "tails": lambda rng: (50 + 5 * _daily() + rng.standard_t(3, N_STEPS), np.full(N_STEPS, 1.7)),
    "noisy day": lambda rng: (
        50 + (1 + 2 * _office()) * rng.standard_normal(N_STEPS),
        1 + 2 * _office(),
    ),
}  # fmt: skip


def _spikes(y: F64, size: F64, at: int, rng: Rng) -> int:
    n = int(rng.integers(1, 4))
    y[at : at + n] += 8 * size[at : at + n]
    return n


def _dips(y: F64, size: F64, at: int, rng: Rng) -> int:
    n = int(rng.integers(3, 13))
    y[at : at + n] -= 7 * size[at : at + n]
    return n


def _shift(y: F64, size: F64, at: int, rng: Rng) -> int:
    n = int(rng.integers(DAY // 4, DAY))
    y[at : at + n] += 6 * size[at : at + n]
    return n


def _drift(y: F64, size: F64, at: int, rng: Rng) -> int:
    n = DAY // 2
    y[at : at + n] += np.linspace(0, 10, n) * size[at : at + n]
    return n


def _noise(y: F64, size: F64, at: int, rng: Rng) -> int:
    n = DAY // 6
    y[at : at + n] += 4 * size[at : at + n] * rng.standard_normal(n)
    return n


def _stuck(y: F64, size: F64, at: int, rng: Rng) -> int:
    n = DAY // 4
    y[at : at + n] = y[at]
    return n


def _wrong_hour(y: F64, size: F64, at: int, rng: Rng) -> int:
    n = DAY // 3
    y[at : at + n] = y[at + DAY // 2 : at + DAY // 2 + n]
    return n


def _fade(y: F64, size: F64, at: int, rng: Rng) -> int:
    n = DAY // 4
    level = np.median(y)
    y[at : at + n] = level + 0.15 * (y[at : at + n] - level) - 4 * size[at : at + n]
    return n


INCIDENTS: dict[str, Callable[[F64, F64, int, Rng], int]] = {
    "spikes": _spikes,
    "dips": _dips,
    "shift": _shift,
    "drift": _drift,
    "noise": _noise,
    "stuck": _stuck,
    "wrong-hour": _wrong_hour,
    "fade": _fade,
}
CLEAN = "clean"
IDS = (*INCIDENTS, CLEAN)


def make(scenario: str) -> dict[str, tuple[F64, NDArray[np.int8]]]:
    """Values and labels of each shape; the same at every call, whatever else is made."""
    found = {}
    for shape, generate in SHAPES.items():
        rng = np.random.default_rng([*f"{scenario}/{shape}".encode()])
        y, size = generate(rng)
        truth = np.zeros(N_STEPS, dtype=np.int8)
        if scenario != CLEAN:
            # One in each part of what is scored, never close to another.
            part = (N_STEPS - 15 * DAY) // _N_INCIDENTS
            for k in range(_N_INCIDENTS):
                at = 14 * DAY + k * part + int(rng.integers(DAY // 2, part - DAY))
                truth[at : at + INCIDENTS[scenario](y, size, at, rng)] = 1
        found[shape] = y, truth
    return found


def write(scenario: str, folder: Path) -> Path:
    """The scenario as one CSV file in long form."""
    path = folder / f"{scenario}.csv"
    with path.open("w", encoding="ascii") as file:
        file.write("timestamp,value,shape,label\n")
        for shape, (y, truth) in make(scenario).items():
            for t, (value, label) in enumerate(zip(y.tolist(), truth.tolist(), strict=True)):
                file.write(f"{_START_S + t * STEP_S},{value:.6g},{shape},{label}\n")
    return path
