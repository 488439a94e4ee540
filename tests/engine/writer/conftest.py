"""A scripted endpoint and writers on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.metrics import Metrics
from engine.settings import Duration
from engine.writer.settings import VmWriterSettings
from engine.writer.vm import VmWriter
from tests.engine.writer.server import ImportServer, Start


@pytest.fixture
def server() -> Iterator[ImportServer]:
    made = ImportServer()
    yield made
    made.stop()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def start(server: ImportServer, metrics: Metrics) -> Iterator[Start]:
    made: list[VmWriter] = []

    def begin(queue_bytes: int = 1 << 20, **keys: Any) -> VmWriter:
        keys = {"datasource_url": server.url, "timeout": Duration(500), **keys}
        made.append(VmWriter(VmWriterSettings(**keys), metrics, queue_bytes=queue_bytes))
        return made[-1]

    yield begin
    for writer in made:
        writer.close(0.1)
