"""Writes ``cases.json`` and ``series.npz``: small series with statsmodels' decompositions of them.

Run where statsmodels is installed (made with the version that the JSON file names): ``python generate.py``.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from statsmodels.tsa.seasonal import STL

HERE = Path(__file__).parent
# Name, points, arguments of STL, of its fit.
CASES: list[tuple[str, int, dict[str, Any], dict[str, int]]] = [
    ("plain", 100, {"period": 12}, {}),
    ("whole periods", 96, {"period": 12}, {}),
    ("robust", 120, {"period": 12, "robust": True}, {}),
    (
        "lengths",
        101,
        {"period": 7, "seasonal": 9, "trend": 15, "low_pass": 9, "seasonal_deg": 0, "low_pass_deg": 0},
        {},
    ),
    ("jumps", 143, {"period": 12, "seasonal_jump": 2, "trend_jump": 5, "low_pass_jump": 3}, {}),
    ("jumps, robust", 77, {"period": 12, "seasonal_jump": 3, "trend_jump": 4, "low_pass_jump": 2, "robust": True}, {}),
    ("longer than the series", 100, {"period": 24, "seasonal": 35, "trend": 1001}, {"inner_iter": 3, "outer_iter": 2}),
    ("constants", 101, {"period": 12, "seasonal_deg": 0, "trend_deg": 0, "low_pass_deg": 0}, {"outer_iter": 3}),
    ("shortest period", 50, {"period": 2}, {}),
    ("two periods", 24, {"period": 12}, {}),
    ("one long jump", 143, {"period": 5, "trend_jump": 500, "low_pass_jump": 7}, {}),
    ("a day of minutes", 4321, {"period": 1440, "trend_jump": 220, "low_pass_jump": 145, "seasonal": 21}, {}),
]


def main() -> None:
    rng = np.random.default_rng(7)
    arrays = {}
    for k, (_, n, options, iterations) in enumerate(CASES):
        t = np.arange(n)
        y = 10 + 0.05 * t + 3 * np.sin(2 * np.pi * t / options["period"]) + 0.5 * rng.standard_t(3, n)
        found = STL(y, **options).fit(**iterations)
        keep = slice(None) if n < 1000 else slice(None, None, 37)
        arrays[f"y{k}"] = y
        arrays[f"stl{k}"] = np.array([found.seasonal[keep], found.trend[keep], found.weights[keep]])
    np.savez_compressed(HERE / "series.npz", **arrays)
    names = ("name", "n_points", "options", "iterations")
    head = {"statsmodels": version("statsmodels"), "cases": [dict(zip(names, case, strict=True)) for case in CASES]}
    (HERE / "cases.json").write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
