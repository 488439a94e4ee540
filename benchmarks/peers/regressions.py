"""Prophet and ARIMA."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from benchmarks.peers.case import OURS, START_MS, STEP_MS, Case, Contender, frame_of
from engine.frame import F64
from engine.models.arima import Arima
from engine.models.base import fit, infer
from engine.models.prophet import Prophet
from engine.pool import Pool


def engine_prophet(values: F64) -> F64:
    model, frame, pool = Prophet(), frame_of(values), Pool(1)
    prediction = infer(model, fit(model, [frame], pool), frame, pool)[0]
    assert prediction.yhat is not None
    return prediction.yhat


def package_prophet(values: F64) -> F64:
    import pandas as pd
    from prophet import Prophet as Package

    logging.disable(logging.CRITICAL)
    ds = pd.to_datetime(START_MS + STEP_MS * np.arange(values.shape[1]), unit="ms")
    found = []
    for row in values:
        model = Package().fit(pd.DataFrame({"ds": ds, "y": row}))
        found.append(model.predict(pd.DataFrame({"ds": ds}))["yhat"].to_numpy())
    return np.array(found)


def curves(ours: F64, theirs: F64) -> str:
    apart = np.sqrt(np.mean((ours - theirs) ** 2, axis=1)) / np.std(theirs, axis=1)
    return f"curves {100 * np.median(apart):.1f} % of their deviation apart"


def engine_arima(values: F64) -> F64:
    model, frame, pool = Arima(order=[2, 1, 1]), frame_of(values), Pool(1)
    state = fit(model, [frame], pool)
    sigma: F64 = state.columns["sigma"]
    return sigma


def statsmodels_arima(values: F64) -> F64:
    from statsmodels.tsa.arima.model import ARIMA

    return np.array([np.sqrt(ARIMA(row, order=(2, 1, 1)).fit().params[-1]) for row in values])


def statsforecast_arima(method: str) -> Callable[[F64], F64]:
    def run(values: F64) -> F64:
        from statsforecast.models import ARIMA

        return np.array([np.sqrt(ARIMA(order=(2, 1, 1), method=method).fit(row).model_["sigma2"]) for row in values])

    return run


CASES = {
    "prophet": Case(
        "Prophet fit, fitted curve and interval, 4,032 points",
        {OURS: Contender(engine_prophet, 1_000, 5), "prophet": Contender(package_prophet, 10, bar=2_000)},
        check=curves,
    ),
    "arima": Case(
        "ARIMA(2,1,1) fit, 4,032 points",
        {
            OURS: Contender(engine_arima, 1_000, 5),
            "statsmodels": Contender(statsmodels_arima, 10, bar=500),
            "statsforecast, CSS": Contender(statsforecast_arima("CSS"), 20, bar=25),
            "statsforecast, CSS-ML": Contender(statsforecast_arima("CSS-ML"), 10),
        },
        check=lambda ours, theirs: f"errors {np.median(ours / theirs):.4f} of theirs",
    ),
}
