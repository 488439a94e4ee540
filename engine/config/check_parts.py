"""Checks inside one section that its types do not express."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from engine.config.available import tag
from engine.config.check_http import LABEL, check_connection, check_server, check_tenant, check_url_tenant
from engine.config.report import Report
from engine.config.sections import LOGGER_ALIASES, LOGGERS, OTHER_LOGGERS, Parts, ServiceSettings
from engine.models.base import Model
from engine.reader.settings import ReaderSettings
from engine.scheduler.settings import BacktestingSettings, OneoffSettings, PeriodicSettings
from engine.scheduler.start import parse_start
from engine.settings import Duration, Settings

_PLACEHOLDER = re.compile(r"\$[A-Za-z_]+")
_GENERATED = ("model_alias", "scheduler_alias", "preset")
_BAND = ("yhat", "yhat_lower", "yhat_upper")
_FORECAST = re.compile(r"(yhat(?:_lower|_upper)?)_\d+\w*")


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
        check_connection(parts.writer, "writer", report)
        _check_metric_format(getattr(parts.writer, "metric_format", None), report)
        _check_zone(getattr(parts.writer, "tz", "UTC"), "writer.tz", report)
    check_server(parts.server, parts.monitoring, report)
    _check_settings(parts.settings, report)


def _check_settings(settings: ServiceSettings, report: Report) -> None:
    for name in settings.logger_levels:
        is_known = name in LOGGER_ALIASES or name.partition(".")[0] in OTHER_LOGGERS
        if not is_known and not any(f"{logger}.".startswith(f"{name}.") for logger in LOGGERS):
            text = f"no logger has this name, expected some of {', '.join(LOGGERS)}"
            report.warn(f"settings.logger_levels.{name}", text)
    if settings.retention is not None and settings.retention.ttl is None:
        report.warn("settings.retention", "has no effect without ttl")


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
    check_connection(reader, "reader", report)
    _check_zone(reader.tz, "reader.tz", report)
    if tag(reader) in ("vm", "local", "vlogs") and not reader.queries:
        report.missing("reader.queries", "expected at least one query")
    for alias, query in reader.queries.items():
        path = f"reader.queries.{alias}"
        if query.tz is not None:
            _check_zone(query.tz, f"{path}.tz", report)
        check_tenant(query.tenant_id, f"{path}.tenant_id", report)
        url = getattr(reader, "datasource_url", "")
        check_url_tenant(url, query.tenant_id, f"{path}.tenant_id", report, "reader.datasource_url")
        if not query.expr.strip():
            report.bad(f"{path}.expr", query.expr, "expected text that is not empty")


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
        if not LABEL.fullmatch(name):
            report.problem(f"{path}.{name}", "expected a label name of letters, digits and _, not first a digit")
        if name in _GENERATED:
            report.warn(f"{path}.{name}", "replaces the label that the service writes")
        for word in _PLACEHOLDER.findall(value):
            if not word.startswith(("$VAR", "$QUERY_KEY")):
                report.warn(f"{path}.{name}", f"{word} stays as it is; there are $VAR and $QUERY_KEY")


def budget(reader: ReaderSettings) -> Duration:
    """The longest that one fetch with what follows may take."""
    timeout = getattr(reader, "timeout", Duration(0))
    fetch = getattr(reader, "fetch_timeout", None) or timeout
    return Duration(fetch)
