"""The model classes that configurations may name: short alias, all full paths of all releases, where our type is."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple


class ClassEntry(NamedTuple):
    """One class: its canonical alias, the settings type as module:name, and the other names it goes by.

    `redirected` are names of older classes that now mean this one; they load with a warning. `use` says of a model
    for which metrics it is right.
    """

    alias: str
    type_path: str
    names: tuple[str, ...] = ()
    redirected: tuple[str, ...] = ()
    use: str = ""


_PLANNED = "engine.models.planned"

_MODELS = (
    ClassEntry(
        "zscore_online",
        "engine.models.zscore:OnlineZscore",
        ("model.online.OnlineZscoreModel",),
        ("zscore", "model.zscore.ZscoreModel"),
        use="metrics around one level; learns from every point",
    ),
    ClassEntry(
        "mad_online",
        "engine.models.mad:OnlineMad",
        ("model.online.OnlineMADModel",),
        ("mad", "model.mad.MADModel"),
        use="metrics around one level with outliers in their history, which do not widen the band",
    ),
    ClassEntry(
        "quantile_online",
        "engine.models.quantile:OnlineQuantile",
        ("model.online.OnlineQuantileModel",),
        use="metrics whose distribution depends on the hour or the day of the week",
    ),
    ClassEntry(
        "rolling_quantile",
        "engine.models.rolling_quantile:RollingQuantile",
        ("model.online.RollingQuantileModel",),
        ("model.rolling_quantile.RollingQuantileModel",),
        use="metrics whose level wanders: only the last points tell what is normal",
    ),
    ClassEntry(
        "std",
        "engine.models.stl:SeasonalTrend",
        ("model.online.StdModel",),
        ("model.std.StdModel",),
        use="metrics with one rhythm whose shape changes slowly; learns from every point",
    ),
    ClassEntry(
        "temporal_envelope",
        "engine.models.envelope:TemporalEnvelope",
        ("model.online.TemporalEnvelopeModel",),
        use="most metrics: trend, hours and weekdays, holidays, level shifts, noise that changes",
    ),
    ClassEntry(
        "temporal_envelope_multivariate",
        "engine.models.envelope_mv:TemporalEnvelopeMultivariate",
        ("model.online.TemporalEnvelopeMultivariateModel",),
        use="metrics of one thing that move together; says which of them are to blame",
    ),
    ClassEntry(
        "peer_outlier",
        f"{_PLANNED}:PeerOutlier",
        ("model.online.PeerOutlierModel",),
        use="series that should behave like their peers",
    ),
    ClassEntry(
        "prophet",
        "engine.models.prophet:Prophet",
        ("model.prophet.ProphetModel",),
        use="metrics with trend, daily and weekly rhythm, holidays",
    ),
    ClassEntry(
        "holtwinters",
        "engine.models.holtwinters:HoltWinters",
        ("model.holtwinters.HoltWinters",),
        use="metrics with one rhythm of fixed length, forecast from the end of each fit",
    ),
    ClassEntry(
        "isolation_forest_univariate",
        "engine.models.iforest:IsolationForest",
        ("isolation_forest", "model.isolation_forest.IsolationForestModel"),
        use="values that are rare in any way, bands apart; a score without a band",
    ),
    ClassEntry(
        "isolation_forest_multivariate",
        "engine.models.iforest_multivariate:IsolationForestMultivariate",
        ("model.isolation_forest.IsolationForestMultivariateModel",),
        use="rare combinations of several metrics; a score without a band",
    ),
    ClassEntry(
        "auto",
        "engine.models.auto:AutoTuned",
        ("model.auto.AutoTunedModel",),
        use="another class with its arguments searched at each fit",
    ),
    ClassEntry(
        "custom",
        "engine.models.custom:Custom",
        ("model.custom.CustomModel",),
        ("model.model.CustomModel",),
        use="a model of your own, in Python",
    ),
    ClassEntry(
        "arima",
        "engine.models.arima:Arima",
        (),
        ("model.arima.ArimaModel",),
        use="metrics that depend on their last values; short forecasts",
    ),
    ClassEntry(
        "noop", f"{_PLANNED}:NoopModel", ("model.noop.NoOpModel",), use="trying a configuration: models nothing"
    ),
)


class ClassTable:
    """The classes of one section; names are found without regard to case, as the docs themselves vary in it."""

    def __init__(self, entries: tuple[ClassEntry, ...], default: str | None) -> None:
        self.default = default
        self.entries: Mapping[str, ClassEntry] = {entry.alias: entry for entry in entries}
        self._by_name = {n.lower(): e for e in entries for n in (e.alias, *e.names, *e.redirected)}
        self._redirected = {n.lower() for e in entries for n in e.redirected}

    def find(self, name: object) -> ClassEntry | None:
        """The entry that a configured class name means."""
        return self._by_name.get(name.strip().lower()) if isinstance(name, str) else None

    def is_redirected(self, name: str) -> bool:
        """Whether the name is one of an older class that another one has replaced."""
        return name.strip().lower() in self._redirected

    def settings_type(self, alias: str) -> type[Any]:
        """The settings type of a canonical alias; its module is imported here and not before."""
        module, _, name = self.entries[alias].type_path.partition(":")
        found: type[Any] = getattr(importlib.import_module(module), name)
        return found

    def expected(self, name: object) -> str:
        """What could have been meant, for an error text."""
        near = difflib.get_close_matches(str(name).lower(), self._by_name, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"expected one of {', '.join(self.entries)}{hint}"


MODELS = ClassTable(_MODELS, None)
