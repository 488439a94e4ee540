"""What one fit and one inference tick cost against a real VictoriaMetrics, for several numbers of series.

Run: python benchmarks/tick.py --datasource-url http://127.0.0.1:8428 --series 2000 20000

Seeds the series when they are missing (14 days at 5 minutes), runs each size in a process of its own, and prints
one row each: wall time from the first request to the last acknowledged write, CPU seconds of this process and of the
database, peak resident memory. `fit_ratio` and `tick_ratio` are times as long as the same requests alone take, by the
same client, their answers thrown away; `cpu_share` is our CPU time in units of the database's for the same ticks;
`tick_faults` pages of memory (4 KiB) that a tick got from the system because there was none of earlier ticks to reuse.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import orjson

from engine.build import make_reader, make_tasks, make_writer
from engine.config.schema import Config, load_config
from engine.frame import Batch, Output, Query, Window
from engine.metrics import Metrics
from engine.pool import Pool
from engine.reader.pieces import Pieces
from engine.reader.query_range import RangeEndpoint
from engine.series import SeriesTable
from engine.writer.encode import Encoder
from engine.writer.post import ImportEndpoint
from engine.writer.settings import VmWriterSettings

COLUMNS = ("anomaly_score", "yhat", "yhat_lower", "yhat_upper", "y")

STEP_S = 300
DAYS = 14
CONFIG = """
schedulers: {{s: {{class: periodic, fit_window: 14d, fit_every: 1d, infer_every: 5m}}}}
models: {{{models}}}
reader:
  datasource_url: "{url}"
  sampling_period: 5m
  queries:
    q: {{expr: "tick_{n_series}"}}
    one: {{expr: 'tick_{n_series}{{series="s00000"}}'}}
writer: {{datasource_url: "{url}"}}
"""


def seed(url: str, n_series: int, end_s: int) -> None:
    """Import `n_series` gauges named tick_<n>; daily rhythm plus noise, the same numbers for the same arguments."""
    times = np.arange(end_s - DAYS * 86_400, end_s + 3600, STEP_S)
    day = np.sin(2 * np.pi * times / 86_400)
    timestamps = (times * 1000).tolist()
    with httpx.Client(timeout=300) as client:
        for first in range(0, n_series, 500):
            lines = []
            for k in range(first, min(first + 500, n_series)):
                rng = np.random.default_rng(k)
                values = np.round(100 + 20 * day + rng.normal(0, 3, times.size), 2)
                metric = {"__name__": f"tick_{n_series}", "series": f"s{k:05d}", "job": "tick", "host": f"h{k % 97}"}
                line = {"metric": metric, "values": values, "timestamps": timestamps}
                lines.append(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY))
            client.post(f"{url}/api/v1/import", content=b"\n".join(lines)).raise_for_status()
        client.get(f"{url}/internal/force_flush")


def peak_rss_mib() -> float:
    """The most memory that this process has had; `getrusage` would count its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def page_faults() -> int:
    """Pages of memory that the system has given to this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(url: str, n_series: int, models: Sequence[str], end_s: int, ticks: int) -> dict[str, float]:
    """One fit, then `ticks` inferences, each a further step."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        classes = ", ".join(f"{name}: {{class: {name}, queries: all, schedulers: all}}" for name in models)
        file.write(CONFIG.format(url=url, models=classes, n_series=n_series))
        file.flush()
        config = load_config([Path(file.name)], {})
    metrics, pool = Metrics(), Pool()
    reader, writer = make_reader(config, metrics), make_writer(config, metrics)
    task, one = make_tasks(config, "s", reader, writer, pool, metrics)
    row = {"series": n_series, "rss_start_mib": peak_rss_mib()}
    at_ms = end_s * 1000
    window = Window(at_ms - DAYS * 86_400_000, at_ms, STEP_S * 1000)
    # Kernels are loaded, and what the database keeps of these days in memory it has before either is timed. Each read
    # of all series has a text of its own: answers are remembered, too.
    one.unit.fit(at_ms)
    texts = [replace(task.unit.query, expr=f"tick_{n_series}{{{filters}}}") for filters in ('job="tick"', 'job!=""')]
    bare_read_s(config, texts[0], window, n_series)
    started, cpu = time.perf_counter(), time.process_time()
    task.unit.fit(at_ms)
    row |= {"fit_s": time.perf_counter() - started, "fit_cpu_s": time.process_time() - cpu}
    row["rss_fit_mib"] = peak_rss_mib()
    row["fit_ratio"] = row["fit_s"] / bare_read_s(config, texts[1], window, n_series)
    walls, cpus, faults = [], [], []
    for k in range(ticks + 1):
        if k == 1:
            before = database_cpu_s(url)
        started, cpu, n_faults = time.perf_counter(), time.process_time(), page_faults()
        task.unit.infer(at_ms + k * STEP_S * 1000)
        if not writer.drain(300):
            raise SystemExit("the outputs were not taken within 300 s")
        walls.append(time.perf_counter() - started)
        cpus.append(time.process_time() - cpu)
        faults.append(page_faults() - n_faults)
    database_cpu = database_cpu_s(url) - before
    later = range(ticks + 1, 2 * ticks + 2)  # times that the database was not asked for yet
    bare = [bare_pair_s(config, texts[0], at_ms + k * STEP_S * 1000, n_series, models) for k in later]
    # The first tick also makes the label prefixes and compiles what is not cached.
    row |= {"first_tick_s": walls[0], "tick_s": statistics.median(walls[1:])}
    row |= {"tick_cpu_s": statistics.median(cpus[1:]), "database_cpu_s": database_cpu / ticks}
    row["tick_faults"] = statistics.median(faults[1:])
    row["cpu_share"] = sum(cpus[1:]) / database_cpu
    row["tick_ratio"] = statistics.median(walls[1:]) / statistics.median(bare[1:])
    row["rss_peak_mib"] = peak_rss_mib()
    reader.close()
    writer.close(5)
    return row


def database_cpu_s(url: str) -> float:
    """CPU seconds that the database has used, which it says a second late."""
    time.sleep(1.5)
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("process_cpu_seconds_total")))


def bare_read_s(config: Config, query: Query, window: Window, n_series: int) -> float:
    """Seconds to read a window into nothing: the pieces of a query's first fit by the same client, one by one."""
    endpoint = RangeEndpoint(config.reader, 1)
    pieces = Pieces(window, 30_000, None)
    started = time.perf_counter()
    while (piece := pieces.next()) is not None:
        endpoint.get(query, piece, lambda _code, _seconds: None)
        pieces.learn(n_series)
    seconds = time.perf_counter() - started
    endpoint.close()
    return seconds


def bare_pair_s(config: Config, query: Query, time_ms: int, n_series: int, models: Sequence[str]) -> float:
    """Seconds of a tick's two requests alone: the same query, and import bodies of the same size, ready before."""
    table = SeriesTable()
    labels = [{"series": f"s{k:05d}", "job": "tick", "host": f"h{k % 97}"} for k in range(n_series)]
    numbers = np.array([table.intern(each) for each in labels], dtype=np.int64)
    values = np.random.default_rng(0).normal(100, 3, (n_series, 1))
    output = Output(numbers, np.array([time_ms]), {name: values for name in COLUMNS})
    settings = config.writer
    assert isinstance(settings, VmWriterSettings)
    encoder = Encoder(settings.metric_format, "", settings.batch_max_bytes, settings.batch_max_series)
    batches = [Batch(output, table, "q", model, "s", "bare") for model in models]
    bodies = [bytes(body.data) for batch in batches for body in encoder.encode(batch)]
    reading, writing = RangeEndpoint(config.reader, 1), ImportEndpoint(settings)
    writing.post(b"", 30)
    reading.get(replace(query, expr="vector(1)"), Window(time_ms, time_ms, STEP_S * 1000), lambda _code, _seconds: None)
    started = time.perf_counter()
    reading.get(query, Window(time_ms, time_ms, STEP_S * 1000), lambda _code, _seconds: None)
    for body in bodies:
        writing.post(body, 30)
    seconds = time.perf_counter() - started
    reading.close()
    writing.close()
    return seconds


def main() -> None:
    """Seed what is missing and measure each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasource-url", required=True)
    parser.add_argument("--series", type=int, nargs="+", default=[2_000, 20_000])
    parser.add_argument("--models", nargs="+", default=["zscore_online"])
    parser.add_argument("--ticks", type=int, default=5)
    parser.add_argument("--end", type=int, help="end of the fit window, Unix seconds")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    end_s = args.end or (int(time.time()) - 3600) // STEP_S * STEP_S
    if args.one:
        print(json.dumps(measure(args.datasource_url, args.series[0], args.models, end_s, args.ticks)))
        return
    for n_series in args.series:
        query = {"query": f"count(tick_{n_series})", "time": str(end_s)}
        found = httpx.get(f"{args.datasource_url}/api/v1/query", params=query).json()["data"]["result"]
        if not found:
            seed(args.datasource_url, n_series, end_s)
        words = ["--datasource-url", args.datasource_url, "--series", str(n_series), "--models", *args.models]
        words += ["--ticks", str(args.ticks), "--end", str(end_s), "--one"]
        done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        row = json.loads(done.stdout.splitlines()[-1])
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()))


if __name__ == "__main__":
    main()
