"""`engine describe` from its options to its exit code."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from engine.build import data_folder, make_data_folder, make_reader, settle_ms
from engine.config.schema import load_config
from engine.errors import InputError
from engine.fitting import WindowStore
from engine.frame import Frame, Window, align_down, pack
from engine.memory import memory_capacity
from engine.metrics import Metrics
from engine.offline.grid import Head, make_batches
from engine.offline.read import read_points
from engine.offline.sheet import Choice
from engine.offline.traits import Traits, find_traits
from engine.pool import Pool
from engine.scheduler.settings import PeriodicSettings
from engine.series import SeriesTable
from engine.settings import Duration

# Rows of the table; the summary below it counts all.
_SHOWN = 40
_WIDTH = 140


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line, as click read it; see the command's help."""

    files: Sequence[str]
    config: Path | None = None
    query: str | None = None
    as_json: bool = False
    time: str = ""
    value: str = ""
    ignore: Sequence[str] = ()
    tz: str = "UTC"
    threads: int = 0


def run(options: Options) -> int:
    """Read, describe, print; 0 when done.

    Raises
    ------
    click.UsageError : options that do not go together.
    ConfigError, InputError, ReadError : what is read is wrong or not there.
    """
    if bool(options.files) == (options.config is not None):
        raise click.UsageError("expected FILE... or --config C --query Q")
    if (options.config is None) != (options.query is None):
        raise click.UsageError("--config and --query: expected both of them or neither")
    pool = Pool(options.threads)
    try:
        frames, table = _of_files(options, pool) if options.files else _of_query(options)
        found = [pair for frame in frames for pair in _described(frame, pool)]
    finally:
        pool.close()
    rows = [(table.labels(series), traits) for series, traits in sorted(found, key=lambda pair: pair[0])]
    if options.as_json:
        click.echo(json.dumps([_as_map(labels, traits) for labels, traits in rows], indent=1))
    else:
        _print(rows)
    return 0


def _described(frame: Frame, pool: Pool) -> list[tuple[int, Traits]]:
    parts = pool.map_rows(lambda a, b: find_traits(frame.rows(a, b)), frame.shape[0])
    return list(zip(frame.series.tolist(), [traits for part in parts for traits in part], strict=True))


def _of_files(options: Options, pool: Pool) -> tuple[list[Frame], SeriesTable]:
    try:
        ZoneInfo(options.tz)
    except (ZoneInfoNotFoundError, ValueError, OSError) as err:
        raise click.UsageError(f"--tz {options.tz}: expected a time zone like Europe/Warsaw") from err
    choice = Choice(options.time, options.value, "", tuple(options.ignore))
    points, notes = read_points(options.files, choice, pool)
    for note in (note for note in notes if "--labels" not in note):  # labels are nothing to describe
        click.echo(f"Note: {note}", err=True)
    return [batch.frame for batch in make_batches(points, Head(), options.tz)], points.table


def _of_query(options: Options) -> tuple[list[Frame], SeriesTable]:
    """The fit window of the query's scheduler, through the configured reader."""
    assert options.config is not None
    assert options.query is not None
    config = load_config([options.config], os.environ)
    query = config.queries.get(options.query)
    if query is None:
        raise InputError(f"--query {options.query}: expected one of {', '.join(config.queries)}")
    aliases = [group.scheduler_alias for group in config.groups if options.query in group.query_aliases]
    settings = {alias: config.schedulers[alias] for alias in aliases}
    windows = {alias: s.fit_window for alias, s in settings.items() if isinstance(s, PeriodicSettings)}
    if not windows:
        raise InputError(f"--query {options.query}: no periodic scheduler has it")
    alias = max(windows, key=lambda name: windows[name])
    now_ms = time.time_ns() // 1_000_000
    end_ms = align_down(now_ms - query.offset_ms - settle_ms(config.reader, query), query.step_ms)
    start_ms = -align_down(-(end_ms - windows[alias]), query.step_ms)
    window = Window(start_ms, end_ms, query.step_ms)
    budget = config.settings.memory_budget.bytes_of(memory_capacity())
    make_data_folder()
    store, seen = WindowStore(window, query.tz, budget, data_folder()), set[int]()
    reader = make_reader(config, Metrics())
    try:
        for piece, samples in reader.read(query, window, alias):
            store.add(pack(samples, piece, query.tz))
            seen.update(samples.series.tolist())
        if not seen:
            raise InputError(f"query {options.query} has no data from {_text(start_ms)} to {_text(end_ms)}")
        frames = list(store.blocks(np.array(sorted(seen), dtype=np.int64), end_ms))
        return frames, reader.table(query)
    finally:
        reader.close()


def _as_map(labels: dict[str, str], traits: Traits) -> dict[str, Any]:
    found = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in asdict(traits).items()}
    return {"labels": labels, **found}


def _print(rows: list[tuple[dict[str, str], Traits]]) -> None:
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("series", "points", "step", "gaps", "values", "seasons", "level", "model that suits"):
        table.add_column(name, justify="right" if name in ("points", "step") else "left", overflow="fold")
    for labels, traits in rows[:_SHOWN]:
        table.add_row(_name(labels), *_cells(traits))
    console.print(table)
    if len(rows) > _SHOWN:
        console.print(f"… and {len(rows) - _SHOWN} more; --json has all")
    counts = Counter(str(traits.model.get("class", "none")) for _, traits in rows)
    summary = ", ".join(f"{name} for {count}" for name, count in counts.most_common())
    console.print(f"\n{len(rows)} series, {sum(traits.n_points for _, traits in rows)} points: {summary}")


def _cells(traits: Traits) -> tuple[str, ...]:
    if traits.n_points == 0:
        return "0", str(Duration(traits.step_ms)), "", traits.kind, "", "", traits.reason
    points = f"{traits.n_points} in {_rounded(traits.last_ms - traits.first_ms)}"
    gaps = (
        f"{traits.n_gaps} ({traits.missing:.1%}, up to {_rounded(traits.longest_gap_ms)})" if traits.n_gaps else "none"
    )
    seasons = ", ".join(f"{Duration(season.period_ms)} ({season.share:.0%})" for season in traits.seasons)
    values = f"{traits.kind}, {traits.least:.4g} … {traits.median:.4g} … {traits.largest:.4g}"
    if 0.01 <= traits.zeros < 1:
        values += f", {traits.zeros:.0%} zeros"
    if traits.outliers >= 0.0005:
        values += f", {traits.outliers:.1%} outliers"
    return points, str(Duration(traits.step_ms)), gaps, values, seasons or "none", _level(traits), _model(traits)


def _level(traits: Traits) -> str:
    if traits.shifts:
        return ", ".join(f"{shift.size:+.4g} at {_text(shift.time_ms)}" for shift in traits.shifts)
    if traits.trend:
        return f"trend, {traits.trend:+.4g} in all"
    return "wanders" if traits.wanders else "steady"


def _model(traits: Traits) -> str:
    own = {key: value for key, value in traits.model.items() if key != "class"}
    arguments = ", ".join(f"{key}: {json.dumps(value)}" for key, value in own.items())
    return f"{traits.model['class']}{f' ({arguments})' if arguments else ''}: {traits.reason}"


def _name(labels: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in labels.items()) or "the series"


def _rounded(length_ms: int) -> str:
    """Two units at most: 13d4h, not 13d4h7m."""
    for unit_ms, least_ms in ((3_600_000, 2 * 86_400_000), (60_000, 2 * 3_600_000)):
        if length_ms >= least_ms:
            return str(Duration(round(length_ms / unit_ms) * unit_ms))
    return str(Duration(length_ms))


def _text(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")
