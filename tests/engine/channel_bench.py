"""One multivariate model on queries in memory, with what a test asks of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from engine.channels.group import ChannelGroup
from engine.channels.reader import ChannelReader
from engine.errors import ReadError
from engine.frame import Query, Samples, Window
from engine.metrics import Metrics
from engine.models.base import Model
from engine.pipeline import Limits, Unit
from engine.pool import Pool
from engine.score import resolve
from engine.series import SeriesTable
from tests.fakes import MemoryWriter

M, H = 60_000, 3_600_000
T0 = 472_222 * H
Labels = tuple[tuple[str, str], ...]


@dataclass
class QueriesReader:
    """Answers from points put in by hand: ``points[alias][labels][time_ms] = value``, each query in its own pieces."""

    points: dict[str, dict[Labels, dict[int, float]]] = field(default_factory=dict)
    steps_a_piece: dict[str, int] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    after_read: Callable[[], object] = lambda: None
    _tables: dict[str, SeriesTable] = field(default_factory=dict)

    def table(self, query: Query) -> SeriesTable:
        return self._tables.setdefault(query.alias, SeriesTable())

    def read(self, query: Query, window: Window, scheduler_alias: str) -> Iterator[tuple[Window, Samples]]:
        if query.alias in self.failing:
            raise ReadError("the database is away", "connection_error")
        for piece in window.split(self.steps_a_piece.get(query.alias, 1_000_000)):
            found = {
                labels: sorted((t, v) for t, v in points.items() if piece.start_ms <= t <= piece.end_ms)
                for labels, points in self.points.get(query.alias, {}).items()
            }
            found = {labels: points for labels, points in found.items() if points}
            numbers = [self.table(query).intern(dict(labels)) for labels in found]
            flat = [point for points in found.values() for point in points]
            indptr = np.cumsum([0, *(len(points) for points in found.values())], dtype=np.int64)
            times = np.array([t for t, _ in flat], dtype=np.int64)
            values = np.array([v for _, v in flat], dtype=np.float64)
            yield piece, Samples(np.array(numbers, dtype=np.int64), indptr, times, values)
        self.after_read()

    def placed(self, query: Query, scheduler_alias: str, seconds: float) -> None:
        return

    def close(self) -> None:
        return


class ChannelBench:
    """One unit of a multivariate model on the queries `cpu` and `mem`, with reader, writer and metrics at hand."""

    def __init__(self, model: Model, *queries: Query, **limits: object) -> None:
        queries = queries or (Query("mem", "", M), Query("cpu", "", M))
        self.reader, self.writer, self.metrics, self.pool = QueriesReader(), MemoryWriter(), Metrics(), Pool(2)
        joint = ChannelReader(self.reader, queries)
        self.query = joint.query
        names = {"query_key": self.query.alias, "model_alias": "m", "scheduler_alias": "s", "preset": "default"}
        policies = [resolve(model, query, 1.01) for query in joint.channels.queries]
        self.group = ChannelGroup(model, self.query, policies, joint.channels, names, self.pool, self.metrics)
        values = {"fit_window_ms": 10 * M, "infer_every_ms": M, "max_lookback_ms": 30 * M, **limits}
        bounds = Limits(**values)
        self.unit = Unit("s", self.query, [self.group], bounds, joint, self.writer, self.pool, self.metrics)

    def feed(self, alias: str, first: int, last: int, value: float = 1.0, **labels: str) -> None:
        """Points of one series at minutes first..last after T0."""
        points = self.reader.points.setdefault(alias, {}).setdefault(tuple(sorted(labels.items())), {})
        points.update({T0 + k * M: value for k in range(first, last + 1)})

    def count(self, name: str, **labels: str) -> float:
        wanted = {"query_key": self.query.alias, "scheduler_alias": "s", "preset": "default", "model_alias": "m"}
        return self.metrics.registry.get_sample_value(name, {**wanted, **labels}) or 0.0

    def written(self, column: str = "anomaly_score") -> dict[tuple[str, Labels], dict[int, float]]:
        """By `for` and labels, the value at each minute after T0; a cell that is written twice is an error."""
        cells: dict[tuple[str, Labels], dict[int, float]] = {}
        for batch in self.writer.batches:
            for i, t in np.argwhere(np.isfinite(batch.output.columns.get(column, np.empty((0, 0))))).tolist():
                labels = tuple(sorted(batch.table.labels(int(batch.output.series[i])).items()))
                minute = (int(batch.output.timestamps_ms[t]) - T0) // M
                points = cells.setdefault((batch.query_key, labels), {})
                assert minute not in points
                points[minute] = float(batch.output.columns[column][i, t])
        return cells

    def minutes(self, **labels: str) -> list[int]:
        """When a group was scored."""
        return sorted(self.written().get((self.query.alias, tuple(sorted(labels.items()))), {}))
