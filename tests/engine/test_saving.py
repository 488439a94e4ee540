"""A process that is killed and one that follows it on its state folder write what one alone would have written."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.channels.group import ChannelGroup
from engine.channels.reader import ChannelReader
from engine.errors import StateError
from engine.frame import F64, Batch, Query
from engine.group import Group
from engine.metrics import Metrics
from engine.models.base import Model
from engine.pipeline import Limits, Unit
from engine.pool import Pool
from engine.saving import Saver
from engine.score import resolve
from engine.series import SeriesTable
from engine.state.store import Keeper, StateStore
from engine.writer.noop import NoopWriter
from tests.engine.channel_bench import QueriesReader
from tests.fakes import BrokenModel, CountingModel, JointModel, MemoryWriter, StaticModel
from tests.models import test_contract as single
from tests.models import test_contract_multivariate as joint
from tests.strategies import START_MS

STEP_MS = single.STEP_MS
BEGIN_MS = START_MS // STEP_MS * STEP_MS
FIT_MS = BEGIN_MS + (single.STEPS - 1) * STEP_MS
Cells = dict[tuple[str, str, str, int], float]


class Process:
    """One unit of one model, and its state in a folder; another of these on the same folder is the next process."""

    def __init__(self, model: Model, folder: Path, points: Mapping[str, Mapping[Any, dict[int, float]]]) -> None:
        self.metrics, self.pool, self.writer = Metrics(), Pool(1), MemoryWriter()
        self.reader = QueriesReader(points={alias: dict(of_series) for alias, of_series in points.items()})
        queries = [Query(alias, "", STEP_MS) for alias in points]
        names = {"query_key": ",".join(points), "model_alias": "m", "scheduler_alias": "s", "preset": "default"}
        self.group: Group
        self.names: Any
        if model.is_multivariate:
            channels = ChannelReader(self.reader, queries)
            policies = [resolve(model, query, 1.01) for query in channels.channels.queries]
            self.group = ChannelGroup(
                model, channels.query, policies, channels.channels, names, self.pool, self.metrics
            )
            self.names, reader, query = channels.channels, channels, channels.query
        else:
            query, reader = queries[0], self.reader
            self.group = Group(model, query, resolve(model, query, 1.01), names, self.pool, self.metrics)
            self.names = self.reader.table(query)
        self.store = StateStore(folder)
        keeper = self.store.keeper({"scheduler": "s", "model": "m", "query": query.alias}, "i")
        self.saver = Saver(self.group, self.names, "i", keeper, NoopWriter(), self.metrics)
        limits = Limits(single.STEPS * STEP_MS, STEP_MS, 1_000 * STEP_MS)
        self.unit = Unit(
            *("s", query, [self.group], limits, reader, self.writer, self.pool, self.metrics),
            savers={self.group: self.saver},
        )

    def killed(self) -> Cells:
        """What was written until then; nothing else is done at the end of a process."""
        self.store.close()
        cells: Cells = {}
        for batch in self.writer.batches:
            for name, column in batch.output.columns.items():
                for i, t in np.argwhere(np.isfinite(column)).tolist():
                    labels = batch.table.text(int(batch.output.series[i])).decode()
                    at = int(batch.output.timestamps_ms[t])
                    cells[name, batch.query_key, labels, at] = float(column[i, t])
        return cells


def points_of(values: F64, n_queries: int = 1, *, is_reversed: bool = False) -> dict[str, dict[Any, dict[int, float]]]:
    """The rows as series of some queries; reversed, another process meets them in another order."""
    points: dict[str, dict[Any, dict[int, float]]] = {f"q{k}": {} for k in range(n_queries)}
    rows = range(values.shape[0])
    for i in reversed(rows) if is_reversed else rows:
        labels = (("group", str(joint.GROUPS[i])), ("row", str(i)))
        series = {BEGIN_MS + k * STEP_MS: float(v) for k, v in enumerate(values[i]) if np.isfinite(v)}
        points[f"q{i % n_queries}"][labels] = series
    return points


def lifetimes(
    model: Model, folder: Path, values: F64, kills: list[int], n_queries: int = 1, ticks: int = 12
) -> tuple[Cells, Process]:
    """What all processes wrote that were killed after these ticks, and the last of them."""
    cells: Cells = {}
    process = Process(model, folder, points_of(values, n_queries))
    process.unit.fit(FIT_MS)
    for tick in range(1, ticks + 1):
        process.unit.infer(FIT_MS + tick * STEP_MS)
        if tick in kills:
            cells |= process.killed()
            process = Process(model, folder, points_of(values, n_queries, is_reversed=len(cells) % 2 == 0))
            assert process.unit.restore({}) == FIT_MS
    return cells | process.killed(), process


def assert_lives_on(model: Model, tmp_path: Path, values: F64, n_queries: int = 1) -> None:
    alone, one = lifetimes(model, tmp_path / "one", values, [], n_queries)
    together, last = lifetimes(model, tmp_path / "many", values, [1, 2, 7], n_queries)
    assert alone.keys() == together.keys()
    assert alone == together
    assert len({key[3] for key in alone}) >= 12
    before, after = rows_by_name(one), rows_by_name(last)
    assert before.keys() == after.keys()
    for name, columns in before.items():
        for column, value in columns.items():
            np.testing.assert_array_equal(after[name][column], value, err_msg=f"{name} {column}")


def rows_by_name(process: Process) -> dict[bytes, dict[str, Any]]:
    state = process.group.state
    assert state is not None
    texts = [process.names.text(number) for number in state.series.tolist()]
    return {text: {name: column[k] for name, column in state.columns.items()} for k, text in enumerate(texts)}


@pytest.mark.parametrize("model", [*single.VARIANTS, CountingModel(), StaticModel()])
def test_every_model_lives_on_in_the_next_process(model: Model, tmp_path: Path) -> None:
    assert_lives_on(model, tmp_path, single.history())


@pytest.mark.parametrize("model", joint.VARIANTS)
def test_every_multivariate_model_lives_on_in_the_next_process(model: Model, tmp_path: Path) -> None:
    grouped = {name: getattr(model, name) for name in model.__struct_fields__} | {"groupby": ["group"]}
    assert_lives_on(type(model)(**grouped), tmp_path, joint.history(), n_queries=2)


def test_series_that_come_between_two_fits_live_on(tmp_path: Path) -> None:
    values = np.ones((10, single.STEPS + 12))
    values[3, : single.STEPS + 2] = np.nan
    values[4, : single.STEPS + 7] = np.nan
    assert_lives_on(CountingModel(), tmp_path, values)
    assert_lives_on(JointModel(groupby=["group"]), tmp_path / "joint", values, n_queries=2)


def test_a_model_that_fails_at_inference_lives_on_with_what_it_has_seen(tmp_path: Path) -> None:
    process = Process(BrokenModel(), tmp_path, points_of(np.ones((2, single.STEPS + 3))))
    process.unit.fit(FIT_MS)
    process.unit.infer(FIT_MS + STEP_MS)
    process.killed()
    after = Process(BrokenModel(), tmp_path, points_of(np.ones((2, single.STEPS + 3))))
    assert after.unit.restore({}) == FIT_MS
    assert after.group.seen.newest_ms() == FIT_MS + STEP_MS
    after.killed()


def test_what_was_not_committed_is_scored_again_and_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = single.history()
    model = single.CLASSES["zscore_online"]()
    alone, _ = lifetimes(model, tmp_path / "one", values, [])
    process = Process(model, tmp_path / "many", points_of(values))
    process.unit.fit(FIT_MS)
    process.unit.infer(FIT_MS + STEP_MS)
    monkeypatch.setattr(process.saver, "commit", lambda: None)  # killed between the two
    for tick in (2, 3):
        process.unit.infer(FIT_MS + tick * STEP_MS)
    first = process.killed()
    after = Process(model, tmp_path / "many", points_of(values))
    after.unit.restore({})
    for tick in range(4, 13):
        after.unit.infer(FIT_MS + tick * STEP_MS)
    second = after.killed()
    both = first.keys() & second.keys()
    assert {key[3] for key in both} == {FIT_MS + 2 * STEP_MS, FIT_MS + 3 * STEP_MS}
    assert all(first[key] == second[key] for key in both)
    assert first | second == alone


class Killed(BaseException):
    """The process ends here."""


def test_trap_25_an_inference_that_is_cut_short_commits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(CountingModel(), tmp_path, points_of(single.history()))
    process.unit.fit(FIT_MS)
    process.unit.infer(FIT_MS + STEP_MS)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def killed(batch: Batch) -> None:
        raise Killed

    monkeypatch.setattr(process.writer, "submit", killed)
    with pytest.raises(Killed):
        process.unit.infer(FIT_MS + 2 * STEP_MS)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    process.killed()
    after = Process(CountingModel(), tmp_path, points_of(single.history()))
    after.unit.restore({})
    after.unit.infer(FIT_MS + 2 * STEP_MS)
    assert {key[3] for key in after.killed()} == {FIT_MS + 2 * STEP_MS}


def fail(name: str) -> Callable[..., None]:
    def raiser(*_: object) -> None:
        raise StateError(f"{name}: No space left on device")

    return raiser


def test_a_full_disk_costs_no_score_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    values = single.history()
    alone, _ = lifetimes(CountingModel(), tmp_path / "one", values, [])
    process = Process(CountingModel(), tmp_path / "full", points_of(values))
    process.unit.fit(FIT_MS)
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "append", fail("append"))
        patch.setattr(Keeper, "save", fail("save"))
        for tick in range(1, 6):
            process.unit.infer(FIT_MS + tick * STEP_MS)
    assert caplog.text.count("No space left") == 1
    labels = {"query_key": "q0", "model_alias": "m", "scheduler_alias": "s", "preset": "default"}
    assert process.metrics.registry.get_sample_value("vmanomaly_state_commit_errors_total", labels) == 5
    # `append` was replaced as a whole, so the journal does not know that it lacks something.
    process.saver._keeper._journal.is_broken = True
    process.unit.infer(FIT_MS + 6 * STEP_MS)
    cells = process.killed()
    after = Process(CountingModel(), tmp_path / "full", points_of(values))
    assert after.unit.restore({}) == FIT_MS
    assert after.group.seen.newest_ms() == FIT_MS + 6 * STEP_MS
    for tick in range(7, 13):
        after.unit.infer(FIT_MS + tick * STEP_MS)
    assert cells | after.killed() == alone


def test_a_folder_that_is_gone_costs_no_score(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    process = Process(CountingModel(), tmp_path / "state", points_of(single.history()))
    shutil.rmtree(tmp_path / "state")
    assert process.unit.fit(FIT_MS).is_fitted
    process.unit.infer(FIT_MS + STEP_MS)
    assert caplog.text.count("cannot be written: No such file or directory") == 1
    assert {key[3] for key in process.killed()} == {FIT_MS, FIT_MS + STEP_MS}


def test_a_journal_that_cannot_be_read_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    process = Process(CountingModel(), tmp_path, points_of(single.history()))
    process.unit.fit(FIT_MS)
    process.unit.infer(FIT_MS + STEP_MS)
    process.killed()
    (journal,) = tmp_path.glob("*.journal")
    journal.unlink()
    journal.mkdir()
    after = Process(CountingModel(), tmp_path, points_of(single.history()))
    assert after.unit.restore({}) is None
    assert after.group.state is None
    assert "cannot be used and is fitted anew" in caplog.text
    after.killed()


@pytest.mark.parametrize("missing", ["series", "names", "seen.times", "is_fitted"])
def test_state_that_lacks_something_is_not_used(
    tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process(CountingModel(), tmp_path, points_of(single.history()))
    process.unit.fit(FIT_MS)
    process.unit.infer(FIT_MS + STEP_MS)
    process.killed()
    after = Process(CountingModel(), tmp_path, points_of(single.history()))
    load = Keeper.load

    def without(keeper: Keeper) -> Any:
        found = load(keeper)
        assert found is not None
        del found[0].arrays[missing]
        return found

    monkeypatch.setattr(Keeper, "load", without)
    assert after.unit.restore({}) is None
    assert after.group.state is None
    assert "cannot be used and is fitted anew" in caplog.text
    after.killed()


def test_a_series_table_gives_the_numbers_of_texts() -> None:
    table = SeriesTable()
    numbers = [table.intern({"a": str(k), "b": 'x"\\'}) for k in range(3)]
    texts = [table.text(number) for number in numbers]
    other = SeriesTable()
    assert other.numbers(texts[::-1]).tolist() == [0, 1, 2]
    assert [other.text(number) for number in (2, 1, 0)] == texts
    assert other.labels(0) == {"a": "2", "b": 'x"\\'}
