"""The cells of one chunk of CSV text, column by column, as numbers, times or numbered texts."""

from __future__ import annotations

import numpy as np

from engine.errors import InputError
from engine.frame import F64, I64
from engine.offline.sheet import LATEST_UNIX, is_number, iso_ms, to_number
from kernels._jit import U8
from kernels.csv_in import number_cells, text_cells, time_cells
from kernels.number_in import EXACT_TENS
from kernels.powers import FIVE_HIGH, FIVE_LOW


class Cells:
    """Bounds of the cells of whole rows.

    Parameters
    ----------
    data, array : the chunk, as bytes and as (B,) uint8.
    starts, stops : (N, K) bounds of each cell.
    place : the file's name and the number of the chunk's first line, for errors.
    """

    def __init__(self, data: bytes, array: U8, starts: I64, stops: I64, place: tuple[str, int]) -> None:
        self._data = data
        self._array = array
        self._starts = starts
        self._stops = stops
        self._place = place

    @property
    def n_rows(self) -> int:
        return len(self._starts)

    def text(self, row: int, column: int) -> str:
        """A cell as text.

        Raises
        ------
        InputError : it is not UTF-8.
        """
        raw = self._data[self._starts[row, column] : self._stops[row, column]]
        try:
            return raw.decode().replace('""', '"')
        except UnicodeDecodeError as err:
            raise self._error(row, column, "", "expected UTF-8 text") from err

    def is_text(self, column: int) -> bool:
        """Whether the first cell that is not empty is no number."""
        full = np.flatnonzero(self._starts[:, column] < self._stops[:, column])
        return full.size > 0 and not is_number(self.text(int(full[0]), column))

    def numbers(self, column: int, name: str) -> F64:
        """(N,) numbers; NaN where a cell says that there is none.

        Raises
        ------
        InputError : a cell is no number.
        """
        starts, stops = self._bounds(column)
        out, slow = np.empty(self.n_rows), np.empty(self.n_rows, dtype=np.int64)
        n_slow = number_cells(self._array, starts, stops, EXACT_TENS, FIVE_HIGH, FIVE_LOW, out, slow)
        for row in slow[:n_slow].tolist():
            text = self.text(row, column)
            try:
                out[row] = to_number(text)
            except ValueError as err:
                raise self._error(row, column, name, f"expected a number, found {_shown(text)}") from err
        return out

    def unix(self, column: int, name: str) -> F64:
        """(N,) Unix times as written.

        Raises
        ------
        InputError : a cell is none.
        """
        times = self.numbers(column, name)
        if bad := np.flatnonzero(~(np.abs(times) < LATEST_UNIX)).tolist():
            text = f"expected a Unix time as in other rows, found {_shown(self.text(bad[0], column))}"
            raise self._error(bad[0], column, name, text)
        return times

    def times(self, column: int, name: str) -> I64:
        """(N,) ISO 8601 times as Unix milliseconds.

        Raises
        ------
        InputError : a cell is none.
        """
        starts, stops = self._bounds(column)
        out, good = np.zeros(self.n_rows, dtype=np.int64), np.empty(self.n_rows, dtype=np.bool_)
        time_cells(self._array, starts, stops, out, good)
        for row in np.flatnonzero(~good).tolist():
            text = self.text(row, column)
            try:
                out[row] = iso_ms(text)
            except ValueError as err:
                expected = "expected a Unix time or one like 2026-01-31T08:00:00Z"
                raise self._error(row, column, name, f"{expected}, found {_shown(text)}") from err
        return out

    def codes(self, column: int) -> tuple[I64, list[str]]:
        """Each row's text as its number, and the texts by number."""
        starts, stops = self._bounds(column)
        slots = np.full(1 << (2 * self.n_rows).bit_length(), -1, dtype=np.int64)
        codes, firsts = np.empty(self.n_rows, dtype=np.int64), np.empty(self.n_rows, dtype=np.int64)
        n_texts = text_cells(self._array, starts, stops, slots, codes, firsts)
        return codes, [self.text(row, column) for row in firsts[:n_texts].tolist()]

    def _bounds(self, column: int) -> tuple[I64, I64]:
        return np.ascontiguousarray(self._starts[:, column]), np.ascontiguousarray(self._stops[:, column])

    def _error(self, row: int, column: int, name: str, text: str) -> InputError:
        where, line = self._place
        line += self._data.count(b"\n", 0, int(self._starts[row, column]))
        return InputError(f"{where}: line {line}{f', column {name}' if name else ''}: {text}")


def _shown(text: str) -> str:
    """A cell for an error text."""
    return "nothing" if not text else repr(text if len(text) <= 40 else text[:37] + "...")
