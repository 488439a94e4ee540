"""The report of a run as one HTML file: measures, a map of all scores, the loudest series inside their bands."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.frame import F64, I64
from engine.offline.grid import Batch
from engine.offline.measures import Labelled, Measures
from engine.offline.scoring import BAND
from engine.offline.summary import THRESHOLD_COLUMNS, facts, series_name, threshold_rows
from engine.report import BandChart, Part, ScoreMap, Span, Table, write_report

if TYPE_CHECKING:
    from engine.offline.score_command import Result

_MAP_BINS = 360
_MAP_SERIES = 120
_CHARTS = 8
_CHART_STEPS = 2000
_SPANS = 100
_COLUMNS = ("series", "scored points", "above 1", "highest score", "at")


def write_score_report(path: Path, result: Result) -> None:
    """Write the page, replacing the file at once.

    Raises
    ------
    StartError : plotly is not installed.
    """
    f = facts(result)
    lead = f"{f['scored']:,} points of {f['series']:,} series scored; {f['above_1']:,} scores above 1."
    rows = sorted(_rows(result), key=lambda row: -row.loudness)
    parts: list[Part] = [_measures_table(result.measures)] if result.measures is not None else []
    parts += [_table(rows[:_MAP_SERIES]), _map(rows[:_MAP_SERIES])]
    parts += [_chart(row) for row in rows[:_CHARTS]]
    write_report(path, f"Scores of {f['model']}", lead, parts)


class _Row:
    """One series of a run, its points in the order of time."""

    def __init__(self, result: Result, batch: Batch, own: I64) -> None:
        points = result.points
        self.name = series_name(points.table.labels(int(points.series[own[0]])))
        self.times_ms = points.times_ms[own]
        self.columns = {name: column[own] for name, column in result.columns.items()}
        self.truth = points.truth[own] if points.truth is not None else np.zeros(own.size)
        self.step_ms = batch.frame.step_ms
        self.scores = np.nan_to_num(self.columns["anomaly_score"])
        self.n_scored = int(np.isfinite(self.columns["anomaly_score"]).sum())
        self.peak = int(np.argmax(self.scores))

    @property
    def loudness(self) -> float:
        """Points above 1, and where these are equal the highest score."""
        return float((self.scores > 1).sum() + self.scores[self.peak] / 1e7)

    def spans(self, window: slice) -> list[Span]:
        """Labelled stretches inside a part of the series."""
        times = self.times_ms[window]
        one = Labelled(times, self.scores[window], self.truth[window], self.step_ms)
        starts, ends = one.segments
        return [Span(int(times[a]), int(times[b - 1]), "") for a, b in zip(starts[:_SPANS], ends, strict=False)]


def _rows(result: Result) -> list[_Row]:
    rows = []
    for batch in result.batches:
        order = np.lexsort((batch.slots, batch.rows))
        order = order[batch.counts[order]]
        bounds = np.searchsorted(batch.rows[order], np.arange(batch.frame.shape[0] + 1))
        parts = zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        rows += [_Row(result, batch, batch.points[order[start:stop]]) for start, stop in parts]
    return rows


def _clock(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _measures_table(found: Measures) -> Table:
    text = (
        f"Average precision {found.average_precision:.4f}, mean over series; {found.n_anomalous:,} of "
        f"{found.n_points:,} points are labelled, in {found.n_segments:,} segments. Shaded in the charts."
    )
    return Table("Against the labels", text, THRESHOLD_COLUMNS, threshold_rows(found))


def _table(rows: list[_Row]) -> Table:
    cells = [
        (
            row.name,
            f"{row.n_scored:,}",
            f"{int((row.scores > 1).sum()):,}",
            f"{row.scores[row.peak]:.2f}",
            _clock(int(row.times_ms[row.peak])),
        )
        for row in rows
    ]
    return Table("Series", "Those with the most scores above 1 first. Times are UTC.", _COLUMNS, cells)


def _map(rows: list[_Row]) -> ScoreMap:
    """The highest score of each series in each of a few hundred stretches of time."""
    first, last = min(int(r.times_ms[0]) for r in rows), max(int(r.times_ms[-1]) for r in rows)
    width = max((last - first) // _MAP_BINS + 1, *(row.step_ms for row in rows))
    cells: F64 = np.full((len(rows), (last - first) // width + 1), -np.inf)
    for row, out in zip(rows, cells, strict=True):
        known = np.isfinite(row.columns["anomaly_score"])
        np.maximum.at(out, (row.times_ms[known] - first) // width, row.scores[known])
    cells[np.isneginf(cells)] = np.nan
    text = "One row for each series. From 1 on, where it turns orange, a point is anomalous; empty is not scored."
    return ScoreMap("Anomaly scores", text, [r.name for r in rows], first + width * np.arange(cells.shape[1]), cells)


def _chart(row: _Row) -> BandChart:
    start = min(max(0, row.peak - _CHART_STEPS // 2), max(0, row.times_ms.size - _CHART_STEPS))
    window = slice(start, start + _CHART_STEPS)
    columns = {name: column[window] for name, column in row.columns.items()}
    times = row.times_ms[window]
    text = (
        f"{_clock(int(times[0]))} to {_clock(int(times[-1]))} UTC, around the highest score, "
        f"{row.scores[row.peak]:.2f} at {_clock(int(row.times_ms[row.peak]))}."
    )
    nothing = np.full(times.size, np.nan)
    y, yhat, lower, upper = (columns.get(name, nothing) for name in ("y", *BAND))
    return BandChart(row.name, text, times, y, yhat, lower, upper, columns["anomaly_score"], row.spans(window))
