"""What a configuration uses again of the state that an earlier process kept, and what it fits anew."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from engine import build
from engine.build import make_schedule, make_tasks
from engine.config.schema import load_config
from engine.errors import ConfigError
from engine.metrics import Metrics
from engine.models.mad import OnlineMad
from engine.pool import Pool
from engine.scheduler.periodic import replay
from engine.scheduler.settings import PeriodicSettings
from engine.state.store import StateStore
from tests.fakes import MemoryReader, MemoryWriter

M, H = 60_000, 3_600_000
T0 = 472_222 * H
Cells = dict[tuple[str, str, str, int], float]
BASE = """
schedulers: {s: {class: periodic, infer_every: 1m, fit_window: 3h, fit_every: 2h}}
models:
  z: {class: zscore_online, queries: [a]}
  mad: {class: mad_online, queries: [a]}
  both: {class: temporal_envelope_multivariate, queries: [a, b]}
reader: {datasource_url: "http://vm", sampling_period: 1m, queries: {a: {expr: u}, b: {expr: v}}}
writer: {datasource_url: "http://vm"}
"""


class Life:
    """What a process does with a configuration from one minute to another; then it is killed."""

    def __init__(self, folder: Path, first: int, last: int, text: str = BASE, since: int = -200) -> None:
        (folder / "config.yml").write_text(text)
        config = load_config([folder / "config.yml"], {}, state_dir=folder / "state")
        assert config.state_dir is not None
        self.reader, self.writer, self.metrics = MemoryReader(), MemoryWriter(), Metrics()
        for k, name in enumerate(("x", "y")):
            self.reader.points[name] = {
                T0 + m * M: 50 + 10 * math.sin(m / 30 + k) + math.sin(m * 7.7 + k) for m in range(since, last + 1)
            }
        store = StateStore(config.state_dir)
        tasks = make_tasks(config, "s", self.reader, self.writer, Pool(1), self.metrics, store=store)
        self.n_removed = store.remove_unused()
        settings = config.schedulers["s"]
        assert isinstance(settings, PeriodicSettings)
        now = T0 + first * M + 10_000
        replay(make_schedule(settings, tasks, now), tasks, now, T0 + last * M + 20_000)
        store.close()

    def fits(self) -> dict[str, int]:
        """By model, how often it was fitted on any query."""
        found: dict[str, int] = {}
        for metric in self.metrics.registry.collect():
            for sample in metric.samples:
                if sample.name == "vmanomaly_model_runs_total" and sample.labels["stage"] == "fit":
                    alias = sample.labels["model_alias"]
                    found[alias] = found.get(alias, 0) + int(sample.value)
        return found

    def cells(self) -> Cells:
        cells: Cells = {}
        for batch in self.writer.batches:
            for name, column in batch.output.columns.items():
                for i, k in np.argwhere(np.isfinite(column)).tolist():
                    labels = batch.table.text(int(batch.output.series[i])).decode()
                    at = int(batch.output.timestamps_ms[k])
                    cells[batch.model_alias, name, labels, at] = float(column[i, k])
        return cells


def test_a_restart_writes_what_one_process_would_have_and_fits_when_that_would_have(tmp_path: Path) -> None:
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    alone = Life(tmp_path / "one", 0, 300)
    assert alone.fits() == {"z": 3, "mad": 3, "both": 3}
    cells: Cells = {}
    fits = []
    for first, last in ((0, 50), (53, 60), (61, 119), (150, 180), (181, 300)):
        life = Life(tmp_path / "many", first, last)
        assert not cells.keys() & life.cells().keys()
        cells |= life.cells()
        fits.append(set(life.fits().items()))
    each = ("z", "mad", "both")
    assert fits == [{(m, 1) for m in each}, set(), set(), {(m, 1) for m in each}, {(m, 1) for m in each}]
    # The fit of minute 120 came late: what it would have learned is scored by the state before it, as in one life.
    assert cells.keys() == alone.cells().keys()
    different = {key for key, value in alone.cells().items() if cells[key] != value}
    assert {(key[3] - T0) // M for key in different} <= set(range(120, 151))


@pytest.mark.parametrize("infer_every", ["1m", "20m"])
def test_scattered_queries_keep_their_grid_through_restarts(tmp_path: Path, infer_every: str) -> None:
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    text = BASE.replace("1m,", f"{infer_every}, scatter_infer_jobs: true,", 1)
    alone = Life(tmp_path / "one", 0, 300, text)
    cells: Cells = {}
    fits = dict.fromkeys(alone.fits(), 0)
    for first, last in ((0, 50), (51, 75), (76, 114), (115, 180), (181, 234), (235, 300)):
        life = Life(tmp_path / "many", first, last, text)
        cells |= life.cells()
        fits = {model: n + life.fits().get(model, 0) for model, n in fits.items()}
    assert fits == alone.fits()
    assert cells == alone.cells()


def test_a_changed_model_alone_is_fitted_anew(tmp_path: Path) -> None:
    Life(tmp_path, 0, 30)
    life = Life(tmp_path, 31, 60, BASE.replace("mad_online,", "mad_online, threshold: 3.5,"))
    assert life.fits() == {"mad": 1}
    assert {key[0] for key in life.cells() if key[3] == T0 + 32 * M} == {"z", "mad", "both"}
    assert Life(tmp_path, 61, 90, BASE.replace("mad_online,", "mad_online, threshold: 3.5,")).fits() == {}


def test_a_changed_query_or_window_fits_what_it_touches(tmp_path: Path) -> None:
    Life(tmp_path, 0, 30)
    assert Life(tmp_path, 31, 40, BASE.replace("expr: v", "expr: w")).fits() == {"both": 1}
    changed = BASE.replace("expr: v", "expr: w").replace("3h", "4h")
    assert Life(tmp_path, 41, 50, changed).fits() == {"z": 1, "mad": 1, "both": 1}


def test_what_is_attached_elsewhere_too_and_the_writer_change_nothing(tmp_path: Path) -> None:
    Life(tmp_path, 0, 30)
    changed = BASE.replace("zscore_online, queries: [a]", "zscore_online, queries: [a, b]")
    changed = changed.replace('writer: {datasource_url: "http://vm"}', 'writer: {datasource_url: "http://other"}')
    life = Life(tmp_path, 31, 40, changed)
    assert life.fits() == {"z": 1}  # on b


def test_a_model_that_is_gone_leaves_nothing(tmp_path: Path) -> None:
    Life(tmp_path, 0, 30)
    assert len(list((tmp_path / "state").glob("*.snapshot"))) == 3
    gone = BASE.replace("  mad: {class: mad_online, queries: [a]}\n", "")
    assert Life(tmp_path, 31, 40, gone).n_removed == 1
    assert len(list((tmp_path / "state").glob("*.snapshot"))) == 2
    assert Life(tmp_path, 41, 50).fits() == {"mad": 1}


def test_state_that_is_too_old_is_fitted_anew_at_once(tmp_path: Path) -> None:
    Life(tmp_path, 0, 30)
    life = Life(tmp_path, 400, 410)
    assert life.fits() == {"z": 1, "mad": 1, "both": 1}
    assert (400 * M + T0) in {key[3] for key in life.cells()}


def test_damage_to_one_model_is_its_own_and_its_fit_is_done_again(tmp_path: Path) -> None:
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    alone = Life(tmp_path / "one", 0, 40)
    tmp_path /= "many"
    before = Life(tmp_path, 0, 30)
    smallest = min((tmp_path / "state").glob("*.snapshot"), key=lambda path: path.stat().st_size)
    smallest.write_bytes(smallest.read_bytes()[:-100])
    after = Life(tmp_path, 31, 40)
    assert sum(after.fits().values()) == 1
    # On the window that it had: all that came since is scored again, and equal.
    twice = before.cells().keys() & after.cells().keys()
    assert {key[3] for key in twice} == {T0 + m * M for m in range(31)}
    assert before.cells() | after.cells() == alone.cells()
    assert {key: after.cells()[key] for key in twice} == {key: before.cells()[key] for key in twice}


def test_thin_history_is_still_thin_after_a_restart(tmp_path: Path) -> None:
    fits = [Life(tmp_path, *span, since=-8).fits().get("z", 0) for span in ((0, 2), (3, 12), (13, 30))]
    # On nine points, and once they have doubled; a tenth of the window is enough then.
    assert fits == [1, 1, 0]


def test_trap_restore_state_needs_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(BASE + "settings: {restore_state: true}\n")
    with pytest.raises(
        ConfigError, match=r"settings.restore_state: true, expected VMANOMALY_MODEL_DUMPS_DIR or --state-dir"
    ):
        load_config([path], {})
    config = load_config([path], {"VMANOMALY_MODEL_DUMPS_DIR": str(tmp_path / "dumps")})
    assert (config.state_dir, config.settings.restore_state) == (tmp_path / "dumps", True)


@pytest.mark.parametrize("spelling", ["%Y-%m-%dT%H:%M:%SZ", "%H:%M"])
def test_trap_7_with_start_from_inference_goes_on_at_once(tmp_path: Path, spelling: str) -> None:
    # A clock time that is past means tomorrow's: the second life is a day before its first fit.
    start = datetime.fromtimestamp(T0 / 1000, UTC).strftime(spelling)
    fixed = BASE.replace("fit_every: 2h", f'fit_every: 2h, start_from: "{start}"')
    assert Life(tmp_path, -1, 30, fixed).fits() == {"z": 1, "mad": 1, "both": 1}
    life = Life(tmp_path, 31, 40, fixed)
    assert life.fits() == {}
    assert {key[3] for key in life.cells()} == {T0 + k * M for k in range(31, 41)}


@pytest.mark.parametrize("infer_every", ["1m", "20m"])
def test_start_from_is_waited_for_once_and_its_grid_is_kept(tmp_path: Path, infer_every: str) -> None:
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    clock = datetime.fromtimestamp(T0 / 1000 + 600, UTC).strftime("%H:%M")  # ten minutes after T0, each day
    fixed = BASE.replace("1m,", f"{infer_every},", 1).replace("fit_every: 2h", f'fit_every: 80m, start_from: "{clock}"')
    alone = Life(tmp_path / "one", 0, 300, fixed)
    assert alone.fits() == {"z": 4, "mad": 4, "both": 4}
    fits = dict.fromkeys(alone.fits(), 0)
    cells: Cells = {}
    for first, last in ((0, 30), (31, 140), (141, 300)):
        life = Life(tmp_path / "many", first, last, fixed)
        fits = {model: n + life.fits().get(model, 0) for model, n in fits.items()}
        cells |= life.cells()
    assert fits == alone.fits()
    assert cells == alone.cells()
    changed = fixed.replace("mad_online,", "mad_online, threshold: 3.5,")
    assert Life(tmp_path / "many", 301, 310, changed).fits() == {"mad": 1}


def test_fits_of_thin_history_do_not_move_the_grid_of_start_from(tmp_path: Path) -> None:
    clock = datetime.fromtimestamp(T0 / 1000, UTC).strftime("%H:%M")
    fixed = BASE.replace("fit_every: 2h", f'fit_every: 2h, start_from: "{clock}"')
    assert Life(tmp_path, -1, 30, fixed, since=-8).fits()["z"] > 1
    assert Life(tmp_path, 31, 119, fixed, since=-8).fits() == {}
    assert Life(tmp_path, 120, 125, fixed, since=-8).fits()["z"] == 1


def test_trap_28_a_relative_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yml"
    path.write_text(BASE + "settings: {restore_state: true}\n")
    for config in (
        load_config([path], {"VMANOMALY_MODEL_DUMPS_DIR": "dumps"}),
        load_config([path], {}, state_dir=Path("dumps")),
    ):
        assert config.state_dir == tmp_path / "dumps"


def test_trap_31_state_of_another_release_is_fitted_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Life(tmp_path, 0, 30)
    monkeypatch.setattr(build, "__version__", "99.0.0")
    assert Life(tmp_path, 31, 40).fits() == {"z": 1, "mad": 1, "both": 1}


def test_state_of_another_layout_is_fitted_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Life(tmp_path, 0, 30)
    monkeypatch.setattr(OnlineMad, "layout", 99)
    assert Life(tmp_path, 31, 40).fits() == {"mad": 1}


def test_the_flag_turns_it_on_and_the_variable_alone_does_not(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(BASE)
    environ = {"VMANOMALY_MODEL_DUMPS_DIR": str(tmp_path / "dumps")}
    assert not load_config([path], environ).settings.restore_state
    config = load_config([path], environ, state_dir=tmp_path / "flag")
    assert (config.state_dir, config.settings.restore_state) == (tmp_path / "flag", True)
