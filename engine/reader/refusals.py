"""What a refusal means: try again, ask for less, or give up. Every query error of VictoriaMetrics is a 422."""

from __future__ import annotations

import json
import re

from engine.errors import ReadError
from engine.http import redact, retry_after_s

_SHOWN_CHARS = 500

# Texts of VictoriaMetrics 1.79 to 1.130 and Prometheus 2 and 3.
_TOO_MUCH = re.compile(
    r"too many points for the given|cannot select more than|not enough memory for processing"
    r"|exceeded maximum resolution of|would load too many samples into memory"
)
_TOOK_TOO_LONG = re.compile(r"timeout exceeded|query timed out|context deadline exceeded")
_TRY_AGAIN = re.compile(r"cannot handle more than \d+ concurrent|too many concurrent|queue is full")
_LIMIT = re.compile(r"maxPointsPerTimeseries=(\d+)|maximum (?:number of points is|resolution of) ([\d,]+)")


class TooMuchError(ReadError):
    """A piece that a smaller one may stand in for. `limit` is the server's points per series where it says so."""

    def __init__(self, message: str, code: str, *, limit: int | None = None, took_too_long: bool = False) -> None:
        super().__init__(message, code)
        self.limit = limit
        self.took_too_long = took_too_long


class TemporaryReadError(ReadError):
    """A failure that may pass; `after_s` is how long the server asked to wait, 0 where it did not."""

    def __init__(self, message: str, code: str, after_s: float = 0.0) -> None:
        super().__init__(message, code)
        self.after_s = after_s


def refusal(status: int, text: str, retry_after: str = "", location: str = "") -> ReadError:
    """The error that an answer other than success stands for; its text is short.

    Parameters
    ----------
    text, location : of the answer, on one line and without credentials.
    """
    code = str(status)
    if 300 <= status < 400:
        target = shortened(location) or "nowhere"
        return ReadError(f"status {status}, a redirect to {target}: not followed, correct reader.datasource_url", code)
    message = f"status {status}: {shortened(text)}" if text else f"status {status}"
    if _TOO_MUCH.search(text):
        return TooMuchError(message, code, limit=points_limit(text))
    if _TOOK_TOO_LONG.search(text):
        return TooMuchError(message, code, took_too_long=True)
    if status == 429 or status >= 500 or _TRY_AGAIN.search(text):
        return TemporaryReadError(message, code, retry_after_s(retry_after))
    return ReadError(message, code)


def error_text(body: bytes) -> str:
    """The readable part of an error answer."""
    text = body[:100_000].decode("utf-8", "replace")
    try:
        found = json.loads(text).get("error")
        text = found if isinstance(found, str) else text
    except (ValueError, AttributeError):
        pass
    return text


def clean(text: str) -> str:
    """A text from outside on one line, without what looks like a credential: proxies repeat the request's headers."""
    return redact(" ".join(text.split()))


def shortened(text: str) -> str:
    """Both ends of a long text: servers put the query, of any length, before or behind the reason."""
    half = _SHOWN_CHARS // 2
    return text if len(text) <= _SHOWN_CHARS else f"{text[:half]} … {text[-half:]}"


def points_limit(text: str) -> int | None:
    """Points per series that the server says it allows."""
    match = _LIMIT.search(text)
    return int((match[1] or match[2]).replace(",", "")) if match else None
