"""CSV text to columns: in chunks, each parsed by compiled kernels; a cell that cannot be read is named."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from engine.errors import InputError
from engine.frame import F64, I64
from engine.offline.csv_cells import Cells
from engine.offline.sheet import Chooser, Layout, Sheet, is_number, unix_ms
from kernels.csv_in import find_cells

_CHUNK_BYTES = 16 << 20
_LONGEST_LINE = 256 << 20
_DELIMITERS = ",;\t|"


class CsvFile:
    """Reads one file of CSV text, whose first line names the columns.

    Parameters
    ----------
    stream : its bytes, decompressed.
    where : its name, for errors.
    """

    def __init__(self, stream: BinaryIO, where: str) -> None:
        self._stream = stream
        self._where = where
        self._line = 1  # of the first byte of the chunk
        self._names: list[str] = []
        self._delimiter = ","

    def read(self, choose: Chooser) -> Sheet:
        """The columns that `choose` gives a role.

        Raises
        ------
        InputError : the file is not CSV, or a cell is not what its column must hold.
        """
        rest = self._read_header()
        parts: _Parts | None = None
        is_last = False
        while not is_last:
            more = self._stream.read(_CHUNK_BYTES)
            is_last = not more
            data = rest + more
            if is_last and data and not data.endswith(b"\n"):
                data += b"\n"
            whole = data.rfind(b"\n") + 1
            cells, used = self._cells(data[:whole], is_last=is_last)
            if cells.n_rows and parts is None:
                kinds = {name: cells.is_text(k) for k, name in enumerate(self._names)}
                parts = _Parts(choose(self._names, kinds), self._names)
            if parts is not None:
                parts.add(cells)
            self._line += data.count(b"\n", 0, used)
            rest = data[used:]
            if len(rest) > _LONGEST_LINE:
                raise InputError(f"{self._where}: line {self._line}: longer than {_LONGEST_LINE >> 20} MiB")
        if parts is None:
            raise InputError(f"{self._where}: there is no row behind the header")
        return parts.sheet()

    def _read_header(self) -> bytes:
        """Read the names; returns what came behind them."""
        data = b""
        while b"\n" not in data.lstrip(b"\r\n"):
            more = self._stream.read(_CHUNK_BYTES)
            if not more or len(data) > _CHUNK_BYTES:
                break
            data += more
        data = data.removeprefix(b"\xef\xbb\xbf")
        n_blank = len(data) - len(data.lstrip(b"\r\n"))
        self._line += data.count(b"\n", 0, n_blank)
        head, _, rest = data[n_blank:].partition(b"\n")
        if not head.strip():
            raise InputError(f"{self._where}: the file is empty")
        try:
            text = head.decode().rstrip("\r")
        except UnicodeDecodeError as err:
            raise InputError(f"{self._where}: line {self._line}: expected CSV text in UTF-8") from err
        self._delimiter = max(_DELIMITERS, key=text.count)
        self._names = [name.strip() for name in next(csv.reader([text], delimiter=self._delimiter))]
        if all(is_number(name) for name in self._names):
            raise InputError(f"{self._where}: line {self._line}: expected names of columns, found numbers")
        self._line += 1
        return rest

    def _cells(self, data: bytes, *, is_last: bool) -> tuple[Cells, int]:
        """Cells of the chunk's whole rows, and how many bytes they take."""
        array = np.frombuffer(data, dtype=np.uint8)
        n_columns = len(self._names)
        size = data.count(b"\n") * n_columns
        starts, stops = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
        n_rows, end, n_cells = find_cells(array, ord(self._delimiter), n_columns, starts, stops)
        if end < len(data) and (n_cells >= 0 or is_last):
            line = self._line + data.count(b"\n", 0, end)
            found = "a quote that is not closed" if n_cells < 0 else f"{n_cells} cells"
            raise InputError(f"{self._where}: line {line}: expected {n_columns} cells as in the header, found {found}")
        shape = n_rows, n_columns
        cut = n_rows * n_columns
        place = self._where, self._line
        return Cells(data, array, starts[:cut].reshape(shape), stops[:cut].reshape(shape), place), end


class _Parts:
    """The columns with a role, gathered chunk by chunk."""

    def __init__(self, layout: Layout, names: Sequence[str]) -> None:
        self._layout = layout
        self._where = {name: k for k, name in enumerate(names)}
        self._is_iso: bool | None = None
        self._times_ms: list[I64] = []
        self._unix: list[F64] = []
        self._numbers: dict[str, list[F64]] = {name: [] for name in layout.numbers}
        self._codes: dict[str, list[I64]] = {name: [] for name in layout.labels}
        self._texts: dict[str, dict[str, int]] = {name: {} for name in layout.labels}

    def add(self, cells: Cells) -> None:
        """Read the cells of one chunk."""
        if cells.n_rows == 0:
            return
        layout = self._layout
        at = self._where[layout.time]
        if self._is_iso is None:
            self._is_iso = not is_number(cells.text(0, at)) or not cells.text(0, at)
        if self._is_iso:
            self._times_ms.append(cells.times(at, layout.time))
        else:
            self._unix.append(cells.unix(at, layout.time))
        for name, parts in self._numbers.items():
            parts.append(cells.numbers(self._where[name], name))
        for name, texts in self._texts.items():
            codes, found = cells.codes(self._where[name])
            numbers = np.array([texts.setdefault(text, len(texts)) for text in found], dtype=np.int64)
            self._codes[name].append(numbers[codes])

    def sheet(self) -> Sheet:
        """All chunks, one below the other."""
        if self._is_iso:
            times_ms, clock = np.concatenate(self._times_ms), "iso"
        else:
            times_ms, clock = unix_ms(np.concatenate(self._unix))
        numbers = {name: np.concatenate(parts) for name, parts in self._numbers.items()}
        texts = {name: (np.concatenate(self._codes[name]), list(found)) for name, found in self._texts.items()}
        return Sheet(self._layout, times_ms, clock, numbers, texts)
