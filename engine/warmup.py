"""Compile every kernel of the hot path: run when an image is built, so that its first start is warm.

Run: python -m engine.warmup
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine import score
from engine.channels.joint import score_groups
from engine.config.classes import MODELS
from engine.config.single import make_model
from engine.frame import Batch, Frame, Output, Query, Window, pack
from engine.models.base import Model, fit, infer
from engine.models.examples import ARGUMENTS
from engine.models.iforest import IsolationForest
from engine.models.iforest_multivariate import IsolationForestMultivariate
from engine.offline.score_command import Options, compute
from engine.offline.write import write_rows
from engine.pool import Pool
from engine.reader.decode import Decoder
from engine.series import SeriesTable
from engine.writer.encode import Encoder
from engine.writer.settings import METRIC_FORMAT

_STEP_MS = 3_600_000
_N_STEPS = 24 * 21  # three weeks: all automatic seasons of Prophet


def warm_up() -> int:
    """Send a made-up answer down the whole line with every available model; returns how many models ran."""
    window = Window(0, (_N_STEPS - 1) * _STEP_MS, _STEP_MS)
    times = window.timestamps_ms() // 1000
    values = 10 + np.sin(times / 86_400)
    points = [[t, str(v)] for t, v in zip(times.tolist(), values.tolist(), strict=True)]
    result = [{"metric": {"a": "b"}, "values": points}]
    body = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}, separators=(",", ":"))
    table, pool, query = SeriesTable(), Pool(1), Query("warmup", "", _STEP_MS)
    frame = pack(Decoder(table).decode(body.encode()).samples, window)
    encoder = Encoder(METRIC_FORMAT, "", 1 << 20, 1000)
    n_models = 0
    for alias in MODELS.entries:
        kind: type[Model] = MODELS.settings_type(alias)
        if not kind.is_available or alias == "custom":  # the operator's own file
            continue
        model, _ = make_model(alias, ARGUMENTS.get(alias, {}))
        rows = replace(frame, groups=np.zeros_like(frame.series)) if model.is_multivariate else frame
        prediction, _ = infer(model, fit(model, [rows], pool), rows, pool)
        policy = score.resolve(model, query)
        if model.is_multivariate:
            columns = score_groups(model, [policy], np.zeros(1, dtype=np.int64), prediction, rows)
        else:
            columns = score.apply(policy, model.warm_up, prediction, frame)
        output = Output(frame.series, frame.timestamps_ms, score.select(model, columns))
        list(encoder.encode(Batch(output, table, query.alias, alias, "", "")))
        n_models += 1
    _use_further_kernels(frame, pool)
    _score_files(pool)
    pool.close()
    return n_models


def _use_further_kernels(frame: Frame, pool: Pool) -> None:
    """What a class uses with some of its arguments only."""
    grouped = replace(frame, groups=np.zeros_like(frame.series))
    large: dict[str, Any] = {"max_samples": 300}  # more than numbers of one byte count
    for model, rows in (
        (make_model("prophet", {"args": {"seasonality_mode": "multiplicative"}})[0], frame),
        (IsolationForest(seasonal_features=["hod"]), frame),
        (IsolationForest(seasonal_features=["hod"], args=large), frame),
        (IsolationForest(args=large), frame),
        (IsolationForestMultivariate(args=large), grouped),
    ):
        infer(model, fit(model, [rows], pool), rows, pool)


def _score_files(pool: Pool) -> None:
    """Read, score and write a file as `engine score` does, once with each kind of time."""
    with tempfile.TemporaryDirectory() as folder:
        for first, second in (("0", "60"), ("1970-01-01", "1970-01-01T00:01Z")):
            file, out = Path(folder, "in.csv"), Path(folder, "out.csv")
            file.write_text(f"timestamp,value,host\n{first},1,a\n{second},2,a\n", encoding="utf-8")
            result, _ = compute(Options(files=[str(file)], class_name="zscore_online", fit_rows=1), pool)
            write_rows(out, result.points, {"y": result.points.values, **result.columns}, pool)


if __name__ == "__main__":
    sys.stderr.write(f"kernels of {warm_up()} models are compiled\n")
