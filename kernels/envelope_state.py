"""Layout of a temporal envelope's state and settings, shared by its kernels."""

from __future__ import annotations

from typing import NamedTuple

from kernels._jit import F64, I64

N_STREAMS = 3
FAST, MID, SLOW = 0, 1, 2
BELOW, ABOVE = 0, 1

# Positions of a row's scalars. Blocks of `N_STREAMS` (times two sides) begin at LEVEL, LAG, BRIEF, LONG and LIFE.
COUNT = 0  # points learned
LAST_MS = 1  # time of the newest one
PREVIOUS = 2  # its value
LEAST = 3  # smallest change of value other than 0, slowly forgotten; 0 while there was none
LEVEL = 4  # level of each stream
LAG = 7  # the seasonal profile as seen through the filter of each stream
SMOOTHED = 10  # input of the slow stream, and the same of the profile
SMOOTHED_LAG = 11
SEASON = 12  # the profile at the newest point
SEASON_WEIGHT = 13  # 0..1: how much of the profile the next point is expected to follow
SEASON_CROSS = 14  # moments that the weight comes from
SEASON_SQUARE = 15
SEASON_COUNT = 16
RUN = 17  # residuals of one sign in a row, negative below
LOOSE = 18  # 0..1: how far a gap has made the levels uncertain
BASE = 19  # long-run level without the season, and the spread around it
SPREAD = 21
SHIFTED = 22  # points in a row far from the base on one side, negative below
TAIL = 23  # log of a high quantile of the largest residual in its scales
MARGIN = 24  # log of the factor from there to the threshold
ALARM = 25  # 1 at an alarm, then fading: the band is wider for a while
HOLD = 26  # the same, stronger for a larger excess: what follows an alarm ranks higher
CALM = 27  # lightly smoothed value, for the comparison with all the past
MEAN = 28  # mean and mean absolute deviation over life, overall and from the mean of the hour
DEVIATION = 29
HOUR_DEVIATION = 30
BRIEF = 31  # (stream,) squared residual, short memory
LONG = 34  # (stream, side) squared residual, long memory
LIFE = 40  # (stream, side) squared residual over life
POWER = 46  # squared error of base and profile, outliers included
VISIT_BIN = 47  # quarter of an hour of the newest point, and the largest residual in it so far
VISIT_PEAK = 48
SLOPE = 49  # of the base, a point
N_SCALARS = 50
N_SCALES = 6

N_QUARTERS = 96
N_HOURS = 24
HOUR_MEAN, HOUR_SPREAD, HOUR_COUNT = 0, 1, 2


class Rates(NamedTuple):
    """Settings of the recursion; rates are per point, 1 / time constant.

    `width_below` and `width_above` multiply the threshold. `clip` bounds what one residual may move a level, in its
    own scale, until `shift_after` residuals of one sign have come; `base_shift_after` is the same for the base.
    `day_points` is a day in points.
    """

    step_ms: float
    fast: float
    mid: float
    slow: float
    smooth: float
    brief: float
    long: float
    calm: float
    fade: float
    base: float
    weight: float
    width_below: float
    width_above: float
    clip: float
    shift_after: float
    base_shift_after: float
    warm_up: float
    day_points: float


class Calendar(NamedTuple):
    """Where in the seasonal profile each step is; the same for all series of a frame.

    Parameters
    ----------
    hour, quarter : (T,) civil hour and quarter of an hour of the day.
    left, right : (1 + H, T, C) bins of each component at a step and at H forecast offsets from it; -1 where the
        component has nothing to say (a holiday's on other days).
    share : (1 + H, T, C) in 0..1, how far from the left bin's centre to the right one's.
    rest : (C,) how many points a bin forgets over: its rate never falls below 1 / rest.
    prior : (C,) points of doubt before a bin of the component counts as itself.
    is_holiday : (C,) components that learn alone on their days.
    steps_ahead : (H,) the offsets in steps.
    """

    hour: I64
    quarter: I64
    left: I64
    right: I64
    share: F64
    rest: F64
    prior: F64
    is_holiday: I64
    steps_ahead: F64


class Rows(NamedTuple):
    """The state of rows (first axis) or, without that axis, of one row; all zero is a fresh one.

    Parameters
    ----------
    scalars : (S, `N_SCALARS`) what the positions above say.
    hours : (S, 3, 24) mean, mean absolute deviation and points of each civil hour, over life.
    peaks : (S, 2, 96) the two largest residuals of each civil quarter of an hour, fading.
    profile, visits : (S, bins) the seasonal profile and how much each bin has seen.
    """

    scalars: F64
    hours: F64
    peaks: F64
    profile: F64
    visits: F64
