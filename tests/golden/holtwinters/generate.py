"""Writes ``series.npz``: small series of mixed kinds, with the errors that statsmodels' exponential smoothing leaves.

Run where statsmodels is installed, from the root of the repository: ``python -m tests.golden.holtwinters.generate``.

Arrays
------
y : (200, 108), nine seasons of 12; the last one is not fitted. form : (200, 3) trend and season (0 none, 1 add, 2 mul),
damped. sse : (200,) of a fit with the start values of `start_values`. later : (200,) root mean square of the one-step
errors over the last season, after a fit with statsmodels' defaults, which also searches start values.
"""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from statsmodels.tsa.holtwinters import ExponentialSmoothing

from tests.naive_holtwinters import Form, Start, one_step, start_values

M, N_STEPS, N_SERIES = 12, 108, 200
FORMS = [(1, 1, 0), (1, 1, 1), (0, 1, 0), (1, 2, 0), (1, 1, 0), (2, 2, 0), (1, 2, 1), (1, 0, 0), (0, 2, 0), (2, 1, 1)]
KINDS = (None, "add", "mul")


def series(rng: np.random.Generator, number: int) -> np.ndarray:
    """Walks, slopes, steps, seasons that add or multiply, light and heavy tails; all positive."""
    t = np.arange(N_STEPS)
    a, b, c = rng.normal(0, 1, 3)
    wave = a * np.sin(2 * np.pi * t / M) + b * np.cos(4 * np.pi * t / M) + 0.5 * c * np.sin(6 * np.pi * t / M)
    is_heavy = number % 3 == 0
    noise = (
        rng.standard_t(4, t.size) * rng.uniform(0.1, 0.7) if is_heavy else rng.normal(0, rng.uniform(0.1, 1), t.size)
    )
    level = 40 + rng.normal(0, 1, t.size).cumsum() * rng.choice([0, 0.02, 0.1, 0.3]) + rng.normal(0, 0.05) * t
    if number % 10 == 7:
        level[t.size // 2 :] += rng.normal(0, 4)
    return level * np.exp(0.1 * wave) * (1 + 0.02 * noise) if number % 4 == 3 else level + 2 * wave + noise


def fit(y: np.ndarray, form: Form) -> tuple[float, float]:
    """Sum of squares at known start values, and the later season's error of a fit with defaults."""
    head = y[:-M]
    start = start_values(head, form, M)
    known = {"initial_level": start.level}
    known |= {"initial_trend": start.trend} if form.trend else {}
    known |= {"initial_seasonal": start.season} if form.seasonal else {}
    options = {"trend": form.trend, "seasonal": form.seasonal, "damped_trend": form.damped}
    options |= {"seasonal_periods": M} if form.seasonal else {}
    sse = ExponentialSmoothing(head, **options, initialization_method="known", **known).fit().sse
    default = ExponentialSmoothing(head, **options).fit()
    p = {k: 0.0 if v is None or np.any(np.isnan(v)) else v for k, v in default.params.items() if k != "lamda"}
    if form.trend == "mul" and form.damped:
        # The package divides its damped first trend by the damping, also where damping is a power.
        p["initial_trend"] = (p["initial_trend"] * p["damping_trend"]) ** (1 / p["damping_trend"])
    own = Start(p["initial_level"], p["initial_trend"], list(p["initial_seasons"]) if form.seasonal else [])
    rates = [p[f"smoothing_{name}"] for name in ("level", "trend", "seasonal")]
    expected = one_step(y.tolist(), form, own, *rates, p["damping_trend"] if form.damped else 1.0)[0]
    errors = y - np.array(expected)
    # The recursion is the package's.
    assert abs(np.sum(errors[:-M] ** 2) / default.sse - 1) < 1e-6
    return float(sse), float(np.sqrt(np.mean(errors[-M:] ** 2)))


def main() -> None:
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(20240617)
    y = np.array([series(rng, i) for i in range(N_SERIES)]).round(3)
    form = np.array([FORMS[i % len(FORMS)] for i in range(N_SERIES)])
    found = [fit(row, Form(KINDS[f[0]], KINDS[f[1]], bool(f[2]))) for row, f in zip(y, form, strict=True)]
    sse, later = np.array(found).T
    thousandths = np.round(1000 * y).astype(np.int32)
    versions = f"statsmodels {version('statsmodels')}, numpy {version('numpy')}"
    out = {"thousandths": thousandths, "form": form.astype(np.int8), "sse": sse, "later": later, "versions": versions}
    np.savez_compressed(Path(__file__).with_name("series.npz"), **out)
    sys.stderr.write(f"{versions}: {N_SERIES} series\n")


if __name__ == "__main__":
    main()
