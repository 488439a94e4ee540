"""Pushes our own metrics to an import endpoint, for places that no scraper reaches."""

from __future__ import annotations

import logging
import socket
import threading
import time

import httpx
from prometheus_client import generate_latest

from engine.errors import StartError
from engine.http import client, error_code, explain, with_tenant
from engine.metrics import Metrics
from engine.server.settings import PushSettings

log = logging.getLogger("monitoring.push")

# Jobs that end together are one push.
_TOGETHER_S = 1.0
_REPEAT_LOG_S = 600.0


def push_url(settings: PushSettings) -> httpx.URL:
    """Where samples go: the text import API below the URL, or below the tenant's path of a cluster.

    A URL that already names an import path is kept, except the one for JSON lines, which takes no text. Labels that
    every sample gets are parameters.
    """
    url = httpx.URL(settings.url)
    if url.path.rstrip("/").endswith("/api/v1/import"):
        url = url.copy_with(path=url.path.rstrip("/").removesuffix("/api/v1/import"))
    if "/api/v1/import" not in url.path:
        url = url.copy_with(path=f"{with_tenant(url.path, 'insert', settings.tenant_id)}/api/v1/import/prometheus")
    return url


class Pusher:
    """Sends the registry every `push_frequency` and after finished jobs, on a thread of its own.

    Parameters
    ----------
    port : of our server, for the `instance` label.
    """

    def __init__(self, settings: PushSettings, metrics: Metrics, port: int) -> None:
        labels = {"job": "vmanomaly", "instance": f"{socket.gethostname()}:{port}", **settings.extra_labels}
        params = httpx.QueryParams([("extra_label", f"{name}={value}") for name, value in labels.items()])
        try:
            self._url = push_url(settings).copy_merge_params(params)
            self._client = client(settings, settings.timeout.seconds, max_connections=1)
        except (httpx.InvalidURL, StartError) as err:
            raise StartError(f"monitoring.push: {err}") from err
        self._shown = str(self._url.copy_with(userinfo=b"", query=None))
        self._metrics = metrics
        self._every_s = settings.push_frequency / 1000 if settings.push_frequency else None
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._logged: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)

    def start(self) -> None:
        """Begin to push."""
        self._thread.start()

    def notify(self) -> None:
        """A job has ended: push soon. Never waits."""
        self._wanted.set()

    def stop(self, timeout_s: float) -> bool:
        """Push once more, if it was started, and stop; false where the time was over first."""
        self._stopping.set()
        self._wanted.set()
        if self._thread.ident is None:
            self._client.close()
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._wanted.wait(self._every_s):
                self._stopping.wait(_TOGETHER_S)
                self._wanted.clear()
            self.push()
        if self._wanted.is_set():  # the stop came during a push
            self.push()
        self._client.close()

    def push(self) -> bool:
        """Send all metrics now; a failure is logged, once per cause and ten minutes."""
        headers = {"Content-Type": "text/plain"}
        try:
            answer = self._client.post(self._url, content=generate_latest(self._metrics.registry), headers=headers)
        except Exception as err:  # noqa: BLE001 - a token that no header can hold: whatever it is, it is told
            self._warn(error_code(err), explain(err))
            return False
        if not answer.is_success:
            self._warn(str(answer.status_code), f"answered {answer.status_code}")
        return answer.is_success

    def _warn(self, code: str, text: str) -> None:
        now = time.monotonic()
        if now - self._logged.get(code, -_REPEAT_LOG_S) >= _REPEAT_LOG_S:
            self._logged[code] = now
            log.warning("push to %s failed: %s; tried again at the next push", self._shown, text)
