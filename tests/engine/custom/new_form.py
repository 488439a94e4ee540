"""A custom model as of vmanomaly 1.30: arguments under `args`, state as bytes, scores by the base's helpers."""

import pickle

import numpy as np
import pandas as pd
from model.model import PICKLE_PROTOCOL, Model, deserialize_basic


class CustomModel(Model):
    def __init__(self, n_sigmas: float = 3.0, **kwargs):
        super().__init__(**kwargs)
        self.n_sigmas = n_sigmas
        self.center = np.nan
        self.spread = np.nan

    def fit(self, df: pd.DataFrame) -> None:
        y = df["y"].replace([np.inf, -np.inf], np.nan).dropna()
        self.center = float(y.median())
        self.spread = max(float((y - self.center).abs().median()), np.finfo(np.float64).eps)

    def infer(self, df: pd.DataFrame) -> pd.DataFrame:
        out = df[["timestamp", "y"]].copy()
        out["yhat"] = self.center
        out["yhat_lower"] = out["yhat"] - self.n_sigmas * self.spread
        out["yhat_upper"] = out["yhat"] + self.n_sigmas * self.spread
        self._prepare_ci_columns(
            out, scale=self.scale, clip_predictions=self.clip_predictions, data_range=self.data_range
        )
        out["anomaly_score"] = self.get_anomaly_score(
            out,
            data_range=self.data_range,
            detection_direction=self.detection_direction,
            min_dev_from_expected=self.min_dev_from_expected,
            min_rel_dev_from_expected=self.min_rel_dev_from_expected,
            anomaly_score_outside_data_range=self.anomaly_score_outside_data_range,
        )
        return out[self._assemble_output_columns()]

    def serialize(self) -> bytes:
        return pickle.dumps(self, protocol=PICKLE_PROTOCOL)

    @staticmethod
    def deserialize(model):
        return deserialize_basic(model)
