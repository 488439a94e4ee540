"""A custom model as of vmanomaly 1.7: its argument flat beside `class`, a score of 0 or 1, no bytes."""

import logging

import numpy as np
import pandas as pd
from model.model import Model

logger = logging.getLogger(__name__)


class CustomModel(Model):
    def __init__(self, percentage: float = 0.95, **kwargs):
        super().__init__(**kwargs)
        self.percentage = percentage
        self.limit = None

    def fit(self, df: pd.DataFrame):
        self.limit = np.quantile(df["y"], self.percentage)
        logger.debug("limit %s", self.limit)

    def infer(self, df: pd.DataFrame) -> pd.DataFrame:
        out = df[["timestamp", "y"]].copy()
        out["anomaly_score"] = df["y"] > self.limit
        out["anomaly_score"] = out["anomaly_score"].astype("int32")
        return out
