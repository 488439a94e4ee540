"""Parquet to columns, by DuckDB."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np

from engine.duck import identifier, require_duckdb
from engine.errors import InputError, StartError
from engine.frame import F64, I64
from engine.offline.sheet import Chooser, Layout, Sheet, is_number, iso_ms, to_number, unix_ms

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN", "U")
_TIMES = ("TIMESTAMP", "DATE")


def read_parquet(data: bytes, where: str, choose: Chooser) -> Sheet:
    """The columns of a Parquet file that `choose` gives a role.

    Raises
    ------
    InputError : the file is damaged, or a column is not what it must be.
    """
    try:
        duckdb = require_duckdb()
    except StartError as err:
        raise InputError(f"{where}: Parquet needs DuckDB, which is not installed: pip install 'engine[local]'") from err
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, duckdb.connect() as connection:
        file.write(data)
        file.flush()
        connection.execute("SET TimeZone = 'UTC'")
        source = f"read_parquet('{file.name}')"
        try:
            described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
            kinds = {str(row[0]): str(row[1]).upper() for row in described}
            layout = choose(list(kinds), {name: not kind.startswith(_NUMBERS) for name, kind in kinds.items()})
            wanted = ", ".join(_expression(name, kinds[name], layout) for name in _wanted(layout))
            columns = connection.execute(f"SELECT {wanted} FROM {source}").fetchnumpy()
        except duckdb.Error as err:
            raise InputError(f"{where}: {str(err).splitlines()[0].replace(file.name, where)}") from err
    return _sheet(columns, kinds, layout, where)


def _wanted(layout: Layout) -> list[str]:
    return [layout.time, *layout.numbers, *layout.labels]


def _expression(name: str, kind: str, layout: Layout) -> str:
    """SQL for a column as numpy should have it: milliseconds, doubles or text."""
    column = identifier(name)
    if name == layout.time and kind.startswith(_TIMES):
        return f"epoch_ms({column}::TIMESTAMP) AS {column}"
    if name in layout.numbers:
        return f"{column}::DOUBLE AS {column}"
    if name in layout.labels:
        return f"coalesce({column}::VARCHAR, '') AS {column}"
    return f"{column}::DOUBLE AS {column}" if kind.startswith(_NUMBERS) else f"{column}::VARCHAR AS {column}"


def _sheet(columns: dict[str, Any], kinds: dict[str, str], layout: Layout, where: str) -> Sheet:
    time = columns[layout.time]
    if np.ma.getmaskarray(time).any():
        row = int(np.flatnonzero(np.ma.getmaskarray(time))[0])
        raise InputError(f"{where}: row {row + 1}, column {layout.time}: expected a time, found nothing")
    if time.size == 0:
        raise InputError(f"{where}: there is no row")
    times_ms, clock = _times(np.ma.getdata(time), kinds[layout.time], layout.time, where)
    numbers: dict[str, F64] = {name: np.ma.filled(columns[name], np.nan) for name in layout.numbers}
    texts = {}
    for name in layout.labels:
        found: dict[str, int] = {}
        codes = [found.setdefault(str(text), len(found)) for text in np.ma.getdata(columns[name]).tolist()]
        texts[name] = np.array(codes, dtype=np.int64), list(found)
    return Sheet(layout, times_ms, clock, numbers, texts)


def _times(times: Any, kind: str, name: str, where: str) -> tuple[I64, str]:
    if kind.startswith(_TIMES):
        return times.astype(np.int64), "iso"
    try:
        if kind.startswith(_NUMBERS):
            return unix_ms(times.astype(np.float64))
        texts = times.tolist()
        if all(is_number(text) for text in texts[:1]):
            return unix_ms(np.array([to_number(text) for text in texts]))
        return np.array([iso_ms(text) for text in texts], dtype=np.int64), "iso"
    except ValueError as err:
        expected = "expected Unix times or ones like 2026-01-31T08:00:00Z"
        raise InputError(f"{where}: column {name}: {expected}: {err}") from err
