"""A custom online model of several channels: the sum of all, against the mean of the sums before."""

import pandas as pd
from model.model import MultivariateModel, OnlineModel


class CustomModel(OnlineModel, MultivariateModel):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.total, self.count = 0.0, 0

    def fit(self, df: pd.DataFrame) -> None:
        for total in df.drop(columns="timestamp").sum(axis=1):
            self.total, self.count = self.total + total, self.count + 1

    def infer(self, df: pd.DataFrame) -> pd.DataFrame:
        mean = self.total / self.count if self.count else float("nan")
        sums = df.drop(columns="timestamp").sum(axis=1)
        self.fit(df)
        return pd.DataFrame({"timestamp": df["timestamp"], "anomaly_score": (sums - mean).abs()})
