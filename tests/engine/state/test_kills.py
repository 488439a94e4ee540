"""A process that is killed at any of its system calls that change files leaves state that loads, old or new."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.state.store import StateStore
from tests.engine.state import committer

CALLS = "write,writev,pwrite64,pwritev,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,ftruncate,mkdir,link"
# What may be on disk once so many records were committed, or one more.
VALID = {0: [], 1: [1], 2: [1, 2], 3: [1, 2, 3], 4: [4], 5: [4, 5]}


def commit(folder: Path, *options: str, log: Path) -> tuple[int, int]:
    """Exit code of the committer under strace, and how many records it said to be done."""
    words = ["strace", "-f", "-o", str(log), "-e", f"trace={CALLS}", *options]
    words += [sys.executable, "-m", "tests.engine.state.committer", str(folder)]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False, env={**os.environ, "PYTHONSTARTUP": ""})
    return done.returncode, len(done.stdout)


def found(folder: Path) -> list[int]:
    """The numbers of the records in the folder; each is checked to be whole."""
    store = StateStore(folder)
    try:
        loaded = store.keeper(committer.NAMES, "i").load()
        records = [] if loaded is None else [loaded[0], *loaded[1]]
        for each in records:
            expected = committer.record(each.facts["n"])
            assert all((each.arrays[name] == array).all() for name, array in expected.arrays.items())
        assert not list(folder.glob("*.part"))
        assert len(list(folder.glob("*.snapshot"))) <= 1
        return [each.facts["n"] for each in records]
    finally:
        store.close()


def of_each_call(lines: Sequence[str]) -> list[tuple[str, int]]:
    """(name, how many-th of that name) of each call: strace counts each name for itself."""
    counts: dict[str, int] = {}
    numbered = []
    for line in lines:
        match = re.match(r"\d+ +(\w+)\(", line)
        if match:
            counts[match[1]] = counts.get(match[1], 0) + 1
            numbered.append((match[1], counts[match[1]]))
    return numbered


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_kill_at_any_call_leaves_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code, n_done = commit(tmp_path / "whole", log=log)
    assert (code, n_done) == (0, 5)
    assert found(tmp_path / "whole") == [4, 5]
    calls = of_each_call(log.read_text().splitlines())
    assert len(calls) > 40
    outcomes = set()
    for k, (name, number) in enumerate(calls):
        folder = tmp_path / str(k)
        code, n_done = commit(folder, "-e", f"inject={name}:signal=KILL:when={number}", log=log)
        assert code == -9
        records = found(folder) if folder.exists() else []
        assert records in (VALID[n_done], VALID[min(n_done + 1, 5)]), f"killed at {name} {number}"
        outcomes.add(tuple(records))
        shutil.rmtree(folder, ignore_errors=True)
    assert outcomes == {tuple(records) for records in VALID.values()}
