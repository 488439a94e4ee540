"""A state that is given away may be changed in place, and what comes of it is the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.models.base import Model, align, fit, infer
from tests.models.test_contract import ONE, STEP_MS, STEPS, TWO, assert_same, every_model, frame_of, history, past
from tests.strategies import START_MS


@every_model
def test_a_state_that_is_given_away_goes_on_as_a_copy_would(model: Model) -> None:
    fitted = fit(model, [past(history())], ONE)
    times = 132 // fitted.series.size + 1  # enough rows for two threads
    values = np.tile(history()[fitted.series], (times, 1))
    kept, *given = (
        replace(fitted.take(np.tile(np.arange(fitted.series.size), times)), series=np.arange(values.shape[0]))
        for _ in range(3)
    )
    for k in range(4):
        part = frame_of(values[:, STEPS + k : STEPS + k + 1], START_MS + STEP_MS * (STEPS + k))
        kept, aligned = align(model, kept, part)
        expected, kept = infer(model, kept, aligned, ONE)
        for place, pool in enumerate((ONE, TWO)):
            state, aligned = align(model, given[place], part)
            found, given[place] = infer(model, replace(state, is_given=True), aligned, pool)
            assert_same(found, expected)
            assert_same(given[place], kept)
            assert not given[place].is_given
