"""Measures against their definitions and scikit-learn's recorded results."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.offline.measures import (
    Labelled,
    at_threshold,
    average_precision,
    best_threshold,
    measure,
    n_false_episodes,
)
from engine.pool import Pool
from tests import naive_measures as naive

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/measures/cases.json").read_text())
POOL = Pool(2)
STEP_MS = 60_000
WEEK_MS = 7 * 86_400_000


def labelled(times: list[int], scores: list[float], truth: list[int]) -> Labelled:
    return Labelled(np.array(times, dtype=np.int64), np.array(scores, dtype=float), np.array(truth, float), STEP_MS)


@st.composite
def one_series(draw: st.DrawFn) -> naive.Series:
    n = draw(st.integers(1, 60))
    levels = st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0, 1.5, 4.0, math.nan])
    gaps = draw(st.lists(st.sampled_from([1, 1, 29, 30, 31]), min_size=n, max_size=n))
    times = [int(t) * STEP_MS for t in np.cumsum(gaps)]
    truth: list[int] = []
    while len(truth) < n:
        truth += [draw(st.integers(0, 1))] * draw(st.integers(1, 12))
    return times, draw(st.lists(levels, min_size=n, max_size=n)), truth[:n]


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_average_precision_is_that_of_scikit_learn(case):
    got = average_precision(np.array(case["scores"]), np.array(case["truth"], dtype=float))
    assert got == pytest.approx(case["average_precision"], abs=1e-12)


def test_points_without_a_score_are_ranked_last():
    scores, truth = [0.9, math.nan, 0.1, math.nan], [1, 1, 0, 0]
    lowest = [s if s == s else -1.0 for s in scores]
    assert average_precision(np.array(scores), np.array(truth)) == average_precision(np.array(lowest), np.array(truth))


@given(st.lists(one_series(), min_size=1, max_size=4), st.sampled_from([0.4, 1.0, 1.2]))
def test_a_threshold_gives_what_the_definitions_say(series, threshold):
    got = at_threshold([labelled(*s) for s in series], threshold)
    assert got.f1 == pytest.approx(naive.point_f1(series, threshold))
    assert got.delay_f1 == pytest.approx(naive.delay_f1(series, threshold))
    delays = naive.delays(series, threshold)
    assert got.n_found == len(delays)
    if delays:
        assert got.delay_points == pytest.approx(sum(delays) / len(delays))
    weekly = [naive.false_episodes(s, threshold) / (len(s[0]) * STEP_MS / WEEK_MS) for s in series]
    assert got.false_episodes == pytest.approx(sum(weekly) / len(weekly))


@example([([60_000], [0.0], [0]), ([60_000], [math.nan], [1])])
@given(st.lists(one_series(), min_size=1, max_size=4))
def test_the_best_thresholds_are_the_best_of_all(series):
    got = measure([labelled(*s) for s in series], POOL)
    if got is None:
        assert not any(any(truth) for _, _, truth in series)
        return
    assert got.best_f1.f1 == pytest.approx(naive.best(naive.point_f1, series))
    assert got.best_delay_f1.delay_f1 == pytest.approx(naive.best(naive.delay_f1, series))
    own = [naive.best(naive.delay_f1, [s]) for s in series if any(s[2])]
    assert got.series_delay_f1 == pytest.approx(sum(own) / len(own))


def test_a_segment_counts_by_its_first_eight_points():
    truth = [0] * 5 + [1] * 20 + [0] * 5
    for delay, found in [(0, 20), (7, 20), (8, 0)]:
        scores = [0.0] * 30
        scores[5 + delay] = 2.0
        got = at_threshold([labelled([STEP_MS * t for t in range(30)], scores, truth)], 1.0)
        assert got.delay_recall == found / 20
        assert got.n_found == 1
        assert got.delay_s == delay * 60


def test_false_points_within_thirty_minutes_are_one_episode():
    times = [0, 30, 61, 500]
    assert n_false_episodes(labelled([STEP_MS * t for t in times], [2.0] * 4, [0] * 4), 1.0) == 3


def test_a_score_equal_to_the_threshold_is_not_above_it():
    assert at_threshold([labelled([0, STEP_MS], [1.0, 1.0], [1, 0])], 1.0).f1 == 0.0


def test_the_best_threshold_lies_between_two_scores():
    threshold, f1 = best_threshold(np.array([3.0, 2.0, 1.0]), np.array([1.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    assert (threshold, f1) == (1.5, 1.0)
