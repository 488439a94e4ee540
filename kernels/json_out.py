"""Columns to lines of VictoriaMetrics' import format, as bytes."""

from __future__ import annotations

import numpy as np

from kernels._jit import F64, I64, U8, inline, kernel
from kernels.number_text import write_integer, write_number

# The longest texts, each with its comma: -1.2345678901234567e-308 and -9223372036854775808.
NUMBER_BYTES = 25
STAMP_BYTES = 21
# `],"timestamps":[` and `]}` and the line's end.
FRAME_BYTES = 19

_STAMPS = np.frombuffer(b'],"timestamps":[', np.uint8)
_END = np.frombuffer(b"]}\n", np.uint8)
_EXPONENT = np.uint64(0x7FF)


@kernel
def stamp_texts(timestamps_ms: I64, out: U8, offsets: I64) -> None:
    """Write timestamps as `import_lines` wants them: each with a comma after it, so that runs can be copied.

    Parameters
    ----------
    timestamps_ms : (T,).
    out : at least STAMP_BYTES a timestamp.
    offsets : (T + 1,) written: timestamp t and its comma are out[offsets[t]:offsets[t + 1]].

    Notes
    -----
    O(T), allocates nothing. Shapes are trusted. Raises nothing.
    """
    at = 0
    offsets[0] = 0
    for t in range(timestamps_ms.size):
        at = write_integer(timestamps_ms[t], out, at)
        out[at] = 44
        at += 1
        offsets[t + 1] = at


@inline
def _copy(source: U8, start: int, stop: int, out: U8, at: int) -> int:
    """Copy source[start:stop] to out[at:]; returns the position after it."""
    # Over slices, whose indices cannot be negative: only then do the loads and stores become vectors.
    origin, target = source[start:stop], out[at : at + stop - start]
    for i in range(origin.size):
        target[i] = origin[i]
    return at + stop - start


@inline
def _is_finite(value_bits: np.uint64) -> bool:
    return bool((value_bits >> np.uint64(52)) & _EXPONENT != _EXPONENT)


@kernel
def import_lines(
    values: F64,
    series: I64,
    stamps: U8,
    stamp_offsets: I64,
    head: U8,
    tails: U8,
    tail_offsets: I64,
    max_lines: int,
    out: U8,
    used: int,
) -> tuple[int, int, int, int, int]:
    """Write rows of one column as lines of VictoriaMetrics' import format.

    A line is the column's head, the series' tail, the row's finite values, and their timestamps. Rows
    without a finite value give no line. Rows whose tail is empty are refused: their points are only counted.
    Writing stops before the first row that might not fit into `out`, and after `max_lines` lines.

    Parameters
    ----------
    values : (S, T); non-finite cells are left out.
    series : (S,) index of each row into the tails.
    stamps, stamp_offsets : texts of the T timestamps, by `stamp_texts`.
    head : bytes that open every line of this column.
    tails, tail_offsets : bytes of all series, series k at tails[tail_offsets[k]:tail_offsets[k + 1]].
    max_lines : how many lines may be written.
    out : the body; a row needs at most head + tail + T * NUMBER_BYTES + stamps + FRAME_BYTES.
    used : how many bytes of `out` are taken.

    Returns
    -------
    rows done, bytes of `out` taken, lines written, points written, points refused.

    Notes
    -----
    O(bytes written + S T), allocates nothing. Rows are independent. Shapes are trusted. Raises nothing.
    """
    n_rows, n_steps = values.shape
    bits = values.view(np.uint64)
    stamps_end = int(stamp_offsets[n_steps])
    row_bytes = head.size + n_steps * NUMBER_BYTES + stamps_end + FRAME_BYTES
    lines, points, refused = 0, 0, 0
    for i in range(n_rows):
        start, stop = tail_offsets[series[i]], tail_offsets[series[i] + 1]
        if lines >= max_lines or used + row_bytes + stop - start > out.size:
            return i, used, lines, points, refused
        finite = 0
        for t in range(n_steps):
            finite += _is_finite(bits[i, t])
        if finite == 0:
            continue
        if start == stop:
            refused += finite
            continue
        at = _copy(head, 0, head.size, out, used)
        at = _copy(tails, start, stop, out, at)
        for t in range(n_steps):
            if _is_finite(bits[i, t]):
                at = write_number(bits[i, t], out, at)
                out[at] = 44
                at += 1
        at = _copy(_STAMPS, 0, _STAMPS.size, out, at - 1)
        if finite == n_steps:
            at = _copy(stamps, 0, stamps_end, out, at)
        else:
            for t in range(n_steps):
                if _is_finite(bits[i, t]):
                    at = _copy(stamps, stamp_offsets[t], stamp_offsets[t + 1], out, at)
        used = _copy(_END, 0, _END.size, out, at - 1)
        lines += 1
        points += finite
    return n_rows, used, lines, points, refused
