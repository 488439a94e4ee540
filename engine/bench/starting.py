"""How long the service takes from the start of its process to its first write, with one series."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from engine.bench.line import config_text
from engine.bench.measuring import REPEATS, Row, Task
from engine.bench.standin import StandIn
from engine.errors import StartError

_LONGEST_S = 300.0


def measure_start(task: Task, source: StandIn, *, is_cold: bool) -> Row:
    """The median of warm starts, or one start without any compiled kernel.

    Raises
    ------
    StartError : the service ended, or wrote nothing for five minutes.
    """
    task = msgspec.structs.replace(task, n_series=1, source_url=source.url, target_url=source.url, query="", prefix="")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = msgspec.json.decode(config_text(task))
        config["server"] = {"addr": "127.0.0.1", "port": port}
        file.write_bytes(msgspec.json.encode(config))
        environ = dict(os.environ)
        if is_cold:
            environ["ENGINE_KERNEL_CACHE"] = str(Path(folder, "kernels"))
        else:
            _start(file, environ, source, task.model)  # kernels are compiled now
        seconds = [_start(file, environ, source, task.model) for _ in range(1 if is_cold else REPEATS)]
    return {"stage": "cold start" if is_cold else "warm start", "seconds": statistics.median(seconds),
            "repeats": len(seconds)}  # fmt: skip


def _start(file: Path, environ: dict[str, str], source: StandIn, model: str) -> float:
    """Seconds from the start of the process to its first import."""
    source.has_import.clear()
    started = time.perf_counter()
    command = [sys.executable, "-m", "engine.cli", str(file), "--loggerLevel", "ERROR"]
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, env=environ, stdout=log, stderr=log) as process:
        try:
            while not source.has_import.wait(0.002):
                if process.poll() is not None or time.perf_counter() - started > _LONGEST_S:
                    log.seek(0)
                    why = log.read().decode("utf-8", "replace").strip()[-500:] or "nothing was written"
                    raise StartError(f"{model}: the service did not start: {why}")
            return time.perf_counter() - started
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
