"""The order of a row against numpy's stable one, and windows of ranks against numpy's quantile of each window."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kernels.rank_window import list_members, window_quantiles
from kernels.ranks import ascending, rank_samples
from tests.naive_quantile import window_quantiles as naive_quantiles

ROWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "noise": lambda rng, n: rng.normal(0, 1, n),
    "counts": lambda rng, n: rng.poisson(3, n).astype(np.float64),
    "constant": lambda rng, n: np.full(n, 7.25),
    "both zeros": lambda rng, n: rng.choice([0.0, -0.0, 1.0], n),
    "all magnitudes": lambda rng, n: rng.choice([-1.0, 1.0], n) * 10.0 ** rng.uniform(-300, 300, n),
    "subnormal": lambda rng, n: rng.normal(0, 1, n) * 1e-310,
    # Equal but for the last bits, beside values far away: three passes leave all of these in time order.
    "last bits": lambda rng, n: np.where(rng.random(n) < 0.01, -1e9, 1 / 3 + rng.integers(0, 99, n) * 2.0**-54),
    "falling": lambda rng, n: -np.arange(n, dtype=np.float64),
}


def order_of(row: np.ndarray) -> np.ndarray:
    n = row.size
    return ascending(row, n, np.empty((3, n), np.uint64), np.empty((2, n), np.int32))[:n]


@pytest.mark.parametrize("n", [0, 1, 2, 63, 64, 65, 1_500])
@pytest.mark.parametrize("kind", ROWS)
def test_the_order_is_numpys_stable_one(kind: str, n: int) -> None:
    row = ROWS[kind](np.random.default_rng(n), n)
    assert_array_equal(order_of(row), np.argsort(row, kind="stable"))


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False), max_size=80))
def test_the_order_of_any_numbers_is_numpys_stable_one(listed: list[float]) -> None:
    row = np.array(listed, dtype=np.float64)
    assert_array_equal(order_of(row), np.argsort(row, kind="stable"))


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.floats(-1e6, 1e6), st.integers(0, 4).map(float)), max_size=150),
    st.integers(1, 90),
    st.data(),
)
def test_every_window_has_numpys_quantile_and_the_last_one_is_listed(
    listed: list[float], width: int, data: st.DataObject
) -> None:
    row = np.array(listed, dtype=np.float64)
    n, size = row.size, data.draw(st.integers(0, min(len(listed), width)))
    share = data.draw(st.sampled_from([0.0, 0.01, 0.25, 0.5, 0.99, 1 - 1e-16]))
    rank, ordered = np.empty(n, np.int32), np.empty(n + 1)
    rank_samples(row, n, np.empty((3, n), np.uint64), np.empty((2, n), np.int32), rank, ordered)
    members, out = np.empty(n // 64 + 1, np.uint64), np.empty(n - size + 1)
    window_quantiles(rank, ordered, size, width, share, members, out)
    expected = [naive_quantiles(listed[:end], width, [share])[0] for end in range(size, n + 1)]
    assert_array_equal(out, expected)
    last = np.empty(min(n, width))
    list_members(members, ordered, last)
    assert_array_equal(last, np.sort(row[n - last.size :]))
