"""Custom models of several channels: what they are given, what is written, and what happens when they fail."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.cli import main
from engine.frame import Query
from engine.models.args import CustomFile
from engine.models.custom import Custom
from tests.engine.channel_bench import T0, ChannelBench, M
from tests.models.test_custom import custom, written

BY_INSTANCE = {"groupby": ["instance"]}


def feed(bench: ChannelBench, minute: int, cpu: float, mem: float, instance: str = "a") -> None:
    bench.feed("cpu", minute, minute, cpu, instance=instance)
    bench.feed("mem", minute, minute, mem, instance=instance, device="ram")


def bench_of(model: Custom) -> ChannelBench:
    bench = ChannelBench(model)
    for minute in range(-10, 0):
        for instance, scale in (("a", 2.0), ("b", 3.0)):
            feed(bench, minute, scale * (10 + minute % 3), 10.0 + minute % 3, instance)
    return bench


def scores(bench: ChannelBench, instance: str = "a") -> dict[int, float]:
    return bench.written()["cpu,mem", (("instance", instance),)]


def test_each_group_is_an_object_that_gets_a_column_for_each_query() -> None:
    bench = bench_of(custom("groups", **BY_INSTANCE))
    bench.unit.fit(T0 - M)
    feed(bench, 0, 20.0, 10.0)
    feed(bench, 1, 40.0, 10.0)
    for minute in (0, 1):
        feed(bench, minute, 30.0, 10.0, "b")
    bench.unit.infer(T0 + M)
    assert scores(bench) == {-1: 0.0, 0: 0.0, 1: 2.0}
    assert scores(bench, "b") == {-1: 0.0, 0: 0.0, 1: 0.0}


def test_times_at_which_a_channel_is_missing_are_neither_fitted_nor_scored() -> None:
    bench = bench_of(custom("groups", **BY_INSTANCE))
    bench.feed("cpu", -5, -5, np.nan, instance="a")
    bench.unit.fit(T0 - M)
    bench.feed("cpu", 0, 0, 40.0, instance="a")
    feed(bench, 1, 40.0, 10.0)
    bench.unit.infer(T0 + M)
    assert scores(bench) == {-1: 0.0, 1: 2.0}
    model = bench.group.state.group_columns["model"][0]
    assert model.n_samples_seen_ == 9


def test_channels_of_one_query_are_told_apart_by_their_labels() -> None:
    bench = ChannelBench(custom("groups_online"))
    bench.feed("cpu", -10, 0, 1.0, core="0")
    bench.feed("cpu", -10, 0, 1.0, core="1")
    bench.feed("mem", -10, 0, 1.0)
    bench.unit.fit(T0)
    names = bench.group._channels.names(np.arange(3))
    assert names == ['cpu{"core":"0"}', 'cpu{"core":"1"}', "mem"]
    assert set(bench.group.state.group_columns["model"][0].__dict__) >= {"total", "count"}


@pytest.mark.parametrize("step", [1, 6])
def test_an_online_class_learns_each_time_once_however_points_arrive(step: int) -> None:
    bench = bench_of(custom("groups_online", **BY_INSTANCE))
    bench.unit.fit(T0 - M)
    rng = np.random.default_rng(1)
    values = rng.uniform(1, 9, (6, 2))
    for minute, (cpu, mem) in enumerate(values.tolist()):
        feed(bench, minute, cpu, mem)
    for minute in range(step - 1, 6, step):
        bench.unit.infer(T0 + minute * M)
    sums = [3.0 * (10 + k % 3) for k in range(-10, 0)] + values.sum(axis=1).tolist()
    expected = {k: abs(sums[10 + k] - np.mean(sums[: 10 + k])) for k in range(-1, 6)}
    assert scores(bench) == pytest.approx(expected)


def test_a_new_group_of_an_online_class_is_scored_at_once_and_of_an_offline_one_after_the_next_fit() -> None:
    for name, minutes in (("groups_online", [1]), ("groups", [])):
        bench = bench_of(custom(name, **BY_INSTANCE))
        bench.unit.fit(T0 - M)
        for minute in (0, 1):
            feed(bench, minute, 2.0, 1.0, "c")
        bench.unit.infer(T0 + M)
        assert bench.minutes(instance="c") == minutes


def test_a_group_that_fails_is_skipped_counted_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = written(tmp_path, "moody", (
        "from model.model import MultivariateModel\n"
        "class CustomModel(MultivariateModel):\n"
        "    def fit(self, df):\n"
        "        self.limit = df['cpu'].max()\n"
        "    def infer(self, df):\n"
        "        if self.limit > 25:\n"
        "            raise ValueError('too much')\n"
        "        return df.assign(anomaly_score=1)\n"
    ))  # fmt: skip
    bench = bench_of(custom("groups", custom=CustomFile(path=file), **BY_INSTANCE))
    bench.unit.fit(T0 - M)
    for instance in "ab":
        feed(bench, 0, 20.0, 10.0, instance)
    bench.unit.infer(T0)
    assert scores(bench) == {-1: 1.0, 0: 1.0}
    assert bench.minutes(instance="b") == []
    assert f"infer failed for 1 of 2 groups, first: {file}:7: ValueError: too much" in caplog.text
    assert bench.count("vmanomaly_model_series_skipped_total", stage="infer", reason="failed") == 1


def test_policies_are_the_operators_to_apply() -> None:
    model = custom("groups", detection_direction="above_expected", **BY_INSTANCE)
    ranged = Query("cpu", "", M, data_range=(0.0, 1.0))
    bench = ChannelBench(model, ranged, Query("mem", "", M))
    for minute in range(-10, 1):
        feed(bench, minute, 20.0, 10.0)
    bench.unit.fit(T0 - M)
    bench.unit.infer(T0)
    assert scores(bench) == {-1: 0.0, 0: 0.0}
    assert bench.group.state.group_columns["model"][0].detection_direction == "above_expected"


def test_files_are_scored_with_columns_named_as_in_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = tmp_path / "in.csv", tmp_path / "out.csv"
    rows = [f"{60 * k},{20 if k != 15 else 40},10" for k in range(20)]
    table.write_text("timestamp,cpu,mem\n" + "\n".join(rows) + "\n")
    path = Path(__file__).parents[1] / "engine" / "custom" / "groups.py"
    options = ["--model", "custom", "--set", f"custom.path={path}", "--fit-rows", "10", "--output", str(out), "--json"]
    assert main(["score", str(table), *options]) == 0
    json.loads(capsys.readouterr().out)
    found = [line.split(",") for line in out.read_text().splitlines()]
    column = found[0].index("anomaly_score")
    assert [float(row[column]) for row in found[11:]] == [2.0 if k == 15 else 0.0 for k in range(10, 20)]
