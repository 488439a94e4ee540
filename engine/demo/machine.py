"""A made-up machine: CPU time of node-exporter's modes, minute by minute, with labelled incidents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.frame import F64

MODES = ("idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user")
STEP_S = 60
DAY = 1440  # minutes

Kind = Literal["steal burst", "iowait storm", "frozen core", "cpu burn", "system leak"]

# By mode: level at night, what a full load adds, noise; in seconds per second. `irq` is 0 on most machines.
_SHAPE = {
    "iowait": (0.015, 0.020, 0.0040),
    "nice": (0.002, 0.000, 0.0006),
    "softirq": (0.006, 0.010, 0.0015),
    "steal": (0.008, 0.004, 0.0025),
    "system": (0.030, 0.055, 0.0060),
    "user": (0.080, 0.220, 0.0220),
}
# What an incident takes from idle time; the leak ends with it.
_TAKES = {"steal burst": 0.025, "iowait storm": 0.05, "cpu burn": 0.45, "system leak": 0.06}
_WEEKEND_DIP = 0.15
# Share of the noise that all CPUs have in common, and how much of a minute's noise is left in the next.
_COMMON = 0.3
_MEMORY = 0.3
# Noise has a slightly heavier tail than a normal distribution: Student's t.
_DEGREES = 12.0


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that happens to the machine: minutes [start, end), the CPUs and modes whose series it moves."""

    kind: Kind
    text: str
    start: int
    end: int
    cpus: tuple[int, ...]
    modes: tuple[str, ...]

    def within(self, first: int, n_minutes: int) -> slice:
        """Where the incident is among `n_minutes` from minute `first` on."""
        return slice(*(min(max(edge - first, 0), n_minutes) for edge in (self.start, self.end)))


def five_incidents(first: int, n_minutes: int, n_cpus: int) -> tuple[Incident, ...]:
    """One incident of each kind, spread over the `n_minutes` that begin at minute `first`."""
    every = tuple(range(n_cpus))
    one = (n_cpus // 2,)

    def at(start_h: float, length: int) -> tuple[int, int]:
        """Start by the hour of a whole day, in proportion where there is less."""
        start = first + round(60 * start_h * n_minutes / DAY)
        return start, min(start + length, first + n_minutes)

    others = tuple(mode for mode in MODES if mode != "irq")
    return (
        Incident("steal burst", "a noisy neighbour takes 2.5 % of every CPU", *at(2.75, 20), every, ("steal", "idle")),
        Incident("iowait storm", "the disk stalls and all CPUs wait for it", *at(6.5, 20), every, ("iowait", "idle")),
        Incident("frozen core", "the counters of one CPU stand still", *at(10.75, 12), one, others),
        Incident("cpu burn", "a runaway job takes all CPUs", *at(14.75, 15), every, ("user", "idle")),
        Incident("system leak", "kernel time creeps up, until a restart", *at(18.5, 75), every, ("system", "idle")),
    )


class Machine:
    """CPU time that goes on for as long as it is asked for; the same seed gives the same machine.

    Parameters
    ----------
    n_cpus : CPUs.
    weekday, hour : of minute 0 on the machine's own clock; Monday is 0.
    """

    def __init__(self, n_cpus: int, incidents: tuple[Incident, ...], weekday: int = 0, hour: float = 0, seed: int = 7):
        self._n_cpus = n_cpus
        self._incidents = incidents
        self._offset = DAY * weekday + round(60 * hour)
        self._random = np.random.default_rng(seed)
        self._weight = self._random.uniform(0.85, 1.15, n_cpus)
        self._noise = np.zeros((len(_SHAPE), n_cpus))
        self._seconds = np.zeros((n_cpus, len(MODES)))
        self._minute = 0

    @property
    def minute(self) -> int:
        """The next minute that `counters` gives."""
        return self._minute

    def counters(self, n_minutes: int) -> F64:
        """The next minutes of ``node_cpu_seconds_total``: (n_minutes, n_cpus, modes), in steps of 0.01 s."""
        shares = self._shares(n_minutes)
        totals = self._seconds + STEP_S * np.cumsum(shares, axis=0)
        if n_minutes:
            self._seconds = totals[-1]
        return np.round(totals, 2)

    def _shares(self, n_minutes: int) -> F64:
        """Seconds per second by minute, CPU and mode; those of one CPU sum to 1 while its counters run."""
        first = self._minute
        self._minute += n_minutes
        load = _load(np.arange(first, self._minute) + float(self._offset))[:, None] * self._weight
        noise = self._draw(n_minutes)
        shares = np.zeros((n_minutes, self._n_cpus, len(MODES)))
        for k, (mode, (level, busy, spread)) in enumerate(_SHAPE.items()):
            shares[:, :, MODES.index(mode)] = level + busy * load + spread * (0.8 + 0.4 * load) * noise[:, k]
        np.maximum(shares, 0.0, out=shares)
        for incident in self._incidents:
            _disturb(shares, first, incident, noise)
        shares[:, :, MODES.index("idle")] = 1.0 - shares.sum(axis=2)
        for incident in self._incidents:
            if incident.kind == "frozen core":
                shares[incident.within(first, n_minutes), list(incident.cpus)] = 0.0
        return shares

    def _draw(self, n_minutes: int) -> F64:
        """(n_minutes, modes of `_SHAPE`, CPUs) autocorrelated noise of about unit variance."""
        n_kinds = len(_SHAPE)
        drawn = self._random.standard_t(_DEGREES, (n_minutes, n_kinds, self._n_cpus + 1))
        mixed = np.sqrt(1 - _COMMON) * drawn[:, :, 1:] + np.sqrt(_COMMON) * drawn[:, :, :1]
        mixed *= np.sqrt((1 - _MEMORY**2) * (_DEGREES - 2) / _DEGREES)
        out = np.empty((n_minutes, n_kinds, self._n_cpus))
        for t in range(n_minutes):
            out[t] = self._noise = _MEMORY * self._noise + mixed[t]
        return out


def _load(clock: NDArray[np.floating[Any]]) -> F64:
    """Share of the full load at minutes of the machine's week: high in the afternoon, low at night and on weekends."""
    angle = 2 * np.pi * clock / DAY
    daily = 0.64 - 0.42 * np.cos(angle - 0.9) - 0.10 * np.cos(2 * angle - 0.6)
    # Deepest on Saturday at midnight: day 6 of a week that begins on Monday.
    weekend = ((1 + np.cos((angle - 2 * np.pi * 6) / 7)) / 2) ** 3
    return np.asarray(daily - _WEEKEND_DIP * weekend)


def _disturb(shares: F64, first: int, incident: Incident, noise: F64) -> None:
    """Add an incident's extra time to the shares of minutes from `first` on, in place."""
    if incident.kind == "frozen core":
        return
    inside, cpus = incident.within(first, shares.shape[0]), list(incident.cpus)
    minutes = np.arange(first, first + shares.shape[0])[inside]
    extra = np.full(minutes.size, _TAKES[incident.kind])
    if incident.kind == "system leak":
        extra *= (minutes - incident.start + 1) / (incident.end - incident.start)
    wobble = 1 + 0.15 * noise[inside, 0][:, cpus]
    # It takes idle time only: a CPU cannot work for more than a second per second.
    left = 1.0 - shares[inside].sum(axis=2)[:, cpus]
    shares[inside, cpus, MODES.index(incident.modes[0])] += np.minimum(extra[:, None] * wobble, left)
