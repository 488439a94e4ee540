"""Numbers from JSON text: the nearest double, bit for bit what Python's `float` gives, and Unix milliseconds.

The readers below never look behind a byte that ends a number. Callers pass text whose last byte is not a
digit, dot, sign or letter (`json_in` makes sure of a closing brace), so no index leaves the array.

Sources: Clinger (1990), doi:10.1145/93548.93557, for short numbers; Lemire (2021), doi:10.1002/spe.2984,
section 5 and 8, for the rest. What these cannot decide is reported, and read by `float`.
"""

from __future__ import annotations

import numpy as np

from kernels._jit import F64, U8, U64, lean_inline
from kernels.powers import POWER_MIN
from kernels.words import double_of_bits, leading_zeros, load_word, multiply_wide

# Powers of ten that a double holds exactly.
EXACT_TENS: F64 = np.array([float(f"1e{k}") for k in range(23)])

_U = np.uint64
_ZERO = np.uint8(48)
_FOURS = _U(0xF0F0F0F0F0F0F0F0)
_THREES = _U(0x3333333333333333)


@lean_inline
def read_digits(data: U8, at: int, value: np.uint64) -> tuple[int, np.uint64]:
    """Append the run of digits at `at` to a value, modulo 2**64: (next position, value)."""
    n = data.size
    while at + 8 <= n:
        word = load_word(data, at)
        digits = (word & _FOURS) | (((word + _U(0x0606060606060606)) & _FOURS) >> _U(4))
        if digits != _THREES:
            break
        # Eight digits by three multiplications: pairs, fours, all.
        word = ((word & _U(0x0F0F0F0F0F0F0F0F)) * _U(2561)) >> _U(8)
        word = ((word & _U(0x00FF00FF00FF00FF)) * _U(6553601)) >> _U(16)
        word = ((word & _U(0x0000FFFF0000FFFF)) * _U(42949672960001)) >> _U(32)
        value = value * _U(100_000_000) + word
        at += 8
    while True:
        digit = np.uint8(data[at] - _ZERO)  # two comparisons in place of this one cost 10 ns a number
        if digit > 9:
            return at, value
        value = value * _U(10) + _U(digit)
        at += 1


@lean_inline
def nearest_double(w: np.uint64, q: np.int64, five_high: U64, five_low: U64) -> tuple[float, bool]:
    """The double nearest to w * 10**q for w > 0; false where 128 bits, or a normal number, are not enough."""
    if q < POWER_MIN or q > 308:
        return np.nan, False
    shift = leading_zeros(w)
    w = w << shift
    high, low = multiply_wide(w, five_high[q - POWER_MIN])
    if high & _U(0x1FF) == _U(0x1FF):
        carry, _ = multiply_wide(w, five_low[q - POWER_MIN])
        low = low + carry
        if carry > low:
            high = high + _U(1)
    if low == _U(0xFFFFFFFFFFFFFFFF) and (q < -27 or q > 55):
        return np.nan, False
    top = high >> _U(63)
    mantissa = high >> (top + _U(9))
    exponent = ((217706 * q) >> 16) + 63 + np.int64(top) - np.int64(shift) + 1023
    if exponent <= 0 or exponent >= 0x7FE:
        return np.nan, False
    exact = low <= _U(1) and q >= -4 and q <= 23 and mantissa & _U(3) == _U(1)
    if exact and mantissa << (top + _U(9)) == high:
        mantissa = mantissa & ~_U(1)  # exactly between two doubles: to the even one
    mantissa = (mantissa + (mantissa & _U(1))) >> _U(1)
    if mantissa >= _U(1 << 53):
        mantissa = _U(1 << 52)
        exponent += 1
    return double_of_bits((mantissa & ~_U(1 << 52)) | (_U(exponent) << _U(52))), True


@lean_inline
def read_exponent(data: U8, at: int) -> tuple[int, np.int64]:
    """The decimal exponent at `at`, behind the letter: (next position, exponent); at most 99,999 either way."""
    negative = data[at] == 45
    if negative or data[at] == 43:
        at += 1
    exponent = np.int64(0)
    while True:
        digit = np.uint8(data[at] - _ZERO)
        if digit > 9:
            return at, -exponent if negative else exponent
        if exponent < 10_000:
            exponent = exponent * 10 + np.int64(digit)
        at += 1


@lean_inline
def count_leading_zeros(data: U8, at: int) -> int:
    """Zeros of a decimal text before its first other digit."""
    zeros = 0
    while data[at] == 48 or data[at] == 46:
        zeros += data[at] == 48
        at += 1
    return zeros


@lean_inline
def read_number(data: U8, at: int, tens: F64, five_high: U64, five_low: U64) -> tuple[float, int, bool]:
    """The number at `at`: (value, next position, whether it was decided here).

    Not decided: text that is no plain number, more than 19 significant digits, subnormal and infinite results,
    and the rare product that 128 bits leave open.
    """
    negative = data[at] == 45
    if negative:
        at += 1
    first = at
    at, w = read_digits(data, at, _U(0))
    n_digits = at - first
    if n_digits == 0:
        return np.nan, at, False
    q = np.int64(0)
    if data[at] == 46:
        point = at + 1
        at, w = read_digits(data, point, w)
        q = np.int64(point - at)
        n_digits += at - point
    if data[at] | 32 == 101:
        digits = at + 2 if data[at + 1] == 45 or data[at + 1] == 43 else at + 1
        at, exponent = read_exponent(data, at + 1)
        q += exponent
        if at == digits:
            return np.nan, at, False
    if n_digits > 19 and n_digits - count_leading_zeros(data, first) > 19:
        return np.nan, at, False
    value = 0.0
    decided = True
    if w <= _U(1 << 53) and q >= -22 and q <= 22:
        value = np.float64(w)
        value = value / tens[-q] if q < 0 else value * tens[q]
    elif w != _U(0):
        value, decided = nearest_double(w, q, five_high, five_low)
    return (-value if negative else value), at, decided


@lean_inline
def read_milliseconds(data: U8, at: int) -> tuple[np.int64, int, bool]:
    """Unix seconds with at most three decimals at `at`, as milliseconds: (time, next position, whether it is that)."""
    negative = data[at] == 45
    if negative:
        at += 1
    first = at
    at, whole = read_digits(data, at, _U(0))
    time = np.int64(whole) * 1000
    n_digits = at - first
    if n_digits == 0 or n_digits > 12 or (data[first] == 48 and n_digits > 1):
        return np.int64(0), at, False
    if data[at] == 46:
        first = at + 1
        at, part = read_digits(data, first, _U(0))
        n_digits = at - first
        if n_digits == 0 or n_digits > 3:
            return np.int64(0), at, False
        time += np.int64(part) * (100 if n_digits == 1 else 10 if n_digits == 2 else 1)
    return (-time if negative else time), at, True
