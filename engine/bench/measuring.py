"""What is measured of one model, and how: repeats, medians, rates."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from engine.errors import StartError

REPEATS = 5
Row = dict[str, Any]
T = TypeVar("T")


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One process's work.

    Parameters
    ----------
    kind : "stages", or "line" for end to end.
    end_ms : where the fit window ends; the ticks follow it, one step each.
    source_url, target_url : what is read and what is written to.
    prefix : of the names that are written.
    """

    kind: str
    model: str
    n_series: int
    n_points: int
    step_ms: int
    threads: int
    end_ms: int
    source_url: str = ""
    target_url: str = ""
    query: str = ""
    prefix: str = ""


class Found(msgspec.Struct, kw_only=True):
    """What a process found, or the error that kept it from that."""

    rows: list[Row] = []
    peak_rss_bytes: int = 0
    state_bytes_per_series: float | None = None
    n_series: int = 0
    error: str = ""


def peak_rss_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Stopwatch:
    """Sums up the wall and CPU time of the parts of one repeat; CPU is that of all threads."""

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0

    def run(self, function: Callable[[], T]) -> T:
        """The function's result."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = function()
        self.cpu_seconds += time.process_time() - cpu
        self.seconds += time.perf_counter() - wall
        return result


def repeated(function: Callable[[Stopwatch], int | None]) -> tuple[list[Stopwatch], int | None]:
    """The stopwatches of all repeats, the first of all, which warms up, left out; and the bytes of the last one."""
    watches, n_bytes = [], None
    for _ in range(REPEATS + 1):
        watch = Stopwatch()
        n_bytes = function(watch)
        watches.append(watch)
    return watches[1:], n_bytes


def row(stage: str, watches: list[Stopwatch], n_series: int, n_points: int, n_bytes: int | None = None) -> Row:
    """One line of the result: medians, and the rates that follow from them.

    Parameters
    ----------
    n_points : of all series, each time.
    """
    seconds = max(statistics.median(watch.seconds for watch in watches), 1e-9)
    return {
        "stage": stage,
        "seconds": seconds,
        "cpu_seconds": statistics.median(watch.cpu_seconds for watch in watches),
        "repeats": len(watches),
        "series": n_series,
        "points": n_points,
        "bytes": n_bytes,
        "series_per_second": n_series / seconds,
        "points_per_second": n_points / seconds,
        "mb_per_second": None if n_bytes is None else n_bytes / seconds / 1e6,
    }


def need(is_there: bool, model: str) -> None:
    """Stop where a model had too little to fit.

    Raises
    ------
    StartError : so it is.
    """
    if not is_there:
        raise StartError(f"{model}: no series could be fitted; --points gives the model more history")
