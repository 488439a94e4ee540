"""STL and Holt-Winters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.case import OURS, PERIOD, STEP_MS, Case, Contender, frame_of, largest_difference, series
from engine.frame import F64
from engine.models.base import fit
from engine.models.holtwinters import HoltWinters
from engine.models.stl import StlArgs, smoothers
from engine.pool import Pool
from engine.settings import Duration
from kernels.holtwinters import SPREAD
from kernels.mstl import stl_rows

JUMPS = {"trend_jump": 44, "low_pass_jump": 29}
EVERY = {"trend_jump": 1, "low_pass_jump": 1}


def engine_stl(**arguments: Any) -> Callable[[F64], F64]:
    args = StlArgs(**arguments)

    def run(values: F64) -> F64:
        season, trend = np.empty(values.shape), np.empty(values.shape)
        stl_rows(values, PERIOD, args.options, smoothers(PERIOD, args, values.shape[1]), season, trend)
        return np.stack([season, trend])

    return run


def statsmodels_stl(**arguments: Any) -> Callable[[F64], F64]:
    def run(values: F64) -> F64:
        from statsmodels.tsa.seasonal import STL

        found = [STL(row, period=PERIOD, seasonal=7, **arguments).fit() for row in values]
        return np.stack([[each.seasonal for each in found], [each.trend for each in found]])

    return run


def stl_rs(**arguments: Any) -> Callable[[F64], F64]:
    def run(values: F64) -> F64:
        import stl_rs

        found = [stl_rs.STL(row, period=PERIOD, seasonal=7, **arguments).fit() for row in values]
        return np.stack([[each.seasonal for each in found], [each.trend for each in found]])

    return run


def stl_case(
    title: str, n_engine: int, n_peers: tuple[int, int], bars: tuple[float, float | None], **arguments: Any
) -> Case:
    is_robust = {"robust": True} if arguments.get("robust") else {}
    jumps = {} if arguments["trend_jump"] == 1 else JUMPS
    return Case(
        title,
        {
            OURS: Contender(engine_stl(**arguments), n_engine, 5),
            "statsmodels": Contender(statsmodels_stl(**is_robust, **jumps), n_peers[0], bar=bars[0]),
            "stl-rs": Contender(stl_rs(**is_robust, **jumps), n_peers[1], bar=bars[1]),
        },
        check=largest_difference,
    )


def engine_holtwinters(period: int, step_ms: int) -> Callable[[F64], F64]:
    model = HoltWinters(args={"trend": "add"}, seasonality=Duration(period * step_ms))

    def run(values: F64) -> F64:
        columns = fit(model, [frame_of(values, step_ms)], Pool(1)).columns
        n_points, n_free = values.shape[1], period + 5  # its spread counts the parameters; the others' does not
        spread: F64 = columns["scalars"][:, SPREAD] * np.sqrt(1 - n_free / n_points)
        return spread

    return run


def statsmodels_holtwinters(period: int) -> Callable[[F64], F64]:
    def run(values: F64) -> F64:
        from statsmodels.tsa.holtwinters import ExponentialSmoothing

        found = [ExponentialSmoothing(r, trend="add", seasonal="add", seasonal_periods=period).fit() for r in values]
        return np.sqrt([each.sse / values.shape[1] for each in found])

    return run


def statsforecast_holtwinters(period: int) -> Callable[[F64], F64]:
    def run(values: F64) -> F64:
        from statsforecast.models import HoltWinters as Theirs

        found = [Theirs(season_length=period, error_type="A").fit(row).predict_in_sample()["fitted"] for row in values]
        return np.sqrt(np.mean((values - np.array(found)) ** 2, axis=1))

    return run


def holtwinters_case(title: str, period: int, step_ms: int, n_steps: int, n_peers: tuple[int, int]) -> Case:
    return Case(
        title,
        {
            OURS: Contender(engine_holtwinters(period, step_ms), 1_000, 5),
            "statsmodels": Contender(statsmodels_holtwinters(period), n_peers[0], bar=1_000),
            "statsforecast": Contender(statsforecast_holtwinters(period), n_peers[1], bar=300),
        },
        data=lambda n: series(n, n_steps, period),
        check=lambda ours, theirs: f"errors {np.median(ours / theirs):.3f} of theirs",
    )


CASES = {
    "stl": stl_case("STL, 4,032 points, period 288", 1_000, (10, 20), (200, 50), **EVERY),
    "stl-jump": stl_case("STL with jumps of a tenth, as by default", 1_000, (20, 40), (60, None), **JUMPS),
    "stl-robust": stl_case("STL, robust", 50, (10, 10), (40, None), robust=True, **EVERY),
    "holtwinters": holtwinters_case("Holt-Winters fit, 4,032 points, period 288", PERIOD, STEP_MS, 4_032, (10, 10)),
    "holtwinters-hourly": holtwinters_case("Holt-Winters fit, 336 points, period 24", 24, 3_600_000, 336, (10, 50)),
}
