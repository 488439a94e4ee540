"""`engine bench`: shape of its results, sums of its units, clear errors, and what it leaves alone."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.bench.compare import compare
from engine.bench.made import answer, expr_of
from engine.bench.measuring import Stopwatch, Task, row
from engine.bench.standin import StandIn
from engine.cli import main
from engine.config.classes import MODELS
from engine.config.single import make_model
from engine.frame import Window, pack
from engine.models.examples import ARGUMENTS
from engine.reader.decode import Decoder
from engine.series import SeriesTable

STAGES = ["decode window", "pack window", "fit", "decode tick", "pack tick", "infer", "score",
          "save state", "commit state", "spool", "encode", "compress",
          "whole fit", "whole tick", "warm start"]  # fmt: skip
SMALL = ["--series", "30", "--points", "300", "--threads", "1"]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("bench") / "old.json"
    with contextlib.redirect_stdout(io.StringIO()) as text:
        assert main(["bench", *SMALL, "--json"]) == 0
    out.write_text(text.getvalue())
    return {**json.loads(text.getvalue()), "path": out}


def test_every_stage_of_the_model_has_a_row(result: dict[str, Any]) -> None:
    assert [r["stage"] for r in result["rows"]] == STAGES
    assert {r["model"] for r in result["rows"]} == {"zscore_online"}
    assert all(r["seconds"] > 0 and r["repeats"] == 5 for r in result["rows"])
    assert result["settings"]["series"] == 30


def test_rates_are_amounts_by_time(result: dict[str, Any]) -> None:
    for r in result["rows"][:-1]:
        assert r["series_per_second"] * r["seconds"] == pytest.approx(r["series"])
        assert r["points_per_second"] * r["seconds"] == pytest.approx(r["points"])
        if r["bytes"] is not None:
            assert r["mb_per_second"] * r["seconds"] * 1e6 == pytest.approx(r["bytes"])


def test_amounts_are_those_that_were_asked_for(result: dict[str, Any]) -> None:
    rows = {r["stage"]: r for r in result["rows"]}
    assert all(rows[stage]["points"] == 30 * 300 for stage in ("decode window", "pack window", "fit", "whole fit"))
    assert rows["decode tick"]["points"] == rows["infer"]["points"] == 30
    assert rows["encode"]["points"] == 30 * 5  # the score, y and the three of the band
    # What a fit downloads is what is decoded, and the heads of further pieces.
    assert rows["whole fit"]["bytes"] == pytest.approx(rows["decode window"]["bytes"], rel=0.5)
    (total,) = result["totals"]
    assert total["peak_rss_bytes"] > 20e6
    # weight, mean, rest and m2 as float64, the count as int64
    assert total["state_bytes_per_series"] == 5 * 8


def test_comparison_with_itself_is_the_same(result: dict[str, Any]) -> None:
    rows = compare(result, result)
    assert len(rows) == len(STAGES) + 2
    assert {r["verdict"] for r in rows} == {"same"}
    assert {r["ratio"] for r in rows} == {1.0}


def test_verdicts_say_what_is_better() -> None:
    def made(seconds: float, size: int) -> dict[str, Any]:
        totals = [{"model": "m", "peak_rss_bytes": size, "state_bytes_per_series": 8}]
        return {"rows": [{"model": "m", "stage": "fit", "seconds": seconds}], "totals": totals}

    better = [r["verdict"] for r in compare(made(2.0, 100), made(1.0, 50))]
    worse = [r["verdict"] for r in compare(made(1.0, 50), made(2.0, 100))]
    assert better == ["faster", "smaller", "same"]
    assert worse == ["slower", "larger", "same"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--series", "31", "--points", "300"], "series 30, now 31"),
        (["--series", "30", "--points", "301"], "points 300, now 301"),
        (
            ["--series", "30", "--points", "300", "--model", "mad_online"],
            "now ['mad_online']",
        ),
        (["--series", "30", "--points", "300", "--step", "1m"], "step '300000ms', now '60000ms'"),
    ],
)
def test_results_of_other_settings_are_not_compared(
    result: dict[str, Any], words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words, "--threads", "1", "--compare", str(result["path"])]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": {}, "rows": [1], "totals": []}', "\xff"])
def test_other_files_are_not_compared(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.json"
    path.write_text(text, encoding="latin-1")
    assert main(["bench", "--compare", str(path)]) == 1
    assert "expected what `engine bench --json` printed" in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--compare", str(tmp_path / "none.json")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--query", "up"], "--query goes with --datasource"),
        (["--write"], "--write goes with --datasource"),
        (["--datasource", "http://h"], "needs --query"),
        (["--datasource", "h", "--query", "up"], "expected a URL"),
        (["--datasource", "http://h", "--query", "up", "--series", "3"], "leave it out"),
        (["--model", "zscores"], "did you mean zscore"),
        (["--model", "custom"], "needs a file of yours"),
        (["--model", "peer_outlier"], "not available yet"),
        (["--step", "soon"], "--step soon"),
        (["--step", "1500ms"], "whole seconds"),
        (["--series", "0"], "0 is not in the range"),
    ],
)
def test_usage_errors_say_what_was_expected(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_database_that_is_away_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--datasource", "http://127.0.0.1:9", "--query", "up"]) == 1
    assert "127.0.0.1:9" in capsys.readouterr().err


def test_a_query_without_series_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with StandIn() as source:
        assert main(["bench", "--datasource", source.url, "--query", "nothing"]) == 1
        assert not source.has_import.is_set()
    assert "no such series" in capsys.readouterr().err


def test_a_fit_of_nothing_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--series", "2", "--points", "2", "--model", "arima", "--threads", "1"]) == 1
    assert "arima: no series could be fitted" in capsys.readouterr().err


@pytest.mark.parametrize("writes", [False, True])
def test_a_database_is_written_to_only_where_asked(writes: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with StandIn() as source:
        words = ["--datasource", source.url, "--query", expr_of(5), "--points", "50", "--threads", "1", "--json"]
        assert main(["bench", *words, *(["--write"] if writes else [])]) == 0
        assert source.has_import.is_set() == writes
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["series"] == 5
    assert any("engine_bench_" in note for note in found["notes"]) == writes


def test_made_up_answers_agree_where_windows_overlap() -> None:
    whole = _values(Window(0, 59_000, 1_000))
    assert whole.shape == (130, 60)
    assert np.array_equal(whole[:, 20:40], _values(Window(20_000, 39_000, 1_000)))
    assert np.unique(whole[:64], axis=0).shape[0] == 64


def _values(window: Window) -> np.ndarray[Any, Any]:
    return pack(Decoder(SeriesTable()).decode(answer(expr_of(130), window)).samples, window).values


def test_every_class_that_can_run_runs_with_its_example() -> None:
    for alias in MODELS.entries:
        if MODELS.settings_type(alias).is_available and alias != "custom":
            make_model(alias, ARGUMENTS.get(alias, {}))


def test_a_row_is_the_median_of_its_repeats() -> None:
    watches = [Stopwatch() for _ in range(3)]
    for watch, seconds in zip(watches, (9.0, 2.0, 1.0), strict=True):
        watch.seconds, watch.cpu_seconds = seconds, 2 * seconds
    found = row("fit", watches, n_series=4, n_points=40, n_bytes=2_000_000)
    assert (found["seconds"], found["cpu_seconds"], found["repeats"]) == (2.0, 4.0, 3)
    assert (found["series_per_second"], found["points_per_second"], found["mb_per_second"]) == (2.0, 20.0, 1.0)


def test_a_task_survives_the_way_to_its_process() -> None:
    task = Task(kind="line", model="m", n_series=1, n_points=2, step_ms=3, threads=1, end_ms=4, prefix="p_")
    assert msgspec.json.decode(msgspec.json.encode(task), type=Task) == task
