"""The only owner of compute threads: cuts rows, runs kernels without the GIL, joins results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from engine.frame import I64
from engine.memory import cpu_capacity

S = TypeVar("S")
T = TypeVar("T")

# Below this many rows a second thread costs more than it saves.
_MIN_ROWS = 64


class Pool:
    """Runs a function over blocks of rows on a fixed set of threads.

    Parameters
    ----------
    n_workers : threads; 0 or less means the CPUs this process may use.
    """

    def __init__(self, n_workers: int = 0) -> None:
        self.n_workers = n_workers if n_workers > 0 else max(1, int(cpu_capacity()))
        self._executor = ThreadPoolExecutor(self.n_workers, thread_name_prefix="kernels")

    def map_rows(self, function: Callable[[int, int], T], n_rows: int, cuts: I64 | None = None) -> list[T]:
        """Results of ``function(start, stop)`` over consecutive blocks that cover the rows, in order.

        `cuts`, increasing from 0 to `n_rows`, are the only places where rows may be cut; None is anywhere. Zero
        rows are one empty block, so that a result always exists. The first exception is raised after all blocks
        have ended.
        """
        n_blocks = max(1, min(self.n_workers, n_rows // _MIN_ROWS))
        edges = [n_rows * k // n_blocks for k in range(n_blocks + 1)]
        if cuts is not None:
            edges = sorted({int(cuts[np.searchsorted(cuts, edge)]) for edge in edges})
        if len(edges) < 3:
            return [function(0, n_rows)]
        futures: list[Any] = [self._executor.submit(function, a, b) for a, b in pairwise(edges)]
        errors = [error for future in futures if (error := future.exception())]
        if errors:
            raise errors[0]
        return [future.result() for future in futures]

    def map(self, function: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """Results of ``function(item)``, in order, each on one of the threads; it must not use this pool itself.

        The first exception is raised after all items have ended.
        """
        futures = [self._executor.submit(function, item) for item in items]
        errors = [error for future in futures if (error := future.exception())]
        if errors:
            raise errors[0]
        return [future.result() for future in futures]

    def close(self) -> None:
        """End the threads; blocks that run are finished, waiting ones are dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)
