"""The image, built from the Dockerfile and run without privileges, without a disk to write to, in little memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.stack import Stack, free_port, needs_stack, until

ROOT = Path(__file__).parents[2]
BASE = os.environ.get("ENGINE_TEST_PYTHON_IMAGE")
IMAGE = "localhost/engine:test"

pytestmark = [
    pytest.mark.e2e,
    needs_stack,
    pytest.mark.skipif(not BASE or not shutil.which("podman") or not shutil.which("buildah"),
                       reason="ENGINE_TEST_PYTHON_IMAGE names no base image, or buildah and podman are missing"),
]  # fmt: skip

# The guide's, but for cadence and host; the server was told not to make up its last 30 s, so points settle sooner.
CONFIG = """
scheduler: {{infer_every: 10s, fit_every: 2h, fit_window: 14d}}
model: {{class: model.prophet.ProphetModel, args: {{interval_width: 0.98}}}}
reader:
  datasource_url: "{url}/"
  settle: 3s
  queries: {{node_cpu_rate: "rate(node_cpu_seconds_total)"}}
writer: {{datasource_url: "{url}/"}}
server: {{addr: 127.0.0.1, port: {port}}}
"""


def run(*words: str, timeout_s: float = 60, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0 or not check, f"{' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def image() -> str:
    run("buildah", "bud", "--format", "docker", "--isolation", "chroot", "--pull-never", "--build-arg",
        f"PYTHON_IMAGE={BASE}", "-t", IMAGE, str(ROOT), timeout_s=600)  # fmt: skip
    return IMAGE


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, int]]:
    port = free_port()
    folder = tmp_path_factory.mktemp("container") / "stack"
    made = Stack(folder, f"--vmanomaly-port={port}", "--scrape-interval=2s", "--vm-flag=-search.latencyOffset=0s")
    yield made, port
    made.down()


def inspect(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("podman", "inspect", image))[0]
    return found


def test_the_image_says_how_it_is_run(image: str) -> None:
    found = inspect(image)
    config = found["Config"]
    assert config["User"] == "1000:1000"
    assert config["WorkingDir"] == "/vmanomaly"
    assert config["Entrypoint"] == ["engine"]
    assert "8500/tcp" in config["ExposedPorts"]
    assert found["Healthcheck"]["Test"][0] == "CMD"


def test_the_image_holds_the_service_and_no_tests(image: str) -> None:
    script = "import duckdb, plotly, pathlib, engine; print(*pathlib.Path(engine.__file__).parents[1].glob('*/tests'))"
    assert run("podman", "run", "--rm", "--entrypoint", "python", image, "-c", script).strip() == ""
    assert "engine" in run("podman", "run", "--rm", image, "--version")


def test_a_container_scores_reports_health_and_stops_in_time(
    image: str, stack: tuple[Stack, int], tmp_path: Path
) -> None:
    services, port = stack
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(url=services.vm, port=port))
    name = f"engine-test-{port}"
    try:
        run("podman", "run", "-d", "--name", name, "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all",
            "--security-opt", "no-new-privileges", "--memory", "1g", "--pids-limit", "200",
            "-e", f"ENGINE_HEALTH_URL=http://127.0.0.1:{port}/health", "-v", f"{config}:/config.yaml:ro",
            image, "/config.yaml", "--license-file=/license.txt")  # fmt: skip

        def log() -> str:
            return run("podman", "logs", name, check=False)

        until(lambda: httpx.get(f"http://127.0.0.1:{port}/health").is_success, 30, "/health answers", log)
        run("podman", "healthcheck", "run", name)
        # Kernels come compiled with the image, so nothing delays the first score but the data.
        until(lambda: services.series("anomaly_score"), 90, "a score is written", log)
        outputs = {s["metric"]["__name__"] for s in services.series('{for="node_cpu_rate"}')}
        assert outputs == {"anomaly_score", "yhat", "yhat_lower", "yhat_upper", "y"}
        started = time.monotonic()
        run("podman", "stop", "-t", "20", name)
        assert time.monotonic() - started < 8
        assert run("podman", "inspect", name, "--format", "{{.State.ExitCode}}").strip() == "0"
    finally:
        run("podman", "rm", "-f", name, check=False)


CUSTOM = """
schedulers: {{s: {{class: periodic, infer_every: 10s, fit_every: 2h, fit_window: 10m}}}}
models: {{mine: {{class: custom, args: {{n_sigmas: 4}}}}}}
reader: {{class: vm, datasource_url: "{url}/", sampling_period: 10s, settle: 3s,
         queries: {{up: {{expr: up}}}}}}
writer: {{class: vm, datasource_url: "{url}/"}}
server: {{addr: 127.0.0.1, port: {port}}}
"""


def test_a_custom_model_runs_from_where_vmanomaly_has_it(image: str, stack: tuple[Stack, int], tmp_path: Path) -> None:
    services, port = stack
    config = tmp_path / "config.yaml"
    config.write_text(CUSTOM.format(url=services.vm, port=port))
    file = ROOT / "tests/engine/custom/new_form.py"
    name = f"engine-custom-{port}"
    try:
        run("podman", "run", "-d", "--name", name, "--read-only", "--tmpfs", "/tmp", "--memory", "1g",
            "-v", f"{config}:/config.yaml:ro", "-v", f"{file}:/vmanomaly/src/model/custom.py:ro",
            image, "/config.yaml")  # fmt: skip

        def log() -> str:
            return run("podman", "logs", name, check=False)

        until(lambda: services.series('anomaly_score{model_alias="mine"}'), 120, "a custom score is written", log)
    finally:
        run("podman", "rm", "-f", name, check=False)
