"""The suite of detection quality: ids stay, no class is forgotten, tables change only where a class ran."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import quality, scenarios
from engine.config.classes import MODELS

ROOT = Path(__file__).parents[1]


def test_ids_are_permanent():
    known = ("spikes", "dips", "shift", "drift", "noise", "stuck", "wrong-hour", "fade", "clean")
    assert scenarios.IDS[: len(known)] == known


@pytest.mark.parametrize("scenario", scenarios.IDS)
def test_scenarios_are_the_same_each_time_and_labelled_where_they_are_not_clean(scenario):
    first, again = scenarios.make(scenario), scenarios.make(scenario)
    for shape, (y, truth) in first.items():
        assert np.isfinite(y).all()
        np.testing.assert_array_equal(y, again[shape][0])
        assert truth[: 14 * scenarios.DAY].sum() == 0
        n_segments = int((np.diff(truth, prepend=0) == 1).sum())
        assert n_segments == (0 if scenario == scenarios.CLEAN else 6)


def test_numbers_of_a_scenario_never_change():
    y, truth = scenarios.make("spikes")["flat"]
    digest = hashlib.sha256(np.round(y, 6).tobytes() + truth.tobytes()).hexdigest()
    assert digest == "5f59a0f592f27ff682ae3d542f7337c0ec8b45db8f134f3d2e697867bce3863b"


def test_every_available_class_is_measured_or_has_a_reason():
    chosen = quality.classes(quality.SETS)
    measured = {alias for aliases in chosen.values() for alias in aliases}
    available = {alias for alias in MODELS.entries if MODELS.settings_type(alias).is_available}
    assert measured | set(quality.EXCLUDED) >= available
    assert not measured & set(quality.EXCLUDED)
    assert all(quality.EXCLUDED.values())


def test_a_table_keeps_the_rows_of_models_that_did_not_run(tmp_path, monkeypatch):
    page = tmp_path / "quality.md"
    page.write_text("before\n<!-- kpi -->\n| model | a |\n| --- | --- |\n| x | 1 |\n| y | 2 |\n<!-- /kpi -->\nafter\n")
    monkeypatch.setattr(quality, "PAGE", page)
    quality.update_page({"kpi": [["model", "a"], ["y", "3"], ["z", "4"]]})
    text = "before\n<!-- kpi -->\n| model | a |\n| --- | --- |\n| x | 1 |\n| y | 3 |\n| z | 4 |\n<!-- /kpi -->\nafter\n"
    assert page.read_text() == text


def test_base_and_head_are_compared_figure_by_figure():
    base = {"kpi": {"x": {"kpi": {"ap": 0.5, "seconds": 1.0, "mib": 100.0}}}}
    head = {"kpi": {"x": {"kpi": {"ap": 0.6, "seconds": 1.1, "mib": 200.0}}}}
    assert quality.compare(base, head) == ["kpi x kpi: ap 0.5 -> 0.6", "kpi x kpi: mib 100 -> 200"]
    assert quality.compare(base, base) == ["no figure moved"]


@pytest.mark.skipif("ENGINE_TEST_DATA" not in os.environ, reason="ENGINE_TEST_DATA is not set")
def test_the_published_detector_has_its_published_figures():
    command = [sys.executable, str(ROOT / "benchmarks/quality.py"), "--models", "zscore_online", "--sets", "kpi"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    cells = [cell.strip() for cell in done.stdout.splitlines()[-1].strip("| ").split("|")]
    # The data's own page says of the z-score over all earlier points: 0.403, 0.651, 0.536, with less of a head.
    np.testing.assert_allclose([float(c) for c in cells[1:4]], [0.403, 0.651, 0.536], atol=0.01)
