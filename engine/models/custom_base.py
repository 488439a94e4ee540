"""What a custom model's file imports from `model.model`: the bases of its class, and reading state back."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from engine.frame import F64, Frame, Prediction
from engine.score import DEFAULT_OUTSIDE_SCORE, Policy, apply

__all__ = ["PICKLE_PROTOCOL", "Model", "MultivariateModel", "OnlineModel", "RollingModel", "deserialize_basic"]

PICKLE_PROTOCOL = pickle.HIGHEST_PROTOCOL

_DEFAULT_SERIES = ("anomaly_score", "y", "yhat", "yhat_lower", "yhat_upper")


def deserialize_basic(model: str | bytes) -> Any:
    """The object in pickled bytes, or in the file of that path. Only for state that this service has written."""
    return pickle.loads(model if isinstance(model, bytes) else Path(model).read_bytes())


class Model:
    """Base of custom models: keeps the common arguments as attributes and has what scores from a band are made of.

    Parameters
    ----------
    kwargs : the common arguments; `args` has the class's own ones, which come by name, too. Others are ignored.
    """

    is_multivariate: ClassVar[bool] = False
    is_online: ClassVar[bool] = False

    def __init__(self, **kwargs: Any) -> None:
        self.scale = _pair(kwargs.get("scale", 1.0))
        self.clip_predictions = bool(kwargs.get("clip_predictions", False))
        self.data_range = _pair(kwargs.get("data_range") or (-math.inf, math.inf))
        self.detection_direction = kwargs.get("detection_direction") or "both"
        self.min_dev_from_expected = _pair(kwargs.get("min_dev_from_expected", 0.0))
        self.min_rel_dev_from_expected = _pair(kwargs.get("min_rel_dev_from_expected", 0.0))
        outside = kwargs.get("anomaly_score_outside_data_range")
        self.anomaly_score_outside_data_range = DEFAULT_OUTSIDE_SCORE if outside is None else outside
        self.provide_series = list(kwargs.get("provide_series") or _DEFAULT_SERIES)
        self.args = dict(kwargs.get("args") or {})
        self.n_samples_seen_ = 0

    def fit(self, df: Any) -> None:
        """Learn from a frame with `timestamp` and `y`."""
        raise NotImplementedError(f"{type(self).__name__} has no fit")

    def infer(self, df: Any) -> Any:
        """A frame with `timestamp` and `anomaly_score` for each row of a frame with `timestamp` and `y`."""
        raise NotImplementedError(f"{type(self).__name__} has no infer")

    def serialize(self) -> bytes:
        """This object as bytes."""
        raise NotImplementedError(f"{type(self).__name__} has no serialize: it lives in memory only")

    @staticmethod
    def deserialize(model: str | bytes) -> Any:
        """The object that `serialize` gave bytes of."""
        raise NotImplementedError("this class has no deserialize: it lives in memory only")

    def _prepare_ci_columns(
        self, df: Any, scale: Any = None, clip_predictions: bool | None = None, data_range: Any = None
    ) -> None:
        """Scale the band of `df` and clip it to the data range, in place; what is not given is this model's."""
        below, above = self.scale if scale is None else _pair(scale)
        yhat = df["yhat"]
        lower = yhat - (yhat - df["yhat_lower"]).abs() * below
        upper = yhat + (df["yhat_upper"] - yhat).abs() * above
        if self.clip_predictions if clip_predictions is None else clip_predictions:
            least, most = self.data_range if data_range is None else data_range
            yhat, lower, upper = (column.clip(least, most) for column in (yhat, lower, upper))
        df["yhat"], df["yhat_lower"], df["yhat_upper"] = yhat, lower, upper

    def get_anomaly_score(
        self,
        df: Any,
        data_range: Any = None,
        detection_direction: str | None = None,
        min_dev_from_expected: Any = None,
        min_rel_dev_from_expected: Any = None,
        anomaly_score_outside_data_range: float | None = None,
    ) -> Any:
        """Scores of `y` against the band of `df` after the policies, as of built-in models; what is not given is
        this model's.

        Returns
        -------
        A series with the index of `df`; NaN where `y` is not finite.
        """
        outside = anomaly_score_outside_data_range
        policy = Policy(
            direction=detection_direction or self.detection_direction,
            min_dev=_given(min_dev_from_expected, self.min_dev_from_expected),
            min_rel_dev=_given(min_rel_dev_from_expected, self.min_rel_dev_from_expected),
            data_range=_given(data_range, self.data_range),
            outside_score=float(self.anomaly_score_outside_data_range if outside is None else outside),
        )
        y, yhat, lower, upper = (_row(df[name]) for name in ("y", "yhat", "yhat_lower", "yhat_upper"))
        frame = Frame(np.zeros(1, dtype=np.int64), np.arange(y.size), y, 1)
        columns = apply(policy, 0, Prediction(yhat, lower, upper), frame)
        score = df["yhat"].astype(float).copy()
        score[:] = columns["anomaly_score"][0]
        return score.rename("anomaly_score")

    def _assemble_output_columns(self) -> list[str]:
        """`timestamp`, then the names of `provide_series`."""
        return list(dict.fromkeys(["timestamp", *self.provide_series]))


class OnlineModel(Model):
    """Base of custom models that learn in `infer`: first predict, then update."""

    is_online: ClassVar[bool] = True


class MultivariateModel(Model):
    """Base of custom models of several channels."""

    is_multivariate: ClassVar[bool] = True


class RollingModel(Model):
    """Base of old custom models without a fit: `infer` gets the fit window and the new rows at once."""


def _pair(value: Any) -> tuple[float, float]:
    items = list(value) if isinstance(value, list | tuple) else [value]
    return float(items[0]), float(items[-1])


def _given(value: Any, default: tuple[float, float]) -> tuple[float, float]:
    return default if value is None else _pair(value)


def _row(column: Any) -> F64:
    """(1, T) copy of a column, as kernels take it."""
    return np.array(column, dtype=np.float64, order="C").reshape(1, -1)
