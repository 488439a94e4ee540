"""Online z-score: decayed mean and standard deviation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from engine.frame import F64, I64, Frame, Prediction, State
from engine.models.base import Model
from kernels.ewm import LARGEST, ewm_predict_update, ewm_update, moments_add


class OnlineZscore(Model, frozen=True, kw_only=True, tag_field="class", tag="zscore_online"):
    """``class: zscore_online`` (also ``zscore``): yhat is the mean, the band `z_threshold` standard deviations.

    Reproduces vmanomaly's online z-score. Where its documentation is open: ddof is 0, variance is the decayed sum of
    squares over the decayed weight, a gap does not decay, `z_threshold` is 2.5 by default, a score counts once
    `min_n_samples_seen` points were learned. `history_strength` multiplies the fitted weight when a fit ends: the
    fitted mean and variance stay as they are and give way to new points that many times more slowly.
    """

    fit_by: ClassVar[Literal["time", "rows"]] = "time"
    is_online: ClassVar[bool] = True

    z_threshold: Annotated[float, Meta(ge=0)] = 2.5
    min_n_samples_seen: Annotated[int, Meta(ge=1)] = 16
    decay: Annotated[float, Meta(gt=0, le=1)] = 1.0
    history_strength: Annotated[float, Meta(gt=0)] = 1.0

    @property
    def warm_up(self) -> int:
        return self.min_n_samples_seen

    def fresh(self, series: I64, frame: Frame) -> State:
        columns = {name: np.zeros(series.size) for name in ("weight", "mean", "rest", "m2")}
        return State(series, {**columns, "seen": np.zeros(series.size, dtype=np.int64)})

    def learn(self, state: State, frame: Frame) -> State:
        new = state.changeable()
        if self.decay == 1.0:
            moments_add(frame.values, *_arrays(new))
        else:
            ewm_update(frame.values, self.decay, *_arrays(new))
        return state.updated(**new)

    def finish(self, state: State) -> State:
        h = self.history_strength
        return state.updated(weight=state.columns["weight"] * h, m2=state.columns["m2"] * h)

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        new = state.changeable()
        yhat, lower, upper = (np.empty(frame.shape) for _ in range(3))
        seen = new["seen"].copy()
        ewm_predict_update(frame.values, self.decay, self.z_threshold, *_arrays(new), yhat, lower, upper)
        prediction = Prediction(yhat, lower, upper, seen=seen, largest=LARGEST)
        return prediction, state.updated(**new)


def _arrays(columns: Mapping[str, NDArray[Any]]) -> tuple[F64, F64, F64, F64, I64]:
    """A state's columns in the order in which the kernels take them."""
    return columns["weight"], columns["mean"], columns["rest"], columns["m2"], columns["seen"]
