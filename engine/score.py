"""Score policies: what an operator calls anomalous, resolved once and applied by one kernel pass."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.frame import F64, Frame, Prediction, Query
from engine.settings import UNBOUNDED
from kernels.score import score_band, score_given

_NONE = np.empty((0, 0))
_DIRECTIONS = {"both": 0, "above_expected": 1, "below_expected": -1}
# The original's default for a value outside its data_range: just over the threshold.
DEFAULT_OUTSIDE_SCORE = 1.01
# The offset is a duration as configured: 1h, 1.5h, +1h, P1D, PT1H.
_FORECAST = re.compile(r"(yhat|yhat_lower|yhat_upper)_\+?P?T?\d[\w.]*")


class ModelKeys(Protocol):
    """The keys of a model that say what counts as anomalous and what is written."""

    @property
    def detection_direction(self) -> str: ...
    @property
    def min_dev_from_expected(self) -> tuple[float, float]: ...
    @property
    def min_rel_dev_from_expected(self) -> tuple[float, float]: ...
    @property
    def scale(self) -> tuple[float, float]: ...
    @property
    def clip_predictions(self) -> bool: ...
    @property
    def anomaly_score_outside_data_range(self) -> float | None: ...
    @property
    def data_range(self) -> tuple[float, float] | None: ...
    @property
    def provide_series(self) -> list[str] | None: ...
    @property
    def default_series(self) -> tuple[str, ...]: ...
    @property
    def owns_policies(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """What counts as anomalous in one (model, query). Pairs are (below, above); `min_rel_dev` is in percent."""

    direction: str = "both"
    min_dev: tuple[float, float] = (0.0, 0.0)
    min_rel_dev: tuple[float, float] = (0.0, 0.0)
    data_range: tuple[float, float] = UNBOUNDED
    outside_score: float = DEFAULT_OUTSIDE_SCORE
    scale: tuple[float, float] = (1.0, 1.0)
    clip: bool = False


def resolve(model: ModelKeys, query: Query, default_outside: float | None = None) -> Policy:
    """The policy to apply to what a model says of a query, as `merge`; none where the model applies it itself."""
    return Policy() if model.owns_policies else merge(model, query, default_outside)


def merge(model: ModelKeys, query: Query, default_outside: float | None = None) -> Policy:
    """The policy of a model on a query: the query's keys win over the model's, these over the defaults.

    Parameters
    ----------
    default_outside : `settings.anomaly_score_outside_data_range`; the model's own key wins over it.
    """
    outside = model.anomaly_score_outside_data_range
    fallback = DEFAULT_OUTSIDE_SCORE if default_outside is None else default_outside

    def pick(of_query: tuple[float, float] | None, of_model: tuple[float, float]) -> tuple[float, float]:
        return of_model if of_query is None else of_query

    return Policy(
        direction=query.detection_direction or model.detection_direction,
        min_dev=pick(query.min_dev_from_expected, model.min_dev_from_expected),
        min_rel_dev=pick(query.min_rel_dev_from_expected, model.min_rel_dev_from_expected),
        data_range=pick(query.data_range, model.data_range or UNBOUNDED),
        outside_score=fallback if outside is None else outside,
        scale=model.scale,
        clip=model.clip_predictions,
    )


def apply(policy: Policy, warm_up: int, prediction: Prediction, frame: Frame) -> dict[str, F64]:
    """The columns of a prediction by name: the score, the scaled and clipped band, `y`, the model's extras.

    Parameters
    ----------
    warm_up : finite points that a row must have learned before its score counts.

    Notes
    -----
    The yhat-outside-range rule sees the clipped yhat, as in the documented order of post-processing; so with
    `clip_predictions` it fires only where the whole band is outside.
    """
    y = frame.values
    seen = np.full(y.shape[0], warm_up, dtype=np.int64) if prediction.seen is None else prediction.seen
    data_range = np.array(policy.data_range, dtype=np.float64)
    columns: dict[str, F64] = {"y": y}
    if prediction.yhat is None or prediction.yhat_lower is None or prediction.yhat_upper is None:
        score = np.full(y.shape, np.nan) if prediction.score is None else prediction.score.copy()
        score_given(y, seen, warm_up, prediction.largest, data_range, policy.outside_score, score)
    else:
        yhat, lower, upper = prediction.yhat.copy(), prediction.yhat_lower.copy(), prediction.yhat_upper.copy()
        score = np.empty(y.shape)
        score_band(
            y,
            seen,
            warm_up,
            prediction.largest,
            _DIRECTIONS[policy.direction],
            np.array(policy.min_dev, dtype=np.float64),
            np.array(policy.min_rel_dev, dtype=np.float64),
            data_range,
            policy.outside_score,
            np.array(policy.scale, dtype=np.float64),
            policy.clip,
            _NONE if prediction.unusual is None else prediction.unusual,
            yhat,
            lower,
            upper,
            score,
        )
        columns |= {"yhat": yhat, "yhat_lower": lower, "yhat_upper": upper}
    exists = np.isfinite(y)
    extra = {name: np.where(exists, column, np.nan) for name, column in prediction.extra.items()}
    return {"anomaly_score": score, **columns, **extra}


def select(model: ModelKeys, columns: Mapping[str, F64]) -> dict[str, F64]:
    """The columns to write, in the order of `provide_series`, which is honoured as written: no score is added.

    `timestamp` is implied. A forecast (``yhat_1h``) is written where its base name (``yhat``) is. Names that the
    model does not give are not there.
    """
    wanted = model.provide_series or model.default_series
    return {name: columns[name] for want in wanted for name in columns if want in (name, _base(name))}


def _base(name: str) -> str:
    """The name that asks for a column: of a forecast, the part before its offset."""
    forecast = _FORECAST.fullmatch(name)
    return forecast[1] if forecast else name
