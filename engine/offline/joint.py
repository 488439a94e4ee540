"""Multivariate models on files: which series are channels of a group, a row for each time of it, its scores."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.channels.joint import score_groups
from engine.errors import InputError, ModelError
from engine.frame import F64, I64, Frame
from engine.offline.grid import Batch, Head, check_cells, find_step, make_batches
from engine.offline.points import FILE_LABEL, SERIES_LABEL, Points
from engine.offline.scoring import Plan, share_threads, steps
from engine.pool import Pool
from engine.series import SeriesTable
from engine.settings import Duration

log = logging.getLogger("model")


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Points of groups: one for each time of a group that any channel has, in the order in which they first appear.

    Parameters
    ----------
    points : their series are the groups, their values NaN.
    group_of : (C,) group of each series of the channels' points, `place` : (N,) the joint point of each of these.
    """

    points: Points
    group_of: I64
    place: I64


def join_channels(points: Points, groupby: Sequence[str] | None) -> Joined:
    """Series put together by the labels of `groupby`; without it by file where each is in wide form, else all.

    Raises
    ------
    InputError : `groupby` names a label that no series has, or the steps of a group's channels differ.
    """
    of_files = [FILE_LABEL] if {FILE_LABEL, SERIES_LABEL} <= set(points.label_names) else []
    names = list(groupby or of_files)
    if strange := [name for name in names if name not in points.label_names]:
        known = ", ".join(points.label_names) or "none"
        raise InputError(f"groupby: {strange[0]} is no label of the series; these are {known}")
    table = SeriesTable()
    own = [points.table.labels(k) for k in range(len(points.table))]
    group_of = np.array([table.intern({n: labels[n] for n in names if n in labels}) for labels in own], dtype=np.int64)
    groups = group_of[points.series]
    order = np.lexsort((points.times_ms, groups))
    is_new = np.diff(groups[order], prepend=-1) | np.diff(points.times_ms[order], prepend=points.times_ms[order[0]] - 1)
    number = np.cumsum(is_new != 0) - 1
    place = np.empty(points.n_points, dtype=np.int64)
    place[order] = number
    first = np.full(int(number[-1]) + 1, points.n_points, dtype=np.int64)
    np.minimum.at(first, place, np.arange(points.n_points))
    by_appearance = np.argsort(first)
    rank = np.empty_like(by_appearance)
    rank[by_appearance] = np.arange(by_appearance.size)
    place, first = rank[place], first[by_appearance]
    truth = None
    if points.truth is not None:
        # Known to be anomalous if any channel is, not known where none is known.
        truth = np.full(first.size, np.nan)
        np.fmax.at(truth, place, points.truth)
    nothing = np.full(first.size, np.nan)
    joint = Points(
        points.times_ms[first], nothing, groups[first], points.row[first], table, truth, points.clock, names
    )  # fmt: skip
    return Joined(joint, group_of, place)


def make_joint_batches(joined: Joined, channels: Points, head: Head, tz: str) -> list[tuple[Batch, Frame]]:
    """Groups that share a grid and a head, and the frame of all their channels.

    Raises
    ------
    InputError : the steps of a group's channels differ.
    """
    _check_steps(joined, channels)
    slot_of = np.full(joined.points.n_points, -1, dtype=np.int64)
    made = []
    for batch in make_batches(joined.points, head, tz):
        slot_of[batch.points] = batch.slots
        made.append((batch, _channel_frame(joined, channels, batch, slot_of)))
    return made


def score_joint(
    plan: Plan, joined: Joined, channels: Points, batches: Sequence[tuple[Batch, Frame]], pool: Pool
) -> dict[str, F64]:
    """Columns of the joint points by name: the score, and of each channel what `provide_series` asks for.

    Raises
    ------
    ModelError : no group could be fitted.
    """
    n_points = joined.points.n_points
    columns = {"anomaly_score": np.full(n_points, np.nan)}
    names = _channel_names(joined, channels)
    wanted = [name for name in plan.model.provide_series or () if name not in ("anomaly_score", "timestamp")]

    def run(item: tuple[Batch, Frame], its_pool: Pool) -> None:
        batch, frame = item
        for at, end, prediction, aligned in steps(plan, frame, batch.n_fit, its_pool):
            found = score_groups(
                plan.model, [plan.policy(frame)], np.zeros(aligned.shape[0], np.int64), prediction, aligned
            )
            inside = np.flatnonzero((batch.slots >= at) & (batch.slots < end))
            groups = aligned.groups[aligned.indptr[:-1]] if aligned.groups is not None else np.empty(0, np.int64)
            for group, score in zip(groups.tolist(), found["anomaly_score"], strict=True):
                mine = inside[batch.rows[inside] == group]
                columns["anomaly_score"][batch.points[mine]] = score[batch.slots[mine] - at]
            for name in wanted:
                for row, values in enumerate(found.get(name, ())):
                    series = int(aligned.series[row])
                    mine = inside[joined.points.series[batch.points[inside]] == joined.group_of[series]]
                    column = columns.setdefault(f"{name}_{names[series]}", np.full(n_points, np.nan))
                    column[batch.points[mine]] = values[batch.slots[mine] - at]

    share_threads(run, batches, [batch.frame.shape[0] for batch, _ in batches], pool)
    # Channels in the order in which they appear in the input, whatever the threads did.
    order = ["anomaly_score", *dict.fromkeys(f"{name}_{channel}" for name in wanted for channel in names)]
    return {name: columns[name] for name in order if name in columns}


def _check_steps(joined: Joined, channels: Points) -> None:
    order = np.lexsort((channels.times_ms, channels.series))
    bounds = np.flatnonzero(np.diff(channels.series[order], prepend=-1, append=-1))
    found: dict[int, tuple[int, int]] = {}
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if stop - start < 2:
            continue
        series = int(channels.series[order[start]])
        step_ms = find_step(channels.times_ms[order[start:stop]])
        first, its_step = found.setdefault(int(joined.group_of[series]), (series, step_ms))
        if its_step != step_ms:
            steps_found = ((channels.table.labels(k), Duration(ms)) for k, ms in ((first, its_step), (series, step_ms)))
            both = ", ".join(f"{labels} {step}" for labels, step in steps_found)
            raise InputError(f"steps differ ({both}), expected one step for all channels of a group")


def _channel_frame(joined: Joined, channels: Points, batch: Batch, slot_of: I64) -> Frame:
    """(C, T) values of all channels of the batch's groups; groups are numbered as the batch's rows.

    Channels without a value in the head are left out: a model that does not know them could score nothing.
    """
    row_of = {int(group): row for row, group in enumerate(batch.frame.series.tolist())}
    mine = [k for k, group in enumerate(joined.group_of.tolist()) if group in row_of]
    mine.sort(key=lambda k: (row_of[int(joined.group_of[k])], channels.table.text(k)))
    position = np.full(len(channels.table), -1, dtype=np.int64)
    position[mine] = np.arange(len(mine))
    keep = (position[channels.series] >= 0) & np.isfinite(channels.values)
    check_cells(len(mine) * batch.frame.timestamps_ms.size, channels.n_points)
    values = np.full((len(mine), batch.frame.timestamps_ms.size), np.nan)
    values[position[channels.series[keep]], slot_of[joined.place[keep]]] = channels.values[keep]
    series, groups = np.array(mine, dtype=np.int64), np.array([row_of[int(joined.group_of[k])] for k in mine])
    known = np.isfinite(values[:, : batch.n_fit]).any(axis=1) if batch.n_fit else np.ones(len(mine), dtype=bool)
    for k in np.flatnonzero(~known).tolist():
        log.warning(
            "channel %s is left out: it has no value in the part that is fitted", channels.table.labels(mine[k])
        )
    if not known.any():
        raise ModelError("no channel has a value in the part that is fitted")
    frame = Frame(series[known], batch.frame.timestamps_ms, np.ascontiguousarray(values[known]), batch.frame.step_ms)
    names = _channel_names(joined, channels)
    return replace(frame, tz=batch.frame.tz, groups=groups[known], names=lambda them: [names[k] for k in them.tolist()])


def _channel_names(joined: Joined, channels: Points) -> list[str]:
    """Of each series what tells it from the others of its group."""
    return [_channel_name(channels.table.labels(k), joined.points.label_names) for k in range(len(channels.table))]


def _channel_name(labels: dict[str, str], of_group: Sequence[str]) -> str:
    """What tells a channel from the others of its group."""
    return ",".join(text for name, text in labels.items() if name not in of_group) or "value"
