"""Auto-tuning's search: what a trial learns, what it is judged by and how, and when the search ends."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from engine.frame import Frame, State
from engine.models.auto import AutoTuned
from engine.models.auto_loss import average_precision, block_error, moved, walls
from engine.models.auto_search import Scheme, search
from engine.models.base import fit
from engine.models.registry import MODELS
from engine.pool import Pool
from engine.settings import Scale
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


def test_true_points_that_weigh_less_lower_the_precision_as_if_others_were_more() -> None:
    rng = np.random.default_rng(3)
    scores, truth = rng.permutation(60)[None].astype(float), rng.random((1, 60)) < 0.3
    # One true point in the place of five, and the others five times each.
    often = np.where(truth, 1, 5)[0]
    expected = average_precision(np.repeat(scores, often, axis=1), np.repeat(truth, often, axis=1))
    assert_allclose(average_precision(scores, truth, 0.2), expected)


def test_a_wall_is_where_a_share_of_one_in_a_hundred_is() -> None:
    rng = np.random.default_rng(5)
    values = rng.uniform(1, 9, size=(3, 1000))
    values[0, :20] = 0.0
    values[1, :20] = 10.0
    values[2, :5] = 0.0
    values[:, 500:600] = np.nan
    low, high = walls(values)
    assert low.tolist() == [0.0, -np.inf, -np.inf]
    assert high.tolist() == [np.inf, 10.0, np.inf]
    away = moved(values, np.full(3, 100.0), (low, high))
    assert_array_equal(np.isnan(away), np.isnan(values))
    assert np.nanmin(away[0]) == 0.0
    assert np.nanmax(away[1]) == 10.0
    shift = (away - values)[2, :10]
    assert_allclose(shift, [30, -30, 60, -60, 90, -90, 120, -120, 150, -150])


def skewed() -> Frame:
    """Noise with a long tail above, one with a long tail below, an even one, and a trend with a long tail."""
    rng = np.random.default_rng(6)
    tails = rng.exponential(size=(4, 960)) ** 1.5
    tails[1] *= -1
    tails[2] = rng.normal(size=960)
    tails[3] += 0.1 * np.arange(960)
    return frame(tails)


def sides(model: AutoTuned, block: Frame) -> list[Any]:
    trials = model.trials(HOUR)
    state = model.fit_rows(block)
    return [trials.arguments[number].get("scale") for number in state.columns["trial"].tolist()]


def test_the_side_of_a_long_tail_is_the_wider_one() -> None:
    above, below, even, trend = sides(tuned("mad_online"), skewed())
    assert above[0] < 1 < above[1]
    assert below[0] > 1 > below[1]
    # Another memory keeps its even band.
    assert even is trend is None


def test_sides_that_are_configured_stay() -> None:
    model = msgspec.structs.replace(tuned("mad_online"), scale=Scale((1.0, 1.5)))
    assert sides(model, skewed()) == [None] * 4
    assert len(model.trials(HOUR)) < len(tuned("mad_online").trials(HOUR))


def test_a_band_is_even_on_short_windows_and_where_no_trial_or_no_time_is_left() -> None:
    block = skewed()
    short = Frame(block.series, block.timestamps_ms[:40], block.values[:, :40].copy(), HOUR)
    assert sides(tuned("mad_online"), short) == [None] * 4
    assert sides(tuned("mad_online", n_trials=3), block) == [None] * 4
    trials = tuned("mad_online").trials(HOUR)
    # Looks at the clock: two memories, then the sides.
    for n_looks, is_even in ((2, True), (3, False)):
        left = iter([np.inf] * n_looks + [-1.0]).__next__
        choice = search(trials, block, Scheme(0.01, 1, 0.5, False, True, 0, False, True), left)
        assert bool((choice.trial < trials.n_even).all()) is is_even


def test_an_uneven_band_is_that_of_the_class_scaled() -> None:
    model, block = tuned("mad_online"), skewed()
    state = model.fit_rows(block)
    trials = model.trials(HOUR)
    later = Frame(block.series, block.timestamps_ms + 960 * HOUR, block.values, HOUR)
    got, _ = model.infer(state, later)
    plain = trials.model(0)
    expected, _ = plain.infer(fit(plain, [block], Pool(1)), later)
    below, above = trials.arguments[int(state.columns["trial"][0])]["scale"]
    wide = state.columns["widen"][0]
    assert_array_equal(got.yhat[0], expected.yhat[0])
    assert_allclose((got.yhat - got.yhat_lower)[0], wide * below * (expected.yhat - expected.yhat_lower)[0])
    assert_allclose((got.yhat_upper - got.yhat)[0], wide * above * (expected.yhat_upper - expected.yhat)[0])
