"""One request to the import API: where it goes, how it is packed, and what an answer means for the body."""

from __future__ import annotations

import gzip
import re
import time
from typing import Any

import httpx
import msgspec

from engine.errors import StartError, WriteError
from engine.http import client, error_code, explain, is_loopback, redact, retry_after_s, with_tenant, without_secrets
from engine.writer.settings import VmWriterSettings

# Bodies to other machines are compressed from this size on, bodies to this one never: on a loopback gzip doubles
# the time of a write. docs/writing.md has the measurement.
GZIP_MIN_BYTES = 16 << 10
# What other codes say is about the way to the database: credentials, address, load.
_OF_THE_BODY = (400, 413, 422)
# What a 400 says that is about the way, too: vmauth of credentials and paths, VictoriaMetrics of paths.
_OF_THE_WAY = re.compile(
    r"(?:remoteAddr: [^;]*; requestURI: [^ ]*; )?"
    r"(?:cannot find the provided auth token|missing route for|unsupported path requested:)"
)
_SHOWN = 200
_STARTED = re.compile(r"^process_start_time_seconds (\d+(?:\.\d+)?(?:e[+-]?\d+)?)", re.MULTILINE)
# What is read of an answer: longer ones are nobody's metrics, nor a reason.
_LONGEST_ANSWER = 4 << 20


class TemporaryWriteError(WriteError):
    """A failure that may pass; `after_s` is how long the server asked to wait, 0 where it did not."""

    def __init__(self, message: str, code: str, after_s: float = 0.0) -> None:
        super().__init__(message, code)
        self.after_s = after_s


def import_url(settings: VmWriterSettings) -> httpx.URL:
    """The import endpoint, below the tenant's path of a cluster where there is a tenant; without credentials."""
    base = httpx.URL(settings.datasource_url).copy_with(userinfo=b"")
    path = with_tenant(base.path, "insert", settings.tenant_id)
    return base.copy_with(path=f"{path}/{settings.import_json_path.lstrip('/')}")


class ImportEndpoint:
    """Posts bodies, each whole with its length known, over a connection that is kept for a while.

    Parameters
    ----------
    settings : of the writer; the credentials in them are never part of a message.
    """

    def __init__(self, settings: VmWriterSettings) -> None:
        self._settings = _with_credentials_apart(settings)
        self._url = import_url(settings)
        self._is_remote = not is_loopback(self._url.host)
        self._client = self._connect()
        self.shown_url = str(self._url.copy_with(query=None))
        base = httpx.URL(settings.datasource_url).copy_with(userinfo=b"", query=None)
        self._metrics_url = base.copy_with(path=f"{base.path.rstrip('/')}/metrics")

    def post(self, data: bytes, timeout_s: float) -> int:
        """Deliver a body; returns the status of success.

        Raises
        ------
        TemporaryWriteError : the request could not be made, the connection failed, time was over, or what answers
            cannot or may not take anything now.
        WriteError : the server will not take this body.
        """
        headers = {"Content-Type": "application/json"}
        if self._is_remote and len(data) >= GZIP_MIN_BYTES:
            data = gzip.compress(data, compresslevel=1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        try:
            answer, text = self._exchange("POST", self._url, timeout_s, content=data, headers=headers)
        except Exception as err:  # an address that is none, a token that is no header: whatever it is, not the body
            raise TemporaryWriteError(f"{self.shown_url}: {explain(err)}", error_code(err)) from err
        if answer.is_success:
            return answer.status_code
        raise self._refusal(answer, text)

    def start_time(self, timeout_s: float) -> float | None:
        """When the server started, as its own metrics say, Unix seconds; None where they are not served.

        Raises
        ------
        TemporaryWriteError : it did not answer.
        """
        try:
            answer, text = self._exchange("GET", self._metrics_url, timeout_s)
        except Exception as err:  # as above
            raise TemporaryWriteError(f"{self._metrics_url}: {explain(err)}", error_code(err)) from err
        found = _STARTED.search(text) if answer.is_success else None
        return None if found is None else float(found[1])

    def _exchange(self, method: str, url: httpx.URL, timeout_s: float, **more: Any) -> tuple[httpx.Response, str]:
        """An answer and its text, which takes no longer than each wait may."""
        with self._client.stream(method, url, timeout=timeout_s, **more) as answer:
            body, ends_at = bytearray(), time.monotonic() + timeout_s
            for chunk in answer.iter_bytes():  # to the end: the connection is used again
                body += chunk
                if len(body) > _LONGEST_ANSWER:
                    break
                if time.monotonic() > ends_at:
                    raise httpx.ReadTimeout("the answer does not end")
            return answer, body.decode("utf-8", "replace")

    def reconnect(self) -> None:
        """Drop all connections: the next request opens a new one."""
        try:
            old, self._client = self._client, self._connect()
        except StartError:
            return  # a TLS file is just being replaced: the old client can open connections, too
        old.close()

    def close(self) -> None:
        """Drop all connections, for good."""
        self._client.close()

    def _connect(self) -> httpx.Client:
        return client(self._settings, self._settings.timeout.seconds, max_connections=2)

    def _refusal(self, answer: httpx.Response, text: str) -> WriteError:
        status = answer.status_code
        reason = without_secrets(_reason(answer, text), self._settings)[:_SHOWN]
        message = f"{self.shown_url} answered {status}: {reason}"
        if status in _OF_THE_BODY and not _OF_THE_WAY.match(text):
            return WriteError(message, str(status), retryable=False)
        return TemporaryWriteError(message, str(status), retry_after_s(answer.headers.get("Retry-After", "")))


class RestartWatch:
    """Notices that the server was started anew between two looks: a restart need not break a connection of ours."""

    def __init__(self, endpoint: ImportEndpoint, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        # Of several servers behind one address the looks meet now one, now another.
        self._known: set[float] = set()

    def is_restarted(self) -> bool:
        """Whether it shows a start that was not seen before; false at the first look, and where it does not say.

        Raises
        ------
        TemporaryWriteError : it did not answer.
        """
        found = self._endpoint.start_time(self._timeout_s)
        if found is None or found in self._known:
            return False
        self._known.add(found)
        return len(self._known) > 1


def _with_credentials_apart(settings: VmWriterSettings) -> VmWriterSettings:
    """The settings with the credentials of the URL as `user` and `password`: URLs end up in logs of libraries."""
    url = httpx.URL(settings.datasource_url)
    if not url.userinfo or settings.user is not None:
        return settings
    return msgspec.structs.replace(settings, user=url.username, password=url.password)


def _reason(answer: httpx.Response, text: str) -> str:
    """What the server says, or what to do where that is known, on one line."""
    if answer.is_redirect:
        return "redirects are not followed, writer.datasource_url should be the final address"
    if answer.status_code in (400, 401, 403) and re.search("authoriz|auth token", text, re.IGNORECASE):
        return "credentials are missing or wrong"  # the text repeats them
    if answer.status_code == 413:
        return "the body is too long for the server, writer.batch_max_bytes bounds it"
    return redact(" ".join(text.split())) or answer.reason_phrase
