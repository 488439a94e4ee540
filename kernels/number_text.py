"""Numbers to text: the shortest decimals that read back to the same float64.

The digits are those of Python's ``repr``: the shortest decimal that reads back to the same
number and, of these, the nearest to it. Whole numbers have no ``.0``, exponents no ``+`` and no leading zero.

Source: Giulietti, "The Schubfach way to render doubles" (2020), sections 8 to 10; names follow the paper.
"""

from __future__ import annotations

import numpy as np

from kernels._jit import U8, inline, kernel
from kernels.powers import FIVE_HIGH, FIVE_LOW, POWER_MIN
from kernels.words import leading_zeros, multiply_wide

# 10**k for k from -292 to 324, scaled to 128 bits and rounded up. The table of reading cuts where it is not exact.
_MIN_POWER = -292
_TABLE = slice(_MIN_POWER - POWER_MIN, 325 - POWER_MIN)
_IS_CUT = np.array([k < -27 or k > 55 for k in range(_MIN_POWER, 325)], np.uint64)
_POWER_HIGH = FIVE_HIGH[_TABLE]
_POWER_LOW = FIVE_LOW[_TABLE] + _IS_CUT
_PAIRS = np.frombuffer(b"".join(b"%02d" % n for n in range(100)), np.uint8)

_0, _1, _2, _4 = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(4)
_10, _40, _64, _100 = np.uint64(10), np.uint64(40), np.uint64(64), np.uint64(100)
_FOUR_DIGITS, _EIGHT_DIGITS = np.uint64(10**4), np.uint64(10**8)
_HALF_WORD = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFFFFFF)
_FRACTION = np.uint64((1 << 52) - 1)
_HIDDEN = np.uint64(1 << 52)
_EXPONENT = np.uint64(0x7FF)
_SIGN = np.uint64(63)
_TEN_TO = np.array([10**n for n in range(20)], np.uint64)


@inline
def _round_to_odd(power_high: np.uint64, power_low: np.uint64, c: np.uint64) -> np.uint64:
    """The product's integer part; its lowest bit also says that a fraction was cut off."""
    carry, _ = multiply_wide(power_low, c)
    high, low = multiply_wide(power_high, c)
    # In halves, so that nothing overflows when the kernel runs interpreted.
    lower = (low & _LOW_HALF) + (carry & _LOW_HALF)
    upper = (low >> _HALF_WORD) + (carry >> _HALF_WORD) + (lower >> _HALF_WORD)
    high += upper >> _HALF_WORD
    cut = (upper & _LOW_HALF) | (lower & _LOW_HALF & ~_1)
    return high | _1 if cut != _0 else high


@inline
def _shortest(c: np.uint64, q: int, is_power_of_two: bool) -> tuple[np.uint64, int]:
    """Digits d and exponent k of the shortest decimal d * 10**k inside the rounding interval of c * 2**q.

    `is_power_of_two` says that the neighbour below is only half as far away as the one above.
    """
    k = (q * 1262611 - (524031 if is_power_of_two else 0)) >> 22
    h = np.uint64(q + ((-k * 1741647) >> 19) + 1)
    high, low = _POWER_HIGH[-k - _MIN_POWER], _POWER_LOW[-k - _MIN_POWER]
    # Four times the lower end, the number itself and the upper end, in units of 10**k.
    odd = c & _1
    lower = _round_to_odd(high, low, (_4 * c - _2 + np.uint64(is_power_of_two)) << h) + odd
    v = _round_to_odd(high, low, (_4 * c) << h)
    upper = _round_to_odd(high, low, (_4 * c + _2) << h) - odd
    s = v >> _2
    if s >= _10:
        t = s // _10
        down = lower <= _40 * t
        up = _40 * t + _40 <= upper
        if down != up:
            return (t + _1 if up else t), k + 1
    down = lower <= _4 * s
    up = _4 * s + _4 <= upper
    if down != up:
        return (s + _1 if up else s), k
    half = _4 * s + _2
    return (s + _1 if v > half or (v == half and s & _1 != _0) else s), k


@kernel
def _decimal(bits: np.uint64) -> tuple[np.uint64, int]:
    """Digits d without zeros at the end, and k, of the shortest d * 10**k; finite numbers above zero only."""
    fraction = bits & _FRACTION
    exponent = int((bits >> np.uint64(52)) & _EXPONENT)
    d, k = _0, 0
    if exponent == 0:
        d, k = _shortest(fraction, -1074, False)
    else:
        c, q = fraction | _HIDDEN, exponent - 1075
        if -52 <= q <= 0 and c & ((_1 << np.uint64(-q)) - _1) == _0:
            d = c >> np.uint64(-q)
        else:
            d, k = _shortest(c, q, bool(fraction == _0) and exponent > 1)
    # Constant divisors compile to multiplications; big steps first, since short decimals have many zeros.
    while d % _EIGHT_DIGITS == _0:
        d //= _EIGHT_DIGITS
        k += 8
    while d % _FOUR_DIGITS == _0:
        d //= _FOUR_DIGITS
        k += 4
    while d % _10 == _0:
        d //= _10
        k += 1
    return d, k


@inline
def _write_pair(pair: np.uint64, out: U8, at: int) -> None:
    """Write a number below 100 as two digits."""
    out[at] = _PAIRS[2 * pair]
    out[at + 1] = _PAIRS[2 * pair + _1]


@inline
def _write_digits(d: np.uint64, n: int, out: U8, end: int) -> None:
    """Write the n decimal digits of d so that they end before `end`."""
    while n >= 8:  # four divisions that do not wait for each other
        rest = d // _EIGHT_DIGITS
        upper, lower = (d - rest * _EIGHT_DIGITS) // _FOUR_DIGITS, d % _FOUR_DIGITS
        _write_pair(upper // _100, out, end - 8)
        _write_pair(upper % _100, out, end - 6)
        _write_pair(lower // _100, out, end - 4)
        _write_pair(lower % _100, out, end - 2)
        d = rest
        end -= 8
        n -= 8
    while n >= 2:
        _write_pair(d % _100, out, end - 2)
        d //= _100
        end -= 2
        n -= 2
    if n > 0:
        out[end - 1] = np.uint8(48 + int(d))


@inline
def _digit_count(d: np.uint64) -> int:
    """Decimal digits of d."""
    n = (int(_64 - leading_zeros(d | _1)) * 1233) >> 12  # bits times log10(2)
    return n + 1 if d | _1 >= _TEN_TO[n] else n


@inline
def _write_exponent(exponent: int, out: U8, at: int) -> int:
    """Write e and the exponent, one to three digits; returns the position after it."""
    out[at] = 101
    at += 1
    if exponent < 0:
        out[at] = 45
        at += 1
        exponent = -exponent
    if exponent >= 100:
        out[at] = 48 + exponent // 100
        at += 1
    if exponent >= 10:
        out[at] = 48 + exponent // 10 % 10
        at += 1
    out[at] = 48 + exponent % 10
    return at + 1


@inline
def write_number(value_bits: np.uint64, out: U8, at: int) -> int:
    """Write a finite number, at most 24 bytes; returns the position after it."""
    if value_bits >> _SIGN != _0:
        out[at] = 45
        at += 1
    bits = value_bits & ~(_1 << _SIGN)
    if bits == _0:
        out[at] = 48
        return at + 1
    d, k = _decimal(bits)
    n = _digit_count(d)
    exponent = n + k - 1
    is_plain = -4 <= exponent < 16
    whole = exponent + 1 if is_plain else 1  # digits before the point
    if whole <= 0:
        out[at] = 48
        out[at + 1] = 46
        at += 2
        for _ in range(-whole):
            out[at] = 48
            at += 1
        whole = n
    has_point = 1 if whole < n else 0
    _write_digits(d, n, out, at + has_point + n)
    if has_point:
        for i in range(at, at + whole):
            out[i] = out[i + 1]
        out[at + whole] = 46
    at += has_point + n
    for _ in range(whole - n):
        out[at] = 48
        at += 1
    return at if is_plain else _write_exponent(exponent, out, at)


@inline
def write_integer(value: int, out: U8, at: int) -> int:
    """Write an int64, at most 20 bytes; returns the position after it."""
    if value < 0:
        out[at] = 45
        at += 1
        d = np.uint64(-(value + 1)) + _1
    else:
        d = np.uint64(value)
    n = _digit_count(d)
    _write_digits(d, n, out, at + n)
    return at + n
