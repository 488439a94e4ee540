"""A small good configuration to change, and how to load one from text."""

from __future__ import annotations

import pytest

from engine.config.schema import load_config

SCHEDULERS = "schedulers: {s: {infer_every: 1m, fit_window: 1d, fit_every: 2h}}\n"
MODELS = "models: {m: {class: zscore_online, queries: all, schedulers: all}}\n"
READER = "reader: {datasource_url: 'http://vm:8428', sampling_period: 1m, queries: {q: {expr: up}}}\n"
WRITER = "writer: {datasource_url: 'http://vm:8428'}\n"


@pytest.fixture
def load(tmp_path):
    """Load texts as files one.yaml, two.yaml, … after each other; sections not given are small good ones."""

    def loaded(*texts, environ=None, strict=False, **sections):
        parts = {"schedulers": SCHEDULERS, "models": MODELS, "reader": READER, "writer": WRITER, **sections}
        paths = []
        for number, text in enumerate(texts or ("".join(parts.values()),)):
            path = tmp_path / f"{number}.yaml"
            path.write_text(text)
            paths.append(path)
        return load_config(paths, environ or {}, strict=strict)

    return loaded


@pytest.fixture
def base():
    """The sections of the small good configuration as one text."""
    return SCHEDULERS + MODELS + READER + WRITER
