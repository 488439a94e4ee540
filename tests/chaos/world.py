"""What the service lives in: its inputs, a database that suffers, small disks, and a process that is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np

from tests.chaos.proxy import Proxy
from tests.e2e.stack import Engine, Stack, free_port

STEP_S = 2
N_SERIES = 2000
HISTORY_S = 1200
DATABASE = ("--only", "victoriametrics", "--vm-flag=-search.latencyOffset=0s")
CONFIG = """
schedulers:
  s: {{class: periodic, infer_every: {step}s, fit_every: 1d, fit_window: 20m, start_from: "{start}"}}
models:
  online: {{class: zscore_online, queries: all, schedulers: all}}
  offline: {{class: prophet, queries: all, schedulers: all}}
reader:
  {{datasource_url: "{source}", sampling_period: {step}s, settle: 1s, fetch_timeout: 8s,
    queries: {{load: {{expr: load}}}}}}
writer: {{datasource_url: "{target}", timeout: {timeout}s}}
server: {{addr: 127.0.0.1, port: {port}}}
"""


class SmallDisk:
    """A file system in memory that can be filled up."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)], check=True)

    def fill(self, left_bytes: int) -> None:
        """Leave so much room."""
        free = os.statvfs(self.folder)
        size = free.f_bavail * free.f_frsize - left_bytes
        if size > 0:
            with (self.folder / "filler").open("wb") as file, contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, size)

    def free(self) -> None:
        """Make room again."""
        (self.folder / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "-l", str(self.folder)], check=False)


class World:
    """Two databases: the inputs' lives undisturbed, with all points of the run there from the beginning."""

    def __init__(self, folder: Path, run_s: int) -> None:
        self.folder = folder
        self.db_disk = SmallDisk(folder / "db", 1500)
        self.state_disk = SmallDisk(folder / "state", 1500)
        self.source = Stack(folder / "source", *DATABASE)
        self.target = Stack(self.db_disk.folder / "target", *DATABASE)
        self.source_proxy, self.target_proxy = Proxy(self.source.vm), Proxy(self.target.vm)
        self.begin_s = int(time.time()) // STEP_S * STEP_S + 40
        self.feed(self.begin_s + run_s)
        self.engine: Engine | None = None
        self.port = 0
        self.timeout_s = 5

    def feed(self, end_s: int) -> None:
        """History and future of the inputs."""
        rng = np.random.default_rng(0)
        times = np.arange(self.begin_s - HISTORY_S - 60, end_s, STEP_S)
        for first in range(0, N_SERIES, 100):
            rows = [
                {
                    "metric": {"__name__": "load", "host": f"h{k}", "rack": f"r{k % 40}"},
                    "values": np.round(50 + 10 * np.sin(times / 300 + k) + rng.normal(size=times.size), 3).tolist(),
                    "timestamps": (1000 * times).tolist(),
                }
                for k in range(first, first + 100)
            ]
            self.source.add(rows)
        self.source.flush()

    def config_text(self, extra: str = "") -> str:
        """The configuration; `extra` is appended."""
        start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.begin_s))
        urls = {"source": self.source_proxy.url, "target": self.target_proxy.url}
        text = CONFIG.format(step=STEP_S, start=start, port=self.port, timeout=self.timeout_s, **urls)
        return text + extra

    @property
    def state(self) -> Path:
        return self.state_disk.folder / "state"

    def start_engine(self) -> Engine:
        """A new process on the same port and files."""
        options = ("--state-dir", str(self.state), "--watch", "-configCheckInterval=500ms")
        engine = Engine.__new__(Engine)
        self.port = self.port or free_port()
        engine.port, engine.log_path = self.port, self.folder / "engine.log"
        self.config_path.write_text(self.config_text())
        command = str(Path(sys.executable).parent / "engine")
        with engine.log_path.open("ab") as log:
            engine.process = subprocess.Popen([command, str(self.config_path), *options], stdout=log, stderr=log)
        self.engine = engine
        return engine

    @property
    def config_path(self) -> Path:
        return self.folder / "config.yml"

    def kill_engine(self) -> None:
        """Kill -9."""
        assert self.engine is not None
        assert self.engine.process.poll() is None, "it died by itself:\n" + self.engine.log[-5000:]
        self.engine.process.kill()
        self.engine.process.wait()

    def restart_target(self) -> None:
        """Start the database again if it does not run."""
        self.target.up(*DATABASE)

    def kill_target(self) -> None:
        """Kill -9."""
        self.target.kill("victoriametrics", signal.SIGKILL)

    def metric(self, name: str, **labels: str) -> float:
        """Of the service; nan while it does not answer."""
        try:
            return self.engine.metric(name, **labels) if self.engine else float("nan")
        except httpx.HTTPError:
            return float("nan")

    def close(self) -> None:
        """End everything."""
        if self.engine is not None and self.engine.process.poll() is None:
            self.engine.process.kill()
            self.engine.process.wait()
        for stack in (self.source, self.target):
            stack.down()
        for proxy in (self.source_proxy, self.target_proxy):
            proxy.close()
        for disk in (self.db_disk, self.state_disk):
            disk.close()
