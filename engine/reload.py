"""Changed configuration files, or SIGHUP, to the next configuration to run."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.config.load import digest, list_files
from engine.config.report import Report
from engine.config.schema import Config
from engine.config.sections import LOGGER_ALIASES
from engine.errors import ConfigError, EngineError
from engine.metrics import Metrics

log = logging.getLogger("reload")

# Files that are being written are left alone until they have been the same for so long.
_SETTLED_S = 0.5


def log_levels(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Set the levels of loggers; those no longer named follow their parents again."""
    before, now = _by_our_names(before), _by_our_names(now)
    for name in before.keys() - now.keys():
        logging.getLogger(name).setLevel(logging.NOTSET)
    for name, level in now.items():
        logging.getLogger(name).setLevel(level)


def _by_our_names(levels: Mapping[str, str]) -> dict[str, str]:
    """Levels by logger; a logger's own name counts before that which vmanomaly has for it."""
    others = {LOGGER_ALIASES[name]: level for name, level in levels.items() if name in LOGGER_ALIASES}
    return others | {name: level for name, level in levels.items() if name not in LOGGER_ALIASES}


class Reload:
    """Looks at files on a thread of its own, and has what they say run on the thread that asks.

    Contents count, not times of change: a symbolic link that points elsewhere, a file that came or went.

    Parameters
    ----------
    paths : of files and folders, as on the command line.
    load : the configuration that they say now; raises `ConfigError`.
    every_s : None looks only when asked to.
    """

    def __init__(self, paths: Sequence[Path], load: Callable[[], Config], every_s: float | None) -> None:
        self._paths = tuple(paths)
        self._load = load
        self._every_s = every_s
        self._asked = threading.Event()
        self._loaded: queue.SimpleQueue[Config] = queue.SimpleQueue()
        self._digest = self._look()

    def start(self, running: Config, metrics: Metrics) -> None:
        """Begin to look; `running` is what runs now."""
        self._running = running
        self._metrics = metrics
        metrics.reload_enabled.set(self._every_s is not None)
        for status in ("success", "failure"):
            metrics.reloads.labels(status)
        if self._every_s is not None:
            log.info("Hot reload enabled: files are looked at every %g s", self._every_s)
        threading.Thread(target=self._watch, name="reload", daemon=True).start()

    def ask(self) -> None:
        """Reload now, whether or not files have changed; safe in a signal handler."""
        self._asked.set()

    def serve(self, apply: Callable[[Config], None]) -> None:
        """Have the newest configuration run, if there is one that is not running."""
        config = None
        while not self._loaded.empty():
            config = self._loaded.get()
        if config is None:
            return
        started = time.monotonic()
        before, now = self._running, config
        try:
            if now.tls_digest != before.tls_digest or _without_levels(now.source) != _without_levels(before.source):
                apply(now)
                log.info("Configuration reloaded in %.2f s", time.monotonic() - started)
            elif now.settings.logger_levels != before.settings.logger_levels:
                log.info("Applied component log level changes")
            else:
                log.info("The configuration is what runs already")
        except EngineError as err:
            self._failed("Reload apply failed, the configuration before goes on: %s", err)
            return
        log_levels(before.settings.logger_levels, now.settings.logger_levels)
        self._running = now
        self._metrics.reloads.labels("success").inc()
        self._metrics.reload_ok.set(1)
        self._metrics.reload_time.set_to_current_time()

    def _watch(self) -> None:
        while True:
            is_asked = self._asked.wait(self._every_s)
            self._asked.clear()
            try:
                found = self._look()
                if found == self._digest and not is_asked and not self._is_rotated():
                    continue
                while not is_asked and (later := self._look_again()) != found:
                    found = later
                self._digest = found
                config = self._load()
            except ConfigError as err:
                problems = "".join(f"\n  {problem}" for problem in err.problems)
                self._failed("Reload aborted, the configuration before goes on:%s", problems)
            except Exception:  # an operator's model file may raise anything
                log.exception("Reload aborted")
                self._failed("the configuration before goes on")
            else:
                for warning in config.warnings:
                    logging.getLogger("config").warning("%s", warning)
                self._loaded.put(config)

    def _is_rotated(self) -> bool:
        """Whether a certificate or key is another one than what runs was opened with."""
        return digest(self._running.tls_files) != self._running.tls_digest

    def _look_again(self) -> bytes:
        time.sleep(_SETTLED_S)
        return self._look()

    def _look(self) -> bytes:
        """What the files of the configuration hold, as a short text."""
        return digest(list_files(self._paths, Report()))

    def _failed(self, message: str, *args: object) -> None:
        log.error(message, *args)
        self._metrics.reloads.labels("failure").inc()
        self._metrics.reload_ok.set(0)


def _without_levels(source: Mapping[str, Any]) -> dict[str, Any]:
    settings = source.get("settings") or {}
    return {**source, "settings": {key: value for key, value in settings.items() if key != "logger_levels"}}
