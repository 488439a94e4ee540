"""Settings types of the schedulers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from engine.settings import Duration, Settings


class PeriodicSettings(Settings, frozen=True, kw_only=True, tag_field="class", tag="periodic"):
    """``class: periodic``: fit every so often, infer more often, for ever."""

    fit_window: Duration
    infer_every: Duration
    fit_every: Duration | None = None
    start_from: str | None = None
    tz: str = "UTC"
    scatter_infer_jobs: bool = False


class OneoffSettings(Settings, frozen=True, kw_only=True, tag_field="class", tag="oneoff"):
    """``class: oneoff``: one fit, one inference, then exit. Each end as ISO 8601 text or Unix seconds."""

    fit_start_iso: str | None = None
    fit_start_s: float | None = None
    fit_end_iso: str | None = None
    fit_end_s: float | None = None
    infer_start_iso: str | None = None
    infer_start_s: float | None = None
    infer_end_iso: str | None = None
    infer_end_s: float | None = None


class BacktestingSettings(Settings, frozen=True, kw_only=True, tag_field="class", tag="backtesting"):
    """``class: backtesting``: fits and inferences over a past range, then exit."""

    fit_window: Duration
    fit_every: Duration
    from_iso: str | None = None
    from_s: float | None = None
    to_iso: str | None = None
    to_s: float | None = None
    infer_every: Duration | None = None
    inference_only: bool = False
    exact: bool = False
    n_jobs: Annotated[int, Meta(ge=1)] = 1


class NoopSchedulerSettings(Settings, frozen=True, kw_only=True, tag_field="class", tag="noop"):
    """``class: noop``: runs nothing."""
