from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.disk.codec import Record
from engine.errors import StartError, StateError
from engine.state import store as module
from engine.state.store import Keeper, StateStore, clear, fingerprint
from tests.fakes import fill

NAMES = {"scheduler": "s", "model": "m", "query": "q"}


def record(n: int) -> Record:
    return Record({"n": n}, {"values": np.arange(5)})


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[StateStore]:
    made = StateStore(tmp_path)
    yield made
    made.close()


def loaded(keeper: Keeper) -> list[int] | None:
    found = keeper.load()
    return None if found is None else [found[0].facts["n"], *(r.facts["n"] for r in found[1])]


def again(store: StateStore, folder: Path) -> StateStore:
    """The folder as a process finds it that comes after one that was killed."""
    store.close()
    return StateStore(folder)


def test_what_was_saved_and_appended_is_there_after_a_restart(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    keeper = store.keeper(NAMES, "i")
    assert keeper.load() is None
    assert keeper.wants_snapshot
    keeper.save(record(1), 0)
    assert not keeper.wants_snapshot
    keeper.append(record(2))
    keeper.append(record(3))
    store = again(store, tmp_path)
    keeper = store.keeper(NAMES, "i")
    assert loaded(keeper) == [1, 2, 3]
    keeper.append(record(4))
    keeper.save(record(5), 0)
    keeper.append(record(6))
    store = again(store, tmp_path)
    assert loaded(store.keeper(NAMES, "i")) == [5, 6]
    assert len([p for p in tmp_path.iterdir() if p.suffix in (".snapshot", ".journal")]) == 2
    store.close()


def test_state_of_another_identity_or_group_is_not_used(opened: StateStore) -> None:
    opened.keeper(NAMES, "i").save(record(1), 0)
    assert opened.keeper(NAMES, "j").load() is None
    assert opened.keeper({**NAMES, "model": "n"}, "i").load() is None
    assert loaded(opened.keeper(NAMES, "i")) == [1]


def test_a_long_journal_asks_for_a_snapshot(opened: StateStore) -> None:
    keeper = opened.keeper(NAMES, "i")
    keeper.save(record(0), 0)
    for n in range(64):
        assert not keeper.wants_snapshot
        keeper.append(record(n))
    assert keeper.wants_snapshot
    keeper.save(record(0), 0)
    keeper.append(Record({}, {"big": np.zeros(1 << 18)}))
    assert keeper.wants_snapshot


@pytest.mark.parametrize("place", [3, 40, -1])
def test_a_damaged_snapshot_is_set_aside_and_the_rest_lives(
    tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = StateStore(tmp_path)
    keeper, other = store.keeper(NAMES, "i"), store.keeper({**NAMES, "query": "r"}, "i")
    keeper.save(record(1), 0)
    other.save(record(2), 0)
    path = tmp_path / f"{keeper.key}-1.snapshot"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    store = again(store, tmp_path)
    assert store.keeper(NAMES, "i").load() is None
    assert loaded(store.keeper({**NAMES, "query": "r"}, "i")) == [2]
    assert "model 'm', query 'q' is set aside" in caplog.text
    assert path.with_suffix(".damaged").exists()
    keeper = store.keeper(NAMES, "i")
    keeper.save(record(3), 0)
    assert loaded(store.keeper(NAMES, "i")) == [3]
    assert not path.with_suffix(".damaged").exists()
    store.close()


def test_trap_27_a_missing_snapshot_is_no_state(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    keeper = store.keeper(NAMES, "i")
    keeper.save(record(1), 0)
    (tmp_path / f"{keeper.key}-1.snapshot").unlink()
    assert store.keeper(NAMES, "i").load() is None
    store.close()


def test_trap_26_leftovers_of_a_crash_are_removed_and_other_files_are_not(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    keeper = store.keeper(NAMES, "i")
    keeper.save(record(1), 0)
    valid = {p.name for p in tmp_path.iterdir()}
    for name in (f"{keeper.key}-2.snapshot", f"{keeper.key}-2.snapshot.part", f"{'0' * 32}-1.journal"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("vmanomaly.db", "notes-1.snapshot"):
        (tmp_path / name).write_bytes(b"x")
    store = again(store, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == valid | {"vmanomaly.db", "notes-1.snapshot"}
    assert loaded(store.keeper(NAMES, "i")) == [1]
    store.close()


def test_groups_that_are_configured_no_more_are_removed(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    for query in "abc":
        store.keeper({**NAMES, "query": query}, "i").save(record(1), 0)
    store = again(store, tmp_path)
    store.keeper({**NAMES, "query": "b"}, "i")
    assert store.remove_unused() == 2
    assert len(list(tmp_path.glob("*.snapshot"))) == 1
    assert loaded(store.keeper({**NAMES, "query": "b"}, "i")) == [1]
    store.close()


@pytest.mark.parametrize("data", [b"no database at all", b"SQLite format 3\0" + b"\xff" * 4000, b"SQL"])
def test_a_damaged_index_is_set_aside(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    store = StateStore(tmp_path)
    store.keeper(NAMES, "i").save(record(1), 0)
    store.close()
    (tmp_path / "engine.db").write_bytes(data)
    store = StateStore(tmp_path)
    assert store.keeper(NAMES, "i").load() is None
    assert "index of state" in caplog.text
    assert (tmp_path / "engine.damaged").read_bytes() == data
    store.keeper(NAMES, "i").save(record(2), 0)
    assert loaded(store.keeper(NAMES, "i")) == [2]
    store.close()


def test_trap_31_an_index_of_a_later_format_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sqlite3.connect(tmp_path / "engine.db") as db:
        db.execute("pragma user_version = 99")
    db.close()
    StateStore(tmp_path).close()
    assert "format 99" in caplog.text


def test_a_full_disk_stops_no_start_and_loses_no_state(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(small_disk)
    store = StateStore(small_disk)
    keeper = store.keeper(NAMES, "i")
    assert keeper.load() is None
    with pytest.raises(StateError, match="cannot be written: No space left"):
        keeper.save(record(1), 0)
    (small_disk / "filler").unlink()
    keeper.save(record(2), 0)
    store.keeper({**NAMES, "query": "gone"}, "i").save(record(3), 0)
    fill(small_disk)
    store = again(store, small_disk)
    keeper = store.keeper(NAMES, "i")
    assert loaded(keeper) == [2]
    assert store.remove_unused() == 0
    assert "stays until the next start: database or disk is full" in caplog.text
    (small_disk / "filler").unlink()
    assert store.remove_unused() == 1
    assert loaded(keeper) == [2]
    assert "set aside" not in caplog.text
    store.close()


def test_an_index_without_its_table_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = StateStore(tmp_path)
    store.keeper(NAMES, "i").save(record(1), 0)
    store.close()
    with sqlite3.connect(tmp_path / "engine.db") as db:
        db.execute("drop table groups")
    db.close()
    StateStore(tmp_path).close()
    assert "no such table" in caplog.text


def test_one_process_at_a_time(opened: StateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_S", 0.2)
    with pytest.raises(StartError, match="in use by another process"):
        StateStore(tmp_path)


def test_a_folder_that_cannot_be_made_is_a_start_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="state cannot be kept in"):
        StateStore(tmp_path / "file" / "state")


def test_a_failed_write_keeps_what_was_there(opened: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = opened.keeper(NAMES, "i")
    keeper.save(record(1), 0)

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StateError, match="No space left"):
            keeper.save(record(2), 0)
    assert keeper.wants_snapshot
    assert loaded(opened.keeper(NAMES, "i")) == [1]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        fresh = opened.keeper(NAMES, "i")
        assert loaded(fresh) == [1]
        with pytest.raises(StateError, match="No space left"):
            fresh.append(record(3))
    assert fresh.wants_snapshot


def test_state_that_is_turned_off_is_removed_and_nothing_else(tmp_path: Path) -> None:
    assert not clear(tmp_path)
    store = StateStore(tmp_path)
    store.keeper(NAMES, "i").save(record(1), 0)
    store.close()
    (tmp_path / "spool").mkdir()
    assert clear(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["spool"]


def test_a_fingerprint_depends_on_every_part() -> None:
    assert fingerprint({"a": 1, "b": [2.5]}) == fingerprint({"b": [2.5], "a": 1})
    assert len({fingerprint(each) for each in (1, "1", [1], {"a": 1}, {"a": 2}, None)}) == 6
