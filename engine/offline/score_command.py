"""`engine score` from its options to its exit code."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
import numpy as np

from engine.config.single import make_model, parse_arguments
from engine.errors import InputError
from engine.frame import F64
from engine.models.base import Model
from engine.offline.grid import DEFAULT_FRACTION, Batch, Head, make_batches
from engine.offline.joint import join_channels, make_joint_batches, score_joint
from engine.offline.measures import Labelled, Measures, measure
from engine.offline.pages import write_score_report
from engine.offline.points import Points
from engine.offline.read import read_points
from engine.offline.scoring import Plan, score_points
from engine.offline.sheet import Choice
from engine.offline.summary import as_json, as_text
from engine.offline.truth import read_truth
from engine.offline.write import STDOUT, check_output, write_rows
from engine.pool import Pool
from engine.report import plotly_script
from engine.settings import Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line, as click read it; see the command's help."""

    files: Sequence[str]
    class_name: str
    arguments: Sequence[str] = ()
    fit_window: str | None = None
    fit_rows: int | None = None
    fit_fraction: float | None = None
    fit_every: str | None = None
    output: Path | None = None
    labels: str | None = None
    as_json: bool = False
    html: Path | None = None
    time: str = ""
    value: str = ""
    ignore: Sequence[str] = ()
    tz: str = "UTC"
    threads: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A finished run. `columns` are (N,) in input order, `seconds` the time from the first byte to the last score."""

    model: Model
    points: Points
    batches: Sequence[Batch]
    columns: dict[str, F64]
    measures: Measures | None
    seconds: float


def run(options: Options) -> int:
    """Score the files, write and print what was asked for; 0 when done.

    Raises
    ------
    click.UsageError : options that do not go together.
    ConfigError : the model's arguments are wrong.
    InputError : a file is wrong, or nothing is left to score.
    ModelError : no series could be fitted.
    """
    if options.output is not None:
        check_output(options.output)
    if options.html is not None:
        plotly_script()  # before the work: it may not be installed
    pool = Pool(options.threads)
    try:
        result, notes = compute(options, pool)
        for note in notes:
            click.echo(f"Note: {note}", err=True)
        if options.output is not None:
            write_rows(options.output, result.points, result.columns, pool)
        if options.html is not None:
            write_html(options.html, result)
    finally:
        pool.close()
    is_piped = options.output is not None and str(options.output) == STDOUT
    click.echo(as_json(result) if options.as_json else as_text(result), err=is_piped)
    return 0


def compute(options: Options, pool: Pool) -> tuple[Result, list[str]]:
    """The run itself; as of `run`."""
    head, every_ms = _head(options), _duration(options.fit_every, "--fit-every")
    _check_zone(options.tz)
    model, warnings = make_model(options.class_name, parse_arguments(options.arguments))
    if head.rows == 0 and not model.is_online:
        raise click.UsageError(f"--fit-rows 0: {options.class_name} does not learn from points, expected rows to fit")
    started = time.perf_counter()
    choice = Choice(options.time, options.value, options.labels or "", tuple(options.ignore))
    points, notes = read_points(options.files, choice, pool)
    if options.labels and points.truth is None:
        points = replace(points, truth=_file_truth(options.labels, points))
    plan = Plan.of(model, every_ms)
    if model.is_multivariate:
        joined = join_channels(points, model.groupby)
        pairs = make_joint_batches(joined, points, head, options.tz)
        columns = score_joint(plan, joined, points, pairs, pool)
        points, batches = joined.points, [batch for batch, _ in pairs]
    else:
        batches = make_batches(points, head, options.tz)
        columns = {"y": points.values, **score_points(plan, points, batches, pool)}
    if not np.isfinite(columns["anomaly_score"]).any():
        raise InputError("nothing has a score: the part that is fitted leaves no row, or no row has a value")
    found = None
    if options.labels:
        parts = pool.map(partial(labelled, points, columns["anomaly_score"]), batches)
        found = measure([series for part in parts for series in part], pool)
        if found is None:
            notes.append(f"--labels {options.labels}: no scored row is labelled as anomalous")
    return Result(model, points, batches, columns, found, time.perf_counter() - started), [*warnings, *notes]


def write_html(path: Path, result: Result) -> None:
    """Write the report.

    Raises
    ------
    StartError : plotly is not installed.
    InputError : the file cannot be written.
    """
    try:
        write_score_report(path, result)
    except OSError as err:
        raise InputError(f"{path}: cannot be written: {err.strerror or err}") from err


def _file_truth(name: str, points: Points) -> F64:
    if not Path(name).is_file():
        raise InputError(f"--labels {name}: no file has such a column, and there is no such file")
    return read_truth(name, points)


def labelled(points: Points, scores: F64, batch: Batch) -> list[Labelled]:
    """Scored points of each row of a batch that are labelled, in the order of time."""
    truth = np.full(points.n_points, np.nan) if points.truth is None else points.truth
    keep = batch.counts & (batch.slots >= batch.n_fit) & ~np.isnan(truth[batch.points])
    order = np.lexsort((batch.slots[keep], batch.rows[keep]))
    own, rows = batch.points[keep][order], batch.rows[keep][order]
    bounds = np.searchsorted(rows, np.arange(batch.frame.shape[0] + 1))
    parts = [own[start:stop] for start, stop in pairwise(bounds.tolist())]
    return [Labelled(points.times_ms[part], scores[part], truth[part], batch.frame.step_ms) for part in parts]


def _head(options: Options) -> Head:
    given = [options.fit_window, options.fit_rows, options.fit_fraction]
    if sum(part is not None for part in given) > 1:
        raise click.UsageError("--fit-window, --fit-rows and --fit-fraction: expected at most one of them")
    window_ms = _duration(options.fit_window, "--fit-window")
    if window_ms is not None and window_ms <= 0:
        raise click.UsageError(f"--fit-window {options.fit_window}: expected a duration above 0")
    fraction = DEFAULT_FRACTION if options.fit_fraction is None else options.fit_fraction
    return Head(window_ms, options.fit_rows, fraction)


def _duration(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    try:
        duration = Duration(0) if text == "0" else Duration.parse(text)
    except ValueError as err:
        raise click.UsageError(f"{name} {text}: {err}") from err
    if duration < 0:
        raise click.UsageError(f"{name} {text}: expected a duration of 0 or more")
    return duration


def _check_zone(tz: str) -> None:
    try:
        ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError) as err:
        raise click.UsageError(f"--tz {tz}: expected a time zone like Europe/Warsaw") from err
