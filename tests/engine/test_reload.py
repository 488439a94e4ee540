"""Changed files and SIGHUP, as the real process sees them."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Engine, free_port, running, until
from tests.engine.scripted import ScriptedVm, value_at
from tests.engine.server.test_guard import certificate

BASE = """
schedulers:
  fast: {{class: periodic, infer_every: 1s, fit_every: 1h, fit_window: 2m}}
models:
  z: {{class: zscore_online, queries: [q], schedulers: [fast], min_n_samples_seen: 1}}
reader:
  datasource_url: {url}
  sampling_period: 1s
  settle: 0s
  query_from_last_seen_timestamp: true
  queries:
    q: {{expr: some_metric}}
    r: {{expr: other_metric}}
writer:
  datasource_url: {url}
"""
OTHER = "  m: {class: mad_online, queries: [q], schedulers: [fast], min_n_samples_seen: 1}\nreader:"
ENGINE = str(Path(sys.executable).parent / "engine")
BROKEN = (
    "models: {z: {class: zscore_onlin}}",
    "{{{",
    "",
    "reader: [1, 2]",
    "schedulers: &a [*a]",
    "\x00\xff",
    "writer: {class: noop, unknown: 1}\nmodels:",
)


@pytest.fixture
def vm() -> Iterator[ScriptedVm]:
    made = ScriptedVm()
    yield made
    made.stop()


class Watched(Engine):
    """An engine whose configuration changes."""

    def __init__(self, folder: Path, text: str, *options: str) -> None:
        self.text = text
        super().__init__(folder, text, options=options or ("--watch", "-configCheckInterval=200ms"))
        self.path = next(folder.glob("config-*-0.yml"))

    def change(self, text: str) -> None:
        """Write the file as a careful editor does."""
        aside = self.path.with_suffix(".new")
        aside.write_text(text)
        os.replace(aside, self.path)

    def reloads(self, status: str) -> float:
        return self.metric("vmanomaly_config_reloads_total", status=status)

    def fits(self, model: str) -> float:
        return self.metric("vmanomaly_model_runs_total", stage="fit", model_alias=model)

    def reloaded(self, text: str, status: str = "success") -> None:
        """Change the file and wait until that was seen."""
        before = self.reloads(status)
        self.change(text)
        until(lambda: self.reloads(status) > before, 20, f"a reload: {status}", lambda: self.log)


@pytest.fixture
def engine(vm: ScriptedVm, tmp_path: Path) -> Iterator[Watched]:
    with running(Watched(tmp_path, BASE.format(url=vm.url))) as made:
        until(lambda: vm.written, 30, "scores", lambda: made.log)
        yield made
        if made.process.poll() is None:
            code, _ = made.stop()
            assert code == 0
        assert "Traceback" not in made.log


def is_whole(vm: ScriptedVm, column: str = "anomaly_score", series: int = 1) -> None:
    """No second is missing, and each score is of the value at that time."""
    times = sorted(vm.written[f"{column} {series}"])
    assert times == list(range(times[0], times[-1] + 1000, 1000))
    assert all(value == pytest.approx(value_at(series, t / 1000)) for t, value in vm.written[f"y {series}"].items())


def test_a_model_that_is_added_and_one_that_goes_leave_the_other_as_it_is(vm: ScriptedVm, engine: Watched) -> None:
    engine.reloaded(engine.text.replace("reader:", OTHER))
    until(lambda: engine.fits("m") == 1, 20, "the new model is fitted", lambda: engine.log)
    assert engine.fits("z") == 1
    engine.reloaded(engine.text)
    assert engine.fits("z") == 1
    # What is no more has no samples.
    assert "m" not in {label for label in ("m",) if f'model_alias="{label}"' in httpx.get(f"{engine.url}/metrics").text}
    assert engine.metric("vmanomaly_config_last_reload_successful") == 1
    assert engine.metric("vmanomaly_config_reload_enabled") == 1
    time.sleep(1.5)
    is_whole(vm)


def test_two_hundred_reloads_half_of_them_broken_miss_no_score_and_leave_nothing(
    vm: ScriptedVm, tmp_path: Path
) -> None:
    vm.n_series = 200
    with running(Watched(tmp_path, BASE.format(url=vm.url), "--watch")) as engine:
        until(lambda: vm.written, 30, "scores", lambda: engine.log)
        texts = [engine.text.replace("reader:", OTHER), engine.text.replace("q: {expr", "q: {tz: UTC, expr")]

        def resources() -> tuple[float, int]:
            return engine.metric("process_open_fds"), len(list(Path(f"/proc/{engine.process.pid}/task").iterdir()))

        def reload_by_signal(text: str, status: str) -> None:
            n, deadline = engine.reloads(status), time.monotonic() + 20
            engine.change(text)
            engine.process.send_signal(signal.SIGHUP)
            while engine.reloads(status) <= n:
                assert time.monotonic() < deadline, engine.log[-3000:]
                time.sleep(0.02)

        for k in range(4):
            reload_by_signal(texts[k % 2], "success")
        time.sleep(1)
        before, memory = resources(), engine.metric("process_resident_memory_bytes")
        for k in range(100):
            reload_by_signal(BROKEN[k % len(BROKEN)], "failure")
            assert engine.metric("vmanomaly_config_last_reload_successful") == 0
            reload_by_signal(texts[k % 2], "success")
        assert engine.metric("vmanomaly_config_last_reload_successful") == 1
        time.sleep(2.5)
        after = resources()
        assert after[0] <= before[0] + 4
        assert after[1] <= before[1] + 3
        assert engine.metric("process_resident_memory_bytes") < 1.2 * memory + (20 << 20)
        assert engine.fits("z") == 1
        is_whole(vm)


def test_start_from_is_not_waited_for_again(vm: ScriptedVm, tmp_path: Path) -> None:
    # The process must be up by then.
    start = datetime.fromtimestamp(int(time.time()) + 10, UTC).isoformat()
    text = BASE.format(url=vm.url).replace("fit_every: 1h", f'fit_every: 1h, start_from: "{start}"')
    with running(Watched(tmp_path, text)) as engine:
        until(lambda: vm.written, 30, "scores", lambda: engine.log)
        engine.reloaded(text.replace("min_n_samples_seen: 1", "min_n_samples_seen: 1, z_threshold: 3"))
        until(lambda: engine.fits("z") == 2, 10, "what changed is fitted at once", lambda: engine.log)
        assert engine.stop()[0] == 0


def test_logger_levels_alone_restart_nothing(vm: ScriptedVm, engine: Watched) -> None:
    engine.reloaded(engine.text + "settings: {logger_levels: {writer.vm: debug}}\n")
    until(lambda: "DEBUG - POST" in engine.log, 10, "lines of that level", lambda: engine.log)
    assert "Applied component log level changes" in engine.log
    assert engine.log.count("Active schedulers") == 1
    engine.reloaded(engine.text)
    time.sleep(1.5)
    n_lines = engine.log.count("DEBUG - POST")
    time.sleep(2)
    assert engine.log.count("DEBUG - POST") == n_lines


def test_another_database_and_another_port(vm: ScriptedVm, engine: Watched) -> None:
    other = ScriptedVm()
    try:
        text = engine.text.replace(f"writer:\n  datasource_url: {vm.url}", f"writer:\n  datasource_url: {other.url}")
        assert text != engine.text
        engine.reloaded(text)
        until(lambda: other.written, 10, "scores there", lambda: engine.log)
        assert max(vm.written["y 1"]) < min(other.written["y 1"]) + 1
        assert engine.fits("z") == 1
        port = free_port()
        server = next(path for path in engine.path.parent.glob("config-*-1.yml"))
        server.write_text(f"server: {{addr: 127.0.0.1, port: {port}, path_prefix: /x}}\n")
        until(lambda: httpx.get(f"http://127.0.0.1:{port}/x/health").is_success, 20, "it moved", lambda: engine.log)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{engine.url}/health")
    finally:
        other.stop()


def test_trap_37_a_configuration_that_cannot_run_leaves_the_one_before(vm: ScriptedVm, engine: Watched) -> None:
    engine.reloaded(
        engine.text.replace("writer:\n", "writer:\n  tls_cert_file: /none\n  tls_key_file: /none\n"), "failure"
    )
    assert "Reload aborted" in engine.log
    assert "writer.tls_cert_file: " in engine.log
    with ScriptedServer() as taken:
        server = next(path for path in engine.path.parent.glob("config-*-1.yml"))
        before, n_failed = server.read_text(), engine.reloads("failure")
        server.write_text(f"server: {{addr: 127.0.0.1, port: {taken}}}\n")
        engine.change(engine.text)
        until(lambda: engine.reloads("failure") > n_failed, 20, "the port is taken", lambda: engine.log)
        assert "Reload apply failed" in engine.log
        server.write_text(before)
    n = engine.reloads("success")
    until(lambda: engine.reloads("success") > n, 20, "as before", lambda: engine.log)
    time.sleep(1.5)
    assert engine.fits("z") == 1
    is_whole(vm)


class ScriptedServer:
    """A port that is taken."""

    def __enter__(self) -> int:
        import socket

        self._socket = socket.create_server(("127.0.0.1", 0))
        return int(self._socket.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def test_trap_36_symbolic_links_that_are_switched_as_kubernetes_does(vm: ScriptedVm, tmp_path: Path) -> None:
    port = free_port()
    text = BASE.format(url=vm.url) + f"server: {{addr: 127.0.0.1, port: {port}}}\n"
    for name, content in (("..1", text), ("..2", text.replace("reader:", OTHER))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(content)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
    engine = Engine.__new__(Watched)
    engine.port, engine.log_path = port, tmp_path / "log"
    words = ["--watch", "--config-check-interval", "0.2s"]
    with engine.log_path.open("ab") as log:
        engine.process = subprocess.Popen([ENGINE, str(tmp_path / "config.yaml"), *words], stdout=log, stderr=log)
    with running(engine):
        until(lambda: vm.written, 30, "scores", lambda: engine.log)
        (tmp_path / "..new").symlink_to("..2")
        os.replace(tmp_path / "..new", tmp_path / "..data")
        until(lambda: engine.metric("vmanomaly_model_runs_total", stage="fit", model_alias="m"), 20, "the new one")
        assert engine.metric("vmanomaly_model_runs_total", stage="fit", model_alias="z") == 1


def test_without_watch_only_a_signal_reloads(vm: ScriptedVm, tmp_path: Path) -> None:
    with running(Watched(tmp_path, BASE.format(url=vm.url), "--state-dir", str(tmp_path / "state"))) as engine:
        until(lambda: vm.written, 30, "scores", lambda: engine.log)
        engine.change(engine.text.replace("reader:", OTHER))
        time.sleep(1)
        assert engine.reloads("success") == 0
        assert engine.metric("vmanomaly_config_reload_enabled") == 0
        engine.process.send_signal(signal.SIGHUP)
        until(lambda: engine.fits("m") == 1, 20, "the new model", lambda: engine.log)
        assert engine.fits("z") == 1
        # Removed while state is on disk: only what is left is kept.
        engine.change(engine.text)
        engine.process.send_signal(signal.SIGHUP)
        until(lambda: "State of 1 groups that are configured no more was removed" in engine.log, 20, "removed")
        n = len(vm.written["y 1"])
        until(lambda: len(vm.written["y 1"]) > n, 10, "scores go on", lambda: engine.log)
        code, _ = engine.stop()
        assert code == 0
    is_whole(vm)


def test_a_reload_after_a_restart_with_results_on_disk_fits_nothing(vm: ScriptedVm, tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    for life in range(2):
        with running(Watched(tmp_path, BASE.format(url=vm.url), *state)) as engine:
            n = len(vm.written.get("y 1", ()))
            until(lambda n=n: len(vm.written.get("y 1", ())) > n + 2, 30, "scores", lambda: engine.log)
            engine.change(engine.text.replace("writer:\n", "writer:\n  timeout: 4s\n"))
            engine.process.send_signal(signal.SIGHUP)
            until(lambda: engine.reloads("success") == 1, 20, "a reload", lambda: engine.log)
            time.sleep(1.5)
            assert engine.fits("z") == (1 if life == 0 else 0)
            assert "cannot be used" not in engine.log
            code, _ = engine.stop()
            assert code == 0
    is_whole(vm)


def test_trap_35_and_38_files_that_vanish_or_cannot_be_read_stop_nothing(vm: ScriptedVm, engine: Watched) -> None:
    text = engine.path.read_text()
    engine.path.unlink()
    until(lambda: engine.reloads("failure") == 1, 20, "it is missed", lambda: engine.log)
    engine.path.mkdir()
    engine.path.rmdir()
    engine.path.write_text("reader: {queries")
    until(lambda: engine.reloads("failure") >= 2, 20, "half a file", lambda: engine.log)
    engine.reloaded(text)
    time.sleep(1.5)
    assert engine.fits("z") == 1
    is_whole(vm)


@pytest.mark.parametrize("options", [("--watch", "-configCheckInterval=200ms"), ()])
def test_certificates_that_rotate_are_read_again(vm: ScriptedVm, tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "next").mkdir()
    files = [Path(file) for file in certificate(tmp_path, "mine")]
    later = [Path(file) for file in certificate(tmp_path / "next", "mine")]
    expected, port = later[0].read_text(), free_port()
    tls = f"{{cert_file: {files[0]}, key_file: {files[1]}}}"
    config, log = tmp_path / "config.yml", tmp_path / "log"
    config.write_text(BASE.format(url=vm.url) + f"server: {{addr: 127.0.0.1, port: {port}, tls: {tls}}}\n")
    with log.open("ab") as file:
        service = subprocess.Popen([ENGINE, str(config), *options], stdout=file, stderr=file)
    try:
        until(lambda: vm.written, 30, "scores", log.read_text)
        assert ssl.get_server_certificate(("127.0.0.1", port)) == files[0].read_text()
        for old, new in zip(files, later, strict=True):
            os.replace(new, old)
        if not options:
            service.send_signal(signal.SIGHUP)
        until(lambda: "Configuration reloaded" in log.read_text(), 20, "they are read again", log.read_text)
        assert ssl.get_server_certificate(("127.0.0.1", port)) == expected
        n = len(vm.written["y 1"])
        until(lambda: len(vm.written["y 1"]) > n + 2, 20, "scores go on", log.read_text)
        service.send_signal(signal.SIGHUP)
        until(lambda: "is what runs already" in log.read_text(), 20, "no change", log.read_text)
    finally:
        service.terminate()
        assert service.wait(15) == 0
    assert log.read_text().count("Configuration reloaded") == 1
    is_whole(vm)


def test_retention_drops_series_that_are_gone_and_the_others_go_on(vm: ScriptedVm, tmp_path: Path) -> None:
    retention = "settings: {retention: {ttl: 3s, check_interval: 1s}}\n"
    state = ("--state-dir", str(tmp_path / "state"))
    with running(Watched(tmp_path, BASE.format(url=vm.url) + retention, *state)) as engine:
        until(lambda: vm.written, 30, "scores", lambda: engine.log)
        assert engine.metric("vmanomaly_models_active") == 3
        vm.n_series = 2
        until(lambda: engine.metric("vmanomaly_series_expired_total") == 1, 20, "it is noticed", lambda: engine.log)
        until(lambda: engine.metric("vmanomaly_models_active") == 2, 10, "one less", lambda: engine.log)
        assert "1 series without a point for 3s are dropped" in engine.log
        vm.n_series = 3  # it comes back: an online model begins with it anew
        until(lambda: engine.metric("vmanomaly_models_active") == 3, 10, "there again", lambda: engine.log)
        time.sleep(1.5)
        assert engine.fits("z") == 1
        assert engine.stop()[0] == 0
    is_whole(vm)
