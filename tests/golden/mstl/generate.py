"""Writes ``series.npz``: a series with two seasons and statsmodels' MSTL decomposition of it.

Run where statsmodels is installed, from the root of the repository: ``python -m tests.golden.mstl.generate``. Made with
statsmodels 0.15.0. Arrays: y, trend (300,), seasons (2, 300) of periods 12 and 60.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from statsmodels.tsa.seasonal import MSTL

PERIODS, N_STEPS = (12, 60), 300


def main() -> int:
    """Decompose and write."""
    t, rng = np.arange(N_STEPS), np.random.RandomState(7)
    waves = 3 * np.sin(2 * np.pi * t / 12) + 5 * np.cos(2 * np.pi * t / 60) + np.cos(6 * np.pi * t / 60)
    y = 20 + 0.03 * t + waves + rng.normal(0, 0.7, N_STEPS)
    found = MSTL(y, periods=PERIODS).fit()
    path = Path(__file__).parent / "series.npz"
    np.savez_compressed(path, y=y, trend=found.trend, seasons=np.asarray(found.seasonal).T)
    return 0


if __name__ == "__main__":
    sys.exit(main())
