"""What the scores say about the incidents: which were found, when, and what else was reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.demo.machine import Incident
from engine.duck import DuckFile
from engine.errors import EngineError
from engine.frame import F64, I64

# A point above 1 happens by chance, this many in a row hardly do.
EPISODE = 5
MAX_OTHERS = 5

_COLUMNS = ("y", "yhat", "yhat_lower", "yhat_upper", "anomaly_score")


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """Rows of the table `anomaly` as arrays: `keys` (S) are (cpu, mode), columns (S, T) by name, NaN is missing."""

    keys: Sequence[tuple[str, str]]
    times_ms: I64
    columns: dict[str, F64]


@dataclass(frozen=True, slots=True)
class Episode:
    """Consecutive points [start, stop) above 1 of one row, and the largest score among them."""

    row: int
    start: int
    stop: int
    peak: float


@dataclass(frozen=True, slots=True)
class Finding:
    """How an incident was seen: by `n_cpus` of its CPUs, first at `first_ms`; `row` scored the highest."""

    incident: Incident
    start_ms: int
    end_ms: int
    n_cpus: int
    first_ms: int | None
    peak: float
    row: int

    @property
    def is_found(self) -> bool:
        """At least half of its CPUs had an episode."""
        return 2 * self.n_cpus >= len(self.incident.cpus)


@dataclass(frozen=True, slots=True)
class Verdict:
    """All findings, and the episodes that belong to no incident."""

    findings: Sequence[Finding]
    others: Sequence[Episode]

    @property
    def is_good(self) -> bool:
        return all(f.is_found for f in self.findings) and len(self.others) <= MAX_OTHERS


def load_results(file: DuckFile, step_ms: int) -> Results:
    """All rows of the table `anomaly` on their grid.

    Raises
    ------
    EngineError : there is no such table or no row in it, or the file cannot be read.
    """
    lists = ", ".join(f"list(coalesce({name}, 'nan'::DOUBLE) ORDER BY timestamp) AS {name}" for name in _COLUMNS)
    with file.open(read_only=True) as connection:
        if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'anomaly'").fetchall():
            raise EngineError(f"{file.path}: nothing was scored; the log says why")
        found: dict[str, Any] = connection.execute(f"""
            SELECT labels['cpu'] AS cpu, labels['mode'] AS mode,
                   list(epoch_ms(timestamp) ORDER BY timestamp) AS t, {lists}
            FROM anomaly GROUP BY ALL ORDER BY ALL
        """).fetchnumpy()
    keys = list(zip(found["cpu"].tolist(), found["mode"].tolist(), strict=True))
    start_ms, end_ms = min(t[0] for t in found["t"]), max(t[-1] for t in found["t"])
    times_ms = np.arange(start_ms, end_ms + 1, step_ms, dtype=np.int64)
    columns = {name: np.full((len(keys), times_ms.size), np.nan) for name in _COLUMNS}
    for row, times in enumerate(found["t"]):
        places = (times - start_ms) // step_ms
        for name, values in columns.items():
            values[row, places] = found[name][row]
    return Results(keys, times_ms, columns)


def episodes(score: F64) -> list[Episode]:
    """Runs of at least `EPISODE` points above 1 in (S, T) scores."""
    hot = np.zeros((score.shape[0], score.shape[1] + 2), dtype=np.int8)
    hot[:, 1:-1] = score > 1
    edges = np.diff(hot, axis=1)
    starts, stops = np.argwhere(edges == 1), np.argwhere(edges == -1)
    found = []
    for (row, start), stop in zip(starts.tolist(), stops[:, 1].tolist(), strict=True):
        if stop - start >= EPISODE:
            found.append(Episode(row, start, stop, float(score[row, start:stop].max())))
    return found


def judge(
    results: Results, incidents: Sequence[Incident], origin_ms: int, step_ms: int, until_ms: int | None = None
) -> Verdict:
    """Sort episodes by the incidents that they overlap, on series that those move.

    Parameters
    ----------
    origin_ms : time of minute 0 of the machine.
    until_ms : episodes that begin later are not counted.
    """
    found = episodes(results.columns["anomaly_score"])
    if until_ms is not None:
        found = [e for e in found if results.times_ms[e.start] <= until_ms]
    others = set(found)
    findings = []
    for incident in incidents:
        start_ms, end_ms = (origin_ms + step_ms * minute for minute in (incident.start, incident.end - 1))
        first, last = np.searchsorted(results.times_ms, [start_ms, end_ms])
        rows = {r for r, (cpu, mode) in enumerate(results.keys) if int(cpu) in incident.cpus and mode in incident.modes}
        seen = [e for e in found if e.row in rows and e.start <= last and e.stop > first]
        others -= set(seen)
        best = max(seen, key=lambda e: e.peak, default=None)
        findings.append(
            Finding(
                incident,
                start_ms,
                end_ms,
                n_cpus=len({results.keys[e.row][0] for e in seen}),
                first_ms=int(results.times_ms[max(first, min(e.start for e in seen))]) if seen else None,
                peak=best.peak if best else 0.0,
                row=best.row if best else min(rows),
            )
        )
    return Verdict(findings, sorted(others, key=lambda e: (e.start, e.row)))
