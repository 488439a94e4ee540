"""The demo from start to end: fill a file, replay the last day through the real pipeline, judge, report, go on live."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from engine.build import make_reader, make_schedule, make_tasks, make_writer
from engine.config.schema import Config, load_config
from engine.demo.live import Site, go_on
from engine.demo.machine import DAY, Incident, Machine, five_incidents
from engine.demo.pages import FINDING_COLUMNS, finding_cells, outcome, write_demo_report
from engine.demo.store import STEP_MS, append_counters, write_config
from engine.demo.verdict import Verdict, judge, load_results
from engine.duck import DuckFile, require_duckdb
from engine.frame import align_down
from engine.metrics import Metrics
from engine.pool import Pool
from engine.report import plotly_script
from engine.scheduler.periodic import Task, now_ms, replay
from engine.scheduler.plan import Schedule
from engine.scheduler.settings import PeriodicSettings

# Minute 0 is a Wednesday on the machine's own clock, and so is the day that is scored: every run is the same.
_WEDNESDAY = 2
_CHUNK_MS = 30 * 60_000
_DRAIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """How large the demo is; the default is what the command runs.

    Minute 0 has a counter but no rate yet, so the first fit's window begins at minute 1.
    """

    n_cpus: int = 8
    history_minutes: int = 14 * DAY
    scored_minutes: int = DAY

    @property
    def first_scored(self) -> int:
        return 1 + self.history_minutes

    @property
    def n_minutes(self) -> int:
        return self.first_scored + self.scored_minutes + 1

    @property
    def incidents(self) -> tuple[Incident, ...]:
        return five_incidents(self.first_scored, self.scored_minutes, self.n_cpus)


class Demo:
    """One run: its files in a folder, and the parts of the service that work on them."""

    def __init__(self, scenario: Scenario, folder: Path, port: int, end_ms: int) -> None:
        self.scenario = scenario
        self.report_path = folder / "report.html"
        self.origin_ms = end_ms - STEP_MS * (scenario.n_minutes - 1)
        store = folder / "demo.duckdb"
        for old in (store, store.with_name(store.name + ".wal"), self.report_path):
            old.unlink(missing_ok=True)
        self.file = DuckFile(store)
        config_path = folder / "config.yaml"
        write_config(config_path, store, port)
        self.config: Config = load_config([config_path], {})
        self.machine = Machine(scenario.n_cpus, scenario.incidents, weekday=_WEDNESDAY)
        self.metrics = Metrics()
        self.pool = Pool(self.config.settings.n_workers)
        self.reader = make_reader(self.config, self.metrics)
        self.writer = make_writer(self.config, self.metrics)
        ((self.alias, settings),) = self.config.schedulers.items()
        assert isinstance(settings, PeriodicSettings)
        self.tasks: list[Task] = make_tasks(self.config, self.alias, self.reader, self.writer, self.pool, self.metrics)
        # The wall clock of the first job: that moment is past the last minute of history by what points settle in.
        self.start_ms = self.origin_ms + STEP_MS * scenario.first_scored + self.tasks[0].pace.settle_ms
        self.schedule: Schedule = make_schedule(settings, self.tasks, self.start_ms)

    def feed(self, until_ms: int) -> bool:
        """Append the counters of all minutes up to `until_ms`; false where there were none."""
        n_minutes = (until_ms - self.origin_ms) // STEP_MS + 1 - self.machine.minute
        if n_minutes > 0:
            start_ms = self.origin_ms + STEP_MS * self.machine.minute
            append_counters(self.file, self.machine.counters(n_minutes), start_ms)
        return n_minutes > 0

    def score_past(self, progress: Progress) -> None:
        """Run the jobs of the scored span with a clock that goes as fast as they do."""
        end_ms = self.start_ms + STEP_MS * self.scenario.scored_minutes
        bar = progress.add_task("fitting and scoring", total=end_ms - self.start_ms)
        for now in range(self.start_ms, end_ms + 1, _CHUNK_MS):
            until = min(now + _CHUNK_MS - 1, end_ms)
            replay(self.schedule, self.tasks, now, until)
            progress.update(bar, completed=until - self.start_ms)
        self.writer.drain(_DRAIN_S)

    def conclude(self) -> Verdict:
        """Judge what is in the file by now and write the report."""
        results = load_results(self.file, STEP_MS)
        # Points that came live are in the charts; the verdict stays that of the scored span.
        end_ms = self.origin_ms + STEP_MS * (self.scenario.n_minutes - 1)
        verdict = judge(results, self.scenario.incidents, self.origin_ms, STEP_MS, until_ms=end_ms)
        days = self.scenario.history_minutes / DAY
        setting = (
            f"Prophet with an interval of 98 %, fitted every 2 hours on {days:g} days of history, "
            f"scored {len(results.keys)} series every minute."
        )
        write_demo_report(self.report_path, results, verdict, setting)
        return verdict

    def close(self) -> None:
        """Release threads and the file."""
        self.reader.close()
        self.writer.close(5.0)
        self.pool.close()


def run(once: bool, out: Path, port: int) -> int:
    """Run the demo in the folder `out`; the exit code.

    0 where all incidents were found and few other episodes occurred, else 1. Without `once` it then goes on live,
    with the report at /, until it is interrupted.

    Raises
    ------
    StartError : DuckDB or plotly is missing, or the port is taken.
    StoreError : another process has the file.
    """
    return run_scenario(Scenario(), once, out, port, Console())


def run_scenario(scenario: Scenario, once: bool, out: Path, port: int, console: Console) -> int:
    """`run` for a scenario of any size."""
    require_duckdb()
    plotly_script()  # what is missing is told before the work, not after it
    folder = out.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    demo = Demo(scenario, folder, port, align_down(now_ms(), STEP_MS))
    site = None if once else Site(demo.metrics, demo.report_path, port)
    try:
        if site is not None:
            site.start()
        verdict = _replay_and_judge(demo, console)
        if site is not None:
            go_on(demo, site, console)
    finally:
        if site is not None:
            site.stop()
        demo.close()
    return 0 if verdict.is_good else 1


def _replay_and_judge(demo: Demo, console: Console) -> Verdict:
    scenario = demo.scenario
    n_series = scenario.n_cpus * 8
    started = time.monotonic()
    demo.feed(demo.origin_ms + STEP_MS * (scenario.n_minutes - 1))
    console.print(
        f"{scenario.history_minutes / DAY:g} days of history and {scenario.scored_minutes / 60:g} hours to score, "
        f"{n_series} series, a point each minute: [bold]{demo.file.path}[/]\n"
        "The getting-started guide's configuration runs on it, with reader and writer replaced by this file "
        "and the query by SQL: see config.yaml beside it.",
        highlight=False,
        soft_wrap=True,
    )
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        demo.score_past(progress)
    verdict = demo.conclude()
    shown = len(FINDING_COLUMNS) - 1  # the story is in the report: with it the table would not fit a terminal
    table = Table(*FINDING_COLUMNS[:shown], box=box.SIMPLE_HEAD)
    for finding in verdict.findings:
        table.add_row(*finding_cells(finding)[:shown], style="" if finding.is_found else "red")
    console.print(table)
    console.print(f"[bold {'green' if verdict.is_good else 'red'}]{outcome(verdict)}[/]", highlight=False)
    console.print(
        f"Report: [bold]{demo.report_path}[/] ({time.monotonic() - started:.0f} s)", highlight=False, soft_wrap=True
    )
    return verdict
