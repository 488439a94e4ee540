"""The points of all files in input order, each with its series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.errors import InputError
from engine.frame import F64, I64
from engine.offline.sheet import Sheet
from engine.series import SeriesTable

FILE_LABEL, SERIES_LABEL = "file", "series"


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """All points, in input order: files as given, rows as they stand, columns of a wide row from left to right.

    Parameters
    ----------
    times_ms, values, series : (N,); `series` are numbers in the table.
    row : (N,) the input row of each point: those of one wide row share it.
    truth : (N,) 1 anomalous, 0 not, NaN not known; None where nothing is labelled.
    clock : how times were written, and will be.
    label_names : in the order in which columns brought them.
    """

    times_ms: I64
    values: F64
    series: I64
    row: I64
    table: SeriesTable
    truth: F64 | None
    clock: str
    label_names: Sequence[str]

    @property
    def n_points(self) -> int:
        return int(self.times_ms.size)


def join(sheets: Sequence[tuple[str, Sheet]]) -> Points:
    """The points of named files.

    In long form with label columns equal labels are one series, in whichever files they are. Otherwise, and in wide
    form, each of several files has series of its own: the label ``file`` is its name without what follows the dots.

    Raises
    ------
    InputError : a file of several is unlike the others.
    """
    table = SeriesTable()
    names: dict[str, None] = {}
    first_where, first = sheets[0]
    parts = []
    n_rows = 0
    for where, sheet in sheets:
        if bool(sheet.layout.value) != bool(first.layout.value):
            raise InputError(f"{where}: {_form(sheet)}, but {first_where} is {_form(first)}: expected one form for all")
        own = {} if len(sheets) == 1 or (sheet.layout.value and sheet.layout.labels) else {FILE_LABEL: where}
        points = _long(sheet, own, table) if sheet.layout.value else _wide(sheet, own, table)
        parts.append((*points[:3], points[3] + n_rows))
        n_rows += sheet.times_ms.size
        names |= dict.fromkeys([*own, *(sheet.layout.labels if sheet.layout.value else [SERIES_LABEL])])
    times, values, series, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Points(times, values, series, rows, table, _truth([s for _, s in sheets]), _clock(sheets), list(names))


def _form(sheet: Sheet) -> str:
    return f"in long form (column {sheet.layout.value})" if sheet.layout.value else "in wide form"


def _clock(sheets: Sequence[tuple[str, Sheet]]) -> str:
    clocks = {sheet.clock for _, sheet in sheets}
    return sheets[0][1].clock if len(clocks) == 1 else "iso"


def _long(sheet: Sheet, own: dict[str, str], table: SeriesTable) -> tuple[I64, F64, I64, I64]:
    n_rows = sheet.times_ms.size
    combined = np.zeros(n_rows, dtype=np.int64)
    for codes, texts in sheet.texts.values():
        # Renumbered after each column, so that the product of many columns stays small.
        combined = np.unique(combined * len(texts) + codes, return_inverse=True)[1].reshape(-1)
    _, firsts = np.unique(combined, return_index=True)
    numbers = np.empty(firsts.size, dtype=np.int64)
    for k in np.argsort(firsts).tolist():  # numbered as they appear
        found = {name: texts[codes[firsts[k]]] for name, (codes, texts) in sheet.texts.items()}
        numbers[k] = table.intern(own | {name: text for name, text in found.items() if text})
    return sheet.times_ms, sheet.numbers[sheet.layout.value], numbers[combined], np.arange(n_rows)


def _wide(sheet: Sheet, own: dict[str, str], table: SeriesTable) -> tuple[I64, F64, I64, I64]:
    names, n_rows = sheet.layout.series, sheet.times_ms.size
    values = np.stack([sheet.numbers[name] for name in names], axis=1)
    numbers = np.array([table.intern(own | {SERIES_LABEL: name}) for name in names])
    return (
        np.repeat(sheet.times_ms, len(names)),
        values.reshape(-1),
        np.tile(numbers, n_rows),
        np.repeat(np.arange(n_rows), len(names)),
    )


def _truth(sheets: Sequence[Sheet]) -> F64 | None:
    """Truth of each point, from the files that have that column."""
    if not any(sheet.layout.truth for sheet in sheets):
        return None
    parts = []
    for sheet in sheets:
        each = max(1, len(sheet.layout.series))
        layout = sheet.layout
        truth = sheet.numbers[layout.truth] if layout.truth else np.full(sheet.times_ms.size, np.nan)
        parts.append(np.repeat(np.where(np.isnan(truth), np.nan, truth > 0), each))
    return np.concatenate(parts)
