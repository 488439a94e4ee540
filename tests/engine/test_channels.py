"""Multivariate models over several queries in memory: what is joined, rejected, learned and written."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import ReadError
from engine.frame import Query
from engine.models.iforest_multivariate import IsolationForestMultivariate
from tests.engine.channel_bench import T0, ChannelBench, M
from tests.fakes import JointModel

ALL = ["anomaly_score", "contribution", "y", "yhat"]
BY_INSTANCE = {"groupby": ["instance"]}


def two_instances(bench: ChannelBench, first: int = -10, last: int = 20) -> None:
    for instance in ("a", "b"):
        bench.feed("cpu", first, last, 50.0, instance=instance, job="node", core="0")
        bench.feed("cpu", first, last, 60.0, instance=instance, job="node", core="1")
        bench.feed("mem", first, last, 9.0, instance=instance, job="node")


def test_each_group_has_one_score_with_the_labels_that_its_channels_share() -> None:
    bench = ChannelBench(JointModel(**BY_INSTANCE))
    two_instances(bench)
    bench.unit.fit(T0)
    bench.unit.infer(T0 + 3 * M)
    expected = {("cpu,mem", (("instance", name), ("job", "node"))): [0, 1, 2, 3] for name in "ab"}
    assert {key: sorted(points) for key, points in bench.written().items()} == expected
    assert bench.count("vmanomaly_models_active") == 2
    assert {tuple(batch.output.columns) for batch in bench.writer.batches} == {("anomaly_score",)}


def test_without_groupby_all_series_are_one_group() -> None:
    bench = ChannelBench(JointModel())
    two_instances(bench)
    bench.unit.fit(T0)
    bench.unit.infer(T0 + 1 * M)
    assert {key: sorted(points) for key, points in bench.written().items()} == {("cpu,mem", (("job", "node"),)): [0, 1]}


def test_a_label_that_a_series_lacks_counts_as_an_empty_one() -> None:
    bench = ChannelBench(JointModel(groupby=["instance"]))
    bench.feed("cpu", -10, 5, instance="a")
    bench.feed("cpu", -10, 5, zone="x")
    bench.feed("mem", -10, 5, instance="", zone="x")
    bench.unit.fit(T0)
    bench.unit.infer(T0)
    assert set(bench.written()) == {("cpu,mem", (("instance", "a"),)), ("cpu,mem", (("zone", "x"),))}


def test_series_of_each_channel_are_written_when_asked_for_under_their_own_labels() -> None:
    bench = ChannelBench(JointModel(provide_series=ALL, **BY_INSTANCE))
    two_instances(bench)
    bench.feed("cpu", 2, 2, 500.0, instance="b", job="node", core="1")
    bench.unit.fit(T0)
    bench.unit.infer(T0 + 2 * M)
    shares = bench.written("contribution")
    assert {key[0] for key in shares} == {"cpu", "mem"}
    assert len(shares) == 6
    to_blame = ("cpu", (("core", "1"), ("instance", "b"), ("job", "node")))
    assert shares[to_blame][2] == 1.0
    for minute in (0, 1, 2):
        for instance in "ab":
            own = [points[minute] for (_, labels), points in shares.items() if ("instance", instance) in labels]
            assert sum(own) == pytest.approx(1.0)
    assert bench.written("y")[to_blame] == {0: 60.0, 1: 60.0, 2: 500.0}
    assert bench.written("yhat")[to_blame][2] == 60.0
    assert bench.written()[("cpu,mem", (("instance", "b"), ("job", "node")))][2] == pytest.approx(440 / 15)


def test_provide_series_without_the_score_writes_no_score() -> None:
    bench = ChannelBench(JointModel(provide_series=["contribution"]))
    two_instances(bench)
    bench.unit.fit(T0)
    bench.unit.infer(T0)
    assert {name for batch in bench.writer.batches for name in batch.output.columns} == {"contribution"}


@pytest.mark.parametrize(("cpu", "mem"), [(1, 1_000), (3, 4), (1_000, 2)])
def test_queries_read_in_different_pieces_are_joined(cpu: int, mem: int) -> None:
    bench, whole = (ChannelBench(JointModel(provide_series=ALL, **BY_INSTANCE)) for _ in range(2))
    bench.reader.steps_a_piece = {"cpu": cpu, "mem": mem}
    rng = np.random.default_rng(1)
    for each in (bench, whole):
        rng = np.random.default_rng(1)
        for minute in range(-10, 15):
            for instance in "ab":
                each.feed("cpu", minute, minute, rng.normal(), instance=instance)
                each.feed("mem", minute, minute, rng.normal(), instance=instance)
        each.unit.fit(T0)
        each.unit.infer(T0 + 12 * M)
    for column in ALL:
        assert bench.written(column) == whole.written(column)


def test_points_late_or_at_once_give_the_same_scores() -> None:
    benches = [ChannelBench(JointModel(provide_series=ALL, **BY_INSTANCE)) for _ in range(2)]
    for bench, ticks in zip(benches, (range(1, 21), (7, 20)), strict=True):
        rng = np.random.default_rng(1)
        for minute in range(-10, 21):
            bench.feed("cpu", minute, minute, rng.normal(), instance="a")
            bench.feed("mem", minute, minute, rng.normal(), instance="a")
        bench.unit.fit(T0)
        for tick in ticks:
            bench.unit.infer(T0 + tick * M)
    assert benches[0].minutes(instance="a") == list(range(21))
    for column in ALL:
        assert benches[0].written(column) == benches[1].written(column)


def test_a_late_channel_is_waited_for_and_each_time_is_scored_once() -> None:
    bench = ChannelBench(JointModel(**BY_INSTANCE))
    two_instances(bench, last=0)
    bench.unit.fit(T0)
    for tick in range(1, 12):
        two_instances(bench, tick, tick)
        del bench.reader.points["mem"][(("instance", "a"), ("job", "node"))][T0 + tick * M]
        if tick > 2:  # two minutes late
            bench.feed("mem", tick - 2, tick - 2, 9.0, instance="a", job="node")
        bench.unit.infer(T0 + tick * M)
    assert bench.minutes(instance="a", job="node") == list(range(0, 10))
    assert bench.minutes(instance="b", job="node") == list(range(0, 12))
    assert bench.count("vmanomaly_model_timestamps_incomplete_total", stage="infer") == 0


def test_a_time_that_stays_incomplete_is_given_up_and_counted() -> None:
    bench = ChannelBench(JointModel(**BY_INSTANCE))
    two_instances(bench)
    del bench.reader.points["mem"][(("instance", "a"), ("job", "node"))][T0 + 4 * M]
    bench.unit.fit(T0)
    for tick in range(1, 9):
        bench.unit.infer(T0 + tick * M)
    assert bench.minutes(instance="a", job="node") == [0, 1, 2, 3, 5, 6, 7, 8]
    assert bench.count("vmanomaly_model_timestamps_incomplete_total", stage="infer") == 1


def test_a_group_without_one_of_its_channels_is_skipped_and_others_are_scored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = ChannelBench(JointModel(**BY_INSTANCE))
    two_instances(bench, last=60)
    points = bench.reader.points["mem"][(("instance", "a"), ("job", "node"))]
    for minute in range(2, 31):
        del points[T0 + minute * M]
    bench.unit.fit(T0)
    for tick in range(1, 41):
        bench.unit.infer(T0 + tick * M)
    assert bench.minutes(instance="b", job="node") == list(range(0, 41))
    assert bench.minutes(instance="a", job="node") == [0, 1, *range(31, 41)]
    assert bench.count("vmanomaly_model_runs_skipped_total", stage="infer") == 29
    assert bench.count("vmanomaly_model_timestamps_incomplete_total", stage="infer") == 29
    assert caplog.text.count("group instance='a' lacks channels that the fit had") == 1


@pytest.mark.parametrize("model", [JointModel(**BY_INSTANCE), IsolationForestMultivariate(**BY_INSTANCE)])
def test_a_new_channel_stops_its_group_until_the_next_fit(model: JointModel, caplog: pytest.LogCaptureFixture) -> None:
    bench = ChannelBench(model)
    two_instances(bench)
    bench.unit.fit(T0)
    bench.feed("cpu", 2, 20, instance="a", job="node", core="2")
    for tick in range(1, 6):
        bench.unit.infer(T0 + tick * M)
    assert bench.minutes(instance="a", job="node") == [0, 1]
    assert bench.minutes(instance="b", job="node") == [0, 1, 2, 3, 4, 5]
    assert bench.count("vmanomaly_model_runs_skipped_total", stage="infer") == 4
    assert caplog.text.count("group instance='a' has channels that the fit did not have") == 1
    bench.unit.fit(T0 + 6 * M)
    bench.unit.infer(T0 + 8 * M)
    assert bench.minutes(instance="a", job="node") == [0, 1, 6, 7, 8]


def test_a_new_group_is_scored_at_once_online_and_after_the_next_fit_offline() -> None:
    online, offline = (ChannelBench(kind(**BY_INSTANCE)) for kind in (JointModel, IsolationForestMultivariate))
    for bench in (online, offline):
        two_instances(bench)
        bench.unit.fit(T0)
        # One channel of the new group comes a minute before the other: the group begins anew with both.
        bench.feed("cpu", 2, 20, instance="c")
        bench.feed("mem", 3, 20, instance="c")
        for tick in range(1, 6):
            bench.unit.infer(T0 + tick * M)
    assert online.minutes(instance="c") == [2, 3, 4, 5]
    assert online.count("vmanomaly_models_active") == 3
    assert offline.minutes(instance="c") == []
    skipped = "vmanomaly_model_series_skipped_total"
    assert offline.count(skipped, stage="infer", reason="unknown") == 1 + 2 + 2 + 2
    offline.unit.fit(T0 + 6 * M)
    offline.unit.infer(T0 + 7 * M)
    assert offline.minutes(instance="c") == [6, 7]


def test_a_group_that_was_gone_goes_on_from_where_it_was() -> None:
    bench = ChannelBench(JointModel(**BY_INSTANCE, provide_series=ALL))
    two_instances(bench)
    for alias in ("cpu", "mem"):
        for labels, points in bench.reader.points[alias].items():
            if ("instance", "a") in labels:
                for minute in range(2, 11):
                    del points[T0 + minute * M]
    bench.unit.fit(T0)
    for tick in range(1, 13):
        bench.unit.infer(T0 + tick * M)
    assert bench.minutes(instance="a", job="node") == [0, 1, 11, 12]
    assert bench.group.state is not None
    assert sorted(bench.group.state.group_columns["times"].tolist()) == [14, 23]
    assert bench.count("vmanomaly_model_timestamps_incomplete_total", stage="infer") == 0


def test_a_query_that_cannot_be_read_fails_the_whole_set_and_is_made_up_later() -> None:
    bench = ChannelBench(JointModel(**BY_INSTANCE))
    two_instances(bench)
    bench.reader.failing = {"mem"}
    with pytest.raises(ReadError):
        bench.unit.fit(T0)
    bench.reader.failing = set()
    bench.unit.fit(T0)
    bench.reader.failing = {"mem"}
    for tick in (1, 2):
        with pytest.raises(ReadError):
            bench.unit.infer(T0 + tick * M)
    bench.reader.failing = set()
    bench.unit.infer(T0 + 3 * M)
    assert bench.minutes(instance="a", job="node") == [0, 1, 2, 3]


def test_points_that_come_during_a_fit_are_learned_by_the_new_state() -> None:
    bench = ChannelBench(JointModel(**BY_INSTANCE))
    two_instances(bench)
    bench.unit.fit(T0)
    bench.unit.infer(T0)

    def meanwhile() -> None:
        bench.reader.after_read = lambda: None
        bench.unit.infer(T0 + 8 * M)

    bench.reader.after_read = meanwhile
    bench.unit.fit(T0 + 5 * M)
    assert bench.group.state is not None
    # The window of 11 points to minute 5, then minutes 6, 7 and 8.
    assert bench.group.state.group_columns["times"].tolist() == [14, 14]
    assert bench.minutes(instance="b", job="node") == list(range(0, 9))


def test_a_late_fit_learns_what_was_scored_before_it_began() -> None:
    bench = ChannelBench(JointModel(**BY_INSTANCE))
    two_instances(bench)
    bench.unit.fit(T0)
    del bench.reader.points["mem"][(("instance", "a"), ("job", "node"))][T0 + 8 * M]
    bench.unit.infer(T0 + 8 * M)
    bench.unit.fit(T0 + 5 * M)
    assert bench.group.state is not None
    # The window of 11 points to minute 5, then those that were scored: 6 and 7, and of the other instance 8.
    assert bench.group.state.group_columns["times"].tolist() == [13, 14]
    two_instances(bench)
    bench.unit.infer(T0 + 9 * M)
    assert bench.group.state.group_columns["times"].tolist() == [15, 15]
    assert bench.minutes(instance="a", job="node") == bench.minutes(instance="b", job="node") == list(range(10))


@pytest.mark.parametrize("model", [JointModel, IsolationForestMultivariate])
def test_each_channel_has_the_policies_of_its_query(model: type[JointModel]) -> None:
    queries = Query("cpu", "", M, data_range=(0.0, 100.0)), Query("mem", "", M, detection_direction="above_expected")
    names = ["anomaly_score", "contribution"]
    bench = ChannelBench(model(provide_series=names), *queries)
    for minute in range(-10, 4):
        bench.feed("cpu", minute, minute, 101.0 if minute == 2 else 95.0 + minute % 2)
        bench.feed("mem", minute, minute, -500.0 if minute == 3 else 200.0)
    bench.unit.fit(T0)
    bench.unit.infer(T0 + 3 * M)
    scores = bench.written()[("cpu,mem", ())]
    assert scores[2] >= 1.01
    assert bench.written("contribution")[("cpu", ())][2] == 1.0
    if model is JointModel:
        assert scores[3] < 1  # mem is far below, which does not count, and above no range


def test_a_fit_takes_groups_apart_only_between_groups() -> None:
    bench = ChannelBench(JointModel(groupby=["instance"]))
    for k in range(700):
        bench.feed("cpu", -10, 0, instance=str(k))
        bench.feed("mem", -10, 0, instance=str(k))
        bench.feed("cpu", -10, 0, instance=str(k), core="1")
    bench.unit.fit(T0)
    assert bench.group.state is not None
    assert bench.group.state.n_models == 700
    bench.unit.infer(T0)
    assert len(bench.written()) == 700
