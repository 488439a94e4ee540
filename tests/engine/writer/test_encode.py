"""Bodies against json: every finite cell once, in bounds, with the right labels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.frame import Batch
from engine.series import SeriesTable
from engine.writer.encode import Body, Encoder
from engine.writer.settings import METRIC_FORMAT
from tests.engine.writer.batches import MINUTE_MS, START_MS, make_batch, simple_batch

Cells = dict[tuple[tuple[tuple[str, str], ...], int], float]


def encoder(max_bytes: int = 1 << 20, max_series: int = 10_000, cached: int | None = None, tenant: str = "") -> Encoder:
    return Encoder(METRIC_FORMAT, tenant, max_bytes, max_series, cached)


def lines(bodies: list[Body]) -> list[dict[str, Any]]:
    return [json.loads(line) for body in bodies for line in body.data.splitlines()]


def cells(bodies: list[Body]) -> Cells:
    """(labels, time) → value; the same cell twice fails."""
    found: Cells = {}
    for line in lines(bodies):
        for value, time_ms in zip(line["values"], line["timestamps"], strict=True):
            key = tuple(line["metric"].items()), time_ms
            assert key not in found
            found[key] = value
    return found


def expected_cells(batch: Batch) -> Cells:
    found: Cells = {}
    for name, column in batch.output.columns.items():
        for series, row in zip(batch.output.series.tolist(), column.tolist(), strict=True):
            labels = {"__name__": name, "for": "cpu", "model_alias": "m", "scheduler_alias": "s", "preset": "default"}
            received = sorted(batch.table.labels(series).items())
            labels.update((k, v) for k, v in received if k not in labels and v)
            for value, time_ms in zip(row, batch.output.timestamps_ms.tolist(), strict=True):
                if math.isfinite(value):
                    found[tuple(labels.items()), time_ms] = value
    return found


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.dictionaries(TEXT, TEXT, max_size=3),
        min_size=1,
        max_size=5,
        unique_by=lambda d: json.dumps(d, sort_keys=True),
    ),
    st.integers(1, 4),
    st.integers(1, 400),
    st.integers(1, 4),
    st.data(),
)
def test_every_finite_cell_is_in_one_body(
    labels: list[Mapping[str, str]], n_steps: int, max_bytes: int, max_series: int, data: st.DataObject
) -> None:
    labels = [{"n": str(i), **{k: v for k, v in each.items() if k != "n"}} for i, each in enumerate(labels)]
    row = st.lists(st.floats(), min_size=n_steps, max_size=n_steps)
    rows = st.lists(row, min_size=len(labels), max_size=len(labels))
    batch = make_batch(labels, {name: data.draw(rows) for name in ("anomaly_score", "yhat_1h")})
    bodies = list(encoder(max_bytes, max_series).encode(batch))
    assert cells(bodies) == expected_cells(batch)
    for body in bodies:
        assert body.n_series == body.data.count(b"\n") <= max_series
        assert body.n_points == sum(len(line["values"]) for line in lines([body]))
        assert len(body.data) <= max_bytes or (body.n_series == 1 and body.n_points == 1)
        assert body.n_refused == 0


def test_name_and_for_stand_first() -> None:
    batch = make_batch([{"__name__": "up", "Alpha": "1"}], {"y": [[1.0]]})
    (body,) = encoder().encode(batch)
    assert body.data.startswith(b'{"metric":{"__name__":"y","for":"cpu","model_alias"')
    assert b'"up"' not in body.data


def test_rows_without_a_finite_cell_are_left_out() -> None:
    batch = make_batch([{"i": "0"}, {"i": "1"}], {"y": [[math.nan, math.inf], [math.nan, 2.0]]})
    (body,) = encoder().encode(batch)
    (line,) = lines([body])
    assert (line["values"], line["timestamps"], line["metric"]["i"]) == ([2], [START_MS + MINUTE_MS], "1")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nothing_finite_is_no_body(value: float) -> None:
    assert list(encoder().encode(make_batch([{}], {"y": [[value]]}))) == []


def test_no_series_and_no_steps_are_no_body() -> None:
    assert list(encoder().encode(simple_batch(0))) == []
    assert list(encoder().encode(simple_batch(2, 0))) == []


def test_a_series_without_labels_has_the_generated_ones() -> None:
    (body,) = encoder().encode(make_batch([{}], {"y": [[1.5]]}))
    assert lines([body])[0]["metric"] == {
        "__name__": "y",
        "for": "cpu",
        "model_alias": "m",
        "scheduler_alias": "s",
        "preset": "default",
    }


def test_series_that_collide_write_the_first_and_count_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    labels = [{"__name__": "a", "job": "x"}, {"__name__": "b", "job": "x"}, {"preset": "p", "job": "x"}, {"job": "y"}]
    batch = make_batch(labels, {"y": [[1.0, 1.5], [2.0, 2.5], [3.0, math.nan], [4.0, 4.5]]})
    encode = encoder()
    for _ in range(2):
        (body,) = encode.encode(batch)
        assert [(line["metric"]["job"], line["values"]) for line in lines([body])] == [("x", [1, 1.5]), ("y", [4, 4.5])]
        assert (body.n_points, body.n_refused) == (4, 3)
    warnings = [r.getMessage() for r in caplog.records]
    assert len(warnings) == 1
    assert "'__name__': 'b'" in warnings[0]


def test_only_refused_points_still_count() -> None:
    batch = make_batch([{"for": "a"}, {"for": "b"}], {"y": [[math.nan], [2.0]]})
    (body,) = encoder().encode(batch)
    assert (body.data, body.n_refused) == (b"", 1)


def test_the_first_seen_series_wins_whatever_the_order_of_rows() -> None:
    table = SeriesTable()
    labels = [{"__name__": "a"}, {"__name__": "b"}]
    list(encoder().encode(make_batch(labels, {"y": [[1.0], [2.0]]}, table=table)))
    batch = make_batch(labels[::-1], {"y": [[2.0], [1.0]]}, table=table)
    (body,) = encoder().encode(batch)
    assert lines([body])[0]["values"] == [1]


class CountingTable(SeriesTable):
    """Counts how often label sets are decoded."""

    decoded = 0

    def labels(self, series: int) -> dict[str, str]:
        self.decoded += 1
        return super().labels(series)


@pytest.mark.parametrize(("cached", "decoded"), [(None, 7), (100, 7), (0, 17), (3, 17)])
def test_labels_are_decoded_for_new_series_only(cached: int | None, decoded: int) -> None:
    table = CountingTable()
    encode = encoder(cached=cached)
    for n_series in (5, 5, 7):
        bodies = list(encode.encode(simple_batch(n_series, table=table)))
        assert cells(bodies) == expected_cells(simple_batch(n_series, table=table))
    assert table.decoded - 5 - 5 - 7 == decoded


def test_bodies_of_two_batches_may_be_taken_in_turns() -> None:
    encode = encoder(max_series=1)
    first, second = simple_batch(3), simple_batch(3, 2)
    pairs = list(zip(encode.encode(first), encode.encode(second), strict=True))
    assert cells([a for a, _ in pairs]) == expected_cells(first)
    assert cells([b for _, b in pairs]) == expected_cells(second)


def test_read_only_and_foreign_layouts_are_taken() -> None:
    batch = simple_batch(3, 2)
    for column in (np.asfortranarray(batch.output.columns["y"]), batch.output.columns["y"].copy()):
        column.setflags(write=False)
        batch.output.columns["y"] = column
        assert cells(list(encoder().encode(batch))) == expected_cells(batch)
