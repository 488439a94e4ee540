"""A file of labelled anomalies: moments with a label of their own, or spans from a start to an end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from engine.errors import InputError
from engine.frame import F64, I64
from engine.offline.points import Points
from engine.offline.read import read_sheet
from engine.offline.sheet import TIME_NAMES, TRUTH_NAMES, VALUE_NAMES, Layout, Sheet, is_number, iso_ms, unix_ms

_STARTS = ("start", "from", "begin", "start_time")
_ENDS = ("end", "to", "until", "stop", "end_time")


def read_truth(path: str, points: Points) -> F64:
    """(N,) 1 for points that the file calls anomalous, 0 for all others.

    The file has a row for each span, columns ``start`` and ``end``, both inside; or for each moment, with a column
    ``label`` of 0 and 1, without which all its moments are anomalous. Columns named as labels of the series say which
    series a row is for; without them it is for all.

    Raises
    ------
    InputError : it is not such a file, or has a column that is no label of the series.
    """
    sheet = read_sheet(path, partial(_choose, path, points))
    times_ms = sheet.times_ms
    end = _end_name(sheet.layout)
    ends_ms = _end_times(path, sheet, end) if end else times_ms
    is_anomalous = sheet.numbers[sheet.layout.truth] > 0 if sheet.layout.truth else np.ones(times_ms.size, dtype=bool)
    if (reversed_rows := np.flatnonzero(is_anomalous & (ends_ms < times_ms))).size:
        raise InputError(f"{path}: row {reversed_rows[0] + 1}: {end} is before {sheet.layout.time}")
    matched = {name: sheet.texts[name] for name in sheet.layout.labels if name != end}
    truth = np.zeros(points.n_points)
    sets, which = _label_sets(matched, times_ms.size)
    for k, wanted in enumerate(sets):
        rows = np.flatnonzero(is_anomalous & (which == k))
        _mark(truth, points, _matching(points, wanted), times_ms[rows], ends_ms[rows])
    return truth


def _choose(path: str, points: Points, names: Sequence[str], is_text: Mapping[str, bool]) -> Layout:
    lower = {name.lower(): name for name in reversed(names)}
    start = next((lower[name] for name in _STARTS if name in lower), "")
    end = next((lower[name] for name in _ENDS if name in lower), "")
    time = start if start and end else next((lower[name] for name in TIME_NAMES if name in lower), "")
    if not time:
        raise InputError(f"{path}: line 1: expected columns start and end, or timestamp and label; there are {names}")
    end = end if time == start else ""
    of_truth = (*TRUTH_NAMES, *VALUE_NAMES)
    truth = "" if end else next((lower[n] for n in of_truth if n in lower and lower[n] not in points.label_names), "")
    others = [name for name in names if name not in (time, end, truth)]
    if strange := [name for name in others if name not in points.label_names]:
        known = ", ".join(points.label_names) or "none"
        raise InputError(f"{path}: line 1: column {strange[0]} is no label of the series; these are {known}")
    return Layout(time, truth=truth, labels=[*others, *([end] if end else [])])


def _end_name(layout: Layout) -> str:
    return next((name for name in layout.labels if name.lower() in _ENDS), "")


def _end_times(path: str, sheet: Sheet, name: str) -> I64:
    codes, texts = sheet.texts[name]
    try:
        if all(is_number(text) for text in texts):
            ends, unit = unix_ms(np.array([float(text) for text in texts]))
            if unit != sheet.clock:
                raise ValueError(f"in {unit}, but {sheet.layout.time} in {sheet.clock}")
            return ends[codes]
        return np.array([iso_ms(text) for text in texts], dtype=np.int64)[codes]
    except ValueError as err:
        raise InputError(f"{path}: column {name}: expected times as in column {sheet.layout.time}: {err}") from err


def _label_sets(columns: Mapping[str, tuple[I64, list[str]]], n_rows: int) -> tuple[list[dict[str, str]], I64]:
    """The distinct label sets of the rows, and which each row has."""
    if not columns:
        return [{}], np.zeros(n_rows, dtype=np.int64)
    stacked = np.stack([codes for codes, _ in columns.values()], axis=1)
    distinct, which = np.unique(stacked, axis=0, return_inverse=True)
    sets = [
        {name: texts[code] for (name, (_, texts)), code in zip(columns.items(), row, strict=True) if texts[code]}
        for row in distinct.tolist()
    ]
    return sets, which.reshape(-1)


def _matching(points: Points, wanted: Mapping[str, str]) -> I64:
    """Positions of the points of all series that have these labels."""
    numbers = [k for k in range(len(points.table)) if wanted.items() <= points.table.labels(k).items()]
    return np.flatnonzero(np.isin(points.series, numbers))


def _mark(truth: F64, points: Points, own: I64, starts_ms: I64, ends_ms: I64) -> None:
    """Set the points at the given positions that lie in a span, both ends inside."""
    order = own[np.argsort(points.times_ms[own], kind="stable")]
    times = points.times_ms[order]
    changes = np.zeros(order.size + 1)
    np.add.at(changes, np.searchsorted(times, starts_ms), 1)
    np.add.at(changes, np.searchsorted(times, ends_ms, side="right"), -1)
    truth[order[np.cumsum(changes[:-1]) > 0]] = 1.0
