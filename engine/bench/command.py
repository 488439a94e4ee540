"""`engine bench`: each model in processes of its own, the results put together."""

from __future__ import annotations

import os
import platform
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import httpx
import msgspec
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from engine import __version__
from engine.bench.compare import Result, compare, read_old
from engine.bench.measuring import REPEATS, Found, Row, Task
from engine.bench.shown import show
from engine.bench.standin import StandIn
from engine.bench.starting import measure_start
from engine.config.classes import MODELS
from engine.errors import InputError, StartError
from engine.frame import Query, Window, align_down
from engine.memory import cpu_capacity
from engine.metrics import Metrics
from engine.reader.settings import QuerySettings, VmReaderSettings
from engine.reader.vm import VmReader
from engine.settings import Duration

_SERIES = 1000
# A database is asked for points that it has had time to take.
_SETTLE_MS = 60_000


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    models: tuple[str, ...]
    series: int | None
    points: int
    step: str
    threads: int
    datasource: str | None
    query: str | None
    write: bool
    cold: bool
    as_json: bool
    compare: Path | None


def run(options: Options) -> int:
    """Measure, print, compare; 0 when done.

    Raises
    ------
    click.UsageError : options that do not go together, or a class that cannot run.
    EngineError : the database does not answer, a model cannot be fitted, the file to compare with is no match.
    """
    _check(options)
    models = tuple(dict.fromkeys(map(_alias, options.models)))
    step_ms = _step_ms(options.step)
    end_ms = align_down(int(time.time() * 1000) - _SETTLE_MS, step_ms) - (REPEATS + 1) * step_ms
    n_series = options.series or _SERIES
    if options.datasource is not None:
        n_series = _count_series(options.datasource, str(options.query), step_ms, end_ms)
    threads = options.threads or int(max(1.0, cpu_capacity()))
    settings = {
        "models": list(models), "series": n_series, "points": options.points, "step": f"{step_ms}ms",
        "threads": threads,
        "datasource": options.datasource and _shown(options.datasource),
        "query": options.query, "write": options.write, "cold": options.cold,
    }  # fmt: skip
    old = None if options.compare is None else read_old(options.compare, settings)
    result: Result = {"version": __version__, "machine": _machine(), "settings": settings, "rows": [], "totals": []}
    prefix = f"engine_bench_{secrets.token_hex(6)}_" if options.write else ""
    result["notes"] = _notes(options, prefix)
    with StandIn() as stand_in, _progress() as progress:
        source_url = options.datasource or stand_in.url
        task = Task(
            kind="", model="", n_series=n_series, n_points=options.points, step_ms=step_ms,
            threads=threads, end_ms=end_ms, source_url=source_url,
            target_url=source_url if options.write else stand_in.url, query=options.query or "", prefix=prefix,
        )  # fmt: skip
        for model in models:
            _measure(msgspec.structs.replace(task, model=model), stand_in, options.cold, progress, result)
    if old is not None:
        result["comparison"] = compare(old, result)
    if options.as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(result)).decode())
    else:
        show(result, Console())
    return 0


def _measure(task: Task, stand_in: StandIn, is_cold: bool, progress: Progress, result: Result) -> None:
    """All of one model, added to the result."""
    bar = progress.add_task(f"{task.model}: each stage")
    stages = _in_process(msgspec.structs.replace(task, kind="stages", source_url="", target_url="", query=""))
    progress.update(bar, description=f"{task.model}: end to end")
    line = _in_process(msgspec.structs.replace(task, kind="line"))
    rows: list[Row] = [*stages.rows, *line.rows]
    progress.update(bar, description=f"{task.model}: warm starts")
    rows.append(measure_start(task, stand_in, is_cold=False))
    if is_cold:
        progress.update(bar, description=f"{task.model}: a cold start")
        rows.append(measure_start(task, stand_in, is_cold=True))
    progress.remove_task(bar)
    result["rows"] += [{"model": task.model, **row} for row in rows]
    state = stages.state_bytes_per_series
    total = {"model": task.model, "peak_rss_bytes": line.peak_rss_bytes, "state_bytes_per_series": state}
    result["totals"].append(total)


def _in_process(task: Task) -> Found:
    """What a process of its own finds.

    Raises
    ------
    StartError : it failed; says why.
    """
    command = [sys.executable, "-m", "engine.bench.worker"]
    done = subprocess.run(command, input=msgspec.json.encode(task), capture_output=True, check=False)
    try:
        found = msgspec.json.decode(done.stdout, type=Found)
    except msgspec.DecodeError as err:
        why = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise StartError(f"{task.model}: the measuring process failed: {why[0]}") from err
    if found.error:
        log = done.stderr.decode("utf-8", "replace").strip()
        raise StartError("\n".join(part for part in (found.error, log) if part))
    return found


def _check(options: Options) -> None:
    if options.datasource is None and (options.query is not None or options.write):
        raise click.UsageError(f"{'--write' if options.write else '--query'} goes with --datasource URL only")
    if options.datasource is not None:
        if options.query is None:
            raise click.UsageError("--datasource needs --query, the series to measure with")
        if options.series is not None:
            raise click.UsageError("--series: the query says how many series there are; leave it out with --datasource")
        if not options.datasource.startswith(("http://", "https://")):
            raise click.UsageError(f"--datasource {options.datasource}: expected a URL like http://127.0.0.1:8428")


def _alias(name: str) -> str:
    """The class's own name.

    Raises
    ------
    click.UsageError : it is none, or cannot run here.
    """
    entry = MODELS.find(name)
    if entry is None:
        raise click.UsageError(f"--model {name}: {MODELS.expected(name)}")
    if not MODELS.settings_type(entry.alias).is_available:
        raise click.UsageError(f"--model {name}: not available yet")
    if entry.alias == "custom":
        raise click.UsageError("--model custom: needs a file of yours, which this command has no argument for")
    return entry.alias


def _step_ms(text: str) -> int:
    try:
        step_ms = int(Duration.parse(text))
    except ValueError as err:
        raise click.UsageError(f"--step {text}: {err}") from err
    if step_ms < 1000 or step_ms % 1000:
        raise click.UsageError(f"--step {text}: expected whole seconds, at least one")
    return step_ms


def _count_series(url: str, expr: str, step_ms: int, end_ms: int) -> int:
    """How many series a query has now.

    Raises
    ------
    ReadError : the database does not answer.
    InputError : none.
    """
    settings = VmReaderSettings(datasource_url=url, queries={"q": QuerySettings(expr=expr)})
    query = Query("q", expr, step_ms)
    reader = VmReader(settings, Metrics(), "default")
    try:
        answers = reader.read(query, Window(end_ms - 5 * step_ms, end_ms, step_ms), "bench")
        counts = [samples.series.size for _, samples in answers]
    finally:
        reader.close()
    if not max(counts, default=0):
        raise InputError(f"--query {expr}: {_shown(url)} has no such series in the last steps")
    return max(counts)


def _shown(url: str) -> str:
    """A URL without credentials."""
    return str(httpx.URL(url).copy_with(userinfo=b"", query=None))


def _notes(options: Options, prefix: str) -> list[str]:
    notes = [f"Times are medians of {REPEATS}; CPU is that of all threads of the measuring process."]
    if options.cold:
        notes.append("The cold start was taken once. An image that brings its kernels has none.")
    if options.datasource is not None and not options.write:
        notes.append("The database was only read; results were sent to a stand-in in this process.")
    if options.write:
        notes.append(f"Results were written under names that begin with {prefix}; nothing else has such names.")
    return notes


def _machine() -> dict[str, object]:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return {"cpu": model, "cpus": cpu_capacity(), "memory_bytes": pages, "python": platform.python_version()}


def _progress() -> Progress:
    """On stderr, and on a terminal only."""
    console = Console(stderr=True)
    parts = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*parts, console=console, transient=True, disable=not console.is_terminal)
