"""Queries that several read: one fetch for the same window, none too few, and failures that reach all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.build import make_tasks
from engine.config.schema import load_config
from engine.errors import ReadError
from engine.frame import Query, Samples, Window
from engine.metrics import Metrics
from engine.pool import Pool
from engine.reader import shared as shared_module
from engine.reader.shared import SharedReads
from tests.engine.channel_bench import T0, M, QueriesReader
from tests.fakes import MemoryReader, MemoryWriter

CPU, MEM = Query("cpu", "cpu", M), Query("mem", "mem", M)
NOW = Window(T0, T0 + M, M)
CONFIG = """
schedulers: {s: {class: periodic, infer_every: 1m, fit_window: 30m, fit_every: 2h}}
models:
  each: {class: zscore_online, queries: [cpu], min_n_samples_seen: 1}
  all: {class: temporal_envelope_multivariate, queries: [cpu, mem], groupby: [instance]}
reader: {class: vm, datasource_url: "http://vm:8428", sampling_period: 1m, queries: {cpu: {expr: c}, mem: {expr: m}}}
writer: {class: vm, datasource_url: "http://vm:8428"}
"""


class CountingReader(QueriesReader):
    """Notes what is read, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[str, Window]] = []

    def read(self, query: Query, window: Window, scheduler_alias: str) -> Iterator[tuple[Window, Samples]]:
        self.reads.append((query.alias, window))
        return super().read(query, window, scheduler_alias)


def taken(reader: Any, query: Query = CPU, window: Window = NOW) -> int:
    """How many points a read gave."""
    return sum(samples.n_points for _, samples in reader.read(query, window, "s"))


def memory_reader() -> MemoryReader:
    reader = MemoryReader()
    reader.points["a"] = {T0: 1.0, T0 + M: 2.0}
    return reader


def test_an_inference_of_both_kinds_of_models_reads_each_query_once(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(CONFIG)
    config = load_config([tmp_path / "config.yml"], {})
    reader, writer = CountingReader(), MemoryWriter()
    for alias in ("cpu", "mem"):
        for instance in "ab":
            reader.points.setdefault(alias, {})[("instance", instance),] = {
                T0 + k * M: float(k % 5) for k in range(-30, 3)
            }
    tasks = make_tasks(config, "s", reader, writer, Pool(1), Metrics())
    for task in tasks:
        task.unit.fit(T0)
    for minute in (0, 1, 2):
        reader.reads.clear()
        for task in tasks:
            task.unit.infer(T0 + minute * M)
        assert [alias for alias, _ in reader.reads] == ["cpu", "mem"]
    scored = {(batch.model_alias, batch.query_key) for batch in writer.batches if batch.output.timestamps_ms[-1] > T0}
    assert scored == {("each", "cpu"), ("all", "cpu,mem")}


def test_who_asks_again_gets_a_new_answer_and_the_other_one_that_too() -> None:
    reader = memory_reader()
    shared = SharedReads(reader)
    first, second = shared.user([CPU]), shared.user([CPU, MEM])
    assert (taken(first), taken(second), len(reader.windows)) == (2, 2, 1)
    reader.points["late"] = {T0: 3.0}
    assert (taken(first), len(reader.windows)) == (3, 2)
    assert (taken(first), len(reader.windows)) == (3, 3)
    assert (taken(second), len(reader.windows)) == (3, 3)
    assert (taken(second, window=Window(T0, T0, M)), taken(first), len(reader.windows)) == (2, 3, 5)


def test_what_one_user_reads_alone_and_long_windows_are_read_as_they_are() -> None:
    reader = memory_reader()
    shared = SharedReads(reader)
    first, second = shared.user([CPU]), shared.user([CPU, MEM])
    taken(second, MEM)
    long = Window(T0 - 100 * M, T0, M)
    taken(first, window=long)
    taken(second, window=long)
    assert len(reader.windows) == 3
    assert not shared._fetches


def test_an_old_answer_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_module, "_FRESH_S", -1.0)
    reader = memory_reader()
    shared = SharedReads(reader)
    first, second = shared.user([CPU]), shared.user([CPU])
    taken(first)
    taken(second)
    assert len(reader.windows) == 2


def test_a_failed_read_fails_for_all_that_wait_for_it_and_is_tried_again() -> None:
    reader = memory_reader()
    reader.failures = 1
    shared = SharedReads(reader)
    first, second = shared.user([CPU]), shared.user([CPU])
    for user in (first, second):
        with pytest.raises(ReadError, match="the database is away"):
            taken(user)
    assert len(reader.windows) == 1
    assert (taken(second), taken(first), len(reader.windows)) == (2, 2, 2)


def test_who_comes_while_the_answer_is_on_its_way_waits_for_it() -> None:
    reader = memory_reader()
    has_begun, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        has_begun.set()
        assert may_end.wait(10)

    reader.after_read = hold
    shared = SharedReads(reader)
    users = [shared.user([CPU]) for _ in range(3)]
    counts: list[int] = []
    threads = [threading.Thread(target=lambda u=user: counts.append(taken(u))) for user in users]
    threads[0].start()
    assert has_begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    may_end.set()
    for thread in threads:
        thread.join(10)
    assert counts == [2, 2, 2]
    assert len(reader.windows) == 1
