"""One query over one piece of time against a Prometheus-compatible API: request, waits, retries, body."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable

import httpx
import msgspec

from engine.errors import ReadError
from engine.frame import Query, Window
from engine.http import Wires, client, error_code, explain, is_loopback, redact, with_tenant, without_secrets
from engine.reader.refusals import TemporaryReadError, TooMuchError, clean, error_text, refusal, shortened
from engine.reader.settings import VmReaderSettings

log = logging.getLogger("reader.vm")

CLOSED = "the reader is closed"
# Decompressed. A piece is sized for a tenth of it; above it something is wrong, or labels are huge.
MAX_BODY_BYTES = 512 << 20
_MAX_ERROR_BYTES = 1 << 20
_OBJECT = re.compile(rb"\s*\{")
# Longer queries go into a form: proxies limit the length of a request line.
_LONGEST_GET = 2_000
_MAX_ATTEMPTS = 6
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.25, 8.0
# A server that sends header bytes slower than this is cut off from outside.
_GRACE_S = 1.0

Observe = Callable[[str, float], None]


class RangeEndpoint:
    """The query_range API of one data source; safe for several threads.

    Parameters
    ----------
    settings : of the reader; the credentials in them are never part of a message.
    n_workers : requests that run at once.
    transport : in place of the network, for tests.
    """

    def __init__(
        self, settings: VmReaderSettings, n_workers: int, transport: httpx.BaseTransport | None = None
    ) -> None:
        url = httpx.URL(settings.datasource_url)
        if url.userinfo and settings.user is None:
            settings = _with_user_of(settings, url)
        self._base = url.copy_with(userinfo=b"", query=None, fragment=None)
        self._settings = settings
        self.timeout_s = (settings.fetch_timeout or settings.timeout).seconds
        self._client = client(settings, self.timeout_s, max_connections=n_workers + 1, transport=transport)
        # Measured for 20,000 series: without it a tick on a loopback takes 75 ms, with it 180 ms.
        self._client.headers["Accept-Encoding"] = "identity" if is_loopback(url.host) else "gzip"
        self._wires = Wires()
        self._closing = threading.Event()
        self._fixed = [*url.params.multi_items(), ("latency_offset", f"{int(settings.latency_offset)}ms")]
        self._fixed += [("extra_filters[]", f if "{" in f else f"{{{f}}}") for f in settings.extra_filters]

    def url(self, tenant: str) -> str:
        """Where queries of a tenant go; no credentials. A URL that has a cluster's path already is kept."""
        path = with_tenant(self._base.path, "select", tenant)
        return str(self._base.copy_with(path=f"{path}/{self._settings.query_range_path.lstrip('/')}"))

    def get(
        self,
        query: Query,
        window: Window,
        observe: Observe,
        timeout_s: float = math.inf,
        arrived: Callable[[int], None] = lambda n_bytes: None,
    ) -> bytearray:
        """The answer to a query over a window.

        Failures that may pass are tried again, within the time that the whole call has.

        Parameters
        ----------
        observe : called with the response code and the seconds of each attempt.
        timeout_s : of the whole call; at most `fetch_timeout`.
        arrived : called with how many bytes of an attempt's answer there are, again and again.

        Raises
        ------
        TooMuchError : a smaller window may be answered.
        ReadError : it could not be answered; the text has no place in it, the caller knows it.
        """
        url = self.url(query.tenant_id)
        deadline = time.monotonic() + min(timeout_s, self.timeout_s)
        delay_s = 0.0  # a connection that the server closed while it was idle is replaced at once
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                return self._attempt(url, self._params(query, window), deadline, observe, arrived)
            except TemporaryReadError as err:
                wait_s = max(delay_s, err.after_s)
                if attempt == _MAX_ATTEMPTS or time.monotonic() + wait_s >= deadline:
                    raise ReadError(f"{err} (after {attempt} attempts)", err.code) from err
                log.debug("query %r: %s; again in %.2f s", query.alias, err, wait_s)
                if self._closing.wait(wait_s):
                    raise ReadError(CLOSED, "io_error") from err
                delay_s = min(max(2 * delay_s, _FIRST_DELAY_S), _LONGEST_DELAY_S)
        raise AssertionError("the last attempt returns or raises")

    def fetch_flags(self) -> str:
        """The server's command-line flags, as text; empty where it does not show them."""
        try:
            path = self._base.path.split("/select/")[0].rstrip("/") + "/flags"
            answer = self._client.get(self._base.copy_with(path=path), timeout=min(self.timeout_s, 2.0))
            return answer.text if answer.is_success else ""
        except (httpx.HTTPError, RuntimeError):  # RuntimeError: closed meanwhile
            return ""

    def close(self) -> None:
        """End requests under way and waits for the next attempt."""
        self._closing.set()
        self._wires.close()
        self._client.close()

    def _params(self, query: Query, window: Window) -> list[tuple[str, str]]:
        return [
            ("query", query.expr),
            ("start", seconds_text(window.start_ms)),
            ("end", seconds_text(window.end_ms)),
            ("step", seconds_text(window.step_ms)),
            *self._fixed,
        ]

    def _attempt(
        self,
        url: str,
        params: list[tuple[str, str]],
        deadline: float,
        observe: Observe,
        arrived: Callable[[int], None],
    ) -> bytearray:
        if self._closing.is_set():
            raise ReadError(CLOSED, "io_error")
        started = time.monotonic()
        budget_s = max(0.001, deadline - started)
        watchdog = threading.Timer(budget_s + _GRACE_S, self._wires.cut)
        watchdog.daemon = True
        watchdog.start()
        code = "io_error"
        try:
            status, body, answer = self._exchange(self._request(url, params, budget_s), deadline, arrived)
            code = str(status)
        except TooMuchError as err:
            code = err.code
            raise
        except Exception as err:  # a client that was closed just now, a token that is no header: whatever it is
            code = "timeout" if time.monotonic() >= deadline else error_code(err)
            raise self._failure(err, code) from err
        finally:
            watchdog.cancel()
            observe(code, time.monotonic() - started)
        headers = answer.headers
        if status == 200:
            if not _OBJECT.match(body):
                kind = headers.get("Content-Type", "no content type")
                # Cut once it is clean: half a secret is not found.
                start = self._clean(body[:4096].decode("utf-8", "replace"))[:200]
                raise ReadError(f"status 200 with {kind}, expected JSON: {start!r}", code)
            return body
        text, location = self._clean(error_text(bytes(body))), self._clean(headers.get("Location", ""))
        raise refusal(status, text, headers.get("Retry-After", ""), location)

    def _request(self, url: str, params: list[tuple[str, str]], budget_s: float) -> httpx.Request:
        timeout_s = math.ceil(budget_s)
        query = str(httpx.QueryParams([*params, ("timeout", f"{timeout_s}s")]))
        extensions = {"trace": self._wires.trace}
        log.debug("GET %s?%s", url, redact(query))
        if len(query) <= _LONGEST_GET:
            return self._client.build_request("GET", f"{url}?{query}", timeout=budget_s, extensions=extensions)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._client.build_request(
            "POST", url, content=query.encode(), headers=form, timeout=budget_s, extensions=extensions
        )

    def _exchange(
        self, request: httpx.Request, deadline: float, arrived: Callable[[int], None]
    ) -> tuple[int, bytearray, httpx.Response]:
        """Status and body, whole before the deadline and within bounds."""
        answer = self._client.send(request, stream=True)
        body = bytearray()
        try:
            for chunk in answer.iter_bytes():
                body += chunk
                arrived(len(body))
                if answer.status_code != 200 and len(body) > _MAX_ERROR_BYTES:
                    break
                if len(body) > MAX_BODY_BYTES:
                    raise TooMuchError(f"the answer is larger than {MAX_BODY_BYTES >> 20} MiB", "200")
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("", request=request)
        finally:
            answer.close()
        return answer.status_code, body, answer

    def _failure(self, err: Exception, code: str) -> ReadError:
        """The error that a failed exchange is."""
        if self._closing.is_set():
            return ReadError(CLOSED, "io_error")
        if code == "timeout":
            text = f"no whole answer within {self.timeout_s:g} s (reader.fetch_timeout)"
            is_connected = not isinstance(err, httpx.ConnectTimeout | httpx.PoolTimeout)
            return TooMuchError(text, code, took_too_long=True) if is_connected else ReadError(text, code)
        text = without_secrets(explain(err), self._settings)
        return TemporaryReadError(text, code) if code == "connection_error" else ReadError(text, code)

    def shown(self, text: str) -> str:
        """A text of the server as messages have it: on one line, short, without credentials."""
        return shortened(self._clean(text))

    def _clean(self, text: str) -> str:
        return clean(without_secrets(text, self._settings))


def seconds_text(time_ms: int) -> str:
    """Seconds as a plain decimal number, exact to the millisecond."""
    sign, rest = ("-", -time_ms) if time_ms < 0 else ("", time_ms)
    whole, part = divmod(rest, 1000)
    return f"{sign}{whole}.{part:03d}".rstrip("0").rstrip(".") if part else f"{sign}{whole}"


def _with_user_of(settings: VmReaderSettings, url: httpx.URL) -> VmReaderSettings:
    """The settings with the credentials of the URL as `user` and `password`: URLs end up in logs of libraries."""
    return msgspec.structs.replace(settings, user=url.username, password=url.password)
