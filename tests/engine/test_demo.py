"""The demo: its machine has the incidents that it is labelled with, and the verdict counts them rightly."""

from __future__ import annotations

import io
from pathlib import Path

import duckdb
import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.console import Console

from engine.demo.command import Demo, Scenario, run_scenario
from engine.demo.live import Site
from engine.demo.machine import DAY, MODES, Incident, Machine, five_incidents
from engine.demo.verdict import EPISODE, Results, episodes, judge
from engine.frame import F64
from engine.metrics import Metrics

STEP = 60_000


def rates(incidents: tuple[Incident, ...], n_minutes: int = 3 * DAY, n_cpus: int = 4) -> F64:
    """(minutes, CPUs, modes) from minute 1 on."""
    counters = Machine(n_cpus, incidents, seed=1).counters(n_minutes)
    return np.diff(counters, axis=0) / 60


def test_a_cpu_has_one_second_for_each_second() -> None:
    found = rates(())
    rounding = len(MODES) * 0.01 / 60
    np.testing.assert_allclose(found.sum(axis=2), 1.0, atol=rounding)
    assert found.min() >= 0
    assert not found[:, :, MODES.index("irq")].any()


def test_load_follows_the_time_of_day_and_the_week() -> None:
    user = rates((), 7 * DAY + 1)[:, :, MODES.index("user")].mean(axis=1).reshape(7, 24, 60).mean(axis=2)
    assert (user.argmax(axis=1) > 10).all()
    assert (user.argmin(axis=1) < 7).all()
    assert user[5:].mean() < 0.9 * user[:5].mean()


def test_the_same_seed_is_the_same_machine_however_it_is_asked() -> None:
    incidents = five_incidents(300, 600, 3)
    whole = Machine(3, incidents).counters(900)
    machine = Machine(3, incidents)
    parts = [machine.counters(n) for n in (1, 0, 399, 499, 1)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=0.0101)
    assert not np.array_equal(Machine(3, incidents, seed=8).counters(900), whole)


def test_incidents_move_the_series_that_they_name_and_no_others() -> None:
    first = DAY
    incidents = five_incidents(first, DAY, 4)
    moved = np.abs(rates(incidents) - rates(())) > 2 * 0.01 / 60 + 1e-9
    named = np.zeros_like(moved)
    assert len({incident.kind for incident in incidents}) == 5
    for incident in incidents:
        assert first <= incident.start < incident.end <= first + DAY
        modes = [MODES.index(mode) for mode in incident.modes]
        # Rate k is that of minute k + 1.
        block = np.ix_(range(incident.start - 1, incident.end - 1), incident.cpus, modes)
        named[block] = True
        assert moved[block][:, :, 0].mean() > 0.9
    assert not moved[~named].any()


def test_a_frozen_core_stands_still() -> None:
    incident = next(i for i in five_incidents(DAY, DAY, 4) if i.kind == "frozen core")
    inside = rates((incident,))[incident.start - 1 : incident.end - 1, list(incident.cpus)]
    assert not inside.any()


@settings(deadline=None)
@given(
    arrays(
        np.float64, st.tuples(st.integers(0, 3), st.integers(0, 30)), elements=st.sampled_from([0.5, 1.0, 1.5, np.nan])
    )
)
def test_episodes_are_runs_above_one(score: F64) -> None:
    naive = []
    for row, values in enumerate(score.tolist()):
        run = 0
        for t, value in enumerate([*values, 0.0]):
            if value > 1:
                run += 1
                continue
            if run >= EPISODE:
                naive.append((row, t - run, t))
            run = 0
    assert [(e.row, e.start, e.stop) for e in episodes(score)] == naive


def verdict_of(hot: dict[tuple[str, str], range]) -> tuple[list[bool], int, list[int | None]]:
    """Found, others, and first points of the five incidents of a day, where the given minutes score 2."""
    keys = [(str(cpu), mode) for cpu in range(4) for mode in MODES]
    times = STEP * np.arange(DAY, dtype=np.int64)
    score = np.zeros((len(keys), DAY))
    for key, minutes in hot.items():
        score[keys.index(key), minutes] = 2.0
    incidents = five_incidents(0, DAY, 4)
    verdict = judge(Results(keys, times, {"anomaly_score": score}), incidents, 0, STEP)
    return [f.is_found for f in verdict.findings], len(verdict.others), [f.first_ms for f in verdict.findings]


def test_an_incident_is_found_when_half_of_its_cpus_had_an_episode_then() -> None:
    burn = five_incidents(0, DAY, 4)[3]
    late = range(burn.start + 3, burn.start + 9)
    assert verdict_of({})[:2] == ([False] * 5, 0)
    one = verdict_of({("0", "user"): late, ("0", "idle"): late})
    assert (one[0][3], one[1]) == (False, 0)
    two = verdict_of({("0", "user"): late, ("3", "idle"): late})
    assert (two[0], two[1], two[2][3]) == ([False, False, False, True, False], 0, STEP * (burn.start + 3))


def test_episodes_elsewhere_are_others() -> None:
    burn = five_incidents(0, DAY, 4)[3]
    inside = range(burn.start, burn.start + 6)
    other_mode = verdict_of({("0", "steal"): inside})
    other_time = verdict_of({("0", "user"): range(burn.end, burn.end + 6)})
    too_short = verdict_of({("0", "user"): range(burn.end, burn.end + 4)})
    assert [v[1] for v in (other_mode, other_time, too_short)] == [1, 1, 0]


def test_what_goes_on_after_the_scored_span_does_not_count() -> None:
    times, score = STEP * np.arange(100, dtype=np.int64), np.zeros((1, 100))
    score[0, 80:90] = 2.0
    results = Results([("0", "nice")], times, {"anomaly_score": score})
    assert len(judge(results, (), 0, STEP).others) == 1
    assert len(judge(results, (), 0, STEP, until_ms=STEP * 70).others) == 0


def test_points_go_on_without_gap_or_repeat(tmp_path: Path) -> None:
    end_ms = STEP * 29_000_000
    demo = Demo(Scenario(n_cpus=1, history_minutes=60, scored_minutes=30), tmp_path, 0, end_ms)
    try:
        assert demo.feed(end_ms)
        assert not demo.feed(end_ms + STEP - 1)
        assert demo.feed(end_ms + 3 * STEP + 17)
    finally:
        demo.close()
    with duckdb.connect(str(tmp_path / "demo.duckdb"), read_only=True) as store:
        sql = "SELECT count(*), count(DISTINCT timestamp), epoch_ms(max(timestamp)) FROM node_cpu_seconds_total"
        assert store.execute(sql).fetchall() == [(95 * len(MODES), 95, end_ms + 3 * STEP)]


def test_the_site_shows_the_report_beside_the_services_own_pages(tmp_path: Path) -> None:
    site = Site(Metrics(), tmp_path / "report.html", 0)
    site.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{site.port}", timeout=10) as client:
            assert "being made" in client.get("/").text
            (tmp_path / "report.html").write_text("<p>done")
            assert client.get("/").text == "<p>done"
            assert client.get("/health").json() == {"status": "ok"}
            assert "vmanomaly_version_info" in client.get("/metrics").text
            assert client.get("/nope").status_code == 404
    finally:
        site.stop()


def test_a_small_demo_runs_through_the_whole_service(tmp_path: Path) -> None:
    text = io.StringIO()
    scenario = Scenario(n_cpus=2, history_minutes=2 * DAY, scored_minutes=240)
    run_scenario(scenario, once=True, out=tmp_path / "demo", port=0, console=Console(file=text, width=100))
    assert "5 of 5 incidents found" in text.getvalue()
    report = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert all(incident.kind in report for incident in scenario.incidents)
    with duckdb.connect(str(tmp_path / "demo" / "demo.duckdb"), read_only=True) as store:
        series = 'SELECT count(DISTINCT labels), count(DISTINCT timestamp), count(DISTINCT "for") FROM anomaly'
        assert store.execute(series).fetchall() == [(2 * len(MODES), 241, 1)]
        different = store.execute("""
            WITH rate AS (SELECT timestamp, cpu, mode, (value - lag(value) OVER w) / 60 AS y FROM node_cpu_seconds_total
                          WINDOW w AS (PARTITION BY cpu, mode ORDER BY timestamp))
            SELECT count(*), max(abs(anomaly.y - rate.y)) FROM anomaly JOIN rate
            ON anomaly.timestamp = rate.timestamp AND labels['cpu'] = cpu AND labels['mode'] = mode""").fetchall()
    assert different[0][0] == 241 * 2 * len(MODES)
    assert different[0][1] == pytest.approx(0.0, abs=1e-12)
