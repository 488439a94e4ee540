"""Requests under way: when more may be asked for, and that their answers go when nobody holds them."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import Future

from engine.reader.job import Job
from tests.engine.reader.memory_server import minutes


def test_an_answer_goes_with_its_job_and_waits_for_no_collection() -> None:
    future: Future[bytearray] = Future()
    job, gone = Job(minutes(1), lambda arrived, future=future: future, 0.0), []
    weakref.finalize(job, gone.append, True)
    future.set_result(bytearray(10))
    del future
    gc.disable()
    try:
        assert job.is_coming()
        assert job.result() == bytearray(10)
        del job
        assert gone == [True]
    finally:
        gc.enable()


def test_a_failed_or_cancelled_request_is_not_coming() -> None:
    failed: Future[bytearray] = Future()
    job = Job(minutes(1), lambda arrived: failed, 10.0)
    failed.set_exception(ValueError("odd"))
    assert not job.is_coming()
    cancelled: Future[bytearray] = Future()
    job = Job(minutes(1), lambda arrived: cancelled, 10.0)
    cancelled.cancel()
    assert not job.is_coming()
