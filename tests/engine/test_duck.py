"""DuckDB files: open for one operation only, shared with other processes in between."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.duck import DuckFile, StoreError, identifier, require_duckdb, timestamp_sql
from engine.errors import StartError


def in_another_process(path: Path, sql: str) -> str:
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(c.execute(sys.argv[2]).fetchall()); c.close()"
    done = subprocess.run([sys.executable, "-c", code, str(path), sql], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_between_operations_another_process_may_write(tmp_path: Path) -> None:
    file = DuckFile(tmp_path / "a.db")
    with file.open(read_only=False) as connection:
        connection.execute("CREATE TABLE a AS SELECT 1 AS x")
        assert "lock" in in_another_process(file.path, "SELECT 1")
    in_another_process(file.path, "INSERT INTO a VALUES (2)")
    with file.open(read_only=True) as connection:
        assert connection.execute("SELECT sum(x) FROM a").fetchall() == [(3,)]
    assert "[(3,)]" in in_another_process(file.path, "SELECT sum(x) FROM a")


def test_a_file_that_stays_locked_is_an_error_that_names_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.readline()"
    command = [sys.executable, "-c", hold, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        text = rf"a\.db: process {holder.pid} .* has had the file open"
        with pytest.raises(StoreError, match=text), DuckFile(path, wait_s=0.1).open(read_only=True):
            pass

        def wait() -> object:
            with DuckFile(path, wait_s=30).open(read_only=False) as connection:
                return connection.execute("SELECT 7").fetchall()

        with ThreadPoolExecutor(1) as pool:
            opened = pool.submit(wait)
            holder.stdin.write(b"\n")
            holder.stdin.close()
            assert opened.result(timeout=30) == [(7,)]


def test_readers_and_writers_of_one_process_take_turns(tmp_path: Path) -> None:
    files = [DuckFile(tmp_path / "a.db") for _ in range(3)]
    with files[0].open(read_only=False) as connection:
        connection.execute("CREATE TABLE a (x INT)")

    def work(k: int) -> None:
        with files[k % 3].open(read_only=k % 2 == 1) as connection:
            connection.execute("SELECT count(*) FROM a" if k % 2 else "INSERT INTO a VALUES (1)").fetchall()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(24)))
    with files[0].open(read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM a").fetchall() == [(12,)]


def test_a_statement_that_takes_too_long_is_interrupted(tmp_path: Path) -> None:
    file = DuckFile(tmp_path / "a.db", timeout_s=0.2)
    endless = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE hash(a.range) = hash(b.range + 1)"
    with pytest.raises(StoreError, match="interrupted after 0 s") as caught, file.open(read_only=False) as connection:
        connection.execute(endless).fetchall()
    assert caught.value.code == "timeout"


def test_interrupt_ends_what_runs_and_refuses_what_comes(tmp_path: Path) -> None:
    file = DuckFile(tmp_path / "a.db")
    started = threading.Event()

    def endless() -> None:
        with file.open(read_only=False) as connection:
            started.set()
            connection.execute(
                "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range % 7 = b.range % 5"
            )

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(endless)
        assert started.wait(20)
        while not running.done():
            file.interrupt()
        with pytest.raises(StoreError, match="closed"):
            running.result()
    with pytest.raises(StoreError, match="closed"), file.open(read_only=False):
        pass


def test_a_wrong_statement_is_not_worth_a_repeat(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="syntax") as caught, DuckFile(tmp_path / "a.db").open(read_only=False) as c:
        c.execute("SELCT")
    assert not caught.value.retryable


def test_a_missing_duckdb_is_told_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(StartError, match=r"pip install 'engine\[local\]'"):
        require_duckdb()


def test_literals_survive_quotes_and_zones(tmp_path: Path) -> None:
    with DuckFile(tmp_path / "a.db").open(read_only=False) as connection:
        odd = 'odd "name'
        connection.execute(f"CREATE TABLE a ({identifier(odd)} INT)")
        assert connection.execute("DESCRIBE a").fetchall()[0][0] == odd
        at = 1_700_000_040_123
        assert connection.execute(f"SELECT epoch_ms({timestamp_sql(at)})").fetchall() == [(at,)]
        assert connection.execute(f"SELECT epoch_ms({timestamp_sql(at)}::TIMESTAMPTZ)").fetchall() == [(at,)]
