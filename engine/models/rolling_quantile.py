"""Rolling quantile: median and two quantiles of the last points."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from msgspec import Meta

from engine.frame import I64, Frame, Prediction, State
from engine.models.base import Model
from kernels.rolling import rolling_add, rolling_predict_update


class RollingQuantile(Model, frozen=True, kw_only=True, tag_field="class", tag="rolling_quantile"):
    """``class: rolling_quantile``: the band is the quantiles 1 - `quantile` and `quantile` of the last points.

    Reproduces vmanomaly's rolling quantile. Where its documentation is open: yhat is the window's median, a point is
    not in its own window, gaps do not enter the window (it is the last `window_steps` points that there are), and the
    interquartile range is that of the window. There is no `decay`: all points of a window count the same.
    """

    fit_by: ClassVar[Literal["time", "rows"]] = "time"
    is_online: ClassVar[bool] = True

    quantile: Annotated[float, Meta(ge=0.5, lt=1)]
    window_steps: Annotated[int, Meta(ge=1)]
    iqr_threshold: Annotated[float, Meta(ge=0)] = 0.0
    min_n_samples_seen: Annotated[int, Meta(ge=1)] = 16

    @property
    def warm_up(self) -> int:
        return self.min_n_samples_seen

    def fresh(self, series: I64, frame: Frame) -> State:
        shape = series.size, self.window_steps
        columns = {"ring": np.full(shape, np.inf), "ordered": np.full(shape, np.inf)}
        return State(series, {**columns, "seen": np.zeros(series.size, dtype=np.int64)})

    def learn(self, state: State, frame: Frame) -> State:
        # `ordered` waits for `finish`: one sort a fit instead of one a piece.
        new = state.changeable()
        rolling_add(frame.values, new["ring"], new["seen"])
        return state.updated(**new)

    def finish(self, state: State) -> State:
        return state.updated(ordered=np.sort(state.columns["ring"], axis=1))

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        new = state.changeable()
        yhat, lower, upper = (np.empty(frame.shape) for _ in range(3))
        windows, seen = (new["ring"], new["ordered"], new["seen"]), new["seen"].copy()
        rolling_predict_update(frame.values, self.quantile, self.iqr_threshold, *windows, yhat, lower, upper)
        prediction = Prediction(yhat, lower, upper, seen=seen)
        return prediction, state.updated(**new)
