"""What state and results cost on disk: a fit's state, what a tick consumed, and a tick's results."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from engine.bench.measuring import Row, Stopwatch, Task, repeated, row
from engine.errors import StartError
from engine.frame import Batch, Frame, Query, State
from engine.group import Group
from engine.metrics import Metrics
from engine.models.base import Model
from engine.pool import Pool
from engine.saving import Saver
from engine.score import resolve
from engine.series import SeriesTable
from engine.spool.spool import Spool
from engine.state.store import StateStore
from engine.writer.noop import NoopWriter

_NAMES = {"scheduler_alias": "scheduler", "model_alias": "model", "query_key": "bench", "preset": "default"}


class _Ticking(Group):
    """A group that has consumed the same frame whenever it is asked: what is kept of a tick depends on no model."""

    def __init__(self, task: Task, model: Model, state: State, frame: Frame, pool: Pool, metrics: Metrics) -> None:
        query = Query("bench", "", task.step_ms)
        super().__init__(model, query, resolve(model, query), _NAMES, pool, metrics)
        self._frame = frame
        self.adopt(state, task.end_ms)

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[list[Frame]]:
        yield [self._frame]


def _folder() -> tempfile.TemporaryDirectory[str]:
    """A new folder.

    Raises
    ------
    StartError : there is no place for one.
    """
    try:
        return tempfile.TemporaryDirectory(prefix="engine-bench-")
    except OSError as err:
        raise StartError(f"state cannot be measured, set TMPDIR to a folder that can be written: {err}") from err


def measure_keeping(
    task: Task, model: Model, state: State, frame: Frame, batch: Batch, table: SeriesTable, pool: Pool
) -> list[Row]:
    """The rows of a state that is saved after a fit and committed after a tick, and of results put into the spool.

    Each ends when the disk has it. The folder is a temporary one, so TMPDIR chooses the disk.

    Raises
    ------
    StartError : there is no place for it.
    """
    metrics = Metrics()
    with _folder() as name:
        store, spool = StateStore(Path(name)), Spool(Path(name) / "spool", 1 << 40)
        keeper = store.keeper({"scheduler": "scheduler", "model": "model", "query": "bench"}, "bench")
        group = _Ticking(task, model, state, frame, pool, metrics)
        saver = Saver(group, table, "bench", keeper, NoopWriter(), metrics)

        def save(watch: Stopwatch) -> int:
            watch.run(lambda: saver.save({"at_ms": task.end_ms}))
            return keeper.size_bytes

        def commit(watch: Stopwatch) -> int:
            before = keeper.size_bytes
            watch.run(saver.commit)
            return keeper.size_bytes - before

        def keep(watch: Stopwatch) -> int:
            before = spool.size_bytes()
            watch.run(lambda: spool.add(batch))
            return spool.size_bytes() - before

        parts = (
            ("save state", save, state.series.size),
            ("commit state", commit, frame.series.size),
            ("spool", keep, batch.output.series.size),
        )
        try:
            return [
                row(stage, watches, n, n, n_bytes) for stage, step, n in parts for watches, n_bytes in [repeated(step)]
            ]
        finally:
            spool.close()
            store.close()
