"""Settings types of the schedulers."""

from __future__ import annotations

from engine.settings import Duration, Settings


class PeriodicSettings(Settings, frozen=True, kw_only=True, tag_field="class", tag="periodic"):
    """``class: periodic``: fit every so often, infer more often, for ever."""

    fit_window: Duration
    infer_every: Duration
    fit_every: Duration | None = None
    start_from: str | None = None
    tz: str = "UTC"
    scatter_infer_jobs: bool = False
