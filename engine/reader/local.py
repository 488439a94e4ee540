"""Reader `local`: SQL over a DuckDB file, reduced to the query's grid inside DuckDB."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np

from engine.duck import DuckFile, StoreError, identifier, timestamp_sql
from engine.errors import ReadError
from engine.frame import Query, Samples, Window
from engine.metrics import Metrics
from engine.reader.settings import LocalReaderSettings
from engine.series import SeriesTable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

T = TypeVar("T")

# DuckDB takes about 200 bytes a row while it groups them.
MAX_ROWS = 1_000_000
# Windows of ticks are not worth a count of their rows first.
_FEW_STEPS = 60
# Numbers from here on are milliseconds: as seconds they are the year 5138, as milliseconds 1973.
_FIRST_MS = 100_000_000_000
_NUMBERS = ("INT", "HUGEINT", "DOUBLE", "FLOAT", "DECIMAL", "BIGNUM")
_EXPECTED = "expected SQL that returns `timestamp`, `value` and one text column for each label"


class _Shape(NamedTuple):
    """What an expression returns: the columns by their role."""

    time_column: str
    time_kind: Literal["timestamp", "timestamptz", "number"]
    value_column: str
    label_columns: tuple[str, ...]


class LocalReader:
    """Reads queries from a DuckDB file, which is open only while a piece is read.

    The SQL is the operator's own and runs read-only. Of rows with the same labels and time, the largest value
    counts. A NULL or empty label is absent; rows whose value is NULL, NaN or infinite are left out.
    """

    def __init__(self, settings: LocalReaderSettings, metrics: Metrics, preset: str) -> None:
        self._file = DuckFile(settings.path)
        self._url = settings.path
        self._metrics = metrics
        self._preset = preset
        self._guard = threading.Lock()
        self._tables: dict[str, SeriesTable] = {}

    def table(self, query: Query) -> SeriesTable:
        """The numbers of the query's series; the same table for the reader's whole life."""
        with self._guard:
            return self._tables.setdefault(query.alias, SeriesTable())

    def read(self, query: Query, window: Window, scheduler_alias: str) -> Iterator[tuple[Window, Samples]]:
        """Consecutive pieces that cover the window: value at t is the last sample in (t - step, t].

        Raises
        ------
        ReadError : the file cannot be opened, the SQL fails, or it does not return what is expected.
        """
        if window.n_steps == 0:
            return
        labels = (self._url, query.alias, scheduler_alias, self._preset)
        n_steps = window.n_steps
        if n_steps > _FEW_STEPS:
            n_rows = self._counted(query, labels, partial(_count_rows, query=query, window=window))
            n_steps = max(1, int(n_steps * min(1.0, MAX_ROWS / max(1, n_rows))))
        for piece in window.split(min(n_steps, query.max_points_per_query or n_steps)):
            columns = self._counted(query, labels, partial(_fetch, query=query, window=piece))
            start = time.perf_counter()
            samples = _to_samples(columns, self.table(query))
            self._metrics.parse_seconds.labels(*labels, "json").observe(time.perf_counter() - start)
            self._metrics.read_series.labels(*labels).inc(samples.series.size)
            self._metrics.read_points.labels(*labels).inc(samples.n_points)
            self._metrics.read_bytes.labels(*labels).inc(samples.timestamps_ms.nbytes + samples.values.nbytes)
            yield piece, samples

    def placed(self, query: Query, scheduler_alias: str, seconds: float) -> None:
        labels = (self._url, query.alias, scheduler_alias, self._preset)
        self._metrics.parse_seconds.labels(*labels, "df").observe(seconds)

    def close(self) -> None:
        """End reads that run; they fail."""
        self._file.interrupt()

    def _counted(self, query: Query, labels: tuple[str, ...], operation: Callable[[Connection], T]) -> T:
        """The result of one operation on the open file, timed and counted."""
        code, start = "200", time.perf_counter()
        try:
            with self._file.open(read_only=True) as connection:
                return operation(connection)
        except (StoreError, ReadError) as err:
            code = err.code
            raise ReadError(f"query {query.alias!r}: {err}", code) from err
        finally:
            self._metrics.read_seconds.labels(*labels).observe(time.perf_counter() - start)
            self._metrics.reads.labels(*labels, code).inc()


def _parameters(connection: Connection, query: Query, window: Window) -> dict[str, Any]:
    """Values for `$start` and `$end` where the SQL names them: it may need rows before the window."""
    statements = connection.extract_statements(query.expr)
    kinds = [str(s.type).rpartition(".")[2] for s in statements]
    if kinds != ["SELECT"]:
        raise ReadError(f"{_EXPECTED}, found {', '.join(kinds) or 'nothing'}", "422")
    bounds = {
        "start": np.datetime64(window.start_ms - window.step_ms, "ms").item(),
        "end": np.datetime64(window.end_ms, "ms").item(),
    }
    unknown = sorted(set(statements[0].named_parameters) - set(bounds))
    if unknown:
        raise ReadError(f"unknown parameter ${unknown[0]}; there are $start and $end", "422")
    return {name: bounds[name] for name in statements[0].named_parameters}


def _source(query: Query) -> str:
    # On lines of its own: the text may end in a comment.
    return f"(\n{query.expr.strip().rstrip(';')}\n) AS source"


def _shape(connection: Connection, query: Query, parameters: dict[str, Any]) -> _Shape:
    """The roles of the expression's columns.

    Raises
    ------
    ReadError : `timestamp` or `value` is missing or has a type that does not fit.
    """
    found = connection.execute(f"DESCRIBE SELECT * FROM {_source(query)}", parameters).fetchall()
    types = {name: str(kind) for name, kind, *_ in found}
    by_role = {name.lower(): name for name in types}
    missing = [role for role in ("timestamp", "value") if role not in by_role]
    if missing:
        raise ReadError(f"no column `{missing[0]}` among {', '.join(types)}; {_EXPECTED}", "422")
    time_column, value_column = by_role["timestamp"], by_role["value"]
    time_type, value_type = types[time_column], types[value_column]
    time_kind: Literal["timestamp", "timestamptz", "number"]
    if time_type == "TIMESTAMP WITH TIME ZONE":
        time_kind = "timestamptz"
    elif time_type == "DATE" or time_type.startswith("TIMESTAMP"):
        time_kind = "timestamp"
    elif any(word in time_type for word in _NUMBERS):
        time_kind = "number"
    else:
        wanted = "TIMESTAMP, TIMESTAMPTZ, or a number of seconds or milliseconds since 1970"
        raise ReadError(f"column `{time_column}` is {time_type}, expected {wanted}", "422")
    if value_type != "BOOLEAN" and not any(word in value_type for word in _NUMBERS):
        raise ReadError(f"column `{value_column}` is {value_type}, expected a number", "422")
    labels = tuple(name for name in types if name not in (time_column, value_column))
    return _Shape(time_column, time_kind, value_column, labels)


def _bounded(shape: _Shape, window: Window) -> str:
    """SQL condition for times in (start - step, end], on the column itself so that DuckDB can skip row groups."""
    column = identifier(shape.time_column)
    low_ms, high_ms = window.start_ms - window.step_ms, window.end_ms
    if shape.time_kind == "number":
        low, high = f"{low_ms / 1000!r}::DOUBLE", f"{high_ms / 1000!r}::DOUBLE"
        seconds = f"{column} < {_FIRST_MS} AND {column} > {low} AND {column} <= {high}"
        return f"(({seconds}) OR ({column} >= {_FIRST_MS} AND {column} > {low_ms} AND {column} <= {high_ms}))"
    low, high = timestamp_sql(low_ms), timestamp_sql(high_ms)
    if shape.time_kind == "timestamptz":
        low, high = f"{low}::TIMESTAMPTZ", f"{high}::TIMESTAMPTZ"
    return f"{column} > {low} AND {column} <= {high}"


def _microseconds(shape: _Shape) -> str:
    column = identifier(shape.time_column)
    if shape.time_kind != "number":
        return f"epoch_us({column})"
    return f"CAST(round({column}::DOUBLE * CASE WHEN {column} < {_FIRST_MS} THEN 1e6 ELSE 1e3 END) AS BIGINT)"


def _count_rows(connection: Connection, query: Query, window: Window) -> int:
    """Rows of the window before they are reduced."""
    parameters = _parameters(connection, query, window)
    shape = _shape(connection, query, parameters)
    sql = f"SELECT count(*) FROM {_source(query)} WHERE {_bounded(shape, window)}"
    return int(connection.execute(sql, parameters).fetchall()[0][0])


def _fetch(connection: Connection, query: Query, window: Window) -> dict[str, Any]:
    """Columns `t` and `v` (an array for each label set) and, by name, the labels."""
    parameters = _parameters(connection, query, window)
    shape = _shape(connection, query, parameters)
    names = [f"l{k}" for k in range(len(shape.label_columns))]
    # An empty label is no label, as in Prometheus.
    texts = [f"NULLIF(CAST({identifier(column)} AS VARCHAR), '')" for column in shape.label_columns]
    labels = "".join(f", {text} AS {name}" for text, name in zip(texts, names, strict=True))
    label_names = "".join(f", {name}" for name in names)
    step_us = 1000 * window.step_ms
    sql = f"""
        WITH placed AS (
          SELECT {_microseconds(shape)} AS us, CAST({identifier(shape.value_column)} AS DOUBLE) AS v{labels}
          FROM {_source(query)} WHERE {_bounded(shape, window)}
        ), grid AS (
          SELECT (us + {step_us - 1}) // {step_us} * {window.step_ms} AS t, last(v ORDER BY us, v) AS v{label_names}
          FROM placed WHERE isfinite(v) GROUP BY ALL
        )
        SELECT list(t ORDER BY t) AS t, list(v ORDER BY t) AS v{label_names}
        FROM grid GROUP BY ALL {"ORDER BY " + ", ".join(names) if names else ""}
    """
    columns = connection.execute(sql, parameters).fetchnumpy()
    renamed = zip(shape.label_columns, names, strict=True)
    return {"t": columns["t"], "v": columns["v"], "labels": {label: columns[name] for label, name in renamed}}


def _to_samples(columns: dict[str, Any], table: SeriesTable) -> Samples:
    """Samples with one entry for each label set; Python works per label set, never per point."""
    times = [t for t in columns["t"] if t is not None and t is not np.ma.masked]
    values = list(columns["v"])[: len(times)]
    label_names = list(columns["labels"])
    rows = zip(*(column.tolist() for column in columns["labels"].values()), strict=True)
    sets = rows if label_names else [()] * len(times)
    series = [table.intern({n: v for n, v in zip(label_names, row, strict=True) if v is not None}) for row in sets]
    indptr = np.zeros(len(times) + 1, dtype=np.int64)
    np.cumsum([t.size for t in times], out=indptr[1:])
    return Samples(
        np.array(series, dtype=np.int64),
        indptr,
        np.concatenate([*times, np.empty(0, np.int64)]).astype(np.int64, copy=False),
        np.concatenate([*values, np.empty(0)]).astype(np.float64, copy=False),
    )
