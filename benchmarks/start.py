"""From process start to the first scores: how long, cold and warm, and how much memory an idle service holds.

Run: python -m benchmarks.start

The service runs on one series, as a process of its own, against a small server in place of the database: it answers
each query with a point a second and takes all writes. *Warm* is with kernels compiled before, *restored* with the
state of the run before, too, *cold* with none: an empty folder for them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

MODELS = {
    "zscore_online": "{class: zscore_online}",
    "temporal_envelope": "{class: temporal_envelope}",
    "prophet": "{class: prophet}",
}
CONFIG = """
schedulers: {{s: {{class: periodic, fit_window: 1h, fit_every: 1d, infer_every: 1s}}}}
models: {{m: {model}}}
reader: {{datasource_url: "{url}", sampling_period: 1s, settle: 0s, queries: {{q: {{expr: up}}}}}}
writer: {{datasource_url: "{url}"}}
server: {{addr: 127.0.0.1, port: 0}}
"""


class Database(BaseHTTPRequestHandler):
    """One series, a value for each step that is asked for; remembers when it first took scores."""

    protocol_version = "HTTP/1.1"
    written = threading.Event()

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
        if body:
            self.written.set()

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


def first_write(url: str, model: str, kernels: Path, folder: Path, state: Path | None) -> dict[str, float]:
    """Seconds until the first scores were taken, and the memory some seconds later."""
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(url=url, model=MODELS[model]))
    environ = {**os.environ, "ENGINE_KERNEL_CACHE": str(kernels)}
    words = [str(Path(sys.executable).parent / "engine"), str(config)]
    words += [] if state is None else ["--state-dir", str(state)]
    Database.written.clear()
    started = time.perf_counter()
    process = subprocess.Popen(words, env=environ, stderr=subprocess.DEVNULL)
    try:
        if not Database.written.wait(300):
            raise SystemExit(f"{model}: no scores within 300 s")
        seconds = time.perf_counter() - started
        time.sleep(3)
        return {"seconds": seconds, "rss_anon_mib": status_mib(process.pid, "RssAnon")}
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
    args = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Database)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    print(json.dumps({"help_s": round(help_s(), 3)}))
    for model in MODELS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            cold = first_write(url, model, folder / "kernels", folder, None)
            warm = [first_write(url, model, folder / "kernels", folder, None) for _ in range(args.rounds)]
            restored = [
                first_write(url, model, folder / "kernels", folder, folder / "state") for _ in range(1 + args.rounds)
            ][1:]
            row = {"model": model, "cold_s": round(cold["seconds"], 1)}
            for kind, rows in (("warm", warm), ("restored", restored)):
                row |= {f"{kind}_{key}": round(statistics.median(r[key] for r in rows), 2) for key in rows[0]}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
