"""Scored rows to CSV or Parquet, in input order."""

from __future__ import annotations

import csv
import gzip
import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from engine.duck import identifier, require_duckdb
from engine.errors import InputError, StartError
from engine.frame import F64, I64
from engine.offline.points import Points
from engine.pool import Pool
from kernels.csv_out import (
    ISO,
    MICROSECONDS,
    MILLISECONDS,
    NANOSECONDS,
    NUMBER_BYTES,
    SECONDS,
    TIME_BYTES,
    csv_lines,
)

STDOUT = "-"
TIME = "timestamp"
_CLOCKS = {"iso": ISO, "s": SECONDS, "ms": MILLISECONDS, "us": MICROSECONDS, "ns": NANOSECONDS}
_FACTORS = {"ms": 1, "us": 1000, "ns": 1_000_000}
_BLOCK_ROWS = 1 << 16
_PARQUET = (".parquet", ".pq")


def check_output(path: Path) -> None:
    """Whether the ending of an output says what it is to be.

    Raises
    ------
    InputError : it does not.
    """
    if str(path) != STDOUT and not path.name.endswith((".csv", ".csv.gz", *_PARQUET)):
        raise InputError(f"{path}: expected a name that ends in .csv, .csv.gz or .parquet, or - for standard output")
    if path.name.endswith(_PARQUET):
        _duckdb(path)


def write_rows(path: Path, points: Points, columns: Mapping[str, F64], pool: Pool) -> None:
    """Write time, labels and columns of all points, replacing the file at once.

    Times are written as they were read: in the same unit, or as ISO 8601 in UTC.

    Raises
    ------
    InputError : the file cannot be written.
    """
    try:
        if str(path) == STDOUT:
            _write_csv(sys.stdout.buffer, points, columns, pool)
            sys.stdout.buffer.flush()
            return
        with _replacing(path) as part:
            if path.name.endswith(_PARQUET):
                _write_parquet(part, points, columns)
            elif path.name.endswith(".gz"):
                with gzip.open(part, "wb", compresslevel=4) as packed:
                    _write_csv(packed, points, columns, pool)  # type: ignore[arg-type]  # it is written to
            else:
                with part.open("wb") as stream:
                    _write_csv(stream, points, columns, pool)
    except BrokenPipeError:
        # Whoever read it has seen enough; nothing more may go there when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as err:
        raise InputError(f"{path}: cannot be written: {err.strerror or err}") from err


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place in the end."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _write_csv(stream: BinaryIO, points: Points, columns: Mapping[str, F64], pool: Pool) -> None:
    labels, offsets = _label_bytes(points)
    longest = int(np.diff(offsets).max(initial=0))
    row_bytes = TIME_BYTES + longest + NUMBER_BYTES * len(columns)
    clock = _CLOCKS[points.clock]

    def lines(start: int) -> bytes:
        block = slice(start, min(start + _BLOCK_ROWS, points.n_points))
        numbers = np.stack([column[block] for column in columns.values()])
        out = np.empty(row_bytes * numbers.shape[1], dtype=np.uint8)
        used = csv_lines(points.times_ms[block], clock, points.series[block], labels, offsets, numbers, out)
        return out[:used].tobytes()

    stream.write(_csv_text([TIME, *points.label_names, *columns]) + b"\n")
    starts = list(range(0, points.n_points, _BLOCK_ROWS))
    wave = 4 * pool.n_workers
    for k in range(0, len(starts), wave):
        for text in pool.map(lines, starts[k : k + wave]):
            stream.write(text)


def _label_bytes(points: Points) -> tuple[Any, I64]:
    """What stands between time and numbers in the rows of each series."""
    texts = []
    for labels in _label_sets(points):
        cells = [labels.get(name, "") for name in points.label_names]
        texts.append(b"," + _csv_text(cells) if cells else b"")
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts], dtype=np.int64)])
    return np.frombuffer(b"".join(texts) or b" ", dtype=np.uint8), offsets


def _label_sets(points: Points) -> list[dict[str, str]]:
    return [points.table.labels(k) for k in range(len(points.table))]


def _csv_text(cells: list[str]) -> bytes:
    # A single empty cell would be written as "", which is right nowhere else.
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return b"" if cells == [""] else text.getvalue().encode()


def _write_parquet(path: Path, points: Points, columns: Mapping[str, F64]) -> None:
    labels = _label_sets(points)
    sets = {name: np.array([own.get(name, "") for own in labels], dtype=object) for name in points.label_names}
    rows: dict[str, Any] = {"k": np.arange(points.n_points), "t": _times(points), "s": points.series}
    numbers = {f"c{k}": column for k, column in enumerate(columns.values())}
    time = "make_timestamp_ms(t)" if points.clock == "iso" else "t"
    chosen = [f"{time} AS {identifier(TIME)}"]
    chosen += [f"nullif(l{k}, '') AS {identifier(name)}" for k, name in enumerate(sets)]
    chosen += [f"CASE WHEN isfinite(c{k}) THEN c{k} END AS {identifier(name)}" for k, name in enumerate(columns)]
    duckdb = _duckdb(path)
    with duckdb.connect() as connection:
        connection.register("points", {**rows, **numbers})
        named = {f"l{k}": texts for k, texts in enumerate(sets.values())}
        connection.register("series", {"n": np.arange(len(labels)), **named})
        target = str(path).replace("'", "''")
        query = f"SELECT {', '.join(chosen)} FROM points JOIN series ON s = n ORDER BY k"
        try:
            connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet)")
        except duckdb.Error as err:
            raise OSError(str(err).splitlines()[0]) from err


def _times(points: Points) -> Any:
    if points.clock == "s":
        is_whole = not (points.times_ms % 1000).any()
        return points.times_ms // 1000 if is_whole else points.times_ms / 1000
    return points.times_ms * _FACTORS.get(points.clock, 1)


def _duckdb(path: Path) -> Any:
    try:
        return require_duckdb()
    except StartError as err:
        raise InputError(f"{path}: Parquet needs DuckDB, which is not installed: pip install 'engine[local]'") from err
