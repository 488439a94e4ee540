"""query_range answers from bytes to flat arrays in one pass, and the index of label texts seen before.

Only the compact form that Prometheus-compatible servers send is read here; any other text, legal JSON or not,
is reported, never guessed at: a general parser decides about it. Nothing here trusts the bytes.
"""

from __future__ import annotations

import numpy as np

from kernels._jit import F64, I64, U8, U64, lean_inline, lean_kernel
from kernels.number_in import read_milliseconds, read_number
from kernels.words import load_word, multiply_wide

_U = np.uint64


def _word(text: bytes) -> np.uint64:
    return _U(int.from_bytes(text, "little"))


_METRIC = _word(b'{"metric')  # then `":{`
_VALUES = _word(b',"values')  # then `":[`
_BRACES = _word(b"}" * 8)
_SQUARES = _word(b"[" * 8)
_CURLIES = _word(b"{" * 8)
_ONES = _U(0x0101010101010101)
_TOPS = _U(0x8080808080808080)


@lean_inline
def mark_equal(word: np.uint64, pattern: np.uint64) -> np.uint64:
    """1 in each byte of a word that equals the pattern's."""
    different = word ^ pattern
    return ((~(((different & ~_TOPS) + ~_TOPS) | different)) & _TOPS) >> _U(7)


@lean_kernel
def count_brackets(data: U8) -> tuple[np.int64, np.int64]:
    """How many `[` and `{` the text holds: bounds of its points and of its series."""
    n_words = data.size // 8
    square, curly = np.int64(0), np.int64(0)
    k = 0
    while k < n_words:
        squares, curlies = _U(0), _U(0)
        stop = min(k + 255, n_words)  # as many as one byte can count
        for at in range(k, stop):
            word = load_word(data, 8 * at)
            squares += mark_equal(word, _SQUARES)
            curlies += mark_equal(word, _CURLIES)
        for shift in range(0, 64, 8):
            square += np.int64((squares >> _U(shift)) & _U(255))
            curly += np.int64((curlies >> _U(shift)) & _U(255))
        k = stop
    for at in range(8 * n_words, data.size):
        square += data[at] == 91
        curly += data[at] == 123
    return square, curly


@lean_inline
def is_values_key(data: U8, at: int) -> bool:
    """Whether `,"values":[` stands at `at`, with a byte behind it."""
    if at + 12 > data.size or load_word(data, at) != _VALUES:
        return False
    return bool(data[at + 8] == 34 and data[at + 9] == 58 and data[at + 10] == 91)


@lean_inline
def find_labels_end(data: U8, at: int) -> int:
    """Position behind the first `}` that `,"values":[` follows; -1 when there is none.

    In legal JSON that pair cannot stand inside a string of a flat object, for its quote would end the string.
    Whether the span is such an object is not known yet: its text must be parsed once, or be one that was.
    """
    n = data.size
    while at < n:
        if at + 8 <= n:
            different = load_word(data, at) ^ _BRACES
            if ((different - _ONES) & ~different & _TOPS) == _U(0):
                at += 8
                continue
        for _ in range(min(8, n - at)):
            if data[at] == 125 and is_values_key(data, at + 1):
                return at + 1
            at += 1
    return -1


@lean_inline
def hash_text(data: U8, start: int, stop: int) -> np.uint64:
    """64-bit hash of data[start:stop]: eight bytes at a time, folded by wide products."""
    h = _U(0x9E3779B97F4A7C15) ^ _U(stop - start)
    at = start
    while at + 8 <= stop:
        high, low = multiply_wide(load_word(data, at) ^ h, _U(0xA0761D6478BD642F))
        h = high ^ low
        at += 8
    tail = _U(0)
    while at < stop:
        tail = (tail << _U(8)) | _U(data[at])
        at += 1
    high, low = multiply_wide(tail ^ h, _U(0xE7037ED1A0B428DB))
    return high ^ low


@lean_inline
def same_text(data: U8, start: int, stop: int, texts: U8, at: int) -> bool:
    """Whether data[start:stop] equals texts[at : at + stop - start]."""
    while start + 8 <= stop:
        if load_word(data, start) != load_word(texts, at):
            return False
        start += 8
        at += 8
    while start < stop:
        if data[start] != texts[at]:
            return False
        start += 1
        at += 1
    return True


@lean_kernel
def index_texts(hashes: U64, first: int, slots: I64) -> None:
    """Enter the texts first, first + 1, … of `hashes` (E,) into `slots`: open addressing, size a power of two > E."""
    mask = slots.size - 1
    for k in range(first, hashes.size):
        at = np.int64(hashes[k] & _U(mask))
        while slots[at] >= 0:
            at = (at + 1) & mask
        slots[at] = k


@lean_inline
def find_text(
    data: U8, start: int, stop: int, h: np.uint64, slots: I64, hashes: U64, offsets: I64, texts: U8
) -> np.int64:
    """Which known text data[start:stop] is; -1 when it is none."""
    mask = slots.size - 1
    at = np.int64(h & _U(mask))
    while slots[at] >= 0:
        k = np.int64(slots[at])
        begin = offsets[k]
        if hashes[k] == h and offsets[k + 1] - begin == stop - start and same_text(data, start, stop, texts, begin):
            return k
        at = (at + 1) & mask
    return np.int64(-1)


@lean_inline
def is_next_text(data: U8, start: int, k: np.int64, offsets: I64, texts: U8) -> bool:
    """Whether the known text k stands at `start`, as labels with points behind: `find_labels_end` would end there."""
    if k + 1 >= offsets.size:
        return False
    stop = start + offsets[k + 1] - offsets[k]
    return is_values_key(data, stop) and same_text(data, start, stop, texts, offsets[k])


@lean_inline
def read_special(data: U8, start: int, stop: int) -> tuple[float, bool]:
    """`+Inf`, `-Inf` and `NaN`, spelled as the servers do."""
    if stop - start == 4 and data[start + 1] == 73 and data[start + 2] == 110 and data[start + 3] == 102:
        if data[start] == 43:
            return np.inf, True
        if data[start] == 45:
            return -np.inf, True
    return np.nan, stop - start == 3 and data[start] == 78 and data[start + 1] == 97 and data[start + 2] == 78


@lean_inline
def find_quote(data: U8, at: int) -> int:
    """The next quote that ends a string without escapes; -1 when there is none."""
    while at < data.size and data[at] != 34:
        if data[at] == 92:
            return -1
        at += 1
    return at if at < data.size else -1


@lean_inline
def read_points(
    data: U8, i: int, at: int, n_slow: int, tens: F64, five_high: U64, five_low: U64, times: I64, values: F64, slow: I64
) -> tuple[int, int, int]:
    """Points `[t,"v"],…]` from `i`, behind the opening bracket: (next position or -1, next free place, n_slow)."""
    if data[i] == 93:
        return i + 1, at, n_slow
    while True:
        if data[i] != 91 or at == times.size:
            return -1, at, n_slow
        time, i, good = read_milliseconds(data, i + 1)
        if not good or data[i] != 44 or data[i + 1] != 34:
            return -1, at, n_slow
        start = i + 2
        value, i, good = read_number(data, start, tens, five_high, five_low)
        if not good or data[i] != 34:
            i = find_quote(data, start)
            if i < 0:
                return -1, at, n_slow
            value, good = read_special(data, start, i)
            if not good:
                slow[n_slow, 0], slow[n_slow, 1], slow[n_slow, 2] = at, start, i
                n_slow += 1
        if data[i + 1] != 93:
            return -1, at, n_slow
        times[at] = time
        values[at] = value
        at += 1
        i += 2
        if data[i] == 93:
            return i + 1, at, n_slow
        if data[i] != 44:
            return -1, at, n_slow
        i += 1


@lean_kernel
def decode_matrix(
    data: U8,
    i: int,
    tens: F64,
    five_high: U64,
    five_low: U64,
    slots: I64,
    known_hashes: U64,
    offsets: I64,
    texts: U8,
    spans: I64,
    hashes: U64,
    known: I64,
    indptr: I64,
    times: I64,
    values: F64,
    slow: I64,
) -> tuple[int, int, int, int]:
    """Read the series of a compact matrix answer.

    Parameters
    ----------
    data : (B,) UTF-8 text whose last byte is `}`; that byte is what stops every scan.
    i : position behind the `[` of the result list.
    tens, five_high, five_low : `EXACT_TENS`, `FIVE_HIGH`, `FIVE_LOW`.
    slots, known_hashes, offsets, texts : label texts seen before, as `index_texts` enters them: text k is
        texts[offsets[k]:offsets[k + 1]]; `slots` has at least one free place.
    spans : (S', 2) out, start and stop of each series' label object in `data`.
    hashes : (S',) out, `hash_text` of these spans.
    known : (S',) out, the number k of the known text, or -1: the span must then be parsed before its points are used.
    indptr : (S' + 1,) out, positions of each series' points.
    times, values : (P',) out, milliseconds and doubles, as received: unsorted, repeated, infinite or NaN.
    slow : (P', 3) out, point and span of each value that must be read by `float` (its value here is NaN).

    Returns
    -------
    (end, n_series, n_points, n_slow): `end` is the position behind the `]` of the result list, always a byte of
    `data`; -1 where the text is not in the compact form or an output is full.

    Notes
    -----
    O(B). Values are bit for bit those of `float`. No index leaves an array, whatever the bytes are. Raises nothing.
    """
    n = data.size
    n_series, at, n_slow = 0, 0, 0
    k = np.int64(-1)
    indptr[0] = 0
    if i < 1 or i >= n or data[n - 1] != 125:
        return -1, 0, 0, 0
    if data[i] == 93:
        return i + 1, 0, 0, 0
    while True:
        if n_series == known.size or i + 12 > n or load_word(data, i) != _METRIC:
            break
        if data[i + 8] != 34 or data[i + 9] != 58 or data[i + 10] != 123:
            break
        start = i + 10
        # Servers answer in one order: the text that followed last time is most often next.
        k = k + 1
        if is_next_text(data, start, k, offsets, texts):
            stop = start + offsets[k + 1] - offsets[k]
            h = known_hashes[k]
        else:
            stop = find_labels_end(data, start)
            if stop < 0:
                break
            h = hash_text(data, start, stop)
            k = find_text(data, start, stop, h, slots, known_hashes, offsets, texts)
        spans[n_series, 0], spans[n_series, 1], hashes[n_series], known[n_series] = start, stop, h, k
        i, at, n_slow = read_points(data, stop + 11, at, n_slow, tens, five_high, five_low, times, values, slow)
        if i < 0 or data[i] != 125 or i + 1 == n:
            break
        n_series += 1
        indptr[n_series] = at
        i += 1
        if data[i] == 93 and i + 1 < n:
            return i + 1, n_series, at, n_slow
        if data[i] != 44:
            break
        i += 1
    return -1, n_series, at, n_slow
