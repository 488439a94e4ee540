"""Checks of what talks HTTP: URLs, tenants, credentials, files, and our own listener."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from engine.config.report import Report
from engine.config.sections import Parts
from engine.errors import StartError
from engine.http import tenant_in, tls_context
from engine.reader.settings import full_tenant
from engine.server.settings import AuthSettings, MonitoringSettings, ServerSettings

LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TENANT = re.compile(r"(\d{1,10})(?::(\d{1,10}))?")
_MAX_TENANT = 2**32 - 1


def check_tenant(tenant: str | None, path: str, report: Report) -> None:
    """Report a tenant that is none."""
    if not tenant or tenant == "multitenant":
        return
    match = _TENANT.fullmatch(tenant)
    if match is None or any(int(part) > _MAX_TENANT for part in match.groups() if part):
        report.bad(path, tenant, 'expected "accountID", "accountID:projectID" or multitenant')


def check_url_tenant(url: str, tenant: str | None, path: str, report: Report, key: str) -> None:
    """Report a tenant that is not the one which the URL names: that one would be asked.

    Parameters
    ----------
    path : of the tenant.
    key : path of the URL.
    """
    named = tenant_in(urlsplit(url).path) if _is_url(url) else None
    if tenant and named is not None and full_tenant(tenant) != full_tenant(named):
        report.bad(path, tenant, f"expected {named}, the tenant in {key}, or a URL without one")


def check_connection(part: Any, path: str, report: Report) -> None:
    """URL, credentials and TLS of a part that talks HTTP."""
    key = "url" if hasattr(part, "url") else "datasource_url"
    if not hasattr(part, key):
        return
    url = getattr(part, key)
    if not _is_url(url):
        report.bad(f"{path}.{key}", url, "expected a URL like http://victoriametrics:8428")
    check_tenant(part.tenant_id, f"{path}.tenant_id", report)
    check_url_tenant(url, part.tenant_id, f"{path}.tenant_id", report, f"{path}.{key}")
    if part.bearer_token is not None and part.bearer_token_file is not None:
        report.problem(f"{path}.bearer_token", "given beside bearer_token_file, expected one of them")
    if part.user is not None and (part.bearer_token is not None or part.bearer_token_file is not None):
        report.problem(f"{path}.user", "basic auth given beside a bearer token, expected one of them")
    if part.password is not None and part.user is None:
        report.problem(f"{path}.user", "missing, expected the user of the password")
    if (part.tls_cert_file is None) != (part.tls_key_file is None):
        absent = "tls_key_file" if part.tls_key_file is None else "tls_cert_file"
        report.problem(f"{path}.{absent}", "missing, expected both tls_cert_file and tls_key_file or neither")
    _check_file(part.bearer_token_file, f"{path}.bearer_token_file", report)
    _check_tls(part, path, report)
    if part.verify_tls is False and url.lower().startswith("https:"):
        report.warn(f"{path}.verify_tls", "false: anyone on the way can read and change what is sent")
    for char in (part.bearer_token or "") + (part.user or "") + (part.password or ""):
        if char in "\r\n":
            report.problem(f"{path}.{'bearer_token' if part.bearer_token else 'password'}", "holds a line break")
            break


def _check_tls(part: Any, path: str, report: Report) -> None:
    """Files that a start would not do without."""
    if isinstance(part.verify_tls, str) or (part.tls_cert_file and part.tls_key_file):
        try:
            tls_context(part)
        except StartError as err:
            key, _, text = str(err).partition(": ")
            report.problem(f"{path}.{key}", text)


def tls_files(parts: Parts) -> tuple[Path, ...]:
    """The files that connections and listeners are opened with."""
    clients = (parts.reader, parts.writer, parts.monitoring.push)
    found = [getattr(part, key, None) for part in clients for key in ("verify_tls", "tls_cert_file", "tls_key_file")]
    found += [getattr(parts.server.tls, key, None) for key in ("cert_file", "key_file", "client_ca_file")]
    return tuple(dict.fromkeys(Path(file) for file in found if isinstance(file, str)))


def _check_file(file: str | None, path: str, report: Report, *, is_needed: bool = False) -> None:
    """A file by its path, which is not shown: it may be the secret itself, in the wrong place.

    Parameters
    ----------
    is_needed : at start; else it may come later.
    """
    if file is None:
        return
    try:
        reason = "" if stat.S_ISREG(os.stat(file).st_mode) else "Not a file"
    except ValueError:
        reason, is_needed = "Not a path", True
    except OSError as err:
        reason, is_needed = err.strerror or "Not readable", is_needed or err.errno == errno.ENAMETOOLONG
    if reason and is_needed:
        report.problem(path, f"{reason}, expected the path of a file")
    elif reason:
        report.warn(path, f"cannot be read now: {reason}")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
        host = httpx.URL(text).raw_host.decode("ascii")
    except (ValueError, httpx.InvalidURL):
        return False
    # The system's resolver raises for other names.
    is_host = all(0 < len(label) < 64 for label in host.removesuffix(".").split("."))
    return parts.scheme in ("http", "https") and bool(parts.hostname) and is_host and not re.search(r"\s", text)


def check_server(server: ServerSettings, monitoring: MonitoringSettings, report: Report) -> None:
    """Report what is wrong with our own listener, and with pushes."""
    prefix = server.path_prefix or ""
    if not re.fullmatch(r"[A-Za-z0-9_\-./~]*", prefix):
        report.bad("server.path_prefix", prefix, "expected a path like /anomaly")
    if server.ui_default_state is not None and not server.ui_default_state.startswith("#/?"):
        report.bad("server.ui_default_state", server.ui_default_state, "expected text that begins with #/?")
    if server.auth is not None:
        _check_auth(server.auth, report)
    for name in ("cert_file", "key_file", "client_ca_file") if server.tls is not None else ():
        _check_file(getattr(server.tls, name), f"server.tls.{name}", report, is_needed=True)
    if not report.problems and (server.tls is not None or server.uvicorn_config != ServerSettings().uvicorn_config):
        from engine.server.app import check_listener  # uvicorn takes a while to import

        try:
            check_listener(server)
        except StartError as err:
            report.problem(*str(err).split(": ", 1))
    if monitoring.push is not None:
        check_connection(monitoring.push, "monitoring.push", report)
        for name in monitoring.push.extra_labels:
            if not LABEL.fullmatch(name):
                text = "expected a label name of letters, digits and _, not first a digit"
                report.problem(f"monitoring.push.extra_labels.{name}", text)


def _check_auth(auth: AuthSettings, report: Report) -> None:
    """A way in for somebody, and nothing half given."""
    if (auth.user is None) != (auth.password is None):
        absent = "user" if auth.user is None else "password"
        report.problem(f"server.auth.{absent}", "missing, expected both user and password or neither")
    if auth.user is None and auth.bearer_token is None and auth.bearer_token_file is None:
        report.problem("server.auth", "empty, expected user and password, bearer_token or bearer_token_file")
    if auth.user is not None and ":" in auth.user:
        report.problem("server.auth.user", "holds a colon, which basic auth cannot say")
    _check_file(auth.bearer_token_file, "server.auth.bearer_token_file", report)
