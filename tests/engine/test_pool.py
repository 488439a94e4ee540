"""Rows over threads: every row once, in order, and errors that are not lost."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine.memory
from engine.memory import cpu_capacity, memory_capacity
from engine.pool import Pool


@given(st.integers(1, 5), st.integers(0, 1000))
def test_blocks_cover_all_rows_once_in_order(n_workers: int, n_rows: int) -> None:
    pool = Pool(n_workers)
    blocks = pool.map_rows(lambda start, stop: (start, stop), n_rows)
    pool.close()
    assert [row for start, stop in blocks for row in range(start, stop)] == list(range(n_rows))
    assert 1 <= len(blocks) <= n_workers


def test_no_row_is_still_one_call() -> None:
    assert Pool(2).map_rows(lambda start, stop: (start, stop), 0) == [(0, 0)]


def test_blocks_run_beside_each_other_on_the_pools_threads() -> None:
    together = threading.Barrier(2)

    def block(_start: int, _stop: int) -> str:
        together.wait(10)
        return threading.current_thread().name

    names = Pool(2).map_rows(block, 1000)
    assert len(set(names)) == 2
    assert all(name.startswith("kernels") for name in names)


def test_the_first_error_is_raised_after_all_blocks_have_ended() -> None:
    ended: list[int] = []

    def block(start: int, _stop: int) -> None:
        ended.append(start)
        raise ValueError(f"block at {start}")

    with pytest.raises(ValueError, match="block at 0"):
        Pool(3).map_rows(block, 900)
    assert sorted(ended) == [0, 300, 600]


def test_several_callers_share_the_threads() -> None:
    pool, results = Pool(2), {}

    def call(caller: int) -> None:
        results[caller] = [sum(pool.map_rows(lambda a, b: b - a, 500)) for _ in range(50)]

    callers = [threading.Thread(target=call, args=(k,)) for k in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(30)
    assert results == {k: [500] * 50 for k in range(4)}


@pytest.mark.parametrize(
    ("files", "cpus", "n_workers"),
    [
        ({"cpu.max": "50000 100000"}, 0.5, 1),
        ({"cpu.max": "300000 100000"}, 3, 3),
        ({"cpu.max": "350000 100000"}, 3.5, 3),
        ({"cpu.max": "max 100000"}, 8, 8),
        ({"cpu.max": "6400000 100000"}, 8, 8),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8, 8),
        ({}, 8, 8),
    ],
)
def test_trap_21_the_pool_has_the_cpus_of_the_container_and_not_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cpus: float, n_workers: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(engine.memory, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))  # of a host with more than that
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert cpu_capacity() == cpus
    assert Pool().n_workers == Pool(-1).n_workers == n_workers
    assert Pool(7).n_workers == 7


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_trap_21_memory_is_the_containers_and_not_the_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(engine.memory, "CGROUP", tmp_path)
    host = memory_capacity()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    for text, expected in ((f"{100 << 20}", 100 << 20), ("max", host), (f"{(1 << 63) - 4096}", host)):
        (tmp_path / name).write_text(f"{text}\n")
        assert memory_capacity() == expected
