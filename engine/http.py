"""HTTP clients from connection settings: auth, TLS, time-outs; shared by reader, writer and push."""

from __future__ import annotations

from typing import Protocol

from engine.settings import Settings


class ConnectionKeys(Protocol):
    """The keys that every HTTP peer of ours has. Secrets: `password`, `bearer_token`, credentials in a URL."""

    @property
    def user(self) -> str | None: ...
    @property
    def password(self) -> str | None: ...
    @property
    def bearer_token(self) -> str | None: ...
    @property
    def bearer_token_file(self) -> str | None: ...
    @property
    def verify_tls(self) -> bool | str: ...
    @property
    def tls_cert_file(self) -> str | None: ...
    @property
    def tls_key_file(self) -> str | None: ...


class Connection(Settings, frozen=True, kw_only=True):
    """`ConnectionKeys` as the base of a settings type."""

    user: str | None = None
    password: str | None = None
    bearer_token: str | None = None
    bearer_token_file: str | None = None
    verify_tls: bool | str = True
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    tenant_id: str | None = None
