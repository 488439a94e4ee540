"""Reader `local`: the grid is checked against a plain loop over rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ReadError
from engine.frame import Query, Window, pack
from engine.metrics import Metrics
from engine.reader import local
from engine.reader.local import LocalReader
from engine.reader.settings import LocalReaderSettings, QuerySettings

START = 1_700_000_040_000
STEP = 60_000
WINDOW = Window(START, START + 9 * STEP, STEP)
Table = dict[tuple[tuple[str, str], ...], dict[int, float]]


def reader(path: Path, expr: str = "SELECT * FROM m") -> LocalReader:
    return LocalReader(LocalReaderSettings(queries={"q": QuerySettings(expr=expr)}, path=str(path)), Metrics(), "p")


def query(expr: str = "SELECT * FROM m", step_ms: int = STEP, max_points: int | None = None) -> Query:
    return Query("q", expr, step_ms, max_points_per_query=max_points)


def read(path: Path, expr: str = "SELECT * FROM m", window: Window = WINDOW, max_points: int | None = None) -> Table:
    """Values by label set and time."""
    source, found = reader(path), Table()
    asked = query(expr, window.step_ms, max_points)
    for _, samples in source.read(asked, window, "s"):
        for k, series in enumerate(samples.series):
            labels = tuple(sorted(source.table(asked).labels(int(series)).items()))
            a, b = samples.indptr[k : k + 2]
            points = zip(samples.timestamps_ms[a:b].tolist(), samples.values[a:b].tolist(), strict=True)
            target = found.setdefault(labels, {})
            for t, v in points:
                assert t not in target
                target[t] = v
    return found


def write(path: Path, *statements: str) -> Path:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def when(ms: float) -> str:
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return f"TIMESTAMP '{moment:%Y-%m-%d %H:%M:%S.%f}'"


def naive_grid(rows: list[tuple[int, float | None]], window: Window) -> dict[int, float]:
    """The last finite sample in (t - step, t]; the largest of those at one time."""
    grid = {}
    for t in range(window.start_ms, window.end_ms + 1, window.step_ms):
        inside = [(ms, v) for ms, v in rows if t - window.step_ms < ms <= t and v is not None and math.isfinite(v)]
        if inside:
            grid[t] = max(inside)[1]
    return grid


_value = st.one_of(st.none(), st.just(math.nan), st.just(math.inf), st.integers(-5, 5).map(float))
_rows = st.lists(st.tuples(st.integers(-2 * STEP, 11 * STEP), _value), max_size=30)


@settings(deadline=None, max_examples=25)
@given(by_label=st.dictionaries(st.sampled_from(["a", "b", None]), _rows, max_size=3))
def test_the_grid_is_what_a_loop_over_rows_finds(
    tmp_path_factory: pytest.TempPathFactory, by_label: Mapping[str | None, list[tuple[int, float | None]]]
) -> None:
    path = tmp_path_factory.mktemp("local") / "m.db"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE m (timestamp TIMESTAMP, value DOUBLE, cpu VARCHAR)")
        for cpu, rows in by_label.items():
            for offset, value in rows:
                connection.execute("INSERT INTO m VALUES (make_timestamp_ms(?), ?, ?)", [START + offset, value, cpu])
    expected = {
        (() if cpu is None else (("cpu", cpu),)): grid
        for cpu, rows in by_label.items()
        if (grid := naive_grid([(START + offset, v) for offset, v in rows], WINDOW))
    }
    assert read(path) == expected


@pytest.mark.parametrize(
    "column",
    [
        f"{when(START)}",
        f"({when(START)})::TIMESTAMP_S",
        f"({when(START)})::TIMESTAMP_NS",
        f"({when(START)})::TIMESTAMPTZ",
        "TIMESTAMPTZ '2023-11-15 04:59:00+06:45'",
        f"{START // 1000}",
        f"{START}::BIGINT",
        f"{START / 1000}::DOUBLE",
        f"{START}::DOUBLE",
        f"{START // 1000}::DECIMAL(12, 2)",
        f"{START}::HUGEINT",
    ],
)
def test_every_kind_of_timestamp_says_the_same_time(tmp_path: Path, column: str) -> None:
    path = write(tmp_path / "m.db", f"CREATE TABLE m AS SELECT {column} AS timestamp, 7 AS value")
    assert read(path) == {(): {START: 7.0}}


def test_a_date_is_midnight_in_utc(tmp_path: Path) -> None:
    path = write(tmp_path / "m.db", "CREATE TABLE m AS SELECT DATE '2023-11-15' AS timestamp, true AS value")
    day = 1_700_006_400_000
    assert read(path, window=Window(day, day, STEP)) == {(): {day: 1.0}}


def test_a_sample_just_after_a_grid_time_belongs_to_the_next(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.db", f"CREATE TABLE m AS SELECT {when(START)} + INTERVAL 1 MICROSECOND AS timestamp, 1 AS value"
    )
    assert read(path) == {(): {START + STEP: 1.0}}


def test_null_and_empty_labels_are_absent_and_others_become_text(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.db",
        f"""CREATE TABLE m AS SELECT {when(START)} AS timestamp, v AS value, cpu, host, 7 AS shard FROM (VALUES
        (1.5, 0, 'a'), (2.5, 1, NULL), (3.5, NULL, '')) AS t(v, cpu, host)""",
    )
    assert read(path) == {
        (("cpu", "0"), ("host", "a"), ("shard", "7")): {START: 1.5},
        (("cpu", "1"), ("shard", "7")): {START: 2.5},
        (("shard", "7"),): {START: 3.5},
    }


def test_label_and_column_names_need_no_care(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.db",
        f"""CREATE TABLE m AS SELECT {when(START)} AS "Timestamp", 1 AS "VALUE", 'x' AS t, 'y' AS "a ""b", 'z' AS l0""",
    )
    assert read(path) == {(('a "b', "y"), ("l0", "z"), ("t", "x")): {START: 1.0}}


def test_nothing_in_the_window_is_no_series(tmp_path: Path) -> None:
    path = write(tmp_path / "m.db", "CREATE TABLE m (timestamp TIMESTAMP, value DOUBLE, cpu VARCHAR)")
    assert read(path) == {}
    assert read(path, "SELECT timestamp, value FROM m") == {}
    assert read(path, window=Window(START, START - STEP, STEP)) == {}


def test_pieces_of_time_join_without_gap_or_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(
        tmp_path / "m.db",
        f"CREATE TABLE m AS SELECT make_timestamp_ms({START} + 20000 * i) timestamp, i AS value FROM range(600) r(i)",
    )
    window = Window(START, START + 199 * STEP, STEP)
    whole = read(path, window=window)
    monkeypatch.setattr(local, "MAX_ROWS", 50)
    asked = query()
    pieces = [piece for piece, _ in reader(path).read(asked, window, "s")]
    assert len(pieces) > 10
    assert read(path, window=window) == whole == {(): {t: (t - START) / 20000 for t in window.timestamps_ms().tolist()}}
    assert read(path, window=window, max_points=7) == whole


def test_the_sql_may_name_the_bounds_and_end_in_a_comment_or_semicolon(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.db",
        f"CREATE TABLE m AS SELECT make_timestamp_ms({START} + {STEP} * i) timestamp, i * i total FROM range(20) r(i)",
    )
    expr = """SELECT timestamp, total - lag(total) OVER (ORDER BY timestamp) AS value FROM m
              WHERE timestamp > $start - INTERVAL 2 MINUTE AND timestamp <= $end"""
    for text in (expr, expr + " -- per minute", expr + " ;\n"):
        found = read(path, text, Window(START + STEP, START + 3 * STEP, STEP))
        assert found == {(): {START + k * STEP: float(k * k - (k - 1) ** 2) for k in (1, 2, 3)}}


def test_a_frame_has_one_row_for_each_label_set(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.db",
        f"""CREATE TABLE m AS SELECT make_timestamp_ms({START} + {STEP} * i) AS timestamp, c * 100 + i AS value,
        c::VARCHAR AS cpu FROM range(10) a(i), range(30) b(c) WHERE (i + c) % 3 > 0""",
    )
    source, asked = reader(path), query()
    ((piece, samples),) = source.read(asked, WINDOW, "s")
    frame = pack(samples, piece)
    cpus = np.array([int(source.table(asked).labels(int(s))["cpu"]) for s in frame.series])
    steps = np.arange(10)
    expected = np.where((steps + cpus[:, None]) % 3 > 0, 100.0 * cpus[:, None] + steps, np.nan)
    np.testing.assert_array_equal(frame.values, expected)


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        ("SELECT now() AS timestamp, 1 AS cpu", "no column `value` among timestamp, cpu; expected SQL that returns"),
        ("SELECT 1 AS value", "no column `timestamp`"),
        ("SELECT '2024' AS timestamp, 1 AS value", "column `timestamp` is VARCHAR, expected TIMESTAMP"),
        ("SELECT now() AS timestamp, 'x' AS value", "column `value` is VARCHAR, expected a number"),
        ("SELECT nope FROM m", 'column "nope" not found'),
        ("SELECT * FROM missing", "missing does not exist"),
        ("SELCT 1", "syntax error"),
        ("DROP TABLE m", "expected SQL that returns `timestamp`, `value` .* found DROP"),
        ("SELECT 1; DROP TABLE m", "found SELECT, DROP"),
        ("SELECT 1) AS x; DROP TABLE m; SELECT * FROM (SELECT 2", "syntax error"),
        ("SELECT $from::TIMESTAMP AS timestamp, 1 AS value", r"unknown parameter \$from"),
    ],
)
def test_an_error_names_the_query_and_what_was_expected(tmp_path: Path, expr: str, text: str) -> None:
    path = write(tmp_path / "m.db", "CREATE TABLE m AS SELECT now() AS timestamp, 1 AS value")
    with pytest.raises(ReadError, match=f"(?s)^query 'q': .*{text}") as caught:
        read(path, expr)
    assert caught.value.code == "422"
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("SELECT count(*) FROM m").fetchall() == [(1,)]


def test_a_file_that_is_missing_or_foreign_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"query 'q': .*nope\.db: there is no such file"):
        read(tmp_path / "nope.db")
    foreign = tmp_path / "foreign.db"
    foreign.write_text("not a database " * 500)
    with pytest.raises(ReadError, match=r"foreign\.db: cannot be opened: .*not a valid DuckDB"):
        read(foreign)


def test_reads_are_counted_by_code(tmp_path: Path) -> None:
    path = write(tmp_path / "m.db", f"CREATE TABLE m AS SELECT {when(START)} AS timestamp, 1 AS value")
    metrics = Metrics()
    source = LocalReader(LocalReaderSettings(queries={}, path=str(path)), metrics, "p")
    list(source.read(query(), WINDOW, "s"))
    with pytest.raises(ReadError):
        list(source.read(query("SELECT"), WINDOW, "s"))
    labels: dict[str, Any] = {"url": str(path), "query_key": "q", "scheduler_alias": "s", "preset": "p"}

    def sample(name: str, **more: str) -> float | None:
        return metrics.registry.get_sample_value(f"vmanomaly_reader_{name}", labels | more)

    assert sample("responses_total", code="200") == 1
    assert sample("responses_total", code="422") == 1
    assert sample("timeseries_received_total") == 1
    assert sample("datapoints_received_total") == 1
    assert sample("request_duration_seconds_count") == 2


def test_a_closed_reader_fails_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "m.db", "CREATE TABLE m AS SELECT now() AS timestamp, 1 AS value")
    source = reader(path)
    source.close()
    with pytest.raises(ReadError, match="closed"):
        list(source.read(query(), WINDOW, "s"))
