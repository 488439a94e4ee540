"""Checks inside one section that its types do not express."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from engine.config.available import tag
from engine.config.report import Report
from engine.config.sections import Parts
from engine.models.base import Model
from engine.reader.settings import ReaderSettings
from engine.scheduler.settings import BacktestingSettings, OneoffSettings, PeriodicSettings
from engine.scheduler.start import parse_start
from engine.server.settings import AuthSettings, MonitoringSettings, ServerSettings
from engine.settings import Duration, Settings

_TENANT = re.compile(r"(\d{1,10})(?::(\d{1,10}))?")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACEHOLDER = re.compile(r"\$[A-Za-z_]+")
_GENERATED = ("model_alias", "scheduler_alias", "preset")
_BAND = ("yhat", "yhat_lower", "yhat_upper")
_FORECAST = re.compile(r"(yhat(?:_lower|_upper)?)_\d+\w*")
_MAX_TENANT = 2**32 - 1


def check_parts(parts: Parts, report: Report) -> None:
    """Report what is wrong inside each section."""
    for alias, scheduler in parts.schedulers.items():
        path = f"schedulers.{alias}"
        if isinstance(scheduler, PeriodicSettings):
            _check_periodic(scheduler, path, report)
        elif isinstance(scheduler, OneoffSettings):
            _check_ranges(scheduler, path, ("fit_start", "fit_end"), ("infer_start", "infer_end"), report=report)
        elif isinstance(scheduler, BacktestingSettings):
            _check_ranges(scheduler, path, ("from", "to"), report=report)
    for alias, model in parts.models.items():
        check_model(model, f"models.{alias}", report)
    if parts.reader is not None:
        _check_reader(parts.reader, report)
    if parts.writer is not None:
        _check_connection(parts.writer, "writer", report)
        check_tenant(getattr(parts.writer, "tenant_id", None), "writer.tenant_id", report)
        _check_metric_format(getattr(parts.writer, "metric_format", None), report)
        _check_zone(getattr(parts.writer, "tz", "UTC"), "writer.tz", report)
    _check_server(parts.server, parts.monitoring, report)


def _check_periodic(scheduler: PeriodicSettings, path: str, report: Report) -> None:
    for key in ("fit_window", "infer_every", "fit_every"):
        value = getattr(scheduler, key)
        if value is not None and value < 1000:
            report.bad(f"{path}.{key}", value, "expected 1s or more")
    if scheduler.fit_every is not None and scheduler.fit_every < scheduler.infer_every:
        report.warn(f"{path}.fit_every", f"shorter than infer_every: fits follow every {scheduler.infer_every}")
    if _check_zone(scheduler.tz, f"{path}.tz", report) and scheduler.start_from is not None:
        try:
            parse_start(scheduler.start_from, scheduler.tz)
        except ValueError as err:
            report.bad(f"{path}.start_from", scheduler.start_from, str(err))


def _check_ranges(scheduler: Settings, path: str, *ranges: tuple[str, str], report: Report) -> None:
    """Each end given once, as ISO 8601 text or as Unix seconds, the second one later."""
    for names in ranges:
        times: list[float | None] = []
        for name in names:
            text, number = getattr(scheduler, f"{name}_iso"), getattr(scheduler, f"{name}_s")
            if text is not None and number is not None:
                report.problem(f"{path}.{name}_iso", f"given beside {name}_s, expected one of them")
            elif text is None and number is None:
                report.missing(f"{path}.{name}_iso", f"expected ISO 8601 text there or Unix seconds in {name}_s")
            else:
                times.append(number if text is None else _moment(text, f"{path}.{name}_iso", report))
        # A range of one timestamp is valid for inference.
        start, end = (*times, None, None)[:2]
        if start is not None and end is not None and end < start:
            report.problem(f"{path}.{names[1]}_iso", f"earlier than {names[0]}, expected the end of the range")


def _moment(text: str, path: str, report: Report) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        report.bad(path, text, "expected an ISO 8601 date and time")
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo("UTC"))).timestamp()


def _check_zone(tz: str, path: str, report: Report) -> bool:
    try:
        ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        report.bad(path, tz, "expected an IANA time zone like Europe/Warsaw")
        return False
    return True


def check_model(model: Model, path: str, report: Report) -> None:
    """Report what is wrong with a model as a whole."""
    check = getattr(model, "check", None)
    for problem in check() if check else ():
        report.problem(f"{path}.{problem.partition(':')[0]}", problem.partition(": ")[2])
    for key, reason in model.without_effect().items():
        report.warn(f"{path}.{key}", f"has no effect: {reason}")
    _check_series(model, path, report)
    if model.forecast_at and not model.forecasts:
        report.warn(f"{path}.forecast_at", f"has no effect: {tag(model)} makes no forecasts")
    if model.groupby and not model.is_multivariate:
        report.warn(f"{path}.groupby", f"has no effect: {tag(model)} models each series by itself")


def _check_series(model: Model, path: str, report: Report) -> None:
    if model.provide_series is None:
        return
    path = f"{path}.provide_series"
    names = [name for name in model.provide_series if name != "timestamp"]
    if not names:
        report.bad(path, model.provide_series, "expected at least one series, else nothing is written")
    if len(set(names)) < len(names):
        report.warn(path, "names a series twice; it is written once")
    known = [*model.provides, *(f"{base}_{offset.as_configured}" for offset in model.forecast_at for base in _BAND)]
    for name in dict.fromkeys(names):
        is_forecast = model.forecasts and _FORECAST.fullmatch(name)
        if name not in known and (model.provides or is_forecast):
            also = "; a forecast's offset stands in forecast_at" if is_forecast else ""
            report.bad(path, name, f"expected some of {', '.join(known)}{also}")


def _check_reader(reader: ReaderSettings, report: Report) -> None:
    _check_connection(reader, "reader", report)
    _check_zone(reader.tz, "reader.tz", report)
    if tag(reader) in ("vm", "local", "vlogs") and not reader.queries:
        report.missing("reader.queries", "expected at least one query")
    check_tenant(getattr(reader, "tenant_id", None), "reader.tenant_id", report)
    for alias, query in reader.queries.items():
        path = f"reader.queries.{alias}"
        if query.tz is not None:
            _check_zone(query.tz, f"{path}.tz", report)
        check_tenant(query.tenant_id, f"{path}.tenant_id", report)
        if not query.expr.strip():
            report.bad(f"{path}.expr", query.expr, "expected text that is not empty")


def check_tenant(tenant: str | None, path: str, report: Report) -> None:
    """Report a tenant that is none."""
    if not tenant or tenant == "multitenant":
        return
    match = _TENANT.fullmatch(tenant)
    if match is None or any(int(part) > _MAX_TENANT for part in match.groups() if part):
        report.bad(path, tenant, 'expected "accountID", "accountID:projectID" or multitenant')


def _check_connection(part: Any, path: str, report: Report) -> None:
    """URL, credentials and TLS of a part that talks HTTP."""
    key = "url" if hasattr(part, "url") else "datasource_url"
    if not hasattr(part, key):
        return
    url = getattr(part, key)
    if not _is_url(url):
        report.bad(f"{path}.{key}", url, "expected a URL like http://victoriametrics:8428")
    if part.bearer_token is not None and part.bearer_token_file is not None:
        report.problem(f"{path}.bearer_token", "given beside bearer_token_file, expected one of them")
    if part.user is not None and (part.bearer_token is not None or part.bearer_token_file is not None):
        report.problem(f"{path}.user", "basic auth given beside a bearer token, expected one of them")
    if part.password is not None and part.user is None:
        report.problem(f"{path}.user", "missing, expected the user of the password")
    if (part.tls_cert_file is None) != (part.tls_key_file is None):
        absent = "tls_key_file" if part.tls_key_file is None else "tls_cert_file"
        report.problem(f"{path}.{absent}", "missing, expected both tls_cert_file and tls_key_file or neither")
    for name in ("bearer_token_file", "tls_cert_file", "tls_key_file", "verify_tls"):
        file = getattr(part, name)
        if isinstance(file, str) and not Path(file).is_file():
            report.warn(f"{path}.{name}", f"there is no file {file} now")
    if part.verify_tls is False and url.lower().startswith("https:"):
        report.warn(f"{path}.verify_tls", "false: anyone on the way can read and change what is sent")
    for char in (part.bearer_token or "") + (part.user or "") + (part.password or ""):
        if char in "\r\n":
            report.problem(f"{path}.{'bearer_token' if part.bearer_token else 'password'}", "holds a line break")
            break


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", text)


def _check_metric_format(labels: Mapping[str, str] | None, report: Report) -> None:
    if labels is None:
        return
    path = "writer.metric_format"
    if not labels.get("__name__"):
        report.problem(f"{path}.__name__", 'missing, expected a metric name like "$VAR"')
    elif not any("$VAR" in value for value in labels.values()):
        report.problem(path, "$VAR is nowhere, expected it in one value: else all output series are one")
    if "for" not in labels:
        report.warn(f"{path}.for", "missing: outputs of different queries may become one series")
    for name, value in labels.items():
        if not _LABEL.fullmatch(name):
            report.problem(f"{path}.{name}", "expected a label name of letters, digits and _, not first a digit")
        if name in _GENERATED:
            report.warn(f"{path}.{name}", "the service sets this label itself")
        for word in _PLACEHOLDER.findall(value):
            if not word.startswith(("$VAR", "$QUERY_KEY")):
                report.warn(f"{path}.{name}", f"{word} stays as it is; there are $VAR and $QUERY_KEY")


def _check_server(server: ServerSettings, monitoring: MonitoringSettings, report: Report) -> None:
    prefix = server.path_prefix or ""
    if not re.fullmatch(r"[A-Za-z0-9_\-./~]*", prefix):
        report.bad("server.path_prefix", prefix, "expected a path like /anomaly")
    if server.ui_default_state is not None and not server.ui_default_state.startswith("#/?"):
        report.bad("server.ui_default_state", server.ui_default_state, "expected text that begins with #/?")
    if server.auth is not None:
        _check_auth(server.auth, report)
    for name in ("cert_file", "key_file", "client_ca_file") if server.tls is not None else ():
        file = getattr(server.tls, name)
        if file is not None and not Path(file).is_file():
            report.bad(f"server.tls.{name}", file, "expected a file that is there")
    if monitoring.push is not None:
        _check_connection(monitoring.push, "monitoring.push", report)
        check_tenant(monitoring.push.tenant_id, "monitoring.push.tenant_id", report)
        for name in monitoring.push.extra_labels:
            if not _LABEL.fullmatch(name):
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


def budget(reader: ReaderSettings) -> Duration:
    """The longest that one fetch with what follows may take."""
    timeout = getattr(reader, "timeout", Duration(0))
    fetch = getattr(reader, "fetch_timeout", None) or timeout
    return Duration(fetch)
