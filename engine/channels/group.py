"""One multivariate model on the channels of several queries: what it joins, rejects, scores and writes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.channels.grouping import Grouping, GroupLabels
from engine.channels.joint import score_groups
from engine.channels.table import ChannelTable
from engine.frame import F64, I64, Batch, Frame, Query, State, runs
from engine.group import NEVER, Group, last_points
from engine.metrics import Metrics
from engine.models.base import Model
from engine.models.matching import Match, groups_of, match
from engine.pool import Pool
from engine.score import Policy
from engine.series import SeriesTable

log = logging.getLogger("model")

# Channels that are missing at a time are waited for as long as late series are.
_LAG_MS = 5 * 60_000
# Instead of a time where there is no point; it can be waited for, too.
_NOT = NEVER + _LAG_MS
# Rows that are fitted as one block, if groups allow.
_BLOCK_ROWS = 1024
_SCORE = "anomaly_score"


class ChannelGroup(Group):
    """Fitted state of one (scheduler, multivariate model): all groups of channels, and their inference.

    A group of channels is scored at a time once all channels of its fit have a value; times at which one is still
    missing when later ones were scored, or after five minutes, are given up and counted. All channels of a group
    count as seen up to the same time.

    Parameters
    ----------
    query : the set of queries as one.
    policies : of each query, in the order of `channels`.
    """

    def __init__(
        self,
        model: Model,
        query: Query,
        policies: Sequence[Policy],
        channels: ChannelTable,
        names: Mapping[str, str],
        pool: Pool,
        metrics: Metrics,
        *,
        writes_aliases: bool = True,
    ) -> None:
        super().__init__(model, query, policies[0], names, pool, metrics, writes_aliases=writes_aliases)
        self._policies = tuple(policies)
        self._channels = channels
        self._grouping = Grouping(channels, model.groupby or ())
        self._labels = GroupLabels(channels)
        self._fitted: I64 = np.empty(0, dtype=np.int64)
        self._rejected: frozenset[tuple[int, str]] = frozenset()

    def arrange(self, frame: Frame) -> Frame:
        return self._grouping.arrange(frame)

    def cut(self, series: I64) -> list[I64] | None:
        ordered = self._grouping.ordered(series)
        first = runs(self._grouping.groups(ordered))
        if first.size == 1:
            return []
        # A block begins with the first group that begins in another stretch of so many rows.
        begins = 1 + np.flatnonzero(np.diff(first[:-1] // _BLOCK_ROWS))
        return np.split(ordered, first[begins])

    def adopt(self, state: State, learned_to_ms: int) -> None:
        self._fitted = groups_of(state)
        super().adopt(state, learned_to_ms)

    def is_fitted(self, state: State) -> NDArray[np.bool_]:
        return np.isin(groups_of(state), self._fitted)

    def restore(self, state: State, is_fitted: NDArray[np.bool_], seen: I64, times_ms: I64, fitted_to_ms: int) -> None:
        state = replace(state, groups=self._grouping.groups(state.series))
        self._fitted = np.unique(groups_of(state)[is_fitted])
        super().restore(state, is_fitted, seen, times_ms, fitted_to_ms)

    def _align(self, state: State, frame: Frame) -> tuple[State, Frame, Frame]:
        fresh = self.model.fresh if self.model.is_online else None
        matched = match(state, frame, fresh)
        # A group that began between two fits may not have had all of its channels then: it begins anew.
        begun = matched.extra[~np.isin(matched.extra, self._fitted)]
        if begun.size:
            kept = state.take(np.flatnonzero(~np.isin(groups_of(state), begun)))
            matched = match(kept, frame, fresh)
        decided = self._decided(frame, matched)
        self._count(decided, matched)
        self._tell(matched)
        return matched.state, matched.frame, decided

    def _decided(self, frame: Frame, matched: Match) -> Frame:
        """The frame without the times for whose channels a group still waits."""
        n_groups = self._grouping.n_groups  # a fit on another thread may meet further ones
        newest, complete = _last(frame, n_groups), _last(matched.frame, n_groups)
        waits = np.zeros(newest.size, dtype=np.bool_)
        waits[np.setdiff1d(groups_of(matched.state), matched.extra)] = True
        until = np.where(waits, np.maximum(complete, newest - _LAG_MS), newest)
        known = until[groups_of(frame)]
        if not (known < frame.timestamps_ms[-1]).any():
            return frame
        return replace(frame, values=np.where(frame.timestamps_ms <= known[:, None], frame.values, np.nan))

    def _count(self, decided: Frame, matched: Match) -> None:
        """Count the runs of groups that were rejected, and the times that were given up."""
        stage = {"stage": "infer", **self.names}
        n_rejected = matched.extra.size + matched.missing.size
        if n_rejected:
            self._metrics.skipped.labels(**stage).inc(n_rejected)
        if matched.unknown.size:
            self._metrics.series_skipped.labels(reason="unknown", **stage).inc(
                int(np.isin(groups_of(decided), matched.unknown).sum())
            )
        n_known = np.isin(groups_of(decided), np.setdiff1d(groups_of(matched.state), matched.extra))
        n_there = _n_times(decided.values[n_known], groups_of(decided)[n_known])
        n_complete = _n_times(matched.frame.values, groups_of(matched.frame))
        if n_there > n_complete:
            self._metrics.incomplete.labels(**stage).inc(n_there - n_complete)

    def _tell(self, matched: Match) -> None:
        """One line for each group that is rejected now and was not before."""
        rejected = frozenset(
            [(int(g), "has channels that the fit did not have") for g in matched.extra]
            + [(int(g), "lacks channels that the fit had") for g in matched.missing]
        )
        for group, why in sorted(rejected - self._rejected):
            message = "[Scheduler %s] model %r: group %s %s and is not scored"
            names = self.names["scheduler_alias"], self.names["model_alias"]
            log.warning(message, *names, self._grouping.name(group), why)
        self._rejected = rejected

    def _predict(self, state: State, frame: Frame) -> tuple[dict[str, F64], State]:
        prediction, state = self._infer(state, frame)
        policy_of = self._channels.query_of[frame.series]
        return score_groups(self.model, self._policies, policy_of, prediction, frame), state

    def _batches(self, frame: Frame, columns: dict[str, F64], table: SeriesTable) -> list[Batch]:
        """Scores under the labels that a group's channels share, the rest under the channels' own."""
        numbers = self._labels.numbers(frame.series, frame.indptr, table)
        score = {_SCORE: columns[_SCORE]}
        batches = [self._batch(numbers, frame.timestamps_ms, score, table, self.query.alias)]
        query_of = self._channels.query_of[frame.series]
        for k, query in enumerate(self._channels.queries):
            rows = np.flatnonzero(query_of == k)
            series = self._channels.series_of[frame.series[rows]]
            own = {name: column[rows] for name, column in columns.items() if name != _SCORE}
            batches.append(self._batch(series, frame.timestamps_ms, own, self._channels.tables[k], query.alias))
        return [batch for batch in batches if batch.output.columns and batch.output.series.size]

    def _seen_by_row(self, frame: Frame) -> I64:
        first = frame.indptr[:-1]
        seen = self.seen.get(frame.series)
        return np.repeat(np.maximum.reduceat(seen, first), np.diff(frame.indptr)) if first.size else seen

    def _mark_seen(self, frame: Frame) -> None:
        last = _last(frame, self._grouping.n_groups)
        for rows in (frame, self.state):
            if rows is not None:
                times = last[groups_of(rows)]
                self.seen.raise_to(rows.series[times > _NOT], times[times > _NOT])


def _n_times(values: F64, groups: I64) -> int:
    """How many times all groups have a finite value at, in all."""
    first = runs(groups)[:-1]
    return int(np.logical_or.reduceat(np.isfinite(values), first, axis=0).sum()) if first.size else 0


def _last(frame: Frame, n_groups: int) -> I64:
    """By group the time of its last finite point; `_NOT` where there is none."""
    last = np.full(n_groups, _NOT)
    rows, times = last_points(frame)
    np.maximum.at(last, groups_of(frame)[rows], times)
    return last
