"""Writes ``cases.json`` and ``series.npz``: small series with the `prophet` package's predictions of them.

Run where the package is installed (made with the versions that the JSON file names): ``python generate.py``.
"""

from __future__ import annotations

import json
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prophet import Prophet

HERE = Path(__file__).parent
HOUR_MS = 3_600_000
START_MS = 1_718_582_400_000  # Monday 2024-06-17T00:00Z
N_AHEAD = 24


def cases(rng: np.random.Generator) -> list[tuple[str, np.ndarray, dict[str, Any], list[dict[str, Any]]]]:
    """Name, hourly values, arguments and custom seasonalities."""
    t = np.arange(21 * 24) / 24
    day = np.sin(2 * np.pi * (t + 0.1)) + 0.3 * np.cos(4 * np.pi * t)
    week = np.cos(2 * np.pi * t / 7)
    bend = 0.4 * np.maximum(t - 6, 0) - 0.7 * np.maximum(t - 12, 0)

    def noise(size: float = 0.5) -> np.ndarray:
        return size * rng.normal(size=t.size)

    hump = np.exp(-(((t % 1) - 0.35) ** 2) / 0.01) + 0.8 * np.exp(-(((t % 1) - 0.7) ** 2) / 0.006)
    gaps = 20 + 2 * day + week + bend + noise()
    gaps[rng.random(t.size) < 0.1] = np.nan
    gaps[100:150] = np.nan
    late = 5 + day + noise()
    late[: 9 * 24] = np.nan
    july4 = np.array([(START_MS + int(h * 86_400_000)) // 86_400_000 == 19908 for h in t])
    sale = [{"ds": "2024-06-26", "holiday": "sale", "lower_window": 0, "upper_window": 1, "prior_scale": 4.0}]
    growth = 10 / (1 + np.exp(-(t - 8) * 0.5))
    wide = {"interval_width": 0.98}
    return [
        ("plain", 30 + 3 * day + 2 * week + bend + noise(), wide, []),
        ("large values", 1e12 * (30 + 3 * day + bend + noise()), wide, []),
        ("M-shaped", 5 * hump + rng.gamma(2.0, 0.3, t.size), wide, []),
        ("gaps", gaps, wide, []),
        ("late start", late, wide, []),
        ("constant", np.full(t.size, 7.25), wide, []),
        ("short", (10 + day + noise())[:90], wide, []),
        ("daily + weekly", 8 + 2 * day + week + noise(), {"daily_seasonality": 6, "weekly_seasonality": 2}, []),
        ("multiplicative", (20 + t) * (1 + 0.2 * day) + noise(), {"seasonality_mode": "multiplicative"}, []),
        ("holidays", 40 + 3 * day - 10 * july4 + noise(), {"country_holidays": "US", "holidays": sale}, []),
        (
            "custom",
            15 + day + np.sin(2 * np.pi * t * 4) + noise(),
            {"changepoint_prior_scale": 0.2},
            [{"name": "shift", "period": 0.25, "fourier_order": 2, "prior_scale": 0.5}],
        ),
        ("flat", 6 + day + noise(), {"growth": "flat", "scaling": "minmax"}, []),
        ("logistic", growth + 0.3 * day + noise(0.2), {"growth": "logistic", "cap": 12.0, "floor": -2.0}, []),
        ("given changepoints", 9 + bend + noise(), {"changepoints": ["2024-06-23", "2024-06-29"]}, []),
        ("no changepoints", 9 + 0.2 * t + day + noise(), {"n_changepoints": 0, "interval_width": 0.9}, []),
    ]


def predict(y: np.ndarray, args: dict[str, Any], seasonalities: list[dict[str, Any]]) -> np.ndarray:
    """(3, T + N_AHEAD) yhat and its bounds."""
    own = {k: v for k, v in args.items() if k not in ("country_holidays", "cap", "floor")}
    if "holidays" in own:
        own["holidays"] = pd.DataFrame(own["holidays"])
    model = Prophet(uncertainty_samples=4000, **own)
    for item in seasonalities:
        model.add_seasonality(**item)
    if "country_holidays" in args:
        model.add_country_holidays(args["country_holidays"])
    times = pd.to_datetime(START_MS + HOUR_MS * np.arange(y.size + N_AHEAD), unit="ms")
    bounds = {name: args[name] for name in ("cap", "floor") if name in args}
    np.random.seed(7)  # noqa: NPY002 - the package draws from the global generator
    model.fit(pd.DataFrame({"ds": times[: y.size], "y": y, **bounds}))
    found = model.predict(pd.DataFrame({"ds": times, **bounds}))
    return found[["yhat", "yhat_lower", "yhat_upper"]].to_numpy().T


def main() -> None:
    """Write both files."""
    logging.disable(logging.CRITICAL)
    arrays, index = {}, []
    for number, (name, y, args, seasonalities) in enumerate(cases(np.random.default_rng(11))):
        arrays[f"y{number}"] = y
        arrays[f"prophet{number}"] = predict(y, args, seasonalities)
        index.append({"name": name, "args": args, "seasonalities": seasonalities})
    np.savez_compressed(HERE / "series.npz", **arrays)
    head = {
        "versions": {name: version(name) for name in ("prophet", "cmdstanpy", "holidays", "numpy", "pandas")},
        "start_ms": START_MS,
        "step_ms": HOUR_MS,
        "n_ahead": N_AHEAD,
        "cases": index,
    }
    (HERE / "cases.json").write_text(json.dumps(head, indent=1) + "\n")


if __name__ == "__main__":
    main()
