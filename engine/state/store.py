"""A folder of fitted state: one snapshot and one journal for each group, and the index of what is valid."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.disk.codec import Record, decode, encode
from engine.disk.files import lock, read_whole, write_whole
from engine.disk.journal import Journal
from engine.errors import StartError, StateError

log = logging.getLogger("state")

_INDEX = "engine.db"
_FORMAT = 2
_FILE = re.compile(r"([0-9a-f]{32})-(\d+)\.(snapshot|journal|snapshot\.part|damaged)")
_TABLE = """
create table if not exists groups (
    key text primary key, scheduler text not null, model text not null, query text not null,
    fingerprint text not null, generation integer not null, size_bytes integer not null, saved_at_ms integer not null,
    fitted_at_ms integer not null
) strict
"""
# Reasons why an index cannot be opened that say nothing about its content.
_OF_THE_DISK = frozenset(
    (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY)
)
# Another process may be on its way out.
_WAIT_S = 10.0
# A journal is at most as long as what it saves writing, and as many records as are replayed in a moment.
_MOST_RECORDS = 64


def fingerprint(parts: Any) -> str:
    """What must be the same for state to be used again, as a short text."""
    text = msgspec.json.encode(parts, enc_hook=repr, order="deterministic")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


class Keeper:
    """The state of one group on disk: a snapshot, and records of what came after it.

    Raises
    ------
    StateError : of `save` and `append`; what was on disk before is still valid.
    """

    def __init__(self, store: StateStore, names: Mapping[str, str], identity: str) -> None:
        self.names = dict(names)
        self.identity = identity
        self.key = fingerprint(sorted(names.items()))
        self._store = store
        self._generation = 0
        self._snapshot_bytes = 0
        self._journal: Journal | None = None
        # Data time of the fit whose state was found damaged.
        self.lost_at_ms: int | None = None

    @property
    def wants_snapshot(self) -> bool:
        """A new snapshot costs less than it saves: there is none yet, or the journal is long or broken."""
        journal = self._journal
        return (
            journal is None
            or journal.is_broken
            or journal.n_records >= _MOST_RECORDS
            or journal.size_bytes > max(self._snapshot_bytes, 1 << 20)
        )

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return self._snapshot_bytes + (self._journal.size_bytes if self._journal else 0)

    def load(self) -> tuple[Record, Iterator[Record]] | None:
        """The snapshot and the records after it; None where there is none of this identity, or it is damaged."""
        row = self._store.generation(self.key, self.identity)
        if row is None:
            return None
        found, fitted_at_ms = row
        path = self._store.path(self.key, found, "snapshot")
        try:
            body = read_whole(path)
            snapshot = decode(body)
        except StateError as err:
            log.warning("State of %s is set aside and fitted anew: %s", self._shown, err)
            with contextlib.suppress(OSError):
                os.replace(path, path.with_suffix(".damaged"))
            self.lost_at_ms = fitted_at_ms
            return None
        self._generation, self._snapshot_bytes = found, len(body)
        journal = Journal(self._store.path(self.key, found, "journal"))
        self._journal = journal
        return snapshot, journal.read()

    def save(self, record: Record, fitted_at_ms: int) -> None:
        """Replace snapshot and journal by a snapshot of the fit of a data time."""
        if self._journal is not None:
            self._journal.is_broken = True  # should this fail, later records would follow what is not there
        with self._told():
            generation = self._store.next_generation(self.key)
            path = self._store.path(self.key, generation, "snapshot")
            self._snapshot_bytes = write_whole(path, encode(record))
            self._store.switch(self, generation, self._snapshot_bytes, fitted_at_ms)
            self._journal = Journal(self._store.path(self.key, generation, "journal"))
            self._generation = generation

    def append(self, record: Record) -> None:
        """Add a record behind the snapshot."""
        assert self._journal is not None, "there is a snapshot"
        with self._told():
            self._journal.append(record)

    @property
    def _shown(self) -> str:
        return ", ".join(f"{name} {value!r}" for name, value in self.names.items())

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as err:
            text = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
            raise StateError(f"state of {self._shown} cannot be written: {text}") from err


class StateStore:
    """A folder that one process at a time keeps state in; safe for threads.

    Raises
    ------
    StartError : the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mutex = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = lock(folder, _WAIT_S)
        except OSError as err:
            raise StartError(f"state cannot be kept in {folder}: {err.strerror}") from err
        self._db = self._open()
        # The table is made by the first write: a start needs no room on the disk.
        self._has_table = _version(self._db) == _FORMAT
        self._made: set[str] = set()
        self._sweep()

    def keeper(self, names: Mapping[str, str], identity: str) -> Keeper:
        """What keeps the state of a group.

        Parameters
        ----------
        names : of the group; one state each.
        identity : state of another one is not used.
        """
        made = Keeper(self, names, identity)
        self._made.add(made.key)
        return made

    def begin(self) -> None:
        """Groups that get no keeper from now on are no longer configured."""
        self._made.clear()

    def remove_unused(self) -> int:
        """Remove the state of groups that have no keeper; how many these were."""
        gone = {(key,) for key, _ in self._valid() if key not in self._made}
        if gone:
            try:
                with self._mutex, self._db:
                    self._db.executemany("delete from groups where key = ?", gone)
            except sqlite3.Error as err:
                log.warning("State of groups that are configured no more stays until the next start: %s", err)
                return 0
            self._sweep()
        return len(gone)

    def close(self) -> None:
        """Let another process use the folder."""
        with self._mutex:
            self._db.close()
            os.close(self._lock)

    def path(self, key: str, generation: int, kind: str) -> Path:
        """A group's file."""
        return self._folder / f"{key}-{generation}.{kind}"

    def generation(self, key: str, identity: str) -> tuple[int, int] | None:
        """The valid generation of a group's files and the data time of its fit; None for none of this identity."""
        select = "select generation, fitted_at_ms from groups where key = ? and fingerprint = ?"
        with self._mutex:
            row = None if not self._has_table else self._db.execute(select, (key, identity)).fetchone()
        return None if row is None else (int(row[0]), int(row[1]))

    def next_generation(self, key: str) -> int:
        """A number that no file of the group has."""
        return 1 + max((number for its_key, number, _ in self._files() if its_key == key), default=0)

    def switch(self, keeper: Keeper, generation: int, size_bytes: int, fitted_at_ms: int) -> None:
        """From now on a group's files are those of a generation; older ones are removed."""
        names = keeper.names
        row = (
            *(keeper.key, names["scheduler"], names["model"], names["query"]),
            *(keeper.identity, generation, size_bytes, time.time_ns() // 1_000_000, fitted_at_ms),
        )
        with self._mutex, self._db:
            if not self._has_table:
                self._db.execute(_TABLE)
                self._db.execute(f"pragma user_version = {_FORMAT}")
                self._has_table = True
            self._db.execute("insert or replace into groups values (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        for key, number, path in self._files():
            if key == keeper.key and number < generation:
                path.unlink(missing_ok=True)

    def _files(self) -> list[tuple[str, int, Path]]:
        """Group, generation and path of each file of a group."""
        found = [(_FILE.fullmatch(path.name), path) for path in self._folder.iterdir()]
        return [(match[1], int(match[2]), path) for match, path in found if match]

    def _valid(self) -> set[tuple[str, int]]:
        """Groups of the index and the generations of their files."""
        with self._mutex:
            return set(self._db.execute("select key, generation from groups")) if self._has_table else set()

    def _sweep(self) -> None:
        """Remove files that the index does not name: a crash left them."""
        valid = self._valid()
        for key, number, path in self._files():
            if (key, number) not in valid or path.suffix == ".part":
                path.unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        path = self._folder / _INDEX
        try:
            try:
                return _connect(path)
            except sqlite3.DatabaseError as err:
                if getattr(err, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _OF_THE_DISK:
                    raise  # the index itself is as it was
                log.warning("The index of state %s is set aside, all is fitted anew: %s", path, err)
                os.replace(path, path.with_suffix(".damaged"))
                return _connect(path)
        except (OSError, sqlite3.Error) as err:
            raise StartError(f"state cannot be kept in {self._folder}: {err}") from err


def clear(folder: Path) -> bool:
    """Remove all state from a folder, nothing else; whether there was any."""
    if not (folder / _INDEX).exists():
        return False
    store = StateStore(folder)
    store.remove_unused()
    store.close()
    for name in (_INDEX, "lock"):
        (folder / name).unlink(missing_ok=True)
    return True


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False, timeout=_WAIT_S)
    try:
        version = _version(db)
        if version not in (0, _FORMAT):
            raise sqlite3.DatabaseError(f"format {version}, this release knows {_FORMAT}")
        db.execute("pragma synchronous = full")
        if db.execute("pragma quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("it is damaged")
        if version:
            db.execute("select key, generation, fingerprint, fitted_at_ms from groups limit 1")
    except sqlite3.Error:
        db.close()
        raise
    return db


def _version(db: sqlite3.Connection) -> int:
    """Format of an index; 0 for one without a table."""
    return int(db.execute("pragma user_version").fetchone()[0])
