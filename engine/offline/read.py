"""Files of the command line to points: CSV by compiled kernels, Parquet by DuckDB; gzipped files, standard input."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from engine.errors import InputError
from engine.offline.csv_file import CsvFile
from engine.offline.parquet_file import read_parquet
from engine.offline.points import Points, join
from engine.offline.sheet import Choice, Chooser, Sheet, choose
from engine.pool import Pool

STDIN = "-"
_GZIP = b"\x1f\x8b"
_BUFFER_BYTES = 1 << 20
_PARQUET = b"PAR1"
_ENDINGS = (".gz", ".csv", ".parquet", ".pq", ".txt", ".tsv")


def read_points(files: Sequence[str], choice: Choice, pool: Pool) -> tuple[Points, list[str]]:
    """The points of all files, and notes on columns that were left out.

    Raises
    ------
    InputError : a file is not there, not readable, or not what it must be.
    """
    paths = [path for name in files for path in _expand(name)]
    sheets = pool.map(lambda path: read_sheet(path, partial(choose, choice, shown(path))), paths)
    notes = [note for sheet in sheets for note in sheet.layout.notes]
    return join(list(zip(_stems(paths), sheets, strict=True))), list(dict.fromkeys(notes))


def shown(path: str) -> str:
    """A file's name for people."""
    return "standard input" if path == STDIN else path


def read_sheet(path: str, chooser: Chooser) -> Sheet:
    """One file; what it holds is told by its first bytes.

    Raises
    ------
    InputError : as of `read_points`.
    """
    where = shown(path)
    try:
        if path == STDIN:
            return _read_stream(sys.stdin.buffer, where, chooser)
        with Path(path).open("rb") as stream:
            return _read_stream(stream, where, chooser)
    except FileNotFoundError as err:
        raise InputError(f"{where}: there is no such file") from err
    except (OSError, EOFError, zlib.error) as err:
        raise InputError(f"{where}: cannot be read: {getattr(err, 'strerror', None) or err}") from err


def _read_stream(stream: BinaryIO, where: str, chooser: Chooser) -> Sheet:
    # `peek` may give less than is there, never less than a file's first bytes. Any binary stream has what it needs.
    ahead = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[type-var]
    if ahead.peek(2).startswith(_GZIP):
        ahead = io.BufferedReader(gzip.GzipFile(fileobj=ahead), _BUFFER_BYTES)
    if ahead.peek(4).startswith(_PARQUET):
        return read_parquet(ahead.read(), where, chooser)
    return CsvFile(ahead, where).read(chooser)


def _expand(name: str) -> list[str]:
    """A folder stands for the files in it."""
    path = Path(name)
    if name == STDIN or not path.is_dir():
        return [name]
    found = sorted(str(p) for p in path.iterdir() if p.is_file() and p.name.endswith(_ENDINGS))
    if not found:
        raise InputError(f"{name}: no file in this folder ends in {', '.join(_ENDINGS)}")
    return found


def _stems(paths: Sequence[str]) -> list[str]:
    """Names of files without folders and endings; with them where two would be equal."""
    stems = []
    for path in paths:
        stem = Path(path).name
        while stem.endswith(_ENDINGS):
            stem = stem.removesuffix(next(e for e in _ENDINGS if stem.endswith(e)))
        stems.append(stem)
    return stems if len(set(stems)) == len(stems) else list(paths)
