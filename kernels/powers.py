"""Powers of five to 128 bits, for exact conversion between decimal text and doubles in both directions.

Source: Lemire (2021), Number parsing at a gigabyte per second, doi:10.1002/spe.2984, section 5 and its table script.
"""

from __future__ import annotations

import numpy as np

from kernels._jit import U64

# Decimal exponents that can matter: reading needs -342..308, shortest printing up to 324.
POWER_MIN = -342
POWER_MAX = 326


def _power(q: int) -> int:
    """The top 128 bits of 5**q, highest bit set: exact or cut, but rounded up for -27 <= q < 0."""
    power: int = 5 ** abs(q)
    if q >= 0:
        shift = 128 - power.bit_length()
        return power << shift if shift >= 0 else power >> -shift
    z = (power - 1).bit_length()
    quotient = (1 << (z + 127 if q >= -27 else 2 * z + 128)) // power + 1
    return quotient >> max(0, quotient.bit_length() - 128)


def powers_of_five() -> tuple[U64, U64]:
    """High and low words, each (POWER_MAX - POWER_MIN + 1,): entry q - POWER_MIN belongs to 5**q."""
    powers = [_power(q) for q in range(POWER_MIN, POWER_MAX + 1)]
    high = np.array([p >> 64 for p in powers], dtype=np.uint64)
    low = np.array([p & (1 << 64) - 1 for p in powers], dtype=np.uint64)
    high.setflags(write=False)
    low.setflags(write=False)
    return high, low


FIVE_HIGH, FIVE_LOW = powers_of_five()
