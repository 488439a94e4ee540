"""Settings types of the sections `server` and `monitoring`."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from engine.http import Connection
from engine.settings import Duration, Settings

# 0 lets the system choose, for tests.
Port = Annotated[int, Meta(ge=0, le=65_535)]


class AuthSettings(Settings, frozen=True, kw_only=True):
    """``server.auth``: who may ask; a user with a password, a token, or either."""

    user: str | None = None
    password: str | None = None
    bearer_token: str | None = None
    bearer_token_file: str | None = None


class TlsSettings(Settings, frozen=True, kw_only=True):
    """``server.tls``: the listener's certificate; with `client_ca_file` only clients with one of that CA get in."""

    cert_file: Annotated[str, Meta(min_length=1)]
    key_file: Annotated[str, Meta(min_length=1)]
    client_ca_file: str | None = None


class ServerSettings(Settings, frozen=True, kw_only=True):
    """``server``: the one listener of API, `/health` and `/metrics`."""

    addr: Annotated[str, Meta(min_length=1)] = "0.0.0.0"
    port: Port = 8500
    path_prefix: str | None = None
    max_concurrent_tasks: Annotated[int, Meta(gt=0)] = 2
    use_reader_connection_settings: bool = False
    ui_default_state: str | None = None
    auth: AuthSettings | None = None
    tls: TlsSettings | None = None
    uvicorn_config: dict[str, Any] = field(default_factory=lambda: {"log_level": "warning"})


class PullSettings(Settings, frozen=True, kw_only=True):
    """``monitoring.pull``: a listener for `/metrics` alone; the server's own port shares that listener."""

    addr: Annotated[str, Meta(min_length=1)] = "0.0.0.0"
    port: Port = 8080


class PushFrequency(int):
    """Milliseconds between extra pushes; 0, written "", pushes only after each finished job."""

    @classmethod
    def parse(cls, value: Any) -> PushFrequency:
        """The frequency that a configuration value says.

        Raises
        ------
        ValueError : it says none.
        """
        if value == "":
            return cls(0)
        try:
            duration = Duration.parse(value)
        except ValueError:
            duration = Duration(-1)
        if duration <= 0:
            raise ValueError('expected a duration above 0 like "15m", or "" for pushes after finished jobs only')
        return cls(duration)

    def __str__(self) -> str:
        return str(Duration(self)) if self else ""


class PushSettings(Connection, frozen=True, kw_only=True):
    """``monitoring.push``: our own metrics to an import endpoint."""

    url: Annotated[str, Meta(min_length=1)]
    timeout: Duration = Duration(5_000)
    push_frequency: PushFrequency = PushFrequency(15 * 60_000)
    extra_labels: dict[str, str] = {}
    health_path: str = "/health"


class MonitoringSettings(Settings, frozen=True, kw_only=True):
    """``monitoring``: ways besides the server's `/metrics` to watch the service."""

    pull: PullSettings | None = None
    push: PushSettings | None = None
