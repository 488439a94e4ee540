"""Points as they were received to places on a grid."""

from __future__ import annotations

import math

from kernels._jit import F64, I64, kernel


@kernel
def place_points(
    rows: I64, indptr: I64, timestamps_ms: I64, values: F64, start_ms: int, step_ms: int, out: F64
) -> None:
    """Write each point to its row and grid time.

    Parameters
    ----------
    rows : (K,) row of each received series; the same one may occur more than once.
    indptr : (K + 1,) series k owns points indptr[k]:indptr[k+1].
    timestamps_ms, values : (P,) off the grid or outside it, or not finite: the point is left out.
    out : (S, T), NaN before. Of several points at one place the last one received counts.

    Notes
    -----
    O(P), allocates nothing. Shapes are trusted. Raises nothing.
    """
    n_steps = out.shape[1]
    for k in range(rows.size):
        row = rows[k]
        for p in range(indptr[k], indptr[k + 1]):
            since = timestamps_ms[p] - start_ms
            if since >= 0 and since % step_ms == 0 and math.isfinite(values[p]):
                column = since // step_ms
                if column < n_steps:
                    out[row, column] = values[p]
