"""Custom models: files written for vmanomaly, old and new, and what happens when they fail."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from engine.config.schema import load_config
from engine.config.single import make_model
from engine.errors import ConfigError
from engine.frame import Query
from engine.models.args import CustomFile
from engine.models.base import Model, align, fit, infer
from engine.models.custom import Custom
from engine.models.custom_kinds import settle
from engine.models.zscore import OnlineZscore
from engine.pool import Pool
from engine.score import resolve
from engine.settings import Range
from tests.engine.unit_bench import T0, Bench, M
from tests.models import test_contract as contract
from tests.models.test_contract import history, later, past, run

pytest.importorskip("pandas", reason="custom models need pandas: pip install -e '.[custom]'")

FILES = Path(__file__).parents[1] / "engine" / "custom"
ONE = Pool(1)


def custom(name: str, **keys: Any) -> Custom:
    model = settle(Custom(**keys), CustomFile(path=str(FILES / f"{name}.py")))
    assert isinstance(model, Custom)
    assert model.check() == []
    return model


def written(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(text)
    return str(folder / f"{name}.py")


# Not of objects: which arrays a state has, and whether two objects are equal.
ARRAYS_ONLY = {
    "test_state_survives_bytes_without_pickle",
    "test_every_column_of_the_state_has_a_row_a_series",
    "test_the_same_input_gives_the_same_result",
    "test_rows_do_not_depend_on_each_other_or_on_threads",
    "test_one_by_one_equals_at_once",
}
CHECKS = [
    check
    for name, check in vars(contract).items()
    if name.startswith("test_") and list(inspect.signature(check).parameters) == ["model"] and name not in ARRAYS_ONLY
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["new_form", "online"])
def test_the_contract_of_all_models_holds(name: str, check: Any) -> None:
    check(custom(name))


@pytest.mark.parametrize("name", ["new_form", "old_form", "online", "rolling"])
def test_results_do_not_depend_on_threads_or_how_points_arrive(name: str) -> None:
    values = history(140)
    model = custom(name)
    columns, _, frame = run(model, fit(model, [past(values)], Pool(2)), later(values), Pool(2))
    state = fit(model, [past(values)], ONE)
    for t in range(0, frame.timestamps_ms.size, 10):
        piece = contract.frame_of(later(values).values[:, t : t + 10], int(frame.timestamps_ms[t]))
        got, state, _ = run(model, state, piece)
        for column in ("anomaly_score", "yhat"):
            np.testing.assert_allclose(got[column], columns[column][:, t : t + 10], rtol=1e-9, atol=1e-9)


def test_a_new_form_file_scores_as_its_median_and_spread_say() -> None:
    values = history()
    model = custom("new_form", args={"n_sigmas": 4})
    columns, _, frame = run(model, fit(model, [past(values)], ONE), later(values))
    y = past(values).values[0]
    center = np.median(y)
    half = 4 * np.median(np.abs(y - center))
    np.testing.assert_allclose(columns["yhat_upper"][0], center + half)
    np.testing.assert_allclose(columns["anomaly_score"][0], np.abs(frame.values[0] - center) / half)


@pytest.mark.parametrize("spec", [{"percentage": 0.9}, {"args": {"percentage": 0.9}}], ids=["flat", "under args"])
def test_an_old_form_file_gets_its_argument_and_gives_whole_numbers(spec: dict[str, Any]) -> None:
    values = history()
    model, _ = make_model("model.model.CustomModel", {**spec, "custom": {"path": str(FILES / "old_form.py")}})
    columns, _, frame = run(model, fit(model, [past(values)], ONE), later(values))
    expected = frame.values[0] > np.quantile(past(values).values[0], 0.9)
    assert_array_equal(columns["anomaly_score"][0], expected.astype(float))


def test_objects_of_an_online_class_learn_once_and_leave_the_state_before_alone() -> None:
    values = history(2)
    model = custom("online")
    assert model.is_online
    before = fit(model, [past(values)], ONE)
    level = before.columns["model"][0].level
    _, after, _ = run(model, before, later(values))
    assert before.columns["model"][0].level == level
    assert after.columns["model"][0].n_samples_seen_ == before.columns["model"][0].n_samples_seen_ + contract.LATER


def test_policies_of_the_query_reach_the_helpers_and_are_not_applied_twice() -> None:
    query = Query("q", "up", M, data_range=Range((0.0, 55.0)), detection_direction="above_expected")
    values = history(1)
    model = custom("new_form").for_query(query, 3.5)
    assert resolve(model, query, 3.5) == resolve(OnlineZscore(), Query("q", "up", M))
    state, frame = align(model, fit(model, [past(values)], ONE), later(values))
    score = infer(model, state, frame, ONE)[0].score
    assert score is not None
    y, center = frame.values[0], np.median(past(values).values[0])
    assert (score[0][y > 55] == 3.5).all()
    assert (score[0][y < center] == 0).all()


def test_a_series_that_fails_is_skipped_counted_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = written(tmp_path, "sometimes", (
        "from model.model import Model\n"
        "class CustomModel(Model):\n"
        "    def fit(self, df):\n"
        "        if df['y'].iloc[0] == 5: raise ValueError('not five')\n"
        "    def infer(self, df):\n"
        "        if df['y'].iloc[0] == 7: raise KeyError('seven')\n"
        "        return df[['timestamp']].assign(anomaly_score=0.5)\n"
    ))  # fmt: skip
    bench = Bench(settle(Custom(), CustomFile(path=file)))
    for name, value in (("good", 1.0), ("no fit", 5.0), ("no infer", 7.0)):
        bench.feed(name, -10, 5, value)
    bench.unit.fit(T0)
    bench.unit.infer(T0 + M)
    scores = [(name, value) for name, _, value in bench.writer.written("anomaly_score") if math.isfinite(value)]
    assert set(scores) == {("good", 0.5)}
    skipped = "vmanomaly_model_series_skipped_total"
    assert bench.count(skipped, stage="fit", reason="unfit") == 1
    assert bench.count(skipped, stage="infer", reason="failed") == 1
    assert f"fit failed for 1 of 3 series, first: {file}:4: ValueError: not five" in caplog.text
    assert f"{file}:6: KeyError: 'seven'" in caplog.text


def test_trap_2_a_rolling_class_scores_only_points_that_were_not_seen() -> None:
    bench = Bench(custom("rolling", args={"window": 5}))
    bench.reader.points["a"] = {T0 + k * M: math.sin(k) for k in range(-30, 6)}
    bench.unit.fit(T0)
    for minute in (1, 1, 2, 5):
        bench.unit.infer(T0 + minute * M)
    found = [(t - T0) // M for _, t, value in bench.writer.written("anomaly_score") if math.isfinite(value)]
    assert found == [0, 1, 2, 3, 4, 5]


def test_a_rolling_class_never_sees_a_later_point(tmp_path: Path) -> None:
    """Points that come at once score as those that come one by one, though the class looks at all that it is given."""
    text = (
        "from model.model import RollingModel\n"
        "class CustomModel(RollingModel):\n"
        "    def infer(self, df):\n"
        "        return df.assign(anomaly_score=(df['y'] - df['y'].mean()).abs(), yhat=df['y'].mean())\n"
    )
    model = settle(Custom(), CustomFile(path=written(tmp_path, "whole_window", text)))
    values = history(2)
    columns, _, frame = run(model, fit(model, [past(values)], ONE), later(values))
    state = fit(model, [past(values)], ONE)
    for t in range(frame.timestamps_ms.size):
        piece = contract.frame_of(later(values).values[:, t : t + 1], int(frame.timestamps_ms[t]))
        got, state, _ = run(model, state, piece)
        np.testing.assert_allclose(got["yhat"][:, 0], columns["yhat"][:, t], rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("no_package", "import numpy\nimport nosuchpackage\n", ":2: No module named 'nosuchpackage'"),
        ("no_python", "class CustomModel(\n", ":1: '(' was never closed"),
        ("no_class", "x = 1\n", ": has no class CustomModel"),
        ("no_base", "class CustomModel:\n    pass\n", ": CustomModel, expected a class derived from Model"),
        ("leaves", "import sys\nsys.exit(3)\n", ":2: SystemExit: 3"),
        ("several", "from model.model import MultivariateModel, RollingModel\n"
         "class CustomModel(RollingModel, MultivariateModel):\n    pass\n", ": RollingModel has no groups, expected "),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_a_configuration_error_with_its_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    file = written(tmp_path, name, text)
    with pytest.raises(ConfigError) as caught:
        make_model("custom", {"custom": {"path": file}})
    assert caught.value.problems == (f"model.class: {file}{message}",) or caught.value.problems[0].startswith(
        f"model.class: {file}{message}"
    )


CONFIG = """
schedulers: {s: {class: periodic, infer_every: 1m, fit_window: 1d}}
models: {mine: {class: model.custom.CustomModel, percentage: 0.9}}
reader: {class: vm, datasource_url: "http://vm:8428", sampling_period: 1m, queries: {q: {expr: up}}}
writer: {class: vm, datasource_url: "http://vm:8428"}
"""


def test_the_section_custom_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(f"{CONFIG}\ncustom: {{path: {FILES / 'online.py'}}}\n")
    config = load_config([file], {})
    assert config.unavailable == ()
    assert config.models["mine"].is_online
    file.write_text(CONFIG)
    assert load_config([file], {}).unavailable == (
        "models.mine: no custom model at /vmanomaly/src/model/custom.py or /vmanomaly/model/custom.py; "
        "custom.path names another place",
    )
    file.write_text(f"{CONFIG}\ncustom: {{path: {tmp_path / 'nowhere.py'}}}\n")
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config([file], {})


def test_other_models_know_nothing_of_files() -> None:
    model: Model = OnlineZscore()
    assert settle(model, CustomFile(path="/nowhere")) is model
    assert model.missing == ""
