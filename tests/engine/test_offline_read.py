"""Files of all kinds to points, and what is said of those that are wrong."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from engine.errors import InputError
from engine.offline.points import Points
from engine.offline.read import read_points
from engine.offline.sheet import Choice
from engine.offline.truth import read_truth
from engine.pool import Pool

POOL = Pool(2)
LONG = "timestamp,value,host\n0,1.5,a\n0,2,b\n60,,a\n60,4,b\n"


def read(tmp_path: Path, *texts: str, choice: Choice = Choice(), ending: str = ".csv") -> Points:  # noqa: B008 - frozen
    paths = []
    for k, text in enumerate(texts):
        path = tmp_path / f"f{k}{ending}"
        path.write_bytes(gzip.compress(text.encode()) if ending.endswith(".gz") else text.encode())
        paths.append(str(path))
    return read_points(paths, choice, POOL)[0]


def rows(points: Points) -> list[tuple[int, float, dict[str, str]]]:
    return [
        (time, value, points.table.labels(series))
        for time, value, series in zip(points.times_ms.tolist(), points.values.tolist(), points.series, strict=True)
    ]


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_long_form_has_a_row_for_each_point(tmp_path, ending):
    got = read(tmp_path, LONG, ending=ending)
    assert_array_equal(got.values, [1.5, 2, np.nan, 4])
    assert_array_equal(got.times_ms, [0, 0, 60_000, 60_000])
    assert [got.table.labels(k) for k in got.series] == [{"host": "a"}, {"host": "b"}] * 2
    assert (got.clock, got.label_names) == ("s", ["host"])


def test_wide_form_has_a_series_for_each_column(tmp_path):
    got = read(tmp_path, "time;cpu;mem\n2026-01-31T08:00:00Z;1;2\n2026-01-31T08:01:00+00:00;3;\n")
    start = int(datetime(2026, 1, 31, 8, tzinfo=UTC).timestamp() * 1000)
    assert rows(got)[:3] == [
        (start, 1.0, {"series": "cpu"}),
        (start, 2.0, {"series": "mem"}),
        (start + 60_000, 3.0, {"series": "cpu"}),
    ]
    assert_array_equal(got.row, [0, 0, 1, 1])
    assert got.clock == "iso"


@pytest.mark.parametrize(
    ("times", "clock"),
    [("1700000000", "s"), ("1700000000.0", "s"), ("1700000000000", "ms"), ("1700000000000000", "us"),
     ("1700000000000000000", "ns")],
)  # fmt: skip
def test_unix_times_of_all_units(tmp_path, times, clock):
    got = read(tmp_path, f"ts,value\n{times},1\n")
    assert (got.clock, got.times_ms.tolist()) == (clock, [1_700_000_000_000])


def test_equal_labels_in_several_files_are_one_series(tmp_path):
    got = read(tmp_path, LONG, LONG.replace("60", "120"))
    assert len(got.table) == 2
    assert got.label_names == ["host"]


def test_files_without_labels_are_series_of_their_own(tmp_path):
    got = read(tmp_path, "timestamp,value\n0,1\n", "timestamp,value\n0,2\n")
    assert [labels for _, _, labels in rows(got)] == [{"file": "f0"}, {"file": "f1"}]


def test_an_empty_label_is_no_label(tmp_path):
    got = read(tmp_path, 'timestamp,value,a,b\n0,1,"x ""y"" 1,2",\n0,2,,z\n')
    assert [labels for _, _, labels in rows(got)] == [{"a": 'x "y" 1,2'}, {"b": "z"}]


def test_columns_of_truth_never_tell_series_apart(tmp_path):
    text = "timestamp,value,label\n0,1,0\n60,2,1\n"
    assert len(read(tmp_path, text).table) == 1
    assert read(tmp_path, text).truth is None
    assert_array_equal(read(tmp_path, text, choice=Choice(truth="label")).truth, [0, 1])


def test_text_in_wide_form_is_left_out_with_a_note(tmp_path):
    (tmp_path / "w.csv").write_text("timestamp,split,m1,label\n0,train,1,\n60,test,2,1\n")
    points, notes = read_points([str(tmp_path / "w.csv")], Choice(truth="label"), POOL)
    assert [labels for _, _, labels in rows(points)] == [{"series": "m1"}] * 2
    assert notes == ["column split is left out: it holds text"]
    assert_array_equal(points.truth, [np.nan, 1])


def test_a_file_longer_than_a_chunk_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.offline.csv_file._CHUNK_BYTES", 64)
    n = 500
    text = "timestamp,value,host\n" + "".join(f'{60 * t},{t / 7},"h,\n{t % 3}"\n' for t in range(n))
    got = read(tmp_path, text)
    assert_array_equal(got.values, np.arange(n) / 7)
    assert [got.table.labels(k)["host"] for k in got.series[:4]] == ["h,\n0", "h,\n1", "h,\n2", "h,\n0"]


def test_parquet_is_read_as_csv_is(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "p.parquet"
    (tmp_path / "p.csv").write_text(LONG)
    duckdb.sql(f"COPY (SELECT to_timestamp(timestamp) AS timestamp, value, host FROM '{tmp_path}/p.csv') TO '{path}'")
    got, want = read_points([str(path)], Choice(), POOL)[0], read(tmp_path, LONG)
    assert_array_equal(got.values, want.values)
    assert_array_equal(got.times_ms, want.times_ms)
    assert [labels for _, _, labels in rows(got)] == [labels for _, _, labels in rows(want)]
    assert got.clock == "iso"


@pytest.mark.parametrize(
    ("written", "clock"),
    [
        ("'1970-01-01T01:00:00+01:00'", "iso"),
        ("0", "s"),
        ("0.0::DOUBLE", "s"),
        ("'0'", "s"),
        ("DATE '1970-01-01'", "iso"),
    ],
)
def test_times_of_parquet_may_be_of_any_type(tmp_path, written, clock):
    duckdb = pytest.importorskip("duckdb")
    duckdb.sql(f"COPY (SELECT {written} AS ts, true AS value) TO '{tmp_path}/p.parquet'")
    got = read_points([str(tmp_path / "p.parquet")], Choice(), POOL)[0]
    assert (got.times_ms.tolist(), got.values.tolist(), got.clock) == ([0], [1.0], clock)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("timestamp,value\n", "there is no row behind the header"),
        ("1,2\n3,4\n", "line 1: expected names of columns, found numbers"),
        ("a,value\n0,1\n", "line 1: no column is named timestamp"),
        ("timestamp,timestamp\n0,1\n", "line 1: column timestamp is there twice"),
        ("timestamp,host\n0,a\n", "line 1: no column holds values"),
        ("timestamp,value\n0,1\n60,x\n", "line 3, column value: expected a number, found 'x'"),
        ("timestamp,value\n0,1\n\n60,1_0\n", "line 4, column value: expected a number, found '1_0'"),
        (
            "timestamp,value\n0,1\n,2\n",
            "line 3, column timestamp: expected a Unix time as in other rows, found nothing",
        ),
        (
            "timestamp,value\n1e300,2\n",
            "line 2, column timestamp: expected a Unix time as in other rows, found '1e300'",
        ),
        ("timestamp,value\nMonday,1\n", "line 2, column timestamp: expected a Unix time or one like"),
        ("timestamp,value\n0,1\n60\n", "line 3: expected 2 cells as in the header, found 1 cells"),
        (
            'timestamp,value\n0,"1\n60,2\n',
            "line 2: expected 2 cells as in the header, found a quote that is not closed",
        ),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path, text, expected):
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/f0.csv: {expected}")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("none.csv", None, "there is no such file"),
        ("cut.csv.gz", gzip.compress(LONG.encode() * 99, mtime=0)[:-20], "cannot be read: "),
        ("bin.csv", b"\xff\xfe\x00", "line 1: expected CSV text in UTF-8"),
        ("bad.parquet", b"PAR1 and no more", ""),
    ],
)
def test_a_file_that_is_none_says_so(tmp_path, name, content, expected):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_points([str(tmp_path / name)], Choice(), POOL)
    assert str(caught.value).startswith(f"{tmp_path}/{name}: {expected}")


def truth(tmp_path: Path, points: Points, text: str) -> list[float]:
    (tmp_path / "truth.csv").write_text(text)
    return read_truth(str(tmp_path / "truth.csv"), points).tolist()


def test_truth_is_spans_or_moments_of_some_series_or_all(tmp_path):
    points = read(tmp_path, LONG)
    assert truth(tmp_path, points, "start,end\n30,60\n") == [0, 0, 1, 1]
    assert truth(tmp_path, points, "start,end,host\n0,59,a\n60,99,b\n") == [1, 0, 0, 1]
    assert truth(tmp_path, points, "start,end\n1970-01-01T00:00:01Z,1970-01-01 00:01\n") == [0, 0, 1, 1]
    assert truth(tmp_path, points, "timestamp,label\n0,0\n60,1\n") == [0, 0, 1, 1]
    assert truth(tmp_path, points, "timestamp,host\n60,b\n") == [0, 0, 0, 1]
    with pytest.raises(InputError, match="column hots is no label of the series; these are host"):
        truth(tmp_path, points, "start,end,hots\n0,1,a\n")
    with pytest.raises(InputError, match="row 2: end is before start"):
        truth(tmp_path, points, "start,end\n0,30\n99,60\n")
