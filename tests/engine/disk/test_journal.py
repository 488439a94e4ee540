from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.disk.codec import Record
from engine.disk.journal import Journal


def record(n: int) -> Record:
    return Record({"n": n}, {"values": np.arange(n, dtype=np.float64)})


def numbers(path: Path) -> list[int]:
    return [found.facts["n"] for found in Journal(path).read()]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / "j")
    for n in range(4):
        journal.append(record(n))
    return journal.path


def test_records_come_back_in_order(written: Path) -> None:
    assert numbers(written) == [0, 1, 2, 3]


def test_a_journal_torn_at_any_byte_gives_its_whole_records_and_goes_on(written: Path, tmp_path: Path) -> None:
    whole = written.read_bytes()
    sizes = set()
    for size in range(len(whole)):
        torn = tmp_path / "torn"
        torn.write_bytes(whole[:size])
        journal = Journal(torn)
        found = [each.facts["n"] for each in journal.read()]
        assert found == list(range(len(found)))
        assert len(found) < 4
        assert torn.stat().st_size == journal.size_bytes <= size
        sizes.add(len(found))
        journal.append(record(7))
        assert numbers(torn) == [*found, 7]
    assert sizes == {0, 1, 2, 3}


def test_a_flipped_byte_ends_it_there(written: Path) -> None:
    whole = written.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x20
        written.write_bytes(damaged)
        found = numbers(written)
        assert found == list(range(len(found)))
        assert len(found) < 4


def test_nothing_is_added_to_a_file_that_another_hand_changed(written: Path) -> None:
    journal = Journal(written)
    assert len(list(journal.read())) == 4
    with written.open("ab") as file:
        file.write(b"x")
    with pytest.raises(OSError, match="bytes"):
        journal.append(record(4))
    assert journal.is_broken
    with pytest.raises(OSError, match="earlier record"):
        journal.append(record(5))


def test_no_file_is_an_empty_journal(tmp_path: Path) -> None:
    assert numbers(tmp_path / "none") == []
