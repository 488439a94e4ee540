"""HTTP clients from connection settings: auth, TLS, time-outs; shared by reader, writer and push."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import re
import socket
import ssl
import threading
import weakref
from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol

import httpx

from engine import __version__
from engine.errors import StartError
from engine.settings import Settings

log = logging.getLogger("http")

# VictoriaMetrics closes connections that were idle for 60 s, just when a one-minute cycle would use them again.
KEEPALIVE_S = 30.0
_LONGEST_RETRY_AFTER_S = 60.0

_TENANT_PATH = re.compile(r"/(?:select|insert)/(\d+(?::\d+)?|multitenant)(?=/|$)")
_USERINFO = re.compile(r"(?<=://)[^/@\s\"']+@")
_CREDENTIAL = re.compile(r"(?i)\b(basic|bearer)\s+[^\s\"',;]+")
_PARAMETER = re.compile(r"(?i)((?:authkey|token|password|secret|api_?key)=)[^&\s\"']+")


class ConnectionKeys(Protocol):
    """The keys that every HTTP peer of ours has. Secrets: `password`, `bearer_token`, credentials in a URL."""

    @property
    def user(self) -> str | None: ...
    @property
    def password(self) -> str | None: ...
    @property
    def bearer_token(self) -> str | None: ...
    @property
    def bearer_token_file(self) -> str | None: ...
    @property
    def verify_tls(self) -> bool | str: ...
    @property
    def tls_cert_file(self) -> str | None: ...
    @property
    def tls_key_file(self) -> str | None: ...


class Connection(Settings, frozen=True, kw_only=True):
    """`ConnectionKeys` as the base of a settings type."""

    user: str | None = None
    password: str | None = None
    bearer_token: str | None = None
    bearer_token_file: str | None = None
    verify_tls: bool | str = True
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    tenant_id: str | None = None


class _Bearer(httpx.Auth):
    """A token given in the configuration."""

    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = self._header
        yield request


class _BearerFile(httpx.Auth):
    """A token in a file that is read again when it changes, as rotated tokens do."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._stamp: tuple[int, int, int] | None = None
        self._token = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._read()}"
        yield request

    def _read(self) -> str:
        try:
            about = os.stat(self._path)
            stamp = (about.st_mtime_ns, about.st_size, about.st_ino)
            if stamp != self._stamp:
                self._token, self._stamp = self._path.read_text(encoding="utf-8").strip(), stamp
        except (OSError, UnicodeError) as err:
            # What is in it is not shown, nor the path: it may be the token itself, in the wrong place.
            reason = err.strerror if isinstance(err, OSError) else "it is not UTF-8"
            log.warning("bearer_token_file cannot be read: %s; the last token is used", reason)
        return self._token


class Wires:
    """The sockets of a client's connections, so that another thread can end requests that wait for a peer.

    `trace` is given to each request as its extension of that name. Closing a client leaves its waiting reads
    waiting; time-outs of single reads do not end a request whose peer sends a byte now and then.
    """

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._is_closed = False

    def trace(self, name: str, info: Mapping[str, Any]) -> None:
        """Remember the socket of a connection that was made."""
        if name.endswith(("connect_tcp.complete", "start_tls.complete")):
            wire = info["return_value"].get_extra_info("socket")
            if wire is not None:
                with self._lock:
                    self._sockets.add(wire)
                if self._is_closed:
                    self.cut()

    def cut(self) -> None:
        """Break all connections: whoever reads or writes one fails at once."""
        with self._lock:
            wires = list(self._sockets)
        for wire in wires:
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Break all connections, also those that are made from now on."""
        self._is_closed = True
        self.cut()


def client(
    connection: ConnectionKeys,
    timeout_s: float,
    *,
    max_connections: int = 16,
    transport: httpx.BaseTransport | None = None,
) -> httpx.Client:
    """A client with the connection's credentials and TLS; redirects are not followed.

    Proxies are taken from the usual environment variables.

    Parameters
    ----------
    timeout_s : of each wait: to connect, for a free connection, between two pieces of an answer.
    max_connections : that may be open at once; further requests wait.
    transport : in place of the network, for tests.

    Raises
    ------
    StartError : a TLS file cannot be used; the text names its key.
    """
    auth: httpx.Auth | None = None
    if connection.bearer_token_file:
        auth = _BearerFile(connection.bearer_token_file)
    elif connection.bearer_token:
        auth = _Bearer(connection.bearer_token)
    elif connection.user is not None:
        auth = httpx.BasicAuth(connection.user, connection.password or "")
    return httpx.Client(
        auth=auth,
        verify=tls_context(connection),
        timeout=timeout_s,
        limits=httpx.Limits(max_connections=max_connections, keepalive_expiry=KEEPALIVE_S),
        headers={"User-Agent": f"engine/{__version__}"},
        follow_redirects=False,
        transport=transport,
    )


def tls_context(connection: ConnectionKeys) -> ssl.SSLContext:
    """What `verify_tls`, `tls_cert_file` and `tls_key_file` ask for.

    Raises
    ------
    StartError : a file cannot be used; the text names its key, not its path, which may be a secret in the wrong place.
    """
    verify = connection.verify_tls
    try:
        context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    except (OSError, ValueError) as err:
        raise StartError(f"verify_tls: {_reason(err)}, expected a file of CA certificates") from err
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if connection.tls_cert_file:
        try:
            context.load_cert_chain(connection.tls_cert_file, connection.tls_key_file)
        except (OSError, ValueError) as err:
            text = "expected a certificate, and its key in tls_key_file, as PEM"
            raise StartError(f"tls_cert_file: {_reason(err)}, {text}") from err
    return context


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def tenant_in(path: str) -> str | None:
    """The tenant of a cluster that the path of a URL names."""
    match = _TENANT_PATH.search(path)
    return match[1] if match else None


def with_tenant(path: str, verb: str, tenant: str | None) -> str:
    """The path of a base URL with that of a tenant behind it; one that names a tenant already is kept.

    Parameters
    ----------
    verb : `select` or `insert`.
    """
    path = path.rstrip("/")
    return f"{path}/{verb}/{tenant}/prometheus" if tenant and tenant_in(path) is None else path


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, where compression costs more than it saves."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def error_code(error: BaseException) -> str:
    """What metrics call a failure without a status: timeout, ssl_error, connection_error or io_error."""
    causes = list(_causes(error))
    if any(isinstance(cause, httpx.TimeoutException | TimeoutError) for cause in causes):
        return "timeout"
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return "ssl_error"
    if any(isinstance(cause, httpx.NetworkError | httpx.RemoteProtocolError | ConnectionError) for cause in causes):
        return "connection_error"
    return "io_error"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def explain(error: BaseException) -> str:
    """One line about a failed request, without credentials; TLS failures name the setting that matters."""
    text = redact(str(error) or type(error).__name__)
    if error_code(error) == "ssl_error":
        return f"{text} (verify_tls: true checks certificates; set a CA bundle's path, or false to accept any)"
    return text


def redact(text: str) -> str:
    """A text that may come from a server or hold a URL, without what looks like a credential."""
    text = _USERINFO.sub("***@", text)
    text = _CREDENTIAL.sub(r"\1 ***", text)
    return _PARAMETER.sub(r"\1***", text)


def without_secrets(text: str, connection: ConnectionKeys) -> str:
    """A text of a peer without the password or token of a connection: before it is cut, half of one is not found."""
    for secret in (connection.password, connection.bearer_token):
        text = text.replace(secret, "***") if secret else text
    return text


def retry_after_s(header: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date, at most a minute; 0 for none."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return min(max(0.0, seconds), _LONGEST_RETRY_AFTER_S)  # in this order "nan" is no wait
