"""The outcome of a run in words: for a terminal, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from engine.offline.measures import AtThreshold, Measures

if TYPE_CHECKING:
    from engine.offline.score_command import Result

THRESHOLD_COLUMNS = ("threshold", "F1", "precision", "recall", "7-delay F1", "found", "delay", "false episodes/week")
_SHOWN_SERIES = 10


def facts(result: Result) -> dict[str, Any]:
    """What was scored and what came out, as plain values; NaN is None."""
    scores = result.columns["anomaly_score"]
    found: dict[str, Any] = {
        "model": result.model.__struct_config__.tag,
        "rows": result.points.n_points,
        "series": sum(batch.frame.shape[0] for batch in result.batches),
        "scored": int(np.isfinite(scores).sum()),
        "above_1": int((scores > 1).sum()),
        "seconds": round(result.seconds, 3),
    }
    if result.measures is not None:
        found["measures"] = _plain(asdict(result.measures))
    return found


def as_json(result: Result) -> str:
    """The facts as one JSON object."""
    return msgspec.json.format(msgspec.json.encode(facts(result)), indent=2).decode()


def as_text(result: Result) -> str:
    """The facts in a few lines."""
    f = facts(result)
    share = 100 * f["above_1"] / max(1, f["scored"])
    lines = [
        f"{f['model']}: {f['series']:,} series, {f['rows']:,} points, {f['scored']:,} of them scored, in "
        f"{f['seconds']:.1f} s; {f['above_1']:,} scores above 1 ({share:.3g} %)"
    ]
    if result.measures is None:
        lines += _loudest(result)
    else:
        lines += ["", *measures_text(result.measures)]
    return "\n".join(lines)


def measures_text(found: Measures) -> list[str]:
    """Measures as lines of a table."""
    rows: list[Sequence[str]] = [THRESHOLD_COLUMNS, *threshold_rows(found)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(THRESHOLD_COLUMNS))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [
        f"labelled: {found.n_anomalous:,} of {found.n_points:,} points, {found.n_segments:,} segments",
        f"average precision, mean over series: {found.average_precision:.4f}",
        f"best 7-delay F1 of each series, mean: {found.series_delay_f1:.4f}",
        "",
        *table,
    ]


def threshold_rows(found: Measures) -> list[Sequence[str]]:
    """Threshold 1 and the best ones, a row of `THRESHOLD_COLUMNS` each."""
    named = (("1", found.at_one), ("best F1", found.best_f1), ("best 7-delay F1", found.best_delay_f1))
    return [
        (name if name == "1" else f"{at.threshold:.4g} ({name})", *_cells(at, found.n_segments)) for name, at in named
    ]


def _cells(at: AtThreshold, n_segments: int) -> list[str]:
    """What one threshold gives, as text."""
    delay = "-" if math.isnan(at.delay_points) else f"{at.delay_points:.1f} points"
    return [
        *(f"{number:.4f}" for number in (at.f1, at.precision, at.recall, at.delay_f1)),
        f"{at.n_found:,}/{n_segments:,}",
        delay,
        f"{at.false_episodes:.2f}",
    ]


def _loudest(result: Result) -> list[str]:
    """The series with the most points above 1."""
    points, above = result.points, result.columns["anomaly_score"] > 1
    counts = np.bincount(points.series[above], minlength=len(points.table))
    order = np.argsort(-counts, kind="stable")[:_SHOWN_SERIES]
    names = [(series_name(points.table.labels(int(k))), int(counts[k])) for k in order if counts[k]]
    return ["", "most scores above 1:", *(f"  {count:>8,}  {name}" for name, count in names)] if names else []


def series_name(labels: dict[str, str]) -> str:
    """A label set for people."""
    return ", ".join(f"{name}={text}" for name, text in labels.items()) or "(one series)"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
