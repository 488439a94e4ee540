"""A custom online model: a moving level, learned from every point after it was scored."""

import pickle

import pandas as pd
from model.model import PICKLE_PROTOCOL, OnlineModel, deserialize_basic


class CustomModel(OnlineModel):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.alpha = self.args.get("alpha", 0.2)
        self.level = None
        self.step = 0.0

    def _learn(self, y: float) -> None:
        if self.level is None:
            self.level = y
        self.step += self.alpha * (abs(y - self.level) - self.step)
        self.level += self.alpha * (y - self.level)

    def fit(self, df: pd.DataFrame) -> None:
        for y in df["y"]:
            self._learn(y)

    def infer(self, df: pd.DataFrame) -> pd.DataFrame:
        out = df[["timestamp", "y"]].copy()
        out["yhat"] = out["y"] if self.level is None else self.level
        half = max(4 * self.step, 1e-9)
        out["yhat_lower"], out["yhat_upper"] = out["yhat"] - half, out["yhat"] + half
        out["anomaly_score"] = self.get_anomaly_score(out)
        if self.n_samples_seen_ < 16:
            out["anomaly_score"] = 0.0
        for y in df["y"]:
            self._learn(y)
        return out

    def serialize(self) -> bytes:
        return pickle.dumps(self, protocol=PICKLE_PROTOCOL)

    @staticmethod
    def deserialize(model):
        return deserialize_basic(model)
