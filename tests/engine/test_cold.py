"""Starts of the real process without compiled kernels, and with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import Engine, running, until
from tests.engine.scripted import ScriptedVm

CONFIG = """
schedulers: {{s: {{class: periodic, infer_every: 1s, fit_every: 1h, fit_window: 2m}}}}
models:
  z: {{class: zscore_online, min_n_samples_seen: 1}}
  p: {{class: prophet}}
reader: {{datasource_url: "{url}", sampling_period: 1s, settle: 0s, queries: {{q: {{expr: some_metric}}}}}}
writer: {{datasource_url: "{url}"}}
"""

pytestmark = pytest.mark.skipif(bool(os.environ.get("NUMBA_DISABLE_JIT")), reason="nothing is compiled")


@pytest.fixture
def vm() -> Iterator[ScriptedVm]:
    made = ScriptedVm()
    yield made
    made.stop()


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.nbc")}


def score(vm: ScriptedVm, folder: Path) -> None:
    """Start, wait for scores of both models, stop."""
    vm.written.clear()
    with running(Engine(folder, CONFIG.format(url=vm.url))) as engine:
        until(lambda: all(engine.metric("vmanomaly_model_runs_total", stage="infer", model_alias=a) for a in "zp"),
              120, "inferences of both models", lambda: engine.log)  # fmt: skip
        code, _ = engine.stop()
        assert code == 0, engine.log
        assert "Traceback" not in engine.log
    assert vm.written


def test_a_start_compiles_only_what_it_uses_and_the_next_one_nothing(
    vm: ScriptedVm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = tmp_path / "kernels"
    monkeypatch.setenv("ENGINE_KERNEL_CACHE", str(kernels))
    score(vm, tmp_path)
    cold = files(kernels)
    names = {name.split("-")[0] for name in cold}
    assert {"ewm.ewm_predict_update", "changepoint.fit_changepoints", "json_out.import_lines"} <= names
    assert not [name for name in names if name.startswith(("envelope", "stl", "arima"))]
    score(vm, tmp_path)
    assert files(kernels) == cold


def test_without_a_folder_for_kernels_it_compiles_and_scores_all_the_same(
    vm: ScriptedVm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ENGINE_KERNEL_CACHE", str(tmp_path / "file" / "kernels"))
    score(vm, tmp_path)
