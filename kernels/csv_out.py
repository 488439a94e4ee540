"""Rows of CSV text: time, labels, numbers."""

from __future__ import annotations

import math

from kernels._jit import F64, I64, U8, inline, kernel
from kernels.number_text import write_integer, write_number
from kernels.words import bits_of_double

# The longest texts, each with the comma or line feed behind it: -9223372036854775.808, 2262-04-11T23:47:16.854Z, and
# -1.2345678901234567e-308.
TIME_BYTES = 28
NUMBER_BYTES = 26

# How times are written; from the last one on, as whole numbers in that unit.
ISO, SECONDS, MILLISECONDS, MICROSECONDS, NANOSECONDS = range(5)
_DAY_MS = 86_400_000


@inline
def _write_padded(value: int, width: int, out: U8, at: int) -> int:
    """Write the last `width` digits of a number >= 0; returns the position after them."""
    for k in range(width):
        out[at + width - 1 - k] = 48 + value % 10
        value //= 10
    return at + width


@inline
def _write_iso(time_ms: int, out: U8, at: int) -> int:
    """Write a time from year 0 to 9999 as 2026-01-31T08:00:00Z, with three decimals where it needs them.

    Source: Hinnant (2013), chrono-Compatible Low-Level Date Algorithms, civil_from_days.
    """
    days = time_ms // _DAY_MS + 719_468
    rest = time_ms % _DAY_MS
    era = days // 146_097
    of_era = days - era * 146_097
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    at = _write_padded(year + era * 400 + (1 if month <= 2 else 0), 4, out, at)
    out[at] = 45
    at = _write_padded(month, 2, out, at + 1)
    out[at] = 45
    at = _write_padded(of_year - (153 * shifted + 2) // 5 + 1, 2, out, at + 1)
    out[at] = 84
    at = _write_padded(rest // 3_600_000, 2, out, at + 1)
    out[at] = 58
    at = _write_padded(rest // 60_000 % 60, 2, out, at + 1)
    out[at] = 58
    at = _write_padded(rest // 1000 % 60, 2, out, at + 1)
    if rest % 1000:
        out[at] = 46
        at = _write_padded(rest % 1000, 3, out, at + 1)
    out[at] = 90
    return at + 1


@inline
def _write_seconds(time_ms: int, out: U8, at: int) -> int:
    """Write milliseconds as seconds, with three decimals where they are needed."""
    if time_ms < 0:
        out[at] = 45
        at += 1
        time_ms = -time_ms
    at = write_integer(time_ms // 1000, out, at)
    if time_ms % 1000:
        out[at] = 46
        at = _write_padded(time_ms % 1000, 3, out, at + 1)
    return at


@kernel
def csv_lines(times_ms: I64, clock: int, series: I64, labels: U8, offsets: I64, columns: F64, out: U8) -> int:
    """Write one line for each row.

    Parameters
    ----------
    times_ms : (N,).
    clock : how times are written, one of the names above.
    series : (N,) index of each row into the labels.
    labels, offsets : texts of all series: that of series k, with a comma before each label, is
        labels[offsets[k]:offsets[k + 1]].
    columns : (K, N); a cell that is not finite stays empty.
    out : at least TIME_BYTES + label text + K * NUMBER_BYTES a row.

    Returns
    -------
    Bytes written.

    Notes
    -----
    O(bytes), allocates nothing. Shapes are trusted. Raises nothing.
    """
    n_columns = columns.shape[0]
    factor = 1_000_000 if clock == NANOSECONDS else 1000 if clock == MICROSECONDS else 1
    at = 0
    for i in range(times_ms.size):
        if clock == ISO:
            at = _write_iso(times_ms[i], out, at)
        elif clock == SECONDS:
            at = _write_seconds(times_ms[i], out, at)
        else:
            at = write_integer(times_ms[i] * factor, out, at)
        for k in range(offsets[series[i]], offsets[series[i] + 1]):
            out[at] = labels[k]
            at += 1
        for k in range(n_columns):
            out[at] = 44
            at += 1
            if math.isfinite(columns[k, i]):
                at = write_number(bits_of_double(columns[k, i]), out, at)
        out[at] = 10
        at += 1
    return at
