"""The plan against schedules worked out by hand, and a year of ticks against a naive simulation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.scheduler.plan import Job, Pace, Progress, Schedule, due, next_wake_ms

S, M, H, D = 1_000, 60_000, 3_600_000, 86_400_000
T0 = 1_700_000_000_000 - 1_700_000_000_000 % H


def schedule(infer: int = M, fit: int = 2 * H, window: int = 14 * D, start: int = T0) -> Schedule:
    return Schedule(window, fit, infer, start)


def pace(step: int = M, settle: int = 5 * S, offset: int = 0, delay: int = 0) -> Pace:
    return Pace(step, settle, offset, delay)


def test_nothing_is_due_before_the_start() -> None:
    assert due(schedule(start=T0 + H), pace(), Progress(), T0 + 10 * M) == []


def test_first_fit_is_exactly_at_start_from() -> None:
    plan = schedule(start=T0 + 7 * M)
    assert due(plan, pace(), Progress(), T0 + 7 * M + 4 * S) == []
    assert due(plan, pace(), Progress(), T0 + 7 * M + 5 * S) == [Job("fit", T0 + 7 * M, T0 + 7 * M)]


def test_start_from_beside_the_grid_of_whole_intervals_is_kept_to() -> None:
    plan = schedule(infer=H, fit=D, start=T0 + 30 * M)
    assert due(plan, pace(), Progress(), T0 + 30 * M + 4 * S) == []
    assert due(plan, pace(), Progress(), T0 + 31 * M) == [Job("fit", T0 + 30 * M, T0 + 30 * M)]
    progress = Progress(is_fitted=True, fit_at_ms=T0 + 30 * M, fit_tick_ms=T0 + 30 * M, infer_tick_ms=T0 + 30 * M)
    assert due(plan, pace(), progress, T0 + 89 * M) == []
    assert due(plan, pace(), progress, T0 + 91 * M) == [Job("infer", T0 + 90 * M, T0 + 90 * M)]
    assert next_wake_ms(plan, pace(), progress, T0 + 31 * M) == T0 + 90 * M + 5 * S


def test_offset_delays_neither_the_first_fit_nor_later_ones() -> None:
    plan, far = schedule(infer=H, fit=6 * H, start=T0), pace(offset=-2 * H)
    assert due(plan, far, Progress(), T0 + 5 * S) == [Job("fit", T0 - 2 * H, T0)]
    progress = Progress(is_fitted=True, fit_at_ms=T0 - 2 * H, fit_tick_ms=T0, infer_tick_ms=T0 + 6 * H)
    assert due(plan, far, progress, T0 + 6 * H + 5 * S) == [Job("fit", T0 + 4 * H, T0 + 6 * H)]


def test_a_point_is_read_only_when_it_has_settled() -> None:
    progress = Progress(is_fitted=True, fit_at_ms=T0, fit_tick_ms=T0, infer_tick_ms=T0)
    assert due(schedule(), pace(settle=30 * S), progress, T0 + M + 29 * S) == []
    assert due(schedule(), pace(settle=30 * S), progress, T0 + M + 30 * S) == [Job("infer", T0 + M, T0 + M)]


def test_models_that_are_ready_score_during_the_first_fit_of_others() -> None:
    progress = Progress(is_fitting=True, fit_tick_ms=T0)
    assert due(schedule(), pace(), progress, T0 + M) == []
    progress.is_serving = True
    assert [job.kind for job in due(schedule(), pace(), progress, T0 + M)] == ["infer"]


def test_missed_ticks_are_one_inference() -> None:
    progress = Progress(is_fitted=True, fit_at_ms=T0, fit_tick_ms=T0, infer_tick_ms=T0)
    assert due(schedule(), pace(), progress, T0 + 50 * M + 5 * S) == [Job("infer", T0 + 50 * M, T0 + 50 * M)]


def test_late_fit_has_the_window_of_its_own_time() -> None:
    progress = Progress(is_fitted=True, fit_at_ms=T0, fit_tick_ms=T0, infer_tick_ms=T0 + 125 * M)
    assert due(schedule(), pace(), progress, T0 + 125 * M + 5 * S) == [Job("fit", T0 + 2 * H, T0 + 125 * M)]


def test_of_several_missed_fits_only_the_newest_is_done() -> None:
    progress = Progress(is_fitted=True, fit_at_ms=T0, fit_tick_ms=T0, infer_tick_ms=T0 + 9 * H)
    jobs = due(schedule(), pace(), progress, T0 + 9 * H + 5 * S)
    assert jobs == [Job("fit", T0 + 8 * H, T0 + 9 * H)]


def test_unfitted_query_tries_once_a_tick() -> None:
    progress = Progress(fit_tick_ms=T0)
    assert due(schedule(), pace(), progress, T0 + 40 * S) == []
    assert due(schedule(), pace(), progress, T0 + M + 5 * S) == [Job("fit", T0 + M, T0 + M)]


def test_failed_jobs_are_tried_again_at_their_retry_time() -> None:
    progress = Progress(is_fitted=True, fit_at_ms=T0, fit_tick_ms=T0, infer_tick_ms=T0, infer_retry_ms=T0 + 12 * S)
    assert due(schedule(), pace(), progress, T0 + 11 * S) == []
    assert due(schedule(), pace(), progress, T0 + 12 * S) == [Job("infer", T0, T0)]
    assert next_wake_ms(schedule(), pace(), progress, T0 + 6 * S) == T0 + 12 * S


def test_running_jobs_are_not_started_twice() -> None:
    progress = Progress(is_fitted=True, fit_at_ms=T0, is_fitting=True, is_inferring=True)
    assert due(schedule(), pace(), progress, T0 + 5 * H) == []


def test_fit_every_longer_than_the_window_does_not_stop_inference() -> None:
    plan = schedule(fit=1000 * D, window=D)
    progress = Progress(is_fitted=True, fit_at_ms=T0, fit_tick_ms=T0, infer_tick_ms=T0 + 30 * D)
    now = T0 + 30 * D + M + 5 * S
    assert [job.kind for job in due(plan, pace(), progress, now)] == ["infer"]


def test_clock_set_back_by_a_day_does_not_stop_inference() -> None:
    progress = Progress(is_fitted=True, fit_at_ms=T0, fit_tick_ms=T0 + D, infer_tick_ms=T0 + D)
    assert [job.kind for job in due(schedule(), pace(), progress, T0 + M + 5 * S)] == ["infer"]


def test_offset_moves_data_time_and_not_the_tick() -> None:
    progress = Progress(is_fitted=True, fit_at_ms=T0, fit_tick_ms=T0, infer_tick_ms=T0)
    jobs = due(schedule(), pace(offset=-90 * S), progress, T0 + M + 5 * S)
    assert jobs == [Job("infer", T0 - M, T0 + M)]


def test_a_scattered_job_reads_up_to_its_own_time() -> None:
    plan, late = schedule(infer=H), pace(delay=50 * M)
    assert due(plan, late, Progress(), T0 + 50 * M + 5 * S) == [Job("fit", T0 + 50 * M, T0)]
    progress = Progress(is_fitted=True, fit_at_ms=T0 + 50 * M, fit_tick_ms=T0, infer_tick_ms=T0)
    assert due(plan, late, progress, T0 + 110 * M + 4 * S) == []
    assert due(plan, late, progress, T0 + 110 * M + 5 * S) == [Job("infer", T0 + 110 * M, T0 + H)]
    progress.infer_tick_ms = T0 + H
    assert due(plan, late, progress, T0 + 170 * M + 5 * S) == [
        Job("infer", T0 + 170 * M, T0 + 2 * H),
        Job("fit", T0 + 170 * M, T0 + 2 * H),
    ]


def test_scatter_within_a_step_reads_the_same_points() -> None:
    progress = Progress(is_fitted=True, fit_at_ms=T0, fit_tick_ms=T0, infer_tick_ms=T0)
    assert due(schedule(), pace(delay=20 * S), progress, T0 + M + 25 * S) == [Job("infer", T0 + M, T0 + M)]


@given(
    infer=st.sampled_from([10 * S, M, 7 * M, H]),
    step=st.sampled_from([10 * S, M, 5 * M]),
    offset=st.sampled_from([0, -90 * S, 3 * H]),
    share=st.floats(0, 0.99),
    tick=st.integers(0, 10_000),
)
def test_a_tick_is_found_again_by_its_data_time(infer: int, step: int, offset: int, share: float, tick: int) -> None:
    speed, at = pace(step, 5 * S, offset, int(share * infer)), tick * infer
    found = speed.tick_ms(speed.data_ms(at), infer)
    assert speed.data_ms(found) == speed.data_ms(at)
    assert found == at or (step > infer and at - step < found < at)


def test_thin_history_is_refitted_at_the_tick() -> None:
    progress = Progress(is_fitted=True, fit_at_ms=T0, fit_tick_ms=T0, infer_tick_ms=T0 + 3 * M, wants_refit=True)
    assert due(schedule(), pace(), progress, T0 + 3 * M + 5 * S) == [Job("fit", T0 + 3 * M, T0 + 3 * M)]


@given(
    infer=st.sampled_from([10 * S, M, 7 * M, H]),
    fit_factor=st.integers(1, 50),
    step=st.sampled_from([10 * S, M, 5 * M]),
    settle=st.sampled_from([0, 5 * S, 30 * S]),
    delay=st.integers(0, 9_999),
    jitter=st.lists(st.integers(1, 300 * S), min_size=1, max_size=60),
)
def test_every_due_time_is_settled_on_the_grid_and_in_order(
    infer: int, fit_factor: int, step: int, settle: int, delay: int, jitter: list[int]
) -> None:
    plan = schedule(infer=infer, fit=infer * fit_factor)
    speed = pace(step, settle, 0, delay)
    progress, now, last = Progress(), T0, {"fit": 0, "infer": 0}
    for wait in jitter:
        now += wait
        for job in due(plan, speed, progress, now):
            assert job.at_ms % step == 0
            assert job.at_ms + settle <= now
            assert job.at_ms >= last[job.kind]
            last[job.kind] = job.at_ms
            if job.kind == "fit":
                progress.fit_tick_ms, progress.fit_at_ms, progress.is_fitted = job.tick_ms, job.at_ms, True
            else:
                progress.infer_tick_ms = job.tick_ms
        assert now < next_wake_ms(plan, speed, progress, now) <= now + infer
