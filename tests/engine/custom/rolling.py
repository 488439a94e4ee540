"""A custom model of the oldest kind: no fit, the whole window at each inference."""

import pandas as pd
from model.model import RollingModel


class CustomModel(RollingModel):
    def __init__(self, window=48, **kwargs):
        super().__init__(**kwargs)
        self.window = window

    def infer(self, df: pd.DataFrame) -> pd.DataFrame:
        past = df["y"].rolling(self.window, min_periods=5)
        out = df[["timestamp"]].copy()
        out["anomaly_score"] = ((df["y"] - past.mean().shift()).abs() / (3 * past.std().shift())).fillna(0.0)
        return out
