"""z-score, MAD and rolling quantiles."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from benchmarks.peers.case import OURS, PERIOD, Case, Contender, frame_of, largest_difference, series, with_gaps
from engine.frame import F64
from engine.models.base import fit, infer
from engine.models.mad import OnlineMad
from engine.models.rolling_quantile import RollingQuantile
from engine.models.zscore import OnlineZscore
from engine.pool import Pool
from kernels.rank_window import window_quantiles
from kernels.ranks import rank_samples

# The median, and the bounds of `quantile: 0.99`.
SHARES = (0.5, 0.01, 0.99)


def engine_zscore(values: F64) -> F64:
    columns = fit(OnlineZscore(), [frame_of(values)], Pool(1)).columns
    return np.stack([columns["mean"], np.sqrt(columns["m2"] / columns["weight"])])


def bottleneck_zscore(values: F64) -> F64:
    import bottleneck

    return np.stack([bottleneck.nanmean(values, axis=1), bottleneck.nanstd(values, axis=1)])


def numpy_zscore(values: F64) -> F64:
    return np.stack([np.nanmean(values, axis=1), np.nanstd(values, axis=1)])


def engine_mad(values: F64) -> F64:
    model, frame = OnlineMad(), frame_of(values)
    state = fit(model, [frame], Pool(1))
    last = infer(model, replace(state, is_given=True), frame_of(values[:, -1:].copy()), Pool(1))[0]
    assert last.yhat is not None
    assert last.yhat_upper is not None
    return np.stack([last.yhat[:, 0], (last.yhat_upper[:, 0] - last.yhat[:, 0]) / model.threshold])


def numpy_mad(values: F64) -> F64:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        center = np.nanmedian(values, axis=1)
        return np.stack([center, np.nanmedian(np.abs(values - center[:, None]), axis=1)])


def bottleneck_mad(values: F64) -> F64:
    import bottleneck

    center = bottleneck.nanmedian(values, axis=1)
    return np.stack([center, bottleneck.nanmedian(np.abs(values - center[:, None]), axis=1)])


def engine_rolling(values: F64) -> F64:
    model, frame = RollingQuantile(quantile=0.99, window_steps=PERIOD), frame_of(values)
    prediction = infer(model, model.fresh(frame.series, frame), frame, Pool(1))[0]
    assert prediction.yhat is not None
    return prediction.yhat[:, 1:]


def pandas_rolling(values: F64) -> F64:
    import pandas as pd

    windows = pd.DataFrame(values.T).rolling(PERIOD, min_periods=1)
    found: list[F64] = [windows.quantile(share).to_numpy().T[:, :-1] for share in SHARES]
    return found[0]


def polars_rolling(values: F64) -> F64:
    import polars as pl

    def quantile(row: F64, share: float) -> F64:
        made = pl.Series(row).rolling_quantile(share, interpolation="linear", window_size=PERIOD, min_samples=1)
        return made.to_numpy()[:-1]

    return np.array([[quantile(row, share) for row in values] for share in SHARES])[0]


def engine_medians(values: F64) -> F64:
    n_series, n_steps = values.shape
    keys, order, rank = np.empty((3, n_steps), np.uint64), np.empty((2, n_steps), np.int32), np.empty(n_steps, np.int32)
    ordered, members = np.empty(n_steps + 1), np.empty(n_steps // 64 + 1, np.uint64)
    found = np.empty((n_series, n_steps + 1))
    for row, out in zip(values, found, strict=True):
        rank_samples(row, n_steps, keys, order, rank, ordered)
        window_quantiles(rank, ordered, 0, PERIOD, 0.5, members, out)
    return found[:, 1:-1]


def bottleneck_rolling(values: F64) -> F64:
    import bottleneck

    found: F64 = bottleneck.move_median(values, PERIOD, 1, axis=1)[:, :-1]
    return found


CASES = {
    "zscore": Case(
        "z-score fit, 1 % missing",
        {
            OURS: Contender(engine_zscore, 1_000, 9),
            "bottleneck": Contender(bottleneck_zscore, 1_000, 5, bar=2),
            "numpy": Contender(numpy_zscore, 1_000, 5, bar=5),
        },
        data=with_gaps,
        check=largest_difference,
    ),
    "mad": Case(
        "MAD fit, 1 % missing",
        {
            OURS: Contender(engine_mad, 1_000, 9),
            "numpy": Contender(numpy_mad, 1_000, 5, bar=2.5),
            "bottleneck": Contender(bottleneck_mad, 1_000, 5),
        },
        data=with_gaps,
        check=lambda ours, theirs: f"medians and MADs within {100 * np.max(np.abs(ours / theirs - 1)):.1f} %",
    ),
    "rolling": Case(
        "Median and two quantiles of a rolling window of 288",
        {
            OURS: Contender(engine_rolling, 200, 5),
            "pandas": Contender(pandas_rolling, 20, 3, bar=25),
            "polars": Contender(polars_rolling, 100, 3, bar=6),
        },
        data=series,
        check=largest_difference,
    ),
    "rolling-median": Case(
        "Median alone of a rolling window of 288",
        {OURS: Contender(engine_medians, 200, 5), "bottleneck": Contender(bottleneck_rolling, 200, 5, bar=1)},
        data=series,
        check=largest_difference,
    ),
}
