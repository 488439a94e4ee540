"""From process start to the first scores: how long, cold and warm, and how much memory an idle service holds.

Run: python -m benchmarks.start

The service runs on one series, as a process of its own, against a small server in place of the database: it answers
each query with a point a second and takes all writes. *Warm* is with kernels compiled before, *restored* with the
state of the run before, too, *cold* with none: an empty folder for them. Where several classes share the query, times
are those of the first and of the last one's scores; the CPU's are all until then, which is what a cold start takes on
a machine that does nothing else. `/health` and `/metrics` are asked ten times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlparse
from urllib.request import urlopen

CASES = (("zscore_online",), ("temporal_envelope",), ("prophet",), ("zscore_online", "temporal_envelope", "prophet"))
CONFIG = """
schedulers: {{s: {{class: periodic, fit_window: 1h, fit_every: 1d, infer_every: 1s}}}}
models: {{{models}}}
reader: {{datasource_url: "{url}", sampling_period: 1s, settle: 0s, queries: {{q: {{expr: up}}}}}}
writer: {{datasource_url: "{url}"}}
server: {{addr: 127.0.0.1, port: {port}}}
"""
_MODEL = re.compile(rb'"model_alias":"(\w+)"')


class Database(BaseHTTPRequestHandler):
    """One series, a value for each step that is asked for; remembers when it first took scores of each model."""

    protocol_version = "HTTP/1.1"
    written: ClassVar[dict[str, float]] = {}

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlparse(self.path).query).items()}
        if "start" not in query:
            self._answer(404, b"")
            return
        start, end, step = (float(query[name].rstrip("s")) for name in ("start", "end", "step"))
        times = range(int(start), int(end) + 1, int(step))
        points = ",".join(f'[{t},"{t % 97}"]' for t in times)
        series = f'{{"metric":{{"host":"a"}},"values":[{points}]}}'
        head = '{"status":"success","data":{"resultType":"matrix","result":['
        self._answer(200, f"{head}{series}]}}}}".encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(204, b"")
        for alias in set(_MODEL.findall(body)):
            self.written.setdefault(alias.decode(), time.perf_counter())

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def status_mib(pid: int, name: str) -> float:
    """A line of the system's account of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def answer_s(url: str) -> float:
    """Seconds until a page of the service came, 0 while it does not listen yet."""
    started = time.perf_counter()
    try:
        with urlopen(url, timeout=60) as reply:
            reply.read()
    except OSError:
        return 0.0
    return time.perf_counter() - started


def first_writes(
    url: str, models: tuple[str, ...], kernels: Path, folder: Path, state: Path | None
) -> dict[str, float]:
    """Seconds until the first scores and those of the last model were taken, the slowest page, and memory."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(url=url, models=", ".join(f"{m}: {{class: {m}}}" for m in models), port=port))
    environ = {**os.environ, "ENGINE_KERNEL_CACHE": str(kernels)}
    words = [str(Path(sys.executable).parent / "engine"), str(config)]
    words += [] if state is None else ["--state-dir", str(state)]
    Database.written.clear()
    started = time.perf_counter()
    process = subprocess.Popen(words, env=environ, stderr=subprocess.DEVNULL)
    slowest = 0.0
    try:
        while len(Database.written) < len(models):
            if time.perf_counter() > started + 300:
                raise SystemExit(f"{models}: no scores within 300 s")
            for page in ("health", "metrics"):
                slowest = max(slowest, answer_s(f"http://127.0.0.1:{port}/{page}"))
            time.sleep(0.1)
        cpu_s = cpu_seconds(process.pid)
        times = [at - started for at in Database.written.values()]
        time.sleep(3)
        rss = status_mib(process.pid, "RssAnon")
        return {
            "first_s": min(times),
            "all_s": max(times),
            "cpu_s": cpu_s,
            "slowest_answer_s": slowest,
            "rss_anon_mib": rss,
        }
    finally:
        process.kill()
        process.wait()


def help_s() -> float:
    """Median seconds of `engine --help`."""
    seconds = []
    for _ in range(9):
        started = time.perf_counter()
        subprocess.run([str(Path(sys.executable).parent / "engine"), "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main() -> None:
    """Measure and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of warm starts")
    parser.add_argument("--cold", type=int, default=1, help="rounds of cold starts")
    args = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Database)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    print(json.dumps({"help_s": round(help_s(), 3)}))
    for models in CASES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            kinds = {
                "cold": [first_writes(url, models, folder / f"kernels-{k}", folder, None) for k in range(args.cold)],
                "warm": [first_writes(url, models, folder / "kernels-0", folder, None) for _ in range(args.rounds)],
                "restored": [
                    first_writes(url, models, folder / "kernels-0", folder, folder / "state")
                    for _ in range(1 + args.rounds)
                ][1:],
            }
            for kind, rows in kinds.items():
                middle = {key: round(statistics.median(row[key] for row in rows), 2) for key in rows[0]}
                print(json.dumps({"models": ", ".join(models), "start": kind, **middle}), flush=True)


if __name__ == "__main__":
    main()
