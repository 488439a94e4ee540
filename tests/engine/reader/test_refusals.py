"""What each documented refusal of VictoriaMetrics and Prometheus leads to."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from engine.errors import ReadError
from engine.http import retry_after_s
from engine.reader.refusals import TemporaryReadError, TooMuchError, clean, error_text, refusal


def json_error(text: str) -> bytes:
    return json.dumps({"status": "error", "errorType": "422", "error": text}).encode()


@pytest.mark.parametrize(
    ("status", "text", "kind", "limit"),
    [
        (422, "too many points for the given step=10000, start=1 and end=2: 30001; "
              "cannot exceed -search.maxPointsPerTimeseries=30000", TooMuchError, 30000),
        (422, "too many points for the given start=1, end=2 and step=3: 40000; the maximum number of points is 20000 "
              "(see -search.maxPointsPerTimeseries command-line flag)", TooMuchError, 20000),
        (400, "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution",
         TooMuchError, 11000),
        (422, "cannot select more than -search.maxSamplesPerQuery=1000 samples; possible", TooMuchError, None),
        (422, "not enough memory for processing 123 data points across 4 time series", TooMuchError, None),
        (422, "timeout exceeded during query execution: 30.000 seconds", TooMuchError, None),
        (503, "query timed out in expression evaluation", TooMuchError, None),
        (422, "the number of matching timeseries exceeds 300000", ReadError, None),
        (422, 'unknown func "rat"', ReadError, None),
        (422, "too long query; got 20000 bytes", ReadError, None),
        (400, "unsupported path requested", ReadError, None),
        (401, "", ReadError, None),
        (429, "slow down", TemporaryReadError, None),
        (500, "internal", TemporaryReadError, None),
        (502, "", TemporaryReadError, None),
        (503, "cannot handle more than 4 concurrent search requests during 10s", TemporaryReadError, None),
        (422, "cannot handle more than 4 concurrent search requests", TemporaryReadError, None),
    ],
)  # fmt: skip
def test_each_refusal_has_its_consequence(status: int, text: str, kind: type, limit: int | None) -> None:
    for body in (text.encode(), json_error(text)):
        error = refusal(status, error_text(body))
        assert type(error) is kind
        assert error.code == str(status)
        assert str(status) in str(error)
        assert text[:40] in str(error)
        assert getattr(error, "limit", None) == limit


def test_a_reason_behind_a_long_query_is_understood_and_shown() -> None:
    query = "sum(" + "x" * 5000 + ")"
    error = refusal(422, f"error when executing query={query}: cannot select more than 5 samples")
    assert isinstance(error, TooMuchError)
    assert "cannot select more than 5 samples" in str(error)
    assert len(str(error)) < 600


def test_credentials_in_an_error_body_are_not_repeated() -> None:
    text = clean(
        'cannot find "Authorization: Basic dXNlcjpwYXNz" and Bearer abc.def-ghi for http://me:hidden@host/?token=t0k3n'
    )
    for secret in ("dXNlcjpwYXNz", "abc.def-ghi", "hidden", "t0k3n"):
        assert secret not in text


def test_a_redirect_names_its_target() -> None:
    error = refusal(302, "", location="http://elsewhere/login")
    assert "redirect to http://elsewhere/login" in str(error)
    assert error.code == "302"


def test_retry_after_is_seconds_or_a_date_and_bounded() -> None:
    assert retry_after_s("10") == 10
    assert retry_after_s("1.5") == 1.5
    assert retry_after_s("86400") == 60
    assert [retry_after_s(text) for text in ("", "soon", "-3", "nan")] == [0, 0, 0, 0]
    soon = retry_after_s(format_datetime(datetime.now(UTC) + timedelta(seconds=9), usegmt=True))
    assert 5 < soon <= 9
    assert retry_after_s(format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)) == 0
