"""The order of one row's samples: a radix sort."""

from __future__ import annotations

import numpy as np

from kernels._jit import F64, I32, U64, kernel
from kernels.words import bits_of_double, leading_zeros

# A pass orders by so many bits: its counts (8 kB) and what it reads and writes share the fastest cache.
_DIGIT = 11
_BINS = 1 << _DIGIT
# Three passes over the leading bits leave so few neighbours in the wrong order that insertion ends it sooner than
# three more would; where it does not, after so many moves a sample, all bits are sorted.
_FIRST_PASSES, _MOVES = 3, 4
_SIGN, _ALL, _ONE_BIN = np.uint64(1 << 63), np.uint64((1 << 64) - 1), np.uint64(_BINS - 1)


@kernel
def rank_samples(z: F64, n: int, keys: U64, order: I32, rank: I32, ordered: F64) -> None:
    """Write the places that the first `n` samples have in ascending order, and the samples in that order.

    Parameters
    ----------
    z, keys, order : as for `ascending`.
    rank, ordered : (>= n,) written.
    """
    places = ascending(z, n, keys, order)
    for k in range(n):
        rank[places[k]], ordered[k] = k, z[places[k]]


@kernel
def ascending(z: F64, n: int, keys: U64, order: I32) -> I32:
    """Places of the first `n` samples in ascending order; equal samples keep theirs.

    Parameters
    ----------
    z : (>= n,) no NaN.
    keys : (3, >= n) scratch.
    order : (2, >= n) scratch; one of its rows is the result.

    Notes
    -----
    O(n): 8 ns a sample for 4,000 noisy ones, a sixth of numba's own argsort. Shapes are trusted.
    """
    low, high, mine = _ALL, np.uint64(0), keys[0]
    for k in range(n):
        word = bits_of_double(z[k] + 0.0)  # no negative zero
        # Unsigned words in the order of their doubles.
        word ^= _ALL if word & _SIGN else _SIGN
        mine[k] = word
        low, high = min(low, word), max(high, word)
    width = 64 - int(np.int64(leading_zeros(high - low))) if n else 0
    ignored = max(0, width - _FIRST_PASSES * _DIGIT)
    found = _by_digits(n, low, ignored, width, keys, order)
    if ignored > 0 and not _insertion(mine, n, found):
        return _by_digits(n, low, 0, width, keys, order)
    return found


@kernel
def _by_digits(n: int, low: np.uint64, ignored: int, width: int, keys: U64, order: I32) -> I32:
    """Places in the order of the keys, but for their `ignored` lowest bits: least significant digit first."""
    n_passes = (width - ignored + _DIGIT - 1) // _DIGIT
    count = np.zeros((max(n_passes, 1), _BINS), np.int32)
    source, target = keys[1], keys[2]
    places: I32 = order[0]
    moved: I32 = order[1]
    for k in range(n):
        word = (keys[0, k] - low) >> np.uint64(ignored)
        places[k], source[k] = k, word
        for d in range(n_passes):
            count[d, (word >> np.uint64(_DIGIT * d)) & _ONE_BIN] += 1
    for d in range(n_passes):
        shift, first = np.uint64(_DIGIT * d), count[d]
        total = 0
        for b in range(_BINS):
            here = first[b]
            first[b] = total
            total += here
        for k in range(n):
            digit = (source[k] >> shift) & _ONE_BIN
            to = first[digit]
            first[digit] = to + 1
            target[to], moved[to] = source[k], places[k]
        source, target, places, moved = target, source, moved, places
    return places


@kernel
def _insertion(keys: U64, n: int, order: I32) -> bool:
    """Whether the order was completed within few moves."""
    moves = _MOVES * n
    for k in range(1, n):
        place = order[k]
        key, at = keys[place], k
        while at > 0 and keys[order[at - 1]] > key:
            order[at] = order[at - 1]
            at -= 1
        order[at] = place
        moves -= k - at
        if moves < 0:
            return False
    return True
