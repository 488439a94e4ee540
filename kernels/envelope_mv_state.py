"""Layout of a multivariate envelope's state and settings, shared by its kernels."""

from __future__ import annotations

from typing import NamedTuple

from kernels._jit import F64, I64

# Positions of a channel's scalars.
LEVEL = 0  # level without the season
PREVIOUS = 1  # newest value
LEAST = 2  # smallest change of value other than 0, 0 while there was none
LOW = 3  # running quantiles of the residual: the lower is at most 0, the upper at least 0
HIGH = 4
TAIL = 5  # log of a high quantile of abs(residual) in reference half-widths
SQUARES = 6  # weighted sum of squared residuals
RUN = 7  # residuals beyond the band on one side in a row, negative below
UNIQUE = 8  # share of the channel's variance that the common factors do not explain
BLAME = 9  # smoothed squared deviation
N_CHANNEL = 10

# Positions of the group's scalars.
COUNT = 0  # complete rows learned
WEIGHT = 1  # weight of the sums of squares
FACTOR_WEIGHT = 2  # weight of the co-moments
DISTANCE_SUM = 3  # sum and weight of the row distances
DISTANCE_WEIGHT = 4
DISTANCE = 5  # smoothed distance of a row
JOINT_TAIL = 6  # log of a high quantile of the smoothed distance in means
JOINT_RUN = 7  # rows in a row beyond it
BAND_TAIL = 8  # log of a high quantile of the aggregated deviations
NEXT = 9  # rows at which the factors are set anew, without the first few
RELIEF = 10  # by how much less than at first the threshold is above the quantile
MOVED = 11  # complete rows learned since any channel changed first
N_GROUP = 12

MAX, MEAN, L2 = 0, 1, 2


class Channels(NamedTuple):
    """State of a group of C channels, K factors and B seasonal bins; updated in place, zeros are fresh.

    Parameters
    ----------
    scalars : (C, `N_CHANNEL`).
    profile : (C, B) seasonal profile of each channel.
    basis : (C, K) directions that the channels have in common.
    moments : (C, K) sums of standardised residuals times their factors.
    loadings : (C, K) correlation of each channel with each factor.
    group : (`N_GROUP`,).
    visits : (B,) rows that each bin has learned.
    sketch : (N, K) random numbers, the same in every call: weights of the first N rows in the first directions.
    """

    scalars: F64
    profile: F64
    basis: F64
    moments: F64
    loadings: F64
    group: F64
    visits: F64
    sketch: F64


class JointRates(NamedTuple):
    """Settings of the recursion; rates are per row.

    `low` and `high` are the quantiles of the band, `fence` how many of their distances it reaches beyond them;
    `width_below`, `width_above` and `width` are the band's size as a share of the default's on normal residuals.
    `clip` bounds what one residual may move the level, in standard deviations, until `shift_after` in a row were
    beyond the band on one side. Means forget over `memory` rows. `aggregation` is `MAX`, `MEAN` or `L2`.
    """

    low: float
    high: float
    fence: float
    width_below: float
    width_above: float
    width: float
    level: float
    clip: float
    shift_after: float
    smooth: float
    memory: float
    aggregation: int


class Scratch(NamedTuple):
    """Work space of one call.

    Parameters
    ----------
    expected, error, size, below, above, deviation, ratio : (C,) of a row: yhat, residual, its standard deviation,
        half-widths, deviation in standard deviations and in half-widths.
    gram, solved : (K, K), (K,).
    bins, gains : (2 J,) places of the row in the profile of J components, and their rates.
    """

    expected: F64
    error: F64
    size: F64
    below: F64
    above: F64
    deviation: F64
    ratio: F64
    gram: F64
    solved: F64
    bins: I64
    gains: F64
