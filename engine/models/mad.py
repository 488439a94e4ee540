"""Online MAD: decayed median and median absolute deviation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from engine.frame import F64, I64, Frame, Prediction, State
from engine.models.base import Model
from kernels.mad import mad_predict_update
from kernels.sketch import block_size, sketch_add

# A sketch with fewer centroids than twice this says little: the smallest `compression` that counts.
_LEAST_COMPRESSION = 10


class OnlineMad(Model, frozen=True, kw_only=True, tag_field="class", tag="mad_online"):
    """``class: mad_online`` (also ``mad``): yhat is the median, the band `threshold` median absolute deviations.

    Reproduces vmanomaly's online MAD. Where its documentation is open: the deviation is raw (not times 1.4826),
    `threshold` is 2.5 by default, and both medians come from one sketch of the values, so the deviation is always
    around the present median. A gap does not decay. `history_strength` multiplies the fitted weights when a fit ends.
    """

    fit_by: ClassVar[Literal["time", "rows"]] = "time"
    is_online: ClassVar[bool] = True
    layout: ClassVar[int] = 2

    threshold: Annotated[float, Meta(gt=0)] = 2.5
    compression: Annotated[int, Meta(ge=1, le=10_000)] = 100
    min_n_samples_seen: Annotated[int, Meta(ge=1)] = 16
    decay: Annotated[float, Meta(gt=0, le=1)] = 1.0
    history_strength: Annotated[float, Meta(gt=0)] = 1.0

    @property
    def warm_up(self) -> int:
        return self.min_n_samples_seen

    @property
    def _n_kept(self) -> int:
        """Centroids of a sketch after a block; with fewer different values it is exact."""
        return 2 * max(self.compression, _LEAST_COMPRESSION)

    def fresh(self, series: I64, frame: Frame) -> State:
        n_rows, n_columns = series.size, self._n_kept + block_size(self._n_kept)
        columns: dict[str, NDArray[Any]] = {
            "mean": np.zeros((n_rows, n_columns)),
            "weight": np.zeros((n_rows, n_columns)),
            "mixed": np.zeros((n_rows, n_columns), dtype=np.bool_),
            "size": np.zeros(n_rows, dtype=np.int64),
            "total": np.zeros(n_rows),
            "unit": np.ones(n_rows),
            "seen": np.zeros(n_rows, dtype=np.int64),
        }
        return State(series, columns)

    def learn(self, state: State, frame: Frame) -> State:
        new = state.changeable()
        sketch_add(frame.values, self.decay, block_size(self._n_kept), *_arrays(new))
        return state.updated(**new)

    def finish(self, state: State) -> State:
        h = self.history_strength
        if h == 1.0:
            return state
        return state.updated(weight=state.columns["weight"] * h, total=state.columns["total"] * h)

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        new = state.changeable()
        yhat, lower, upper = (np.empty(frame.shape) for _ in range(3))
        seen = new["seen"].copy()
        n_block = block_size(self._n_kept)
        mad_predict_update(frame.values, self.decay, self.threshold, n_block, *_arrays(new), yhat, lower, upper)
        prediction = Prediction(yhat, lower, upper, seen=seen)
        return prediction, state.updated(**new)


def _arrays(columns: Mapping[str, NDArray[Any]]) -> tuple[F64, F64, NDArray[np.bool_], I64, F64, F64, I64]:
    """A state's columns in the order in which the kernels take them."""
    sketch = columns["mean"], columns["weight"], columns["mixed"], columns["size"]
    return *sketch, columns["total"], columns["unit"], columns["seen"]
