"""Draw each model on a labelled metric of a real service, for its page in docs/models.

Run: ENGINE_TEST_DATA=FOLDER python benchmarks/pictures.py [--models a,b]

Every univariate class fits twelve days of one KPI (5-minute steps) and then scores the days that are drawn: metric,
expectation and band above, the score below, labelled anomalies shaded. Multivariate classes get a server with 19
metrics: their score above, each metric's part in it below. Needs matplotlib, from the `bench` group. Writes
docs/models/<class>.png.
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from engine import score
from engine.channels.joint import score_groups
from engine.config.classes import MODELS
from engine.config.single import make_model
from engine.frame import F64, Frame, Query
from engine.models.base import Model, align, fit, infer
from engine.pool import Pool

OUT = Path(__file__).resolve().parents[1] / "docs/models"
KPI, SERVER = "301c70d8", "server-02.csv.gz"
STEP_MS, DAY = 300_000, 288
FIT_DAYS, FIRST_DAY, LAST_DAY = 12, 12, 17
# What a class cannot do without, or needs to know of this metric.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "rolling_quantile": {"quantile": 0.99, "window_steps": DAY},
    "holtwinters": {"seasonality": "1d"},
    "std": {"period": DAY},
    "quantile_online": {"seasonal_interval": "1d", "min_subseason": "1h"},
    "isolation_forest_univariate": {"contamination": 0.01, "seasonal_features": ["hod"]},
    "prophet": {"args": {"interval_width": 0.99}},
    "arima": {"order": [2, 1, 2]},
    "auto": {"tuned_class_name": "zscore_online", "optimization_params": {"anomaly_percentage": 0.01, "seed": 1}},
    "temporal_envelope_multivariate": {"provide_series": ["anomaly_score", "contribution"]},
    "isolation_forest_multivariate": {"provide_series": ["anomaly_score", "contribution"]},
}
POOL = Pool(2)


def read(path: Path) -> F64:
    """(columns, rows) of a CSV file with a header; missing is NaN."""
    with gzip.open(path, "rt") as file:
        return np.genfromtxt(file, delimiter=",", skip_header=1).T


def shade(axes: Any, days: F64, labels: F64) -> None:
    """Grey where the data are labelled as anomalous."""
    axes.fill_between(days, 0, 1, where=labels > 0, transform=axes.get_xaxis_transform(), color="0.85", step="mid")


def draw_scores(axes: Any, days: F64, scores: F64) -> None:
    """Scores with the threshold; what is far above is cut off."""
    axes.plot(days, np.clip(scores, 0, 4), color="C3", lw=0.8)
    axes.axhline(1, color="0.4", lw=0.8, ls="--")
    axes.set_ylabel("anomaly_score")
    axes.set_ylim(0, 4)


def univariate(model: Model, folder: Path) -> Any:
    """The figure of a model of single series."""
    times, values, labels = read(next((folder / "aiops-kpi/train").glob(f"{KPI}*.csv.gz")))
    frame = Frame(np.arange(1), (1000 * times).astype(np.int64), np.ascontiguousarray(values[None]), STEP_MS)
    head, shown = cut(frame, slice(0, FIT_DAYS * DAY)), slice(FIRST_DAY * DAY, LAST_DAY * DAY)
    later = cut(frame, shown)
    prediction, _ = infer(model, *align(model, fit(model, [head], POOL), later), POOL)
    columns = score.apply(score.resolve(model, Query("kpi", "kpi", STEP_MS)), model.warm_up, prediction, later)
    days = np.arange(FIRST_DAY * DAY, LAST_DAY * DAY) / DAY
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(9, 4), height_ratios=[3, 1])
    if "yhat" in columns:
        band = [columns[name][0] for name in ("yhat_lower", "yhat_upper")]
        top.fill_between(days, *band, color="C0", alpha=0.2, label="yhat_lower … yhat_upper", lw=0)
        top.plot(days, columns["yhat"][0], color="C0", lw=0.8, label="yhat")
    top.plot(days, values[shown], color="k", lw=0.7, label="y")
    alarms = columns["anomaly_score"][0] > 1
    top.plot(days[alarms], values[shown][alarms], "o", color="C3", ms=3, label="score > 1")
    top.set_ylim(*(np.quantile(values[shown], [0, 1]) + np.array([-0.15, 0.15]) * np.ptp(values[shown])))
    top.legend(loc="upper right", fontsize=7, ncols=4)
    draw_scores(bottom, days, columns["anomaly_score"][0])
    for axes in (top, bottom):
        shade(axes, days, labels[shown])
    bottom.set_xlabel("days")
    return figure


def multivariate(model: Model, folder: Path) -> Any:
    """The figure of a model of several series at once."""
    table = read(folder / "asd-servers" / SERVER)
    values, labels = np.ascontiguousarray(table[3:]), table[2]
    n_head = int(np.isnan(labels).sum())
    first = int(np.flatnonzero(labels == 1)[0]) - 3 * DAY
    shown = slice(max(n_head, first), max(n_head, first) + 10 * DAY)
    times = (1000 * table[0]).astype(np.int64)
    frame = Frame(np.arange(values.shape[0]), times, values, STEP_MS, groups=np.zeros(values.shape[0], np.int64))
    state = fit(model, [cut(frame, slice(0, n_head))], POOL)
    state, later = align(model, state, cut(frame, slice(n_head, None)))
    prediction, _ = infer(model, state, later, POOL)
    policy = score.resolve(model, Query("server", "server", STEP_MS))
    columns = score_groups(model, [policy], np.zeros(values.shape[0], np.int64), prediction, later)
    days = np.arange(shown.start, shown.stop) / DAY
    inside = slice(shown.start - n_head, shown.stop - n_head)
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(9, 4), height_ratios=[1, 2])
    draw_scores(top, days, columns["anomaly_score"][0, inside])
    shade(top, days, labels[shown])
    parts = np.nan_to_num(columns["contribution"][:, inside])
    extent = (days[0], days[-1], values.shape[0] + 0.5, 0.5)
    bottom.imshow(parts, aspect="auto", extent=extent, cmap="magma_r", interpolation="nearest", vmin=0, vmax=0.6)
    bottom.set_ylabel("metric: contribution")
    bottom.set_xlabel("days")
    return figure


def cut(frame: Frame, steps: slice) -> Frame:
    """Some steps of a frame."""
    values = np.ascontiguousarray(frame.values[:, steps])
    return Frame(frame.series, frame.timestamps_ms[steps], values, frame.step_ms, frame.tz, frame.groups)


def main() -> int:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="class aliases, joined by commas; all without it")
    wanted = parser.parse_args().models
    folder = os.environ.get("ENGINE_TEST_DATA")
    if not folder:
        sys.exit("ENGINE_TEST_DATA names no folder of labelled series")
    for alias in wanted.split(",") if wanted else MODELS.entries:
        kind = MODELS.settings_type(alias)
        if not kind.is_available or alias in ("custom", "noop"):
            continue
        model, _ = make_model(alias, ARGUMENTS.get(alias, {}))
        figure = (multivariate if model.is_multivariate else univariate)(model, Path(folder))
        figure.suptitle(alias, fontsize=9)
        figure.tight_layout()
        figure.savefig(OUT / f"{alias}.png", dpi=90, metadata={"Software": None})
        plt.close(figure)
        print(f"{alias}: docs/models/{alias}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
