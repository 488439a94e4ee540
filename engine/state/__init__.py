"""Fitted state on disk: arrays in plain files, what belongs to what in SQLite; knows bytes, never models."""
