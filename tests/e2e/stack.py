"""The real services and the engine as a process, for end-to-end tests."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

STACK = os.environ.get("ENGINE_TEST_STACK")
needs_stack = pytest.mark.skipif(not STACK, reason="ENGINE_TEST_STACK does not name the stack tool")


class Stack:
    """One set of services with a folder and ports of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.urls: dict[str, str] = {}
        self.reply: dict[str, Any] = {}
        self.up("--free-ports", *options)

    def _run(self, command: str, *options: str, check: bool = True) -> dict[str, Any]:
        assert STACK is not None
        words = [sys.executable, STACK, command, "--dir", str(self.folder), *options]
        done = subprocess.run(words, capture_output=True, text=True, timeout=180, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{command}: {done.stderr}")
        reply: dict[str, Any] = json.loads(done.stdout or "{}")
        return reply

    def up(self, *options: str) -> None:
        """Start what does not run."""
        self.reply = self._run("up", *options)
        self.urls = self.reply["urls"]

    def down(self) -> None:
        """Stop and remove everything."""
        self._run("down", "--purge", check=False)

    def alerts(self, name: str) -> dict[str, Any]:
        """Firing alerts of that name, as vmalert and Alertmanager list them."""
        return self._run("alerts", "--name", name, check=False)

    def pid(self, service: str) -> int:
        """Process number of a service."""
        return int(self._run("status", check=False)["services"][service]["pid"])

    def kill(self, service: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a service."""
        os.kill(self.pid(service), number)

    @property
    def vm(self) -> str:
        return self.urls["victoriametrics"]

    def flush(self) -> None:
        """Make what was written visible to queries."""
        httpx.get(f"{self.vm}/internal/force_flush", timeout=30)

    def add(self, lines: list[dict[str, Any]]) -> None:
        """Import series in the JSON-line form."""
        body = "\n".join(json.dumps(line, separators=(",", ":")) for line in lines)
        httpx.post(f"{self.vm}/api/v1/import", content=body, timeout=120).raise_for_status()

    def series(self, match: str) -> list[dict[str, Any]]:
        """Raw samples of the matching series, as import lines."""
        self.flush()
        reply = httpx.get(f"{self.vm}/api/v1/export", params={"match[]": match}, timeout=60).raise_for_status()
        return [json.loads(line) for line in reply.text.splitlines()]

    def query_range(self, expr: str, start: int, end: int, step: str) -> list[dict[str, Any]]:
        """A range answer's series; not from the server's cache."""
        params: dict[str, Any] = {"query": expr, "start": start, "end": end, "step": step, "nocache": "1"}
        reply = httpx.get(f"{self.vm}/api/v1/query_range", params=params, timeout=60).raise_for_status()
        result: list[dict[str, Any]] = reply.json()["data"]["result"]
        return result


class Engine:
    """The engine as a user runs it: the installed command, config files, a log file."""

    def __init__(self, folder: Path, *configs: str, port: int | None = None, options: tuple[str, ...] = ()) -> None:
        self.port = port or free_port()
        paths = []
        for number, text in enumerate([*configs, f"server: {{addr: 127.0.0.1, port: {self.port}}}\n"]):
            path = folder / f"config-{self.port}-{number}.yml"
            path.write_text(text)
            paths.append(str(path))
        self.log_path = folder / f"engine-{self.port}.log"
        command = str(Path(sys.executable).parent / "engine")
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen([command, *paths, *options], stdout=log, stderr=log)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples with this name and these labels; 0 where there is none."""
        total = 0.0
        for line in httpx.get(f"{self.url}/metrics", timeout=5).text.splitlines():
            head, _, value = line.rpartition(" ")
            if head.split("{")[0] == name and all(f'{k}="{v}"' in head for k, v in labels.items()):
                total += float(value)
        return total

    def stop(self) -> tuple[int, float]:
        """Exit code after SIGTERM, and the seconds it took."""
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return code, time.monotonic() - started


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], timeout_s: float, what: str, log: Callable[[], str] = str) -> Any:
    """The condition's first true value; fails with `what` (and the log's end) after the time-out."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if value := condition():
                return value
        except httpx.TransportError:
            pass
        time.sleep(0.25)
    pytest.fail(f"not within {timeout_s:.0f} s: {what}\n{log()[-3000:]}")


@contextmanager
def running(engine: Engine) -> Iterator[Engine]:
    """The engine, stopped at the end whatever happens."""
    try:
        until(lambda: httpx.get(f"{engine.url}/health").is_success, 60, "/health answers", lambda: engine.log)
        yield engine
    finally:
        if engine.process.poll() is None:
            engine.process.kill()
            engine.process.wait()
