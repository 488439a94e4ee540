"""Each stage by itself, on made-up data: the fit window's, then those of one tick."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from engine import score
from engine.bench.keeping import measure_keeping
from engine.bench.made import CHANNELS, answer, expr_of
from engine.bench.measuring import REPEATS, Found, Row, Stopwatch, Task, need, peak_rss_bytes, repeated, row
from engine.channels.joint import score_groups
from engine.config.single import make_model
from engine.frame import F64, Batch, Frame, Output, Prediction, Query, State, Window, pack
from engine.models.base import Model, align, fit, infer
from engine.models.examples import ARGUMENTS
from engine.pool import Pool
from engine.reader.decode import Decoder
from engine.reader.pieces import Pieces
from engine.series import SeriesTable
from engine.writer.encode import Encoder
from engine.writer.settings import VmWriterSettings

_UNCUT = 1 << 40


def measure_stages(task: Task) -> Found:
    """The rows of all stages of one model.

    Raises
    ------
    ModelError, StartError : the model could not be fitted.
    """
    model, _ = make_model(task.model, ARGUMENTS.get(task.model, {}))
    pool, table = Pool(task.threads), SeriesTable()
    try:
        decoder = Decoder(table)
        window = Window(task.end_ms - (task.n_points - 1) * task.step_ms, task.end_ms, task.step_ms)
        rows, frame = _reading(task, decoder, window, "window")
        state, row_of_fit = _fitting(model, frame, pool)
        need(state.series.size > 0, task.model)
        size = state.size_bytes / state.series.size
        del frame
        rows += [row_of_fit, *_tick(task, model, state, decoder, table, pool)]
    finally:
        pool.close()
    return Found(rows=rows, peak_rss_bytes=peak_rss_bytes(), state_bytes_per_series=size, n_series=task.n_series)


def _reading(task: Task, decoder: Decoder, window: Window, name: str) -> tuple[list[Row], Frame]:
    """Decode and pack, cut into pieces as the reader cuts them."""
    decoding, packing = ([Stopwatch() for _ in range(REPEATS + 1)] for _ in range(2))
    frames, n_bytes = [], 0
    for piece in _pieces(window, task.n_series):
        body = answer(expr_of(task.n_series), piece)
        n_bytes += len(body)
        for decode_watch, pack_watch in zip(decoding, packing, strict=True):
            copy = bytearray(body)  # a decoder may write into what it is given
            samples = decode_watch.run(partial(decoder.decode, copy)).samples
            frame = pack_watch.run(partial(pack, samples, piece))
        frames.append(frame)
    counts = task.n_series, task.n_series * window.n_steps
    rows = [row(f"decode {name}", decoding[1:], *counts, n_bytes), row(f"pack {name}", packing[1:], *counts)]
    return rows, _joined(frames, window)


def _pieces(window: Window, n_series: int) -> Iterator[Window]:
    pieces = Pieces(window, _UNCUT, n_series)
    while (piece := pieces.next()) is not None:
        yield piece


def _joined(frames: list[Frame], window: Window) -> Frame:
    if len(frames) == 1:
        return frames[0]
    values = np.concatenate([frame.values for frame in frames], axis=1)
    return replace(frames[0], timestamps_ms=window.timestamps_ms(), values=values)


def _grouped(model: Model, frame: Frame) -> Frame:
    """The frame as the model wants its rows: channels of one host belong together."""
    return replace(frame, groups=frame.series // CHANNELS) if model.is_multivariate else frame


def _fitting(model: Model, frame: Frame, pool: Pool) -> tuple[State, Row]:
    given = _grouped(model, frame)
    states: list[State] = []

    def once(watch: Stopwatch) -> None:
        states[:] = [watch.run(lambda: fit(model, [given], pool))]

    watches, _ = repeated(once)
    return states[0], row("fit", watches, frame.series.size, frame.values.size)


def _tick(task: Task, model: Model, state: State, decoder: Decoder, table: SeriesTable, pool: Pool) -> list[Row]:
    """A live tick's stages; each inference is one step after the last, as it would come."""
    start_ms = task.end_ms + task.step_ms
    rows, frame = _reading(task, decoder, Window(start_ms, start_ms, task.step_ms), "tick")
    frame = _grouped(model, frame)
    last: list[tuple[State, Prediction, Frame]] = []

    def once(watch: Stopwatch) -> None:
        old, now = (last[0][0], last[0][2].timestamps_ms + task.step_ms) if last else (state, frame.timestamps_ms)
        given, aligned = replace(old, is_given=model.is_online), replace(frame, timestamps_ms=now)

        def one() -> tuple[State, Prediction, Frame]:
            pair = align(model, given, aligned)
            prediction, after = infer(model, *pair, pool)
            return after, prediction, pair[1]

        last[:] = [watch.run(one)]

    watches, _ = repeated(once)
    n_series = frame.series.size
    rows.append(row("infer", watches, n_series, n_series))
    now, prediction, frame = last[0]
    columns: dict[str, F64] = {}
    watches, _ = repeated(lambda watch: columns.update(watch.run(lambda: _scored(model, prediction, frame))))
    rows.append(row("score", watches, n_series, n_series))
    batch = Batch(_output(model, frame, columns), table, "bench", "model", "scheduler", "default")
    return [*rows, *measure_keeping(task, model, now, frame, batch, table, pool), *_writing(task, batch)]


def _scored(model: Model, prediction: Prediction, frame: Frame) -> dict[str, F64]:
    policy = score.resolve(model, Query("bench", "", frame.step_ms))
    if model.is_multivariate:
        return score_groups(model, [policy], np.zeros(frame.series.size, dtype=np.int64), prediction, frame)
    return score.apply(policy, model.warm_up, prediction, frame)


def _output(model: Model, frame: Frame, columns: dict[str, F64]) -> Output:
    """What is written: of a multivariate model, whose columns have two heights, its groups' scores."""
    if model.is_multivariate:
        series, columns = frame.series[frame.indptr[:-1]], {"anomaly_score": columns["anomaly_score"]}
        return Output(series, frame.timestamps_ms, columns)
    return Output(frame.series, frame.timestamps_ms, score.select(model, columns))


def _writing(task: Task, batch: Batch) -> list[Row]:
    settings = VmWriterSettings(datasource_url="-")
    encoder = Encoder(settings.metric_format, "", settings.batch_max_bytes, settings.batch_max_series)
    bodies: list[bytes] = []

    def encode(watch: Stopwatch) -> int:
        bodies[:] = [body.data for body in watch.run(lambda: list(encoder.encode(batch)))]
        return sum(map(len, bodies))

    def compress(watch: Stopwatch) -> int:
        watch.run(lambda: [gzip.compress(body, compresslevel=1, mtime=0) for body in bodies])
        return sum(map(len, bodies))

    n_points = sum(int(np.isfinite(column).sum()) for column in batch.output.columns.values())
    parts = (("encode", encode), ("compress", compress))
    return [
        row(name, watches, task.n_series, n_points, n_bytes)
        for name, step in parts
        for watches, n_bytes in [repeated(step)]
    ]
