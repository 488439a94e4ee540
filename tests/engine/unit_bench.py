"""One unit over a reader and a writer in memory, with what a test asks of it."""

from __future__ import annotations

from engine.frame import Query
from engine.group import Group
from engine.metrics import Metrics
from engine.models.base import Model
from engine.pipeline import Limits, Unit
from engine.pool import Pool
from engine.score import resolve
from tests.fakes import MemoryReader, MemoryWriter

M, H = 60_000, 3_600_000
T0 = 472_222 * H
QUERY = Query("q", "up", M)


class Bench:
    """One unit with its reader, writer and metrics at hand."""

    def __init__(self, *models: Model, **limits: object) -> None:
        self.reader, self.writer, self.metrics, self.pool = MemoryReader(), MemoryWriter(), Metrics(), Pool(2)
        self.groups = []
        for k, model in enumerate(models):
            names = {"query_key": "q", "model_alias": f"m{k}", "scheduler_alias": "s", "preset": "default"}
            self.groups.append(Group(model, QUERY, resolve(model, QUERY, 1.01), names, self.pool, self.metrics))
        values = {"fit_window_ms": 10 * M, "infer_every_ms": M, "max_lookback_ms": 30 * M, **limits}
        bounds = Limits(**values)
        parts = (self.reader, self.writer, self.pool, self.metrics)
        self.is_stopping = False
        self.unit = Unit("s", QUERY, self.groups, bounds, *parts, lambda: self.is_stopping)

    def feed(self, name: str, first: int, last: int, value: float = 1.0) -> None:
        """Points of one series at minutes first..last after T0."""
        self.reader.points.setdefault(name, {}).update({T0 + k * M: value for k in range(first, last + 1)})

    def count(self, name: str, **labels: str) -> float:
        wanted = {"query_key": "q", "scheduler_alias": "s", "preset": "default", "model_alias": "m0", **labels}
        return self.metrics.registry.get_sample_value(name, wanted) or 0.0

    def minutes(self, name: str = "a") -> list[int]:
        return [(t - T0) // M for series, t, _ in self.writer.written("y") if series == name]
