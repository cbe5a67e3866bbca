"""The ``[http]`` table of the configuration."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from otpvoice.errors import ConfigurationError


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text))


Network = Annotated[str, AfterValidator(_network)]


class HttpSettings(BaseModel):
    """How the service is served. Spans are seconds, sizes bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    mode: Literal["production", "development"] = "production"
    """``development`` shows ``/docs`` and takes plain HTTP from anywhere."""
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64)
    openapi: bool = True
    """Whether ``/openapi.json`` is shown; it describes this API and holds nothing of the installation."""
    metrics: Literal["private", "open", "off"] = "private"
    """``private``: only loopback and private addresses that came without a proxy may read ``/metrics``."""
    tls: Literal["required", "off"] = "required"
    """``required``: what comes neither over TLS, through a trusted proxy that says ``https``, nor from this machine
    is refused, never redirected (property P90)."""
    tls_certificate: str | None = None
    tls_key: str | None = None
    """PEM files, where this process ends TLS itself."""
    trusted_proxies: list[Network] = []
    """Networks whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed (property P30)."""
    limit_by_address: bool = False
    """Count openings by the caller's own address where a request names no ``client``: for callers that are browsers
    or apps, not one server that asks for all."""
    worker: bool = True
    """Send from an in-process worker, off the request path (property P82)."""
    verify_body: int = Field(default=4096, ge=256, le=1 << 20)
    body: int = Field(default=16384, ge=1024, le=1 << 20)
    headers: int = Field(default=16384, ge=2048, le=1 << 20)
    body_timeout: float = Field(default=10.0, gt=0, le=120)
    """How long all of a body may take to arrive."""
    header_timeout: float = Field(default=10.0, gt=0, le=120)
    """How long a connection may take to send all of a request's headers."""
    shutdown_timeout: int = Field(default=20, ge=1, le=600)
    """How long requests under way may take after the process was told to stop."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    issuer: str = "otpvoice"
    """``iss`` of proofs."""
    proof_ttl: int = Field(default=120, ge=10, le=300)
    """How long a proof counts, in seconds: at most 5 minutes (property P15)."""

    @property
    def development(self) -> bool:
        """Whether this is no production."""
        return self.mode == "development"

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> HttpSettings:
        """Read the table. Raises :class:`~otpvoice.errors.ConfigurationError` naming every wrong key."""
        try:
            settings = cls.model_validate(dict(table))
        except ValidationError as error:
            wrong = [
                f"http.{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
                for item in error.errors(include_input=False, include_url=False)
            ]
            raise ConfigurationError(f"the configuration is wrong: {'; '.join(wrong)}") from None
        if (settings.tls_certificate is None) != (settings.tls_key is None):
            raise ConfigurationError("http.tls_certificate and http.tls_key go together")
        return settings
