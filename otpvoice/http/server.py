"""Serving: uvicorn with our limits, in one process or several that share nothing but the database."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from otpvoice.errors import ConfigurationError
from otpvoice.http import telemetry
from otpvoice.http.settings import HttpSettings

APPLICATION = "otpvoice.http.app:from_env"
_CONNECTIONS = 4096
"""Connections and requests of one process, beyond which uvicorn answers 503 by itself."""


def check(http: HttpSettings) -> None:
    """Raises :class:`~otpvoice.errors.ConfigurationError` for TLS files that are missing or do not belong together."""
    if http.tls_certificate is None or http.tls_key is None:
        return
    try:
        # A password would be asked for at the terminal, and no service has one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            http.tls_certificate, http.tls_key, password=lambda: b""
        )
    except OSError as error:
        raise ConfigurationError(
            f"http.tls_certificate and http.tls_key cannot be used together: {error.strerror or type(error).__name__}"
        ) from None


def serve(http: HttpSettings) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished within ``shutdown_timeout``."""
    with _shared_metrics(http.workers):
        uvicorn.run(APPLICATION, **options(http))


def options(http: HttpSettings) -> dict[str, Any]:
    """Uvicorn's options. Proxies' headers are ours to read, and so are access logs."""
    return {
        "factory": True,
        "host": http.host,
        "port": http.port,
        "workers": http.workers,
        "http": "otpvoice.http.protocol:Patient",
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "date_header": True,
        "limit_concurrency": _CONNECTIONS,
        "timeout_graceful_shutdown": http.shutdown_timeout,
        "h11_max_incomplete_event_size": http.headers + 4096,
        "ssl_certfile": http.tls_certificate,
        "ssl_keyfile": http.tls_key,
    }


@contextmanager
def _shared_metrics(workers: int) -> Iterator[None]:
    """A directory in which several processes add up their numbers, set before they start."""
    if workers == 1 or os.environ.get(telemetry.SHARED):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="otpvoice-metrics-") as directory:
        os.environ[telemetry.SHARED] = directory
        try:
            yield
        finally:
            del os.environ[telemetry.SHARED]
