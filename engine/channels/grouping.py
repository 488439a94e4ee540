"""Channels in groups: one for each combination of the `groupby` labels' values, in an order of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from engine.channels.table import ChannelTable
from engine.frame import I64, Frame
from engine.series import SeriesTable


class Grouping:
    """Which group each channel belongs to, and where a channel's row stands; safe for threads.

    Rows are ordered by what channels are, not by when they came: by the values of the labels, then query alias, then
    labels. A label that a series lacks counts as an empty one.

    Parameters
    ----------
    labels : of `groupby`; none puts all channels in one group.
    """

    def __init__(self, channels: ChannelTable, labels: Sequence[str]) -> None:
        self._channels = channels
        self._names = tuple(dict.fromkeys(labels))
        self._lock = threading.Lock()
        self._numbers: dict[tuple[str, ...], int] = {}
        self._keys: list[tuple[tuple[str, ...], int, bytes]] = []
        self._group_of: I64 = np.empty(0, dtype=np.int64)
        self._rank: I64 = np.empty(0, dtype=np.int64)

    def arrange(self, frame: Frame) -> Frame:
        """The frame with its rows in order, and their groups."""
        self._grow()
        order = self.ordered(frame.series, is_index=True)
        series = frame.series[order]
        groups, names = self._group_of[series], self._channels.names
        return replace(frame, series=series, values=frame.values[order], groups=groups, names=names)

    def ordered(self, series: I64, *, is_index: bool = False) -> I64:
        """Channels in order, or their places."""
        self._grow()
        order = np.argsort(self._rank[series])
        return order if is_index else series[order]

    def groups(self, series: I64) -> I64:
        """The group of each channel."""
        self._grow()
        return self._group_of[series]

    @property
    def n_groups(self) -> int:
        """Groups are numbered below this."""
        self._grow()
        return len(self._numbers)

    def name(self, group: int) -> str:
        """A group for log lines."""
        values = next(values for values, number in self._numbers.items() if number == group)
        return ", ".join(f"{name}={value!r}" for name, value in zip(self._names, values, strict=True)) or "all"

    def _grow(self) -> None:
        """Python work for new channels only."""
        with self._lock:
            if len(self._keys) == len(self._channels):
                return
            for channel in range(len(self._keys), len(self._channels)):
                labels = self._channels.labels(channel)
                values = tuple(labels.get(name, "") for name in self._names)
                self._numbers.setdefault(values, len(self._numbers))
                self._keys.append((values, *self._channels.key(channel)))
            rank = np.empty(len(self._keys), dtype=np.int64)
            rank[sorted(range(len(self._keys)), key=self._keys.__getitem__)] = np.arange(rank.size)
            self._group_of = np.array([self._numbers[key[0]] for key in self._keys], dtype=np.int64)
            self._rank = rank


class GroupLabels:
    """Numbers of groups' label sets, made anew only for groups whose channels are not those of before."""

    def __init__(self, channels: ChannelTable) -> None:
        self._channels = channels
        self._known: tuple[I64, I64] = (np.empty(0, dtype=np.int64),) * 2
        self._numbers: dict[bytes, int] = {}

    def numbers(self, series: I64, indptr: I64, table: SeriesTable) -> I64:
        """(G,) numbers in `table` of the labels that all channels of a group have in common."""
        known_series, known = self._known
        if known.size == indptr.size - 1 and np.array_equal(known_series, series):
            return known
        numbers = {}
        for group in np.split(series, indptr[1:-1]):
            key = group.tobytes()
            number = self._numbers.get(key)
            numbers[key] = table.intern(self._common(group.tolist())) if number is None else number
        self._numbers = numbers
        found = np.array(list(numbers.values()), dtype=np.int64)
        self._known = series, found
        return found

    def _common(self, group: Iterable[int]) -> dict[str, str]:
        sets = [self._channels.labels(channel).items() for channel in group]
        return dict(sorted(set(sets[0]).intersection(*sets[1:])))
