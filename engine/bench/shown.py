"""The result as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from engine.bench.compare import Result


def show(result: Result, console: Console) -> None:
    """Print all tables, and what is to be known of them."""
    names = ("model", "stage", "time", "CPU", "series/s", "points/s", "MB/s")
    rows = [
        (row["model"], row["stage"], _time(row["seconds"]), _time(row.get("cpu_seconds")),
         _count(row.get("series_per_second")), _count(row.get("points_per_second")), _count(row.get("mb_per_second")))
        for row in result["rows"]
    ]  # fmt: skip
    _print(console, names, rows, n_words=2)
    totals = [
        (total["model"], _count(total["peak_rss_bytes"] / 2**20), _count(total["state_bytes_per_series"]))
        for total in result["totals"]
    ]
    _print(console, ("model", "peak memory MiB", "state B/series"), totals, n_words=1)
    compared = [
        (row["model"], row["what"], _value(row["before"], row["unit"]), _value(row["now"], row["unit"]),
         f"{row['ratio']:.2f}", row["verdict"])
        for row in result.get("comparison", [])
    ]  # fmt: skip
    if compared:
        _print(console, ("model", "what", "before", "now", "ratio", "verdict"), compared, n_words=2)
    for note in result["notes"]:
        console.print(note, highlight=False, markup=False)


def _print(console: Console, names: Sequence[str], rows: Sequence[Sequence[str]], n_words: int) -> None:
    """A table whose first columns are words, the others numbers; one model's rows are kept apart from the next's."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for k, name in enumerate(names):
        table.add_column(name, justify="left" if k < n_words else "right", no_wrap=True)
    for k, row in enumerate(rows):
        table.add_row(*row, end_section=k + 1 < len(rows) and rows[k + 1][0] != row[0])
    console.print(table)
    console.print()


def _value(value: float, unit: str) -> str:
    return _time(value) if unit == "s" else _count(value)


def _time(seconds: Any) -> str:
    if seconds is None:
        return ""
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def _count(number: Any) -> str:
    if number is None:
        return ""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= factor:
            return f"{number / min(factor, {'k': 1e3}.get(unit, factor)):.3g} {unit}"
    return f"{number:.3g}" if number < 100 else f"{number:.0f}"
