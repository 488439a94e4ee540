"""DuckDB files, each opened for one short operation: between operations any other process may have them.

One DuckDB instance in memory lives as long as the process; a file is attached to it for an operation. That takes a
tenth of the time of an instance for each operation (1.2 ms against 12 ms).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError, StartError
from engine.memory import memory_capacity

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

_LOCKED = re.compile(r"could not set lock|conflicting lock|used by another process", re.IGNORECASE)
_HOLDER = re.compile(r"held in (.+?) \(PID (\d+)\)")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
# A store beside the models: they need the memory more, and DuckDB spills to disk.
_MEMORY_SHARE = 0.25
_LEAST_MEMORY_BYTES = 256 << 20


class StoreError(EngineError):
    """A file that could not be opened, or SQL that failed. `code` as in `engine.errors.ReadError`.

    `retryable` is false where the same statement will fail again.
    """

    def __init__(self, message: str, code: str = "io_error", *, retryable: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


def require_duckdb() -> Any:
    """The duckdb module.

    Raises
    ------
    StartError : it is not installed.
    """
    try:
        import duckdb
    except ImportError as err:
        raise StartError("class: local needs DuckDB, which is not installed: pip install 'engine[local]'") from err
    return duckdb


def timestamp_sql(time_ms: int) -> str:
    """SQL for a time as TIMESTAMP, in UTC."""
    return f"make_timestamp_ms({int(time_ms)})"


def identifier(name: str) -> str:
    """A name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


@functools.cache
def _instance() -> Connection:
    """The process's DuckDB: UTC, no downloads of extensions, bounded memory."""
    limit_mib = max(_LEAST_MEMORY_BYTES, int(memory_capacity() * _MEMORY_SHARE)) >> 20
    options = {
        "memory_limit": f"{limit_mib}MiB",
        "temp_directory": os.path.join(tempfile.gettempdir(), f"engine-duckdb-{os.getpid()}"),
        "autoinstall_known_extensions": "false",
    }
    made: Connection = require_duckdb().connect(":memory:", config=options)
    made.execute("SET GLOBAL TimeZone = 'UTC'")
    return made


class _Locks:
    """One lock for each file: it cannot be attached twice."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[Path, threading.Lock] = {}

    def of(self, path: Path) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(path, threading.Lock())


_LOCKS = _Locks()
_NUMBERS = itertools.count()


class DuckFile:
    """A DuckDB file that is open only inside `open`.

    Parameters
    ----------
    path : of the file; made by the first opening that is not read-only.
    wait_s : how long an opening waits for other threads and processes to let go of the file.
    timeout_s : after this long an operation is interrupted.

    Raises
    ------
    StartError : DuckDB is not installed.
    """

    def __init__(self, path: str | Path, wait_s: float = 10.0, timeout_s: float = 300.0) -> None:
        self._duckdb = require_duckdb()
        self.path = Path(path).expanduser().resolve()
        self._wait_s = wait_s
        self._timeout_s = timeout_s
        self._lock = _LOCKS.of(self.path)
        self._open: set[Connection] = set()
        self._is_closed = False

    @contextlib.contextmanager
    def open(self, *, read_only: bool) -> Iterator[Connection]:
        """A connection whose default database is the file, closed at the end of the block.

        Raises
        ------
        StoreError : the file is missing, foreign or in use for longer than `wait_s`; SQL inside the block
            failed, or took longer than `timeout_s`.
        """
        deadline = time.monotonic() + self._wait_s
        if not self._lock.acquire(timeout=self._wait_s):
            raise StoreError(f"{self.path}: other operations of this process kept it busy for {self._wait_s:.0f} s")
        try:
            with self._attached(read_only, deadline) as connection, self._watched(connection):
                yield connection
        finally:
            self._lock.release()

    def interrupt(self) -> None:
        """End operations that run and refuse new ones."""
        self._is_closed = True
        for connection in list(self._open):
            self._interrupt(connection)

    def _interrupt(self, connection: Connection) -> None:
        # It may have ended in this moment.
        with contextlib.suppress(self._duckdb.ConnectionException):
            connection.interrupt()

    @contextlib.contextmanager
    def _watched(self, connection: Connection) -> Iterator[None]:
        """Translates errors, and interrupts what takes too long."""
        watch = threading.Timer(self._timeout_s, self._interrupt, (connection,))
        watch.daemon = True
        watch.start()
        self._open.add(connection)
        try:
            if self._is_closed:
                raise StoreError(f"{self.path}: closed")
            yield
        except self._duckdb.InterruptException as err:
            text = "closed" if self._is_closed else f"interrupted after {self._timeout_s:.0f} s"
            raise StoreError(f"{self.path}: {text}", "timeout") from err
        except self._duckdb.Error as err:
            # Memory and disk may be there next time, at a commit, too; a statement that is wrong stays wrong.
            passing = self._duckdb.OperationalError, self._duckdb.FatalException
            raise StoreError(str(err).strip(), "422", retryable=isinstance(err, passing)) from err
        finally:
            self._open.discard(connection)
            watch.cancel()

    @contextlib.contextmanager
    def _attached(self, read_only: bool, deadline: float) -> Iterator[Connection]:
        name = f"store{next(_NUMBERS)}"
        with contextlib.closing(_instance().cursor()) as outer:
            self._attach(outer, name, read_only, deadline)
            try:
                with contextlib.closing(outer.cursor()) as connection:
                    connection.execute(f"USE {name}")
                    yield connection
            except BaseException:
                with contextlib.suppress(StoreError):
                    self._detach(outer, name)
                raise
            self._detach(outer, name)

    def _detach(self, connection: Connection, name: str) -> None:
        try:
            connection.execute(f"DETACH {name}")
        except self._duckdb.Error as err:  # what was committed is safe: it stays in the journal beside the file
            raise StoreError(f"{self.path}: {str(err).strip()}") from err

    def _attach(self, connection: Connection, name: str, read_only: bool, deadline: float) -> None:
        """Attach the file as soon as it is free, before the deadline."""
        if read_only and not self.path.exists():
            raise StoreError(f"{self.path}: there is no such file; it is made by the first write")
        path = str(self.path).replace("'", "''")
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                connection.execute(f"ATTACH '{path}' AS {name} ({'READ_ONLY' if read_only else 'READ_WRITE'})")
                return
            except self._duckdb.Error as err:
                if not _LOCKED.search(str(err)):
                    raise StoreError(f"{self.path}: cannot be opened: {str(err).strip()}") from err
                if time.monotonic() + pause_s > deadline:
                    raise StoreError(self._busy_text(str(err))) from err
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _busy_text(self, error: str) -> str:
        holder = _HOLDER.search(error)
        who = f"process {holder[2]} ({holder[1]})" if holder else "another process"
        return (
            f"{self.path}: {who} has had the file open for {self._wait_s:.0f} s; next try at the next tick. "
            "DuckDB lets one process write or several read: close the file between operations"
        )
