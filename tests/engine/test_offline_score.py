"""`engine score`: causal and exact, a row for each row, in input order; and what it prints and refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from engine import score
from engine.cli import main
from engine.config.single import make_model
from engine.frame import Frame, Query
from engine.models.base import Model, fit, infer
from engine.pool import Pool

STEP = 60
HEADER = "timestamp,host,y,yhat,yhat_lower,yhat_upper,anomaly_score"
HW = {"seasonality": "1h"}


def values(n_series: int = 3, n_steps: int = 400) -> np.ndarray:
    rng = np.random.default_rng(11)
    return rng.normal(size=(n_series, n_steps)).round(3) + np.arange(n_series)[:, None] * 10


def long_rows(y: np.ndarray) -> list[tuple[int, float, str]]:
    return [(STEP * t, y[i, t], f"h{i}") for t in range(y.shape[1]) for i in range(y.shape[0])]


def write(path: Path, rows: Sequence[tuple[int, float, str]]) -> str:
    lines = [f"{t},{'' if v != v else v},{host}" for t, v, host in rows]
    path.write_text("\n".join(["timestamp,value,host", *lines]) + "\n")
    return str(path)


def scores(tmp_path: Path, file: str, *arguments: str) -> list[dict[str, str]]:
    out = tmp_path / "out.csv"
    assert main(["score", file, "--output", str(out), *arguments]) == 0
    with out.open() as stream:
        assert stream.readline().strip() == HEADER
        stream.seek(0)
        return list(csv.DictReader(stream))


def column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) if row[name] else np.nan for row in rows])


def step_by_step(model: Model, y: np.ndarray, n_fit: int, every: int) -> np.ndarray:
    """Scores of one frame, a step at a time, refitted on the last `n_fit` steps after each `every`; 0 is never."""
    pool = Pool(1)

    def frame(start: int, stop: int) -> Frame:
        times = 1000 * STEP * np.arange(start, stop)
        return Frame(np.arange(y.shape[0]), times, np.ascontiguousarray(y[:, start:stop]), 1000 * STEP)

    state = fit(model, [frame(0, n_fit)], pool)
    found = np.full(y.shape, np.nan)
    for t in range(n_fit, y.shape[1]):
        if every and t > n_fit and (t - n_fit) % every == 0:
            state = fit(model, [frame(t - n_fit, t)], pool)
        prediction, state = infer(model, state, frame(t, t + 1), pool)
        policy = score.resolve(model, Query("q", "", 1000 * STEP))
        found[:, t] = score.apply(policy, model.warm_up, prediction, frame(t, t + 1))["anomaly_score"][:, 0]
    return found


@pytest.mark.parametrize(
    ("class_name", "arguments", "every"),
    [
        ("zscore_online", {}, 0),
        ("zscore_online", {"decay": 0.9}, 50),
        ("holtwinters", HW, 60),
        ("mad_online", {}, 0),
        ("temporal_envelope", {}, 0),
        ("std", {"period": 24}, 0),
    ],
)
def test_scores_are_those_of_one_step_after_the_other(tmp_path, class_name, arguments, every):
    y = values()
    y[1, 200:230] = np.nan
    settings = [f"--set={k}={v}" for k, v in arguments.items()]
    file = write(tmp_path / "in.csv", long_rows(y))
    fits = ["--fit-rows", "150", "--fit-every", f"{every * STEP}s"]
    got = scores(tmp_path, file, "--model", class_name, *settings, *fits)
    expected = step_by_step(make_model(class_name, arguments)[0], y, 150, every)
    assert_allclose(column(got, "anomaly_score"), expected.T.ravel(), rtol=1e-12)
    assert_array_equal(column(got, "y"), y.T.ravel())


@pytest.mark.parametrize("class_name", ["zscore_online", "holtwinters"])
def test_later_points_change_nothing_before_them(tmp_path, class_name):
    y = values()
    changed = y.copy()
    changed[:, 300:] += 100
    parts = []
    for data in (y, changed):
        file = write(tmp_path / "in.csv", long_rows(data))
        more = ["--set", "seasonality=1h", "--fit-every", "1h"] if class_name == "holtwinters" else []
        parts.append(
            column(scores(tmp_path, file, "--model", class_name, "--fit-window", "2h", *more), "anomaly_score")
        )
    before = 300 * y.shape[0]
    assert_array_equal(parts[0][:before], parts[1][:before])
    assert (parts[0][before:] != parts[1][before:]).any()


def test_rows_keep_their_order_and_the_order_changes_no_score(tmp_path):
    rows = long_rows(values())
    order = np.random.default_rng(3).permutation(len(rows))
    straight = scores(tmp_path, write(tmp_path / "a.csv", rows), "--model", "zscore_online")
    mixed = scores(tmp_path, write(tmp_path / "b.csv", [rows[k] for k in order]), "--model", "zscore_online")
    assert mixed == [straight[k] for k in order]


def test_the_head_has_no_scores_and_is_a_share_of_each_series(tmp_path):
    rows = [*long_rows(values(1, 100)), *[(STEP * t, 1.0 + t % 3, "late") for t in range(1000, 1200)]]
    got = scores(tmp_path, write(tmp_path / "in.csv", rows), "--model", "zscore_online", "--fit-fraction", "0.3")
    empty = np.isnan(column(got, "anomaly_score"))
    assert empty.tolist() == [True] * 30 + [False] * 70 + [True] * 60 + [False] * 140


def test_times_that_come_again_keep_their_rows_and_have_a_score_of_their_own(tmp_path):
    rows = long_rows(values(1, 200))
    time, _, host = rows[150]
    head = ["--model", "zscore_online", "--fit-rows", "30"]
    file = write(tmp_path / "in.csv", [*rows[:150], (time, 50.0, host), *rows[150:]])
    got = scores(tmp_path, file, *head)
    plain = scores(tmp_path, write(tmp_path / "plain.csv", rows), *head)
    assert [row for k, row in enumerate(got) if k != 150] == plain
    twin = got[150]
    assert twin["yhat_upper"] == plain[150]["yhat_upper"]
    half = float(twin["yhat_upper"]) - float(twin["yhat"])
    assert float(twin["anomaly_score"]) == pytest.approx((50.0 - float(twin["yhat"])) / half)


def test_times_a_little_off_the_grid_are_on_it(tmp_path):
    rows = long_rows(values(1, 200))
    rng = np.random.default_rng(2)
    jittered = [(t + int(rng.integers(-9, 9)) + 20, v, host) for t, v, host in rows]
    got = scores(tmp_path, write(tmp_path / "a.csv", jittered), "--model", "zscore_online")
    plain = scores(tmp_path, write(tmp_path / "b.csv", rows), "--model", "zscore_online")
    assert_array_equal(column(got, "anomaly_score"), column(plain, "anomaly_score"))


@pytest.mark.parametrize(("n_series", "expected"), [(1, "usual distance of 1m"), (40, "on grids of")])
def test_one_time_far_off_is_told_before_it_fills_the_memory(tmp_path, capsys, n_series, expected):
    far = 10**10 if n_series == 1 else 10**8
    rows = [*long_rows(values(n_series, 50)), *[(far, 1.0, f"h{k}") for k in range(n_series)]]
    assert main(["score", write(tmp_path / "in.csv", rows), "--model", "zscore_online"]) == 1
    assert expected in capsys.readouterr().err


def test_parquet_holds_what_csv_does(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    file = write(tmp_path / "in.csv", long_rows(values()))
    want = scores(tmp_path, file, "--model", "zscore_online")
    assert main(["score", file, "--model", "zscore_online", "--output", str(tmp_path / "o.parquet")]) == 0
    got = duckdb.sql(f"SELECT * FROM '{tmp_path}/o.parquet'").fetchnumpy()
    assert ",".join(got) == HEADER
    assert_array_equal(np.ma.filled(got["anomaly_score"], np.nan), column(want, "anomaly_score"))
    assert got["host"].tolist() == [row["host"] for row in want]


def test_measures_leave_the_head_out(tmp_path, capsys):
    lines = ["timestamp,value,label"]
    lines += [f"{STEP * t},{50 if t in (10, 150) else t % 5},{int(t in (10, 150))}" for t in range(200)]
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    command = ["score", str(tmp_path / "in.csv"), "--model", "zscore_online", "--fit-rows", "50", "--labels", "label"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measures"]["n_anomalous"] == 1
    assert found["measures"]["average_precision"] == 1.0
    assert found["measures"]["at_one"]["delay_f1"] == 1.0
    assert (found["rows"], found["scored"], found["above_1"]) == (200, 150, 1)
    assert main(command) == 0
    assert "7-delay F1" in capsys.readouterr().out


def test_the_report_shows_series_and_measures(tmp_path):
    pytest.importorskip("plotly")
    y = values(3, 300)
    y[1, 200] = 99
    lines = [f"{t},{v},{host},{int(v == 99)}" for t, v, host in long_rows(y)]
    (tmp_path / "in.csv").write_text("\n".join(["timestamp,value,host,label", *lines]) + "\n")
    command = ["score", str(tmp_path / "in.csv"), "--model", "zscore_online", "--html", str(tmp_path / "r.html")]
    assert main([*command, "--labels", "label"]) == 0
    page = (tmp_path / "r.html").read_text()
    for part in ("Scores of zscore_online", "host=h1", "7-delay F1", "765 points of 3 series scored"):
        assert part in page
    assert main([*command[:-1], str(tmp_path / "no/r.html")]) == 1


def test_standard_input_and_output(tmp_path):
    import subprocess
    import sys

    y = values(1, 100)
    text = Path(write(tmp_path / "in.csv", long_rows(y))).read_text()
    command = [str(Path(sys.executable).with_name("engine")), "score", "-", "--model", "zscore", "--output", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=True)
    lines = done.stdout.splitlines()
    assert (lines[0], len(lines)) == (HEADER, 101)
    assert "100 points" in done.stderr
    assert "zscore is zscore_online" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--model", "zscor"], 1, "did you mean zscore"),
        (["--model", "zscore_online", "--set", "z_threshol=3"], 1, "model.z_threshol: unknown key; did you mean"),
        (["--model", "zscore_online", "--set", "decay=7"], 1, "model.decay: 7, expected a number > 0 and <= 1"),
        (["--model", "zscore_online", "--set", "class=std"], 1, "model.class: std, expected no class among a single"),
        (["--model", "zscore_online", "--set", "decay"], 1, "--set decay: expected key=value"),
        (["--model", "holtwinters", "--set", "args.trend=up"], 1, "model.args.trend: 'up'"),
        (["--model", "zscore_online", "--labels", "truth.csv"], 1, "no file has such a column, and there is no such"),
        (["--model", "zscore_online", "--fit-rows", "100"], 1, "nothing has a score"),
        (["--model", "zscore_online", "--output", "x.xls"], 1, "x.xls: expected a name that ends in .csv"),
        (["--model", "zscore_online", "--output", "/nonexistent/x.csv"], 1, "cannot be written: No such file"),
        (["--model", "zscore_online", "--fit-rows", "9", "--fit-window", "1h"], 2, "expected at most one of them"),
        (["--model", "zscore_online", "--fit-window", "soon"], 2, "--fit-window soon: expected a duration"),
        (["--model", "holtwinters", "--fit-rows", "0"], 2, "does not learn from points"),
        (["--model", "zscore_online", "--tz", "Mars"], 2, "--tz Mars: expected a time zone"),
        ([], 2, "Missing option '--model'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path, capsys, arguments, code, expected):
    file = write(tmp_path / "in.csv", long_rows(values(1, 100)))
    assert main(["score", file, *arguments]) == code
    err = capsys.readouterr().err
    assert expected in err
    assert "Traceback" not in err


def test_online_models_can_begin_cold(tmp_path):
    file = write(tmp_path / "in.csv", long_rows(values(1, 100)))
    got: Any = scores(tmp_path, file, "--model", "zscore_online", "--fit-rows", "0")
    found = column(got, "anomaly_score")
    assert (found[:16] == 0).all()
    assert (found[16:] > 0).all()
