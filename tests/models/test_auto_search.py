"""Auto-tuning's search: what a trial learns, what it is judged by and how, and when the search ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from engine.frame import Frame, State
from engine.models.auto_search import Scheme, average_precision, block_error, search
from engine.models.registry import MODELS
from tests.models.test_auto import HOUR, SCHEME, START, frame, rows, tuned


def test_an_error_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(2)
    y, yhat, moved = rng.normal(size=(3, 23)), rng.normal(size=(3, 23)), rng.random(23) < 0.2
    y[:, 8:12], y[1, 3], span = np.nan, 1e9, np.array([1.0, 2.0, 4.0])
    found = block_error({"y": y, "yhat": yhat}, moved.astype(float), span, 4)
    for row in range(3):
        squares = []
        for first in range(0, 23, 4):
            block = range(first, min(first + 4, 23))
            away = [
                max(-10.0, min(10.0, (y[row, k] - yhat[row, k]) / span[row]))
                for k in block
                if np.isfinite(y[row, k]) and not moved[k]
            ]
            if away:
                squares.append((sum(away) / len(away)) ** 2)
        assert found[row] == pytest.approx((sum(squares) / len(squares)) ** 0.5)


def test_the_search_stops_when_its_time_is_up() -> None:
    trials = tuned("quantile_online").trials(HOUR)
    whole = search(trials, frame(rows(480)), SCHEME, lambda: np.inf)
    assert whole.n_tried == len(trials)
    left = iter([np.inf] * 4 + [0.0] * 100)
    part = search(trials, frame(rows(480)), SCHEME, lambda: next(left))
    assert part.n_tried == 4
    none = search(trials, frame(rows(480)), SCHEME, lambda: -1.0)
    assert none.n_tried == 0
    assert_array_equal(none.trial, 0)


@pytest.mark.parametrize(
    ("is_leaky", "learned", "judged"),
    [
        (False, [(0, 299), (100, 399), (200, 499)], [(300, 399), (400, 499), (500, 599)]),
        (True, [(0, 599)] * 3, [(0, 199), (200, 399), (400, 599)]),
    ],
)
def test_what_a_trial_learns_and_what_it_is_judged_by(
    is_leaky: bool, learned: list[Any], judged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = MODELS.settings_type("zscore_online")
    seen: dict[str, list[Any]] = {"learn": [], "infer": []}

    def watched(name: str, true: Any) -> Any:
        def call(self: Any, state: State, part: Frame) -> Any:
            seen[name].append(tuple((int(part.timestamps_ms[k]) - START) // HOUR for k in (0, -1)))
            return true(self, state, part)

        return call

    for name in seen:
        monkeypatch.setattr(kind, name, watched(name, getattr(kind, name)))
    trials = tuned("zscore_online", n_trials=1).trials(HOUR)
    scheme = Scheme(0.01, 3, 3.0, is_leaky, True, 0)
    search(trials, frame(rows(600)).rows(0, 1), scheme, lambda: np.inf)
    assert (seen["learn"], seen["infer"]) == (learned, judged)


def test_average_precision_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(3)
    scores, truth = rng.normal(size=(5, 60)), rng.random((5, 60)) < 0.2
    for row, area in enumerate(average_precision(scores, truth)):
        order = sorted(range(60), key=lambda k: -scores[row, k])
        hits = [truth[row, k] for k in order]
        expected = [sum(hits[: k + 1]) / (k + 1) for k in range(60) if hits[k]]
        assert area == pytest.approx(sum(expected) / len(expected))
