"""Writes ``errors.json``: what statsmodels' ARIMA leaves of the series of `tests.naive_arima`.

Run where statsmodels is installed, from the root of the repository: ``python -m tests.golden.arima.generate``.

For each series: sum of its values (to know it again), root mean square of the one-step errors over the steps after the
fit, standard deviation of the fit's errors.
"""

from __future__ import annotations

import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from statsmodels.tsa.arima.model import ARIMA

from tests.naive_arima import KINDS, N_FIT, N_SERIES, series


def main() -> int:
    """Fit and write."""
    warnings.filterwarnings("ignore")
    cases = []
    for number in range(N_SERIES):
        order, season, *_ = KINDS[number % len(KINDS)]
        y = series(number)
        fitted = ARIMA(y[:N_FIT], order=order, seasonal_order=season or (0, 0, 0, 0)).fit()
        later = y[N_FIT:] - fitted.append(y[N_FIT:]).predict(N_FIT, y.size - 1)
        rms = float(np.sqrt(np.mean(later**2)))
        cases.append({"sum": float(y.sum()), "later": rms, "sigma": float(np.sqrt(fitted.params[-1]))})
        sys.stdout.write(f"{number} ")
        sys.stdout.flush()
    made = {"statsmodels": version("statsmodels"), "numpy": version("numpy"), "cases": cases}
    (Path(__file__).parent / "errors.json").write_text(json.dumps(made, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
