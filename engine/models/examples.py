"""Arguments with which every class runs: those that it needs, or needs to use all of its kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# As a configuration writes them.
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "auto": {
        "tuned_class_name": "zscore_online",
        "optimization_params": {"anomaly_percentage": 0.01, "n_trials": 2},
    },
    "holtwinters": {"seasonality": "1d"},
    "isolation_forest_multivariate": {"provide_series": ["anomaly_score", "contribution"]},
    "std": {"period": [24, 168]},
    "rolling_quantile": {"quantile": 0.95, "window_steps": 48},
    "arima": {"order": [2, 1, 1]},
}
