"""Habits of the real VictoriaMetrics and vmauth that clients stumble over; docs/compatibility.md lists them all."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from engine.errors import ReadError
from engine.frame import Query, Window, align_down
from engine.group import Group
from engine.metrics import Metrics
from engine.models.zscore import OnlineZscore
from engine.pipeline import Limits, Unit
from engine.pool import Pool
from engine.reader.vm import VmReader
from engine.score import resolve
from engine.series import SeriesTable
from tests.e2e.stack import Stack, needs_stack, until
from tests.e2e.test_reader_stack import DAY, MINUTE, read, stack_of, store, yesterday
from tests.e2e.test_writer_stack import batch_of, read_back, recent_ms, writing
from tests.engine.reader.memory_server import settings_of

pytestmark = [pytest.mark.e2e, needs_stack]

LOSSES = ("vm_rows_invalid_total", "vm_rows_ignored_total", "vm_metrics_with_dropped_labels_total",
          "vm_too_long_label")  # fmt: skip


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack_of(tmp_path_factory.mktemp("rows")) as made:
        yield made


def lost(stack: Stack) -> float:
    """What the server has dropped behind answers of success; its counters are up to a second old."""
    time.sleep(1.1)
    text = httpx.get(f"{stack.vm}/metrics", timeout=10).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(LOSSES))


def table_of(url: str, expr: str, window: Window) -> tuple[VmReader, list[int]]:
    """A reader that knows the query's series, and their numbers."""
    reader = VmReader(settings_of(datasource_url=url), Metrics(), "default")
    series = [int(s) for _, samples in reader.read(Query("q", expr, window.step_ms), window, "s")
              for s in samples.series]  # fmt: skip
    return reader, sorted(set(series))


def test_a_series_without_labels_makes_the_round_trip(stack: Stack) -> None:
    start = yesterday()
    store(stack, "summed", np.arange(30.0).reshape(3, 10), start)
    window = Window(start, start + 9 * MINUTE, MINUTE)
    reader, (series,) = table_of(stack.vm, "sum(summed)", window)
    table = reader.table(Query("q", "", MINUTE))
    assert table.labels(series) == {}
    with writing(stack.vm) as writer:
        writer.submit(batch_of(table, [{}], {"bare": np.full((1, 1), 3.0)}, recent_ms(1)))
        assert writer.drain(20)
    reader.close()
    (row,) = stack.series("bare")
    assert set(row["metric"]) == {"__name__", "for", "model_alias", "scheduler_alias", "preset"}


@pytest.mark.parametrize("expr", ["rate({})", "rate({}[5m])", "increase({}[2m])"])
def test_a_counter_with_a_gap_is_placed_as_the_server_answers(stack: Stack, expr: str) -> None:
    name = f"counted_{len(expr)}"
    start = yesterday()
    values = np.cumsum(np.random.default_rng(1).integers(1, 9, size=(3, 90)), axis=1).astype(float)
    values[1, 40:60] = np.nan
    values[2, :30] = np.nan
    store(stack, name, values, start)
    window = Window(start, start + 89 * MINUTE, MINUTE)
    answer = stack.query_range(expr.format(name), start // 1000, window.end_ms // 1000, "1m")
    expected = {}
    for one in answer:
        row = np.full(90, np.nan)
        for at, value in one["values"]:
            row[(int(at * 1000) - start) // MINUTE] = float(value)
        expected[one["metric"]["n"]] = row
    rows = read(stack.vm, expr.format(name), window)
    assert rows.keys() == expected.keys() == {"0", "1", "2"}
    assert all(np.array_equal(rows[n], expected[n], equal_nan=True) for n in rows)
    assert np.isnan(rows["1"]).any()
    assert np.isnan(rows["2"][:30]).all()


def test_steps_of_half_a_second_stand_at_their_times(stack: Stack) -> None:
    start, step = yesterday() + 500, 500
    values = np.random.default_rng(2).integers(0, 1000, size=(1, 120)).astype(float)
    store(stack, "half_seconds", values, start, step)
    window = Window(start + 3 * step, start + 80 * step, step)
    assert np.array_equal(read(stack.vm, "half_seconds", window)["0"], values[0, 3:81])


def test_a_query_of_ten_kilobytes_is_answered(stack: Stack) -> None:
    start = yesterday()
    store(stack, "chosen", np.arange(20.0).reshape(2, 10), start)
    expr = f'chosen{{n=~"1|{"|".join(f"é+{k}" for k in range(1_200))}"}}'
    assert 8_000 < len(expr.encode()) < 16_384
    rows = read(stack.vm, expr, Window(start, start + 9 * MINUTE, MINUTE))
    assert rows.keys() == {"1"}
    assert rows["1"].tolist() == list(range(10, 20))


def test_the_prometheus_path_of_the_server_is_a_base_like_any_other(stack: Stack) -> None:
    start = yesterday()
    store(stack, "below", np.array([[4.0, 5.0]]), start)
    assert read(f"{stack.vm}/prometheus/", "below", Window(start, start + MINUTE, MINUTE))["0"].tolist() == [4, 5]
    with writing(f"{stack.vm}/prometheus") as writer:
        writer.submit(batch_of(SeriesTable(), [{"i": "0"}], {"below_out": np.ones((1, 1))}, recent_ms(1)))
        assert writer.drain(20)
    assert len(stack.series("below_out")) == 1


def test_late_and_backfilled_points_replace_gaps_of_answers_read_before(stack: Stack) -> None:
    """The server keeps what it answered, but for the newest five minutes; a backfill resets that within 5 s."""
    now = align_down(int(time.time() * 1000), MINUTE)
    start = now - 119 * MINUTE
    values = np.arange(120.0).reshape(1, 120)
    given = values.copy()
    given[0, 40:60] = given[0, 115:118] = np.nan
    store(stack, "late", given, start)
    window = Window(start, now - 2 * MINUTE, MINUTE)
    before = read(stack.vm, "late", window)["0"]
    assert np.isnan(before[42:60]).all()
    assert np.isnan(before[116:118]).all()
    late = np.full((1, 120), np.nan)
    late[0, 115:118] = values[0, 115:118]
    store(stack, "late", late, start)
    assert read(stack.vm, "late", window)["0"][115:118].tolist() == [115, 116, 117]
    late[0, 40:60] = values[0, 40:60]
    store(stack, "late", late, start)
    until(lambda: np.array_equal(read(stack.vm, "late", window)["0"], values[0, :118]), 10, "the backfill is read")


def test_a_query_that_found_nothing_is_scored_once_its_series_shows(stack: Stack) -> None:
    """The server hides a new series for ten seconds from a query that found nothing."""
    metrics, pool, query = Metrics(), Pool(1), Query("q", "shown_later", MINUTE)
    reader = VmReader(settings_of(datasource_url=stack.vm), metrics, "default")
    model = OnlineZscore(min_n_samples_seen=1)
    names = {"query_key": "q", "model_alias": "m", "scheduler_alias": "s", "preset": "default"}
    group = Group(model, query, resolve(model, query, 1.01), names, pool, metrics)
    limits = Limits(60 * MINUTE, MINUTE, 30 * MINUTE)
    end = align_down(int(time.time() * 1000), MINUTE) - 2 * MINUTE
    before = lost(stack)
    with writing(stack.vm) as writer:
        unit = Unit("s", query, [group], limits, reader, writer, pool, metrics)
        assert not unit.fit(end).is_fitted
        lines = {"metric": {"__name__": "shown_later", "i": "0"}}
        times = [end - k * MINUTE for k in range(50)]
        stack.add([lines | {"timestamps": times, "values": [float(k % 7) for k in range(50)]}])
        until(lambda: unit.fit(end).is_fitted, 20, "the new series is fitted")
        unit.infer(end)
        unit.infer(end + MINUTE)
        assert writer.drain(20)
    reader.close()
    pool.close()
    (scores,) = read_back(stack, 'anomaly_score{scheduler_alias="s"}').values()
    assert end in scores
    assert lost(stack) == before


def test_hostile_labels_and_values_lose_no_line(stack: Stack) -> None:
    texts = ['"', "\\", "\\n", "\n", "\r\n", "\t", "\x00", "\x1f", "\x7f", "é", "漢字", "😀", "{}", "[]", "1e3", "null",
             "NaN", "a,b", "a=b", "#", "'", "`", " ", "$VAR", "%{X}", "</script>", "\u2028", "x" * 4096]  # fmt: skip
    labels = [{"i": str(k), "text": text, f"name {k} \"é'\\": "v", "empty": ""} for k, text in enumerate(texts)]
    values = [0.0, -0.0, 1.0, -1.5, 5e-324, 1.7976931348623157e308, 1e-300, 123456789.125, np.nan, np.inf, -np.inf,
              2.0**53, -(2.0**63), 1e21, 1e-7, 0.1]  # fmt: skip
    column = np.array([[values[(k + t) % len(values)] for t in range(8)] for k in range(len(texts))])
    before, start = lost(stack), recent_ms(8)
    stack.add([{"metric": {"__name__": "hostile", **one}, "values": [1], "timestamps": [start]} for one in labels])
    stack.flush()
    reader, series = table_of(stack.vm, "hostile", Window(start, start, MINUTE))
    table = reader.table(Query("q", "", MINUTE))
    received = {table.labels(k)["i"]: table.labels(k) for k in series}
    assert len(received) == len(texts)
    with writing(stack.vm) as writer:
        writer.submit(batch_of(table, [received[str(k)] for k in range(len(texts))], {"hostile_y": column}, start))
        assert writer.drain(20)
    reader.close()
    stack.flush()
    answer = httpx.get(f"{stack.vm}/api/v1/export", params={"match[]": "hostile_y"}, timeout=30).content
    found = {row["metric"]["i"]: row for row in map(json.loads, answer.splitlines())}
    for k, text in enumerate(texts):
        metric = found[str(k)]["metric"]
        assert metric["text"] == text
        assert metric.items() >= {key: v for key, v in received[str(k)].items() if key != "__name__"}.items()
        assert len(found[str(k)]["values"]) == int(np.isfinite(column[k]).sum())
    assert lost(stack) == before


def test_values_that_the_server_has_cut_stay_one_series(stack: Stack) -> None:
    start = recent_ms(1)
    stack.add([{"metric": {"__name__": "cut", "i": "0", "text": "é" * 20_000}, "values": [1], "timestamps": [start]}])
    stack.flush()
    reader, (series,) = table_of(stack.vm, "cut", Window(start, start, MINUTE))
    labels = reader.table(Query("q", "", MINUTE)).labels(series)
    reader.close()
    before = lost(stack)
    with writing(stack.vm) as writer:
        writer.submit(batch_of(reader.table(Query("q", "", MINUTE)), [labels], {"cut_y": np.ones((1, 1))}, start))
        assert writer.drain(20)
    (row,) = stack.series("cut_y")
    assert row["metric"]["text"] == labels["text"]
    assert lost(stack) == before


def test_what_was_sent_twice_is_answered_once(stack: Stack) -> None:
    start = recent_ms(3)
    table = SeriesTable()
    with writing(stack.vm) as writer:
        for _ in range(2):
            writer.submit(batch_of(table, [{"i": "0"}], {"twice": np.array([[1.0, 2.0, 3.0]])}, start))
        assert writer.drain(20)
    assert len(stack.series("twice")[0]["values"]) == 6
    assert read(stack.vm, "twice", Window(start, start + 2 * MINUTE, MINUTE)).popitem()[1].tolist() == [1, 2, 3]


def test_compressed_bodies_arrive_whole(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.writer.post.is_loopback", lambda host: False)
    labels = [{"i": str(k), "text": "t" * 40} for k in range(500)]
    with writing(stack.vm) as writer:
        columns = {"zipped": np.arange(500.0).reshape(500, 1)}
        writer.submit(batch_of(SeriesTable(), labels, columns, recent_ms(1)))
        assert writer.drain(20)
    found = {int(row["metric"]["i"]): row["values"] for row in stack.series("zipped")}
    assert found == {k: [float(k)] for k in range(500)}


def test_a_fit_window_longer_than_the_retention_is_what_is_there(stack: Stack) -> None:
    """Retention of the stack is a year."""
    start = yesterday()
    store(stack, "young", np.arange(5.0).reshape(1, 5), start)
    rows = read(stack.vm, "young", Window(start - 500 * DAY, start + DAY, DAY))
    assert np.isnan(rows["0"][:500]).all()
    assert rows["0"][500:].tolist()[0] == 0
    # What is older than the retention vanishes behind a 204: nobody but the server's counter tells.
    before = lost(stack)
    with writing(stack.vm) as writer:
        writer.submit(batch_of(SeriesTable(), [{"i": "0"}], {"ancient": np.ones((1, 1))}, start - 500 * DAY))
        assert writer.drain(20)
    assert stack.series("ancient") == []
    assert lost(stack) == before + 1


def test_a_stopped_server_ends_a_read_in_time_and_is_read_when_it_goes_on(stack: Stack) -> None:
    start = yesterday()
    store(stack, "paused", np.array([[1.0, 2.0]]), start)
    window = Window(start, start + MINUTE, MINUTE)
    stack.kill("victoriametrics", signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(ReadError) as caught:
            read(stack.vm, "paused", window, fetch_timeout="1s")
        assert time.monotonic() - started < 8
        assert caught.value.code == "timeout"
    finally:
        stack.kill("victoriametrics", signal.SIGCONT)
    assert read(stack.vm, "paused", window)["0"].tolist() == [1, 2]


def test_scores_more_than_five_minutes_apart_keep_the_documented_rule_firing(stack: Stack) -> None:
    """A rule is evaluated on the newest score of the last five minutes."""
    start = yesterday()
    times = [start + 10 * k * MINUTE for k in range(6)]
    stack.add([{"metric": {"__name__": "anomaly_score", "i": "rule"}, "timestamps": times, "values": [2.0] * 6}])
    stack.flush()
    documented = "max_over_time(anomaly_score[15m]) > 1"
    assert f"`{documented}`" in (Path(__file__).parents[2] / "docs/operations.md").read_text()
    firing = {}
    for expr in ("anomaly_score > 1", documented):
        found = []
        for minute in range(20, 40):
            params: dict[str, Any] = {"query": expr.replace("anomaly_score", 'anomaly_score{i="rule"}'), "step": "5m",
                                      "time": start // 1000 + 60 * minute}  # fmt: skip
            reply = httpx.get(f"{stack.vm}/api/v1/query", params=params, timeout=10).raise_for_status()
            found.append(bool(reply.json()["data"]["result"]))
        firing[expr] = found
    assert not all(firing["anomaly_score > 1"])
    assert all(firing[documented])
