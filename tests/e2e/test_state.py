"""A process that is killed, and one that goes on from its state, on the real VictoriaMetrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.stack import Engine, Stack, needs_stack, running, until

pytestmark = [pytest.mark.e2e, needs_stack]

STEP_S = 2
N_SERIES = 40
CONFIG = """
schedulers:
  s: {class: periodic, infer_every: 2s, fit_every: 1h, fit_window: 20m}
models:
  zscore: {class: zscore_online, queries: all, schedulers: all}
  envelope: {class: temporal_envelope, queries: all, schedulers: all}
  prophet: {class: prophet, queries: all, schedulers: all}
reader: {datasource_url: "{url}", sampling_period: 2s, settle: 1s, queries: {load: {expr: load}}}
writer: {datasource_url: "{url}"}
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path / "stack", "--only", "victoriametrics", "--vm-flag=-search.latencyOffset=0s")
    yield made
    made.down()


def feed(stack: Stack, begin: int) -> None:
    """Twenty minutes before `begin` and five after."""
    times = np.arange(begin - 1200, begin + 300, STEP_S)
    rng = np.random.default_rng(0)
    stack.add(
        [
            {
                "metric": {"__name__": "load", "host": f"h{k}"},
                "values": np.round(50 + 10 * np.sin(times / 300 + k) + rng.normal(size=times.size), 3).tolist(),
                "timestamps": (1000 * times).tolist(),
            }
            for k in range(N_SERIES)
        ]
    )


def scores(stack: Stack) -> dict[tuple[str, str], dict[int, float]]:
    """By model and host the score of each Unix second; one that was written twice must be the same."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in stack.series("anomaly_score"):
        cells = found.setdefault((row["metric"]["model_alias"], row["metric"]["host"]), {})
        for at_ms, value in zip(row["timestamps"], row["values"], strict=True):
            assert cells.setdefault(at_ms // 1000, value) == value
    return found


def newest(stack: Stack) -> int:
    return min((max(cells) for cells in scores(stack).values()), default=0)


def test_a_killed_process_is_followed_by_one_that_fits_nothing_and_misses_nothing(stack: Stack, tmp_path: Path) -> None:
    begin = int(time.time()) // STEP_S * STEP_S
    feed(stack, begin)
    config, state = CONFIG.replace("{url}", stack.vm), ("--state-dir", str(tmp_path / "state"))
    first = begin
    for life in range(3):
        with running(Engine(tmp_path, config, options=state)) as engine:
            since = int(time.time())
            until(lambda since=since: newest(stack) >= since + STEP_S, 60, "scores are written", lambda: engine.log)
            fits = engine.metric("vmanomaly_model_runs_total", stage="fit")
            assert fits == (0 if life else 3), engine.log
            assert ("restored: 40 series" in engine.log) == bool(life)
            assert engine.metric("vmanomaly_models_active") == 3 * N_SERIES
            assert engine.metric("vmanomaly_state_size_bytes") > 0
            engine.process.kill()
            engine.process.wait()
        time.sleep(STEP_S)
    found = scores(stack)
    assert len(found) == 3 * N_SERIES
    for cells in found.values():
        assert sorted(cells) == list(range(min(cells), max(cells) + STEP_S, STEP_S))
        assert min(cells) <= first + 2 * STEP_S
        assert max(cells) >= first + 6 * STEP_S


def test_state_that_is_turned_off_is_removed(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(stack, int(time.time()) // STEP_S * STEP_S)
    config = CONFIG.replace("{url}", stack.vm)
    folder = tmp_path / "state"
    monkeypatch.setenv("VMANOMALY_MODEL_DUMPS_DIR", str(folder))
    with running(Engine(tmp_path, config, "settings: {restore_state: true}\n")) as engine:
        until(lambda: len(list(folder.glob("*.journal"))) == 3, 60, "state is kept", lambda: engine.log)
        code, _ = engine.stop()
        assert code == 0
    with running(Engine(tmp_path, config)) as engine:
        until(lambda: "was removed" in engine.log, 30, "the state is gone", lambda: engine.log)
        assert [path.name for path in folder.iterdir()] == ["spool"]  # results are not state
