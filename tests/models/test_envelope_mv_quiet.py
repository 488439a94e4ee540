"""Groups of channels that do not move, and what happens once they do."""

from __future__ import annotations

import numpy as np

from engine.frame import F64
from engine.models.envelope_mv import TemporalEnvelopeMultivariate
from tests.models.test_envelope_mv import DAY, PAST, after

LATER = 5 * DAY


def above_1(values: F64) -> F64:
    """(T,) where the score of the rows after the past is above 1."""
    return np.asarray(after(TemporalEnvelopeMultivariate(), values)["anomaly_score"][0] > 1)


def test_an_outage_in_a_constant_group_alarms_while_it_lasts_and_again_the_next_time() -> None:
    values = np.ones((3, PAST + LATER))
    begins = [100, 100 + 2 * DAY + 77]
    for begin in begins:
        values[0, PAST + begin : PAST + begin + 10] = 0
    found = above_1(values)
    for begin in begins:
        assert found[begin : begin + 10].all()
        assert not found[begin + 40 : begin + DAY - 40].any()
    assert not found[: begins[0]].any()


def test_an_idle_group_that_becomes_busy_alarms_for_less_than_two_hours() -> None:
    values = np.zeros((4, PAST + LATER))
    values[:, PAST + 100 :] = 5 + np.random.default_rng(0).normal(size=(4, LATER - 100))
    found = above_1(values)
    assert found[100]
    assert not found[:100].any()
    assert found[124:].mean() < 0.005
