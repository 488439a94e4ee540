"""Temporal envelope: trend, calendar effects and a band that keeps its false-alarm rate by itself."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from engine.frame import I64, Frame, Prediction, State
from engine.models.envelope_args import EnvelopeModel
from engine.models.envelope_calendar import calendar, n_bins
from kernels.envelope import LARGEST, envelope_run
from kernels.envelope_state import COUNT, N_HOURS, N_QUARTERS, N_SCALARS, N_SCALES, Rows

_BANDS = ("yhat", "yhat_lower", "yhat_upper")


class TemporalEnvelope(EnvelopeModel, frozen=True, kw_only=True, tag_field="class", tag="temporal_envelope"):
    """``class: temporal_envelope``: robust trend, calendar effects and residual quantiles; see docs/models/envelope.md.

    The original documents arguments and purpose, not the algorithm: this one is our own. Inside the band the score
    says how far the series is from all its past (at most 0.95), close to a bound how close; outside it is more than 1
    and grows with the distance, the more so the more unusual the series is by its past.
    """

    forecasts: ClassVar[bool] = True
    layout: ClassVar[int] = 2

    def fresh(self, series: I64, frame: Frame) -> State:
        bins = n_bins(self.seasonalities, self.holidays.parsed())
        shapes: dict[str, tuple[int, ...]] = {
            "scalars": (N_SCALARS,),
            "hours": (3, N_HOURS),
            "peaks": (2, N_QUARTERS),
            "profile": (bins,),
            "visits": (bins,),
        }
        return State(series, {name: np.zeros((series.size, *shape)) for name, shape in shapes.items()})

    def learn(self, state: State, frame: Frame) -> State:
        nothing = np.empty((3, 0, 0)), np.empty((0, 0)), np.empty((3, 0, 0, 0))
        return self._run(state, frame, [], nothing)

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        shape = frame.shape
        band, unusual = np.empty((3, *shape)), np.zeros(shape)
        ahead = np.empty((3, len(self.forecast_at), *shape))
        seen = state.columns["scalars"][:, COUNT].astype(np.int64)
        new = self._run(state, frame, [int(offset) for offset in self.forecast_at], (band, unusual, ahead))
        extra = {
            f"{name}_{offset.as_configured}": ahead[b, j]
            for b, name in enumerate(_BANDS)
            for j, offset in enumerate(self.forecast_at)
        }
        return Prediction(band[0], band[1], band[2], extra=extra, seen=seen, unusual=unusual, largest=LARGEST), new

    def _run(
        self, state: State, frame: Frame, ahead_ms: list[int], out: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
    ) -> State:
        places = calendar(
            self.seasonalities, self.holidays.parsed(), frame.timestamps_ms, frame.step_ms, frame.tz, ahead_ms
        )
        new = state.changeable()
        rates = self.rates(frame.step_ms)
        envelope_run(frame.values, frame.timestamps_ms, places, rates, Rows(**new), np.empty(N_SCALES), *out)
        return state.updated(**new)
