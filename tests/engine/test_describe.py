"""`engine describe`: what is put into a series is what is said of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from engine.cli import main
from engine.config.single import make_model
from engine.frame import F64, Frame
from engine.offline.traits import Traits, find_traits

STEP_MS, DAY_MS = 300_000, 86_400_000
START_MS = 19_700 * DAY_MS
N_STEPS = 28 * 288


def noise(seed: int = 1, n: int = N_STEPS) -> F64:
    return np.random.default_rng(seed).normal(size=n)


def angle(period_ms: int, n: int = N_STEPS) -> F64:
    return 2 * np.pi * STEP_MS * np.arange(n) / period_ms


def described(values: F64, tz: str = "UTC") -> Traits:
    times = START_MS + STEP_MS * np.arange(values.size)
    (traits,) = find_traits(Frame(np.zeros(1, np.int64), times, np.ascontiguousarray(values[None]), STEP_MS, tz))
    return traits


def test_points_and_gaps() -> None:
    y = noise()
    y[:10] = y[100:112] = y[500] = y[-3:] = np.nan
    found = described(y)
    assert (found.n_points, found.n_gaps, found.longest_gap_ms) == (N_STEPS - 26, 2, 12 * STEP_MS)
    assert (found.first_ms, found.last_ms) == (START_MS + 10 * STEP_MS, START_MS + (N_STEPS - 4) * STEP_MS)
    assert found.missing == pytest.approx(13 / (N_STEPS - 13))


@pytest.mark.parametrize(
    ("values", "kind", "model"),
    [
        pytest.param(np.full(500, 3.0), "constant", {"class": "zscore_online"}, id="constant"),
        pytest.param(1.0 * (noise() > 0), "two values", {"class": "zscore_online"}, id="up or down"),
        pytest.param(np.floor(np.abs(noise())), "counts", {"class": "zscore_online"}, id="rare counts"),
        pytest.param(0.5 + 0.1 * np.tanh(noise()), "shares", {"class": "zscore_online"}, id="shares"),
        pytest.param(50 + noise(), "not negative", {"class": "zscore_online"}, id="one level"),
        pytest.param(noise(n=20), "real numbers", {"class": "zscore_online"}, id="few points"),
        pytest.param(noise() + 40 * (noise(2) > 3), "real numbers", {"class": "mad_online"}, id="outliers"),
        pytest.param(np.full(500, np.nan), "empty", {}, id="nothing"),
    ],
)
def test_kinds_of_values(values: F64, kind: str, model: dict[str, Any]) -> None:
    found = described(values)
    assert (found.kind, found.model, found.seasons, found.shifts, found.trend) == (kind, model, (), (), 0.0)


def test_two_values_that_alternate_by_the_clock_have_a_season_and_a_model_of_it() -> None:
    night = described(1.0 * (np.arange(N_STEPS) % 288 < 100))
    assert night.kind == "two values"
    assert DAY_MS in [season.period_ms for season in night.seasons]
    assert night.model["class"] == "temporal_envelope"
    assert "1d" in night.reason


def test_seasons_name_the_model_that_has_them() -> None:
    day = described(50 + noise() + 5 * np.sin(angle(DAY_MS)))
    assert [season.period_ms for season in day.seasons] == [DAY_MS]
    assert day.model == {"class": "temporal_envelope", "seasonalities": ["hod_smooth"]}
    assert day.reason == "it repeats every 1d"
    six_hours = described(50 + noise() + 5 * np.sin(angle(DAY_MS // 4)))
    assert six_hours.model == {"class": "std", "period": 72}
    odd = described(50 + noise() + 5 * np.sin(angle(17 * STEP_MS)))
    assert odd.model == {"class": "std", "period": 17}


@pytest.mark.parametrize("rhythm", [0.0, 6.0])
def test_a_level_shift_is_found_where_it_is(rhythm: float) -> None:
    where = 5000
    y = 50 + noise() + rhythm * np.sin(angle(DAY_MS)) + 8.0 * (np.arange(N_STEPS) >= where)
    found = described(y)
    assert len(found.shifts) == 1
    assert abs(found.shifts[0].time_ms - (START_MS + where * STEP_MS)) <= DAY_MS / 4
    assert found.shifts[0].size == pytest.approx(8, abs=1)
    assert found.trend == 0


def test_a_trend_is_no_shift_and_no_season() -> None:
    found = described(noise() + np.linspace(0, 30, N_STEPS))
    assert found.trend == pytest.approx(30, rel=0.05)
    assert (found.shifts, found.seasons) == ((), ())
    assert found.model["class"] == "temporal_envelope"


def test_nothing_is_seen_in_noise_and_walks_wander() -> None:
    still = [described(noise(seed)) for seed in range(100)]
    assert not any(found.shifts or found.trend or found.wanders for found in still)
    walks = [described(np.cumsum(noise(seed))) for seed in range(100)]
    assert sum(bool(found.shifts) for found in walks) < 20
    assert sum(found.wanders for found in walks) > 60


@pytest.mark.parametrize("values", [50 + noise() + 5 * np.sin(angle(DAY_MS)), noise(), np.cumsum(noise())])
def test_the_suggestion_is_a_model_that_runs(values: F64) -> None:
    arguments = dict(described(values).model)
    model, warnings = make_model(arguments.pop("class"), arguments)
    assert model.is_available
    assert warnings == ()


def write(path: Path) -> str:
    y = np.round(50 + noise() + 5 * np.sin(angle(DAY_MS)), 3)
    lines = [f"{START_MS // 1000 + 300 * t},{y[t]},{host}" for host in ("a", "b") for t in range(N_STEPS)]
    path.write_text("\n".join(["timestamp,value,host", *lines]) + "\n")
    return str(path)


def test_files_for_people_and_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "cpu.csv")
    assert main(["describe", path]) == 0
    text = capsys.readouterr().out
    for part in ("host=a", "host=b", "8064 in 28d", "1d (", "temporal_envelope", "2 series, 16128 points"):
        assert part in text
    assert main(["describe", path, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["labels"] for row in rows] == [{"host": "a"}, {"host": "b"}]
    assert rows[0]["seasons"][0]["period_ms"] == DAY_MS
    assert rows[0]["model"]["class"] == "temporal_envelope"


def test_a_querys_fit_window_through_the_configured_reader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    end_s = int(time.time()) // 300 * 300
    y = 50 + noise() + 5 * np.sin(angle(DAY_MS))
    rows = [(end_s - 300 * t, float(y[t])) for t in range(N_STEPS)]
    with duckdb.connect(str(tmp_path / "data.duckdb")) as connection:
        connection.execute("CREATE TABLE m (timestamp BIGINT, value DOUBLE, host TEXT)")
        connection.execute(
            "INSERT INTO m SELECT unnest(?), unnest(?), 'a'", [[t for t, _ in rows], [v for _, v in rows]]
        )
    config = tmp_path / "config.yml"
    config.write_text(f"""
schedulers: {{s: {{class: periodic, infer_every: 5m, fit_every: 1h, fit_window: 14d}}}}
models: {{m: {{class: zscore_online, queries: all, schedulers: all}}}}
reader:
  {{class: local, path: {tmp_path / "data.duckdb"}, sampling_period: 5m, queries: {{q: {{expr: SELECT * FROM m}}}}}}
writer: {{class: noop}}
""")
    assert main(["describe", "--config", str(config), "--query", "q", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["labels"] == {"host": "a"}
    assert 14 * 288 - 2 <= row["n_points"] <= 14 * 288 + 1
    assert row["seasons"][0]["period_ms"] == DAY_MS
    assert main(["describe", "--config", str(config), "--query", "x"]) == 1
    assert "--query x: expected one of q" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "expected FILE... or --config C --query Q"),
        (["a.csv", "--config", "c.yml", "--query", "q"], 2, "expected FILE... or --config C --query Q"),
        (["--config", "c.yml"], 2, "expected both of them or neither"),
        (["nowhere.csv"], 1, "there is no such file"),
        (["nowhere.csv", "--tz", "Mars"], 2, "expected a time zone like"),
    ],
)
def test_what_is_refused(arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", *arguments]) == code
    assert message in capsys.readouterr().err
