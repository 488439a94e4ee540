"""A custom model of several channels: how far the ratio of two of them is from what it was."""

import pandas as pd
from model.model import MultivariateModel


class CustomModel(MultivariateModel):
    def __init__(self, tolerance=0.5, **kwargs):
        super().__init__(**kwargs)
        self.tolerance = tolerance

    def fit(self, df: pd.DataFrame) -> None:
        self.columns = list(df.columns)
        self.ratio = (df["cpu"] / df["mem"]).median()

    def infer(self, df: pd.DataFrame) -> pd.DataFrame:
        assert list(df.columns) == self.columns
        score = (df["cpu"] / df["mem"] / self.ratio - 1).abs() / self.tolerance
        return pd.DataFrame({"timestamp": df["timestamp"], "anomaly_score": score})
