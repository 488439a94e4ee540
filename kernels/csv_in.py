"""Cells of CSV text: where they are, and the numbers, times and distinct texts in a column of them.

A cell is data[starts[k]:stops[k]], without the quotes and blanks around it. All texts end with a line feed, so that
no scan leaves them.
"""

from __future__ import annotations

import numpy as np

from kernels._jit import B1, F64, I64, U8, U64, lean_inline, lean_kernel
from kernels.json_in import hash_text, same_text
from kernels.number_in import read_digits, read_number

_U = np.uint64
_LINE_FEED, _RETURN, _QUOTE, _BLANK = 10, 13, 34, 32
_DAY_MS = 86_400_000


@lean_inline
def _find_quote(data: U8, at: int) -> int:
    """The closing quote of a cell whose text begins at `at`, behind doubled ones; -1 when there is none."""
    while at < data.size:
        if data[at] == _QUOTE:
            if at + 1 == data.size or data[at + 1] != _QUOTE:
                return at
            at += 1
        at += 1
    return -1


@lean_kernel
def find_cells(data: U8, delimiter: int, n_columns: int, starts: I64, stops: I64) -> tuple[int, int, int]:
    """Find the cells of whole rows, in the order of the text.

    Parameters
    ----------
    data : (B,) bytes, the last one a line feed. Blank lines are no rows.
    delimiter : byte between two cells.
    n_columns : cells of a row.
    starts, stops : (rows x n_columns,) out, bounds of each cell.

    Returns
    -------
    (n_rows, end, n_cells): `end` is behind the last row found. It is before the end of `data` where the outputs are
    full, or where a row follows that is none: that row has `n_cells` cells, or -1 when a quote is not closed.

    Notes
    -----
    O(B), allocates nothing. Raises nothing.
    """
    n_rows, at = 0, 0
    while at < data.size:
        end = at
        if data[at] == _LINE_FEED or (data[at] == _RETURN and data[at + 1] == _LINE_FEED):
            at += 1 if data[at] == _LINE_FEED else 2
            continue
        first = n_rows * n_columns
        if first + n_columns > starts.size:
            return n_rows, end, 0
        k = 0
        while True:
            while data[at] == _BLANK:
                at += 1
            start = at
            if data[at] == _QUOTE:
                start = at + 1
                stop = _find_quote(data, start)
                if stop < 0:
                    return n_rows, end, -1
                at = stop + 1
                while data[at] != delimiter and data[at] != _LINE_FEED:
                    at += 1
            else:
                while data[at] != delimiter and data[at] != _LINE_FEED:
                    at += 1
                stop = at
                while stop > start and (data[stop - 1] == _BLANK or data[stop - 1] == _RETURN):
                    stop -= 1
            if k < n_columns:
                starts[first + k], stops[first + k] = start, stop
            k += 1
            at += 1
            if data[at - 1] == _LINE_FEED:
                break
        if k != n_columns:
            return n_rows, end, k
        n_rows += 1
    return n_rows, at, 0


@lean_kernel
def number_cells(
    data: U8, starts: I64, stops: I64, tens: F64, five_high: U64, five_low: U64, out: F64, slow: I64
) -> int:
    """Read a column of numbers; an empty cell is NaN.

    Parameters
    ----------
    starts, stops : (N,) bounds of the cells.
    tens, five_high, five_low : `EXACT_TENS`, `FIVE_HIGH`, `FIVE_LOW`.
    out : (N,) bit for bit what `float` reads.
    slow : (N,) out, which cells must be read otherwise, if they are numbers at all.

    Returns
    -------
    How many cells are in `slow`.

    Notes
    -----
    O(bytes of the cells), allocates nothing. Raises nothing.
    """
    n_slow = 0
    for k in range(starts.size):
        start, stop = starts[k], stops[k]
        if start == stop:
            out[k] = np.nan
            continue
        value, at, good = read_number(data, start, tens, five_high, five_low)
        out[k] = value
        if not good or at != stop:
            slow[n_slow] = k
            n_slow += 1
    return n_slow


@lean_inline
def _read_two(data: U8, at: int, stop: int) -> int:
    """The number of exactly two digits; -1 where they are none."""
    if at + 2 > stop:
        return -1
    high, low = np.uint8(data[at] - np.uint8(48)), np.uint8(data[at + 1] - np.uint8(48))
    return 10 * int(high) + int(low) if high <= 9 and low <= 9 else -1


@lean_inline
def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the Gregorian calendar.

    Source: Hinnant (2013), chrono-Compatible Low-Level Date Algorithms, days_from_civil.
    """
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@lean_inline
def _month_days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


@lean_inline
def _read_clock(data: U8, at: int, stop: int) -> tuple[int, int]:
    """HH:MM, HH:MM:SS or HH:MM:SS.fff at `at`: (milliseconds since midnight or -1, next position)."""
    hours, minutes = _read_two(data, at, stop), _read_two(data, at + 3, stop)
    if hours < 0 or minutes < 0 or hours > 23 or minutes > 59 or data[at + 2] != 58:
        return -1, at
    time, at = (hours * 60 + minutes) * 60_000, at + 5
    if at < stop and data[at] == 58:
        seconds = _read_two(data, at + 1, stop)
        if seconds < 0 or seconds > 59:
            return -1, at
        time, at = time + seconds * 1000, at + 3
        if at < stop and (data[at] == 46 or data[at] == 44):
            first = at + 1
            at, _ = read_digits(data, first, _U(0))
            if at == first:
                return -1, at
            scale = 100
            for k in range(first, min(at, first + 3)):
                time += scale * int(np.uint8(data[k] - np.uint8(48)))
                scale //= 10
    return time, at


@lean_inline
def _read_zone(data: U8, at: int, stop: int) -> tuple[int, bool]:
    """Nothing, Z, +HH, +HHMM or +HH:MM up to `stop`: (minutes east, whether it is that)."""
    if at == stop or (at + 1 == stop and data[at] | 32 == 122):
        return 0, True
    hours = _read_two(data, at + 1, stop)
    if (data[at] != 43 and data[at] != 45) or hours < 0:
        return 0, False
    sign, minutes = (-1 if data[at] == 45 else 1), 0
    at += 3
    if at < stop:
        at += data[at] == 58
        minutes = _read_two(data, at, stop)
        at += 2
    return sign * (60 * hours + minutes), minutes >= 0 and at == stop


@lean_kernel
def time_cells(data: U8, starts: I64, stops: I64, out: I64, good: B1) -> None:
    """Read a column of ISO 8601 dates and times; without a zone they are UTC.

    Parameters
    ----------
    starts, stops : (N,) bounds of the cells: YYYY-MM-DD, or with a clock behind a T or a blank, perhaps with a zone.
    out : (N,) Unix milliseconds; parts of a millisecond are cut off.
    good : (N,) out, whether the cell is such a time.

    Notes
    -----
    O(bytes of the cells), allocates nothing. Raises nothing.
    """
    for k in range(starts.size):
        start, stop = starts[k], stops[k]
        good[k] = False
        century, years = _read_two(data, start, stop), _read_two(data, start + 2, stop)
        month, day = _read_two(data, start + 5, stop), _read_two(data, start + 8, stop)
        if century < 0 or years < 0 or month < 1 or month > 12 or data[start + 4] != 45 or data[start + 7] != 45:
            continue
        year = 100 * century + years
        if day < 1 or day > _month_days(year, month):
            continue
        time, at, east = 0, start + 10, 0
        if at < stop:
            if data[at] | 32 != 116 and data[at] != _BLANK:
                continue
            time, at = _read_clock(data, at + 1, stop)
            if time < 0:
                continue
            if at < stop and data[at] == _BLANK:
                at += 1
            east, is_zone = _read_zone(data, at, stop)
            if not is_zone:
                continue
        out[k] = _days(year, month, day) * _DAY_MS + time - east * 60_000
        good[k] = True


@lean_kernel
def text_cells(data: U8, starts: I64, stops: I64, slots: I64, codes: I64, firsts: I64) -> int:
    """Number the distinct texts of a column in the order in which they first appear.

    Parameters
    ----------
    starts, stops : (N,) bounds of the cells.
    slots : all -1, size a power of two above N.
    codes : (N,) out, number of each cell's text.
    firsts : (N,) out, the first cell with each number.

    Returns
    -------
    How many distinct texts there are.

    Notes
    -----
    O(bytes of the cells) as long as texts repeat within N cells or not at all. Raises nothing.
    """
    mask = slots.size - 1
    n_texts = 0
    for k in range(starts.size):
        start, stop = starts[k], stops[k]
        at = np.int64(hash_text(data, start, stop) & _U(mask))
        while True:
            code = slots[at]
            if code < 0:
                slots[at] = code = n_texts
                firsts[n_texts] = k
                n_texts += 1
                break
            first = firsts[code]
            if stops[first] - starts[first] == stop - start and same_text(data, start, stop, data, starts[first]):
                break
            at = (at + 1) & mask
        codes[k] = code
    return n_texts
