"""Anomaly detection for metrics: query, learn, score, write back."""

__version__ = "0.1.0"
