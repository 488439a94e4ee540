"""From a forest's raw scores to anomaly scores: 0 at the most usual sample, 1 at the threshold of outliers."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F64, kernel

# Raw scores of a forest differ by about this from seed to seed: nothing is anomalous by less.
_LEAST_WIDTH = 0.02


@kernel
def map_fit(raw: F64, contamination: float) -> tuple[float, float]:
    """Raw scores that become 0 and 1: the least of the fit's, and the threshold above which a point is an outlier.

    Parameters
    ----------
    raw : (n,) of the samples of the fit, n >= 1, finite.
    contamination : share of them above the threshold, as scikit-learn's percentile; 0 is its "auto", 0.5, but at
        least 0.02 above the least raw score: series of few different values have all of theirs above 0.5.
    """
    if contamination == 0.0:
        least = float(raw.min())
        return least, max(0.5, least + _LEAST_WIDTH)
    at = (1.0 - contamination) * (raw.size - 1)
    below = math.floor(at)
    parted = np.partition(raw, below)
    lower = float(parted[below])
    upper = float(parted[below + 1 :].min()) if below + 1 < raw.size else lower
    return float(raw.min()), lower + (at - below) * (upper - lower)


@kernel
def map_score(raw: float, low: float, high: float) -> float:
    """Anomaly score of a raw score, where those of `map_fit` are `low` and `high`: linear, never below 0; NaN of NaN.

    Above 1 it goes on as steep as below; where nothing lies between, so that `low` is `high`, 1 for each 0.02.
    """
    if math.isnan(raw):
        return raw
    if raw > high:
        return 1.0 + (raw - high) / max(high - low, _LEAST_WIDTH)
    return max(0.0, (raw - low) / (high - low)) if high > low else 0.0
