"""A long run of the whole service on a real VictoriaMetrics: is every minute scored, how soon, in how much memory?

Run: python -m benchmarks.soak --datasource-url http://127.0.0.1:8428 --series 100000 --minutes 30

Feeds so many series a point a minute, spread over ten queries, runs the service on them as a process of its own, looks
at its metrics and memory four times a second, and at the end asks the database which minutes are there. Prints one
JSON object. The database and what feeds it share the machine's cores with the service.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np

N_QUERIES = 10
STEP_S = 60
SETTLE_S = 5
SAMPLE_S = 0.25
CONFIG = """
schedulers: {{s: {{class: periodic, fit_window: {window}m, fit_every: 1d, infer_every: 1m}}}}
models: {{m: {{class: {model}, queries: all, schedulers: all}}}}
reader: {{datasource_url: "{url}", sampling_period: 1m, queries: {{{queries}}}}}
writer: {{datasource_url: "{url}"}}
server: {{addr: 127.0.0.1, port: {port}}}
"""


class Feed:
    """Series that get a point each minute, beginning some minutes ago."""

    def __init__(self, url: str, n_series: int, name: str) -> None:
        self._url = url
        self._client = httpx.Client(timeout=300)
        self._rng = np.random.default_rng(0)
        labels = '"__name__":"%s","part":"%d","host":"h%d","pod":"pod-%d-%06d"'
        head = '{"metric":{' + labels + '},"timestamps":'
        self._heads = [
            [head % (name, q, k % 997, q, k) for k in range(n_series // N_QUERIES)] for q in range(N_QUERIES)
        ]

    def send(self, times_s: np.ndarray) -> None:
        """Import points at these times."""
        stamps = json.dumps((times_s * 1000).tolist(), separators=(",", ":"))
        for heads in self._heads:
            for first in range(0, len(heads), 2_000):
                some = heads[first : first + 2_000]
                values = np.round(50 + 5 * self._rng.standard_normal((len(some), times_s.size)), 2).tolist()
                body = "\n".join(f'{h}{stamps},"values":{v}}}' for h, v in zip(some, values, strict=True))
                self._client.post(f"{self._url}/api/v1/import", content=body).raise_for_status()

    def keep_on(self, stop: threading.Event) -> None:
        """A point at each whole minute, two seconds before the service may read it."""
        while not stop.is_set():
            at = int(time.time()) // STEP_S * STEP_S + STEP_S
            if stop.wait(at - time.time() - 3):
                return
            self.send(np.array([at]))


class Watch:
    """What the service's metrics and the system say of it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        self.peak_rss_mib = self.peak_anon_mib = 0.0
        self.sent: list[tuple[float, float]] = []

    def sample(self) -> None:
        """Look once."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                self.peak_rss_mib = int(line.split()[1]) / 1024
            elif line.startswith("RssAnon"):
                self.peak_anon_mib = max(self.peak_anon_mib, int(line.split()[1]) / 1024)
        self.sent.append((time.time(), self._total("vmanomaly_writer_datapoints_sent")))

    def cpu_s(self) -> float:
        """CPU seconds of the service."""
        return self._total("process_cpu_seconds")

    def _total(self, name: str) -> float:
        text = self._client.get("/metrics", params={"name[]": name}).text
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))

    def tick_seconds(self, since: float) -> list[float]:
        """For each minute, from when its points may be read until the last of its outputs was acknowledged."""
        last: dict[int, float] = {}
        for (_, before), (at, after) in zip(self.sent, self.sent[1:], strict=False):
            if after > before and at > since:
                last[int(at - SETTLE_S) // STEP_S] = (at - SETTLE_S) % STEP_S
        return list(last.values())


def minutes(url: str, model: str, first: int, last: int) -> list[int]:
    """How many series have a score at each minute."""
    params: dict[str, str | int] = {
        "query": 'count(last_over_time(anomaly_score{scheduler_alias="s",model_alias="m"}[1m])) or vector(0)',
        "start": first, "end": last, "step": STEP_S, "nocache": 1,
    }  # fmt: skip
    httpx.get(f"{url}/internal/force_flush", timeout=60)
    reply = httpx.get(f"{url}/api/v1/query_range", params=params, timeout=300).raise_for_status()
    return [int(value) for _, value in reply.json()["data"]["result"][0]["values"]]


def main() -> None:
    """Feed, run, watch, ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasource-url", required=True)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--model", default="zscore_online")
    parser.add_argument("--history", type=int, default=60, help="minutes of history that are fitted")
    parser.add_argument("--port", type=int, default=8599)
    args = parser.parse_args()
    url, name = args.datasource_url, f"soak_{int(time.time())}"
    feed, stop = Feed(url, args.series, name), threading.Event()
    now = int(time.time()) // STEP_S * STEP_S
    started = time.time()
    feed.send(np.arange(now - args.history * STEP_S, now + 3 * STEP_S, STEP_S))
    sys.stderr.write(f"history sent in {time.time() - started:.0f} s\n")
    threading.Thread(target=feed.keep_on, args=(stop,), daemon=True).start()
    queries = ", ".join(f"""q{k}: {{expr: '{name}{{part="{k}"}}'}}""" for k in range(N_QUERIES))
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.yaml")
        config.write_text(
            CONFIG.format(window=args.history, model=args.model, url=url, queries=queries, port=args.port)
        )
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen([sys.executable, "-m", "engine.cli", str(config)], stderr=log)
        try:
            row = watch(process, args, started)
        finally:
            stop.set()
            process.terminate()
            process.wait(20)
        lines = Path(folder, "log").read_text(encoding="utf-8").splitlines()
    row["warnings"] = sum(" - WARNING - " in line or " - ERROR - " in line for line in lines)
    first, last = row.pop("first"), row.pop("last")
    counts = minutes(url, args.model, first, last)
    row |= {"minutes": len(counts), "minutes_lost": sum(c == 0 for c in counts), "series_at_least": min(counts)}
    print(json.dumps(row))


def watch(process: subprocess.Popen[bytes], args: argparse.Namespace, started: float) -> dict[str, float]:
    """Run for so many minutes after the first scores of all series."""
    watching = Watch(process, args.port)
    outputs = 5 * args.series
    while not watching.sent or watching.sent[-1][1] < outputs:
        if process.poll() is not None:
            raise SystemExit("the service has ended")
        with contextlib.suppress(httpx.TransportError):  # it is still starting
            watching.sample()
        time.sleep(SAMPLE_S)
    since, cpu = time.time(), watching.cpu_s()
    sys.stderr.write(f"all series have a score {since - started:.0f} s after the start\n")
    first = int(since) // STEP_S * STEP_S + STEP_S
    end = first + args.minutes * STEP_S + SETTLE_S + 20
    while time.time() < end:
        watching.sample()
        time.sleep(SAMPLE_S)
    ticks = watching.tick_seconds(first)
    return {
        "series": args.series,
        "tick_median_s": round(statistics.median(ticks), 2),
        "tick_longest_s": round(max(ticks), 2),
        "cpu_s_per_tick": round((watching.cpu_s() - cpu) * STEP_S / (time.time() - since), 2),
        "peak_rss_mib": round(watching.peak_rss_mib),
        "peak_anonymous_mib": round(watching.peak_anon_mib),
        "first": first,
        "last": first + (args.minutes - 1) * STEP_S,
    }


if __name__ == "__main__":
    main()
