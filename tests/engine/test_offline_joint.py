"""Multivariate models on files: groups, their times, their scores, what each channel adds."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from engine.errors import InputError
from engine.frame import F64, I64, Frame, Prediction, State
from engine.models.base import Model
from engine.offline.grid import Head
from engine.offline.joint import Joined, join_channels, make_joint_batches, score_joint
from engine.offline.points import Points
from engine.offline.read import read_points
from engine.offline.scoring import Plan
from engine.offline.sheet import Choice
from engine.pool import Pool

POOL = Pool(2)
N_FIT = 20


class SumOfDistances(Model, frozen=True, kw_only=True, tag_field="class", tag="sum_of_distances"):
    """The score of a group is the sum of its channels' distances from their mean in the head."""

    fit_by: ClassVar[Literal["time", "rows"]] = "rows"
    is_multivariate: ClassVar[bool] = True

    def fit_rows(self, frame: Frame) -> State:
        return State(frame.series, {"mean": np.nanmean(frame.values, axis=1)}, {}, frame.groups)

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        share: F64 = np.abs(frame.values - state.columns["mean"][:, None])
        first: I64 = frame.indptr[:-1]
        return Prediction(joint=np.add.reduceat(share, first, axis=0), share=share), state


def run(points: Points, **settings: object) -> tuple[Joined, dict[str, F64]]:
    model = SumOfDistances(**settings)
    joined = join_channels(points, model.groupby)
    batches = make_joint_batches(joined, points, Head(rows=N_FIT), "UTC")
    return joined, score_joint(Plan.of(model, 0), joined, points, batches, POOL)


def read(tmp_path: Path, **texts: str) -> Points:
    paths = []
    for name, text in texts.items():
        paths.append(str(tmp_path / f"{name}.csv"))
        Path(paths[-1]).write_text(text)
    return read_points(paths, Choice(truth="label"), POOL)[0]


def wide(y: F64, truth: int | None = None) -> str:
    lines = ["timestamp,label," + ",".join(f"m{k}" for k in range(y.shape[0]))]
    for t in range(y.shape[1]):
        cells = ["" if np.isnan(v) else str(v) for v in y[:, t]]
        lines.append(f"{60 * t},{int(t == truth)},{','.join(cells)}")
    return "\n".join(lines) + "\n"


def expected(y: F64) -> F64:
    """Sums of distances; none in the head and where a channel is missing."""
    sums = np.abs(y - np.nanmean(y[:, :N_FIT], axis=1)[:, None]).sum(axis=0)
    sums[:N_FIT] = np.nan
    return sums


def values(n_channels: int = 3, seed: int = 1) -> F64:
    return np.random.default_rng(seed).normal(size=(n_channels, 50)).round(3)


def test_a_wide_file_is_one_group_with_a_row_for_each_time(tmp_path):
    y = values()
    y[1, 30] = np.nan
    joined, columns = run(read(tmp_path, a=wide(y, truth=33)), provide_series=["anomaly_score", "contribution"])
    assert_array_equal(joined.points.times_ms, 60_000 * np.arange(50))
    assert_allclose(columns["anomaly_score"], expected(y))
    assert np.flatnonzero(joined.points.truth).tolist() == [33]
    distances = np.abs(y - np.nanmean(y[:, :N_FIT], axis=1)[:, None])
    for k in range(3):
        want = np.where(np.isfinite(expected(y)), distances[k] / distances.sum(axis=0), np.nan)
        assert_allclose(columns[f"contribution_m{k}"], want)


def test_each_wide_file_is_a_group_of_its_own(tmp_path):
    y, z = values(seed=1), values(seed=2)
    joined, columns = run(read(tmp_path, a=wide(y), b=wide(z)))
    assert [joined.points.table.labels(k) for k in range(2)] == [{"file": "a"}, {"file": "b"}]
    assert_allclose(columns["anomaly_score"], np.concatenate([expected(y), expected(z)]))


def test_files_of_one_series_each_are_channels_of_one_group(tmp_path):
    y = values(2)
    texts = {f"f{k}": "time,value\n" + "".join(f"{60 * t},{v}\n" for t, v in enumerate(y[k])) for k in range(2)}
    _, columns = run(read(tmp_path, **texts), provide_series=["contribution"])
    assert_allclose(columns["anomaly_score"], expected(y))
    assert list(columns) == ["anomaly_score", "contribution_f0", "contribution_f1"]


def long(y: F64) -> str:
    """Two hosts with two channels each, in mixed order."""
    rows = [f"{60 * t},{y[k, t]},h{k // 2},c{k % 2}" for t in range(y.shape[1]) for k in (2, 0, 3, 1)]
    return "\n".join(["timestamp,value,host,channel", *rows]) + "\n"


def test_groupby_makes_a_group_of_each_combination(tmp_path):
    y = values(4)
    joined, columns = run(read(tmp_path, a=long(y)), groupby=["host"])
    host = np.array([joined.points.table.labels(k)["host"] for k in joined.points.series])
    assert host[:2].tolist() == ["h1", "h0"]
    assert_allclose(columns["anomaly_score"][host == "h0"], expected(y[:2]))
    assert_allclose(columns["anomaly_score"][host == "h1"], expected(y[2:]))


def test_without_groupby_all_series_are_one_group(tmp_path):
    y = values(4)
    joined, columns = run(read(tmp_path, a=long(y)))
    assert joined.points.n_points == 50
    assert_allclose(columns["anomaly_score"], expected(y))


def test_a_channel_that_the_head_does_not_have_is_left_out(tmp_path, caplog):
    y = values()
    y[2, : N_FIT + 5] = np.nan
    _, columns = run(read(tmp_path, a=wide(y)))
    assert_allclose(columns["anomaly_score"], expected(y[:2]))
    assert "{'series': 'm2'} is left out" in caplog.text


def test_what_cannot_be_joined_says_why(tmp_path):
    points = read(tmp_path, a=long(values(4)))
    with pytest.raises(InputError, match="groupby: hots is no label of the series; these are host, channel"):
        run(points, groupby=["hots"])
    slow = "".join(f"{300 * t},1,h0,slow\n" for t in range(50))
    with pytest.raises(InputError, match=r"steps differ .* expected one step for all channels of a group"):
        run(read(tmp_path, a=long(values(4)) + slow), groupby=["host"])
