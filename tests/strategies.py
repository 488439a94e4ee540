"""Hypothesis strategies shared by tests: frames with gaps, infinities, constants, one step, no row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from engine.frame import F64, Frame

STEP_MS = 60_000
START_MS = 1_700_000_000_000 // STEP_MS * STEP_MS

# What real metrics send besides numbers.
HOLES = st.sampled_from([math.nan, math.inf, -math.inf])
ORDINARY = st.floats(-1e6, 1e6).map(lambda v: v if abs(v) > 1e-6 else 0.0)
HUGE = st.floats(-1e300, 1e300)


@st.composite
def rows(draw: st.DrawFn, n_steps: int, values: st.SearchStrategy[float]) -> list[float]:
    """One row: ordinary, constant, or without any value; holes anywhere."""
    kind = draw(st.sampled_from(["ordinary", "ordinary", "constant", "empty"]))
    if kind == "empty":
        return [math.nan] * n_steps
    size = 1 if kind == "constant" else n_steps
    row = draw(st.lists(values, min_size=size, max_size=size)) * (n_steps // size)
    where = draw(st.lists(st.integers(0, n_steps - 1), max_size=n_steps // 2))
    return [draw(HOLES) if t in where else v for t, v in enumerate(row)]


@st.composite
def matrices(
    draw: st.DrawFn, values: st.SearchStrategy[float] = ORDINARY, max_rows: int = 5, max_steps: int = 40
) -> F64:
    """(S, T) values, S from 0, T from 1."""
    n_rows, n_steps = draw(st.integers(0, max_rows)), draw(st.integers(1, max_steps))
    listed = [draw(rows(n_steps, values)) for _ in range(n_rows)]
    return np.array(listed, dtype=np.float64).reshape(n_rows, n_steps)


def frame_of(values: F64 | Sequence[Sequence[float]], start_ms: int = START_MS, step_ms: int = STEP_MS) -> Frame:
    """A frame of the rows 0, 1, … from `start_ms`."""
    matrix = np.ascontiguousarray(np.array(values, dtype=np.float64, ndmin=2))
    n_rows, n_steps = matrix.shape
    times = start_ms + step_ms * np.arange(n_steps, dtype=np.int64)
    return Frame(np.arange(n_rows, dtype=np.int64), times, matrix, step_ms)


@st.composite
def cuts(draw: st.DrawFn, n_steps: int) -> list[slice]:
    """Consecutive pieces of 0…n_steps."""
    inner = sorted(draw(st.sets(st.integers(1, max(1, n_steps - 1)), max_size=4)) & set(range(1, n_steps)))
    edges = [0, *inner, n_steps]
    return [slice(a, b) for a, b in pairwise(edges)]
