from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import engine.spool.segment
import engine.spool.spool
from engine.errors import StartError
from engine.frame import Batch
from engine.series import SeriesTable
from engine.spool.spool import Spool
from tests.engine.writer.batches import make_batch, numbered

GIB = 1 << 30


def value(batch: Batch) -> float:
    return float(batch.output.columns["y"][0, 0])


def take(spool: Spool) -> float | None:
    """The value of the next batch, which is delivered; None for none."""
    entry = spool.next()
    if entry is None:
        return None
    spool.done(entry)
    return value(entry.batch)


def take_all(spool: Spool) -> list[float]:
    found = []
    while (taken := take(spool)) is not None:
        found.append(taken)
    return found


def filled(spool: Spool, *values: int, table: SeriesTable | None = None) -> Spool:
    for k in values:
        assert spool.add(numbered(k, table)) == []
    return spool


@pytest.fixture(params=["memory", "disk"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Spool:
    return Spool(tmp_path / "s" if request.param == "disk" else None, GIB)


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file takes one batch, or a few."""
    monkeypatch.setattr(engine.spool.segment, "_FULL_BYTES", 1)
    monkeypatch.setattr(engine.spool.segment, "_FULL_BATCHES", 1)


def test_batches_come_out_in_order(spool: Spool) -> None:
    filled(spool, *range(5))
    assert (spool.n_waiting(), spool.n_added) == (5, 5)
    assert take_all(spool) == [0, 1, 2, 3, 4]
    assert spool.n_waiting() == 0
    assert take(filled(spool, 7)) == 7


def test_a_backlog_and_what_came_since_are_taken_in_turns_oldest_first(spool: Spool) -> None:
    filled(spool, *range(4))
    spool.set_back()
    filled(spool, *range(4, 7))
    assert take_all(spool) == [0, 4, 1, 5, 2, 6, 3]


def test_a_second_failure_makes_all_of_it_backlog(spool: Spool) -> None:
    filled(spool, *range(3))
    spool.set_back()
    filled(spool, 3, 4)
    assert take(spool) == 0
    spool.set_back()
    assert take_all(spool) == [1, 2, 3, 4]


@pytest.mark.usefixtures("small_files")
def test_what_is_not_settled_is_given_again(spool: Spool) -> None:
    filled(spool, *range(4))
    assert [take(spool), take(spool)] == [0, 1]
    spool.settle(time.monotonic())
    assert take(spool) == 2
    spool.repeat()
    entries = [spool.next(), spool.next()]
    assert [(value(e.batch), e.is_repeat) for e in entries if e] == [(2, True), (2, True)]  # it is under way
    assert entries[1] is not None
    spool.done(entries[1])
    assert take_all(spool) == [3]
    assert spool.first_delivered_s() < time.monotonic()
    spool.settle(time.monotonic())
    assert spool.first_delivered_s() == float("inf")
    assert take_all(spool) == []


def test_only_what_was_delivered_long_enough_ago_is_settled(spool: Spool) -> None:
    filled(spool, 0, 1)
    take(spool)
    between = time.monotonic()
    take(spool)
    spool.settle(between)
    spool.repeat()
    assert take_all(spool) == [1]


@pytest.mark.usefixtures("small_files")
def test_the_oldest_is_given_up_for_the_newest(spool: Spool) -> None:
    filled(spool, 0)
    one = spool.size_bytes()
    small = Spool(None if spool._folder is None else spool._folder.with_name("t"), 3 * one)
    lost = [given_up for k in range(5) for given_up in small.add(numbered(k))]
    assert [(value(g.batch), g.reason, g.n_points) for g in lost] == [(0, "queue_full", 1), (1, "queue_full", 1)]
    assert take_all(small) == [2, 3, 4]


@pytest.mark.usefixtures("small_files")
def test_delivered_and_repeated_batches_are_not_counted_as_given_up(spool: Spool) -> None:
    small = Spool(None, 16)
    filled(small, 0)
    take(small)
    small.repeat()
    assert small.add(numbered(1)) == []
    assert small.add(numbered(2)) == []
    assert [value(g.batch) for g in small.add(numbered(3))] == [1]


@pytest.mark.usefixtures("small_files")
def test_the_one_under_way_is_not_given_up(spool: Spool) -> None:
    small = Spool(None, 16)
    filled(small, 0)
    entry = small.next()
    assert [small.add(numbered(k)) for k in (1, 2)] == [[], []]
    assert entry is not None
    small.done(entry)
    assert take_all(small) == [1, 2]


@pytest.mark.usefixtures("small_files")
def test_what_is_too_old_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, GIB, 60.0)
    filled(spool, 0, 1)
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert [(value(g.batch), g.reason) for g in spool.add(numbered(2))] == [(0, "too_old"), (1, "too_old")]
    assert take_all(spool) == [2]


# On disk.


def again(spool: Spool, folder: Path) -> Spool:
    """What another process finds."""
    spool.close()
    return Spool(folder, GIB)


@pytest.mark.parametrize("files", ["one", "many"])
def test_another_process_goes_on(tmp_path: Path, files: str, request: pytest.FixtureRequest) -> None:
    if files == "many":
        request.getfixturevalue("small_files")
    first = filled(Spool(tmp_path, GIB), 0, 1, 2)
    take(first)  # it is not settled: the database may lose it
    second = again(first, tmp_path)
    assert second.n_added == 3
    assert second.waiting_s() > 0
    filled(second, 3)
    third = again(second, tmp_path)
    assert take_all(third) == [0, 1, 2, 3]
    assert third.n_added == 4


def test_what_was_settled_does_not_come_back(tmp_path: Path) -> None:
    spool = filled(Spool(tmp_path, GIB), 0, 1)
    take_all(spool)
    spool.settle(time.monotonic())
    filled(spool, 2)  # says so in the file
    assert take_all(again(spool, tmp_path)) == [2]


@pytest.mark.usefixtures("small_files")
def test_files_go_when_all_in_them_is_settled_and_numbers_stay(tmp_path: Path) -> None:
    spool = filled(Spool(tmp_path, GIB), *range(5))
    take_all(spool)
    spool.settle(time.monotonic())
    assert len(list(tmp_path.glob("*.spool"))) == 1
    assert again(spool, tmp_path).n_added == 5


def test_all_of_a_batch_comes_back(tmp_path: Path) -> None:
    table = SeriesTable()
    batches = [
        make_batch(
            [{"i": "1", "long": "é" * 1000}, {"i": "0"}],
            {"y": [[1.5, np.nan], [2, 3]], "yhat": [[np.inf, 4], [-0.0, 5e-324]]},
            table=table,
        ),
        make_batch([{"i": "2"}, {"i": "0"}], {"y": [[6.0], [7]]}, table=table, query_key="other"),
        make_batch([{"i": "0"}], {"y": [[8.0]]}),
    ]
    spool = Spool(tmp_path, GIB)
    for batch in batches:
        spool.add(batch)
    spool = again(spool, tmp_path)
    for batch in batches:
        entry = spool.next()
        assert entry is not None
        found = entry.batch
        spool.done(entry)
        assert (found.query_key, found.model_alias, found.scheduler_alias, found.preset) == (
            batch.query_key, batch.model_alias, batch.scheduler_alias, batch.preset)  # fmt: skip
        assert found.metric_labels == batch.metric_labels
        rows = batch.output.series.tolist()
        assert [found.table.labels(k) for k in found.output.series.tolist()] == [batch.table.labels(k) for k in rows]
        assert found.output.timestamps_ms.tolist() == batch.output.timestamps_ms.tolist()
        assert list(found.output.columns) == list(batch.output.columns)
        for name, column in batch.output.columns.items():
            assert found.output.columns[name].tobytes() == column.tobytes()


def test_a_torn_file_gives_its_whole_batches_and_tells_of_the_rest(tmp_path: Path) -> None:
    spool = filled(Spool(tmp_path, GIB), *range(4))
    spool.close()
    (path,) = tmp_path.glob("*.spool")
    whole = path.read_bytes()
    found = set()
    for size in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:size])
        spool = Spool(tmp_path, GIB)
        n = spool.n_waiting()
        assert spool.has_lost(0, 4) == (n < 4)
        assert not spool.has_lost(0, n)
        assert take_all(spool) == list(range(n))
        found.add(n)
        spool.close()
    assert found >= {0, 1, 2, 3}


def test_what_this_process_adds_to_a_folder_of_before_is_not_lost(tmp_path: Path) -> None:
    spool = again(filled(Spool(tmp_path, GIB), 0, 1), tmp_path)
    filled(spool, 2, 3)
    assert not spool.has_lost(0, 4)
    assert not spool.has_lost(2, 4)


@pytest.mark.usefixtures("small_files")
def test_a_damaged_file_is_set_aside_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(Spool(tmp_path, GIB), *range(4)).close()
    damaged = sorted(tmp_path.glob("*.spool"))[1]
    body = bytearray(damaged.read_bytes())
    body[len(body) // 2] ^= 1
    damaged.write_bytes(body)
    spool = Spool(tmp_path, GIB)
    assert spool.has_lost(0, 4)
    assert spool.has_lost(1, 2)
    assert not spool.has_lost(2, 4)
    assert take_all(filled(spool, 4)) == [0, 4, 2, 3]
    assert len(list(tmp_path.glob("*.damaged"))) == 0


def test_a_file_that_is_damaged_while_it_waits_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = filled(Spool(tmp_path, GIB), *range(3))
    spool.set_back()
    (path,) = tmp_path.glob("*.spool")
    path.write_bytes(b"")
    filled(spool, 3)
    assert take_all(spool) == [3]
    assert spool.n_waiting() == 0
    assert "3 results on disk are damaged" in caplog.text


def test_a_full_disk_keeps_results_in_memory_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = filled(Spool(tmp_path, GIB), 0)
    assert spool.is_durable()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(engine.disk.journal.os, "fdatasync", full)
        filled(spool, 1, 2)
    assert not spool.is_durable()
    filled(spool, 3)
    assert caplog.text.count("No space left on device") == 1
    assert take_all(spool) == [0, 1, 2, 3]
    assert spool.is_durable()
    filled(spool, 4)
    assert take_all(again(spool, tmp_path))[-2:] == [3, 4]


def test_two_processes_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, GIB)
    monkeypatch.setattr(engine.spool.spool, "_WAIT_S", 0.2)
    with pytest.raises(StartError, match="in use by another process"):
        Spool(tmp_path, GIB)
    spool.close()
    Spool(tmp_path, GIB).close()


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="results cannot be kept in"):
        Spool(tmp_path / "file" / "s", GIB)
