"""Every error that this service raises on purpose.

EngineError
  ConfigError    the configuration, with all problems found; the process exits 1
  ReadError      a query that could not be answered; carries the response code for metrics
  WriteError     a body that could not be delivered; the same
  ModelError     a fit or inference that its data or arguments make impossible
  StateError     state on disk that cannot be written or read back
  StartError     something that the service needs at start is not there; the process exits 1
  InputError     a file that a command was given cannot be used; the process exits 1
"""

from __future__ import annotations

from collections.abc import Sequence


class EngineError(Exception):
    """Base of all errors with a message meant for the user."""


class ConfigError(EngineError):
    """All problems of a configuration at once.

    Parameters
    ----------
    problems : one line each: path, value, what was expected.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class ReadError(EngineError):
    """A failed read. `code` is an HTTP status or one of connection_error, timeout, ssl_error, io_error."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class WriteError(EngineError):
    """A failed write. `code` as in `ReadError`; `retryable` is false where the same body will fail again."""

    def __init__(self, message: str, code: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


class ModelError(EngineError):
    """A fit or inference that cannot be done with this data or these arguments."""


class StateError(EngineError):
    """State that cannot be written, or a file that is not state as it was written."""


class StartError(EngineError):
    """The service cannot start: a part that is not available, a port in use, a missing file."""


class InputError(EngineError):
    """A file that a command was given: not there, not readable, or not what it must be; says file, line and column."""
