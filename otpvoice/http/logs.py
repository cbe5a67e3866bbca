"""Logs of the service: one JSON object a line, with the request's id, and nothing that names a person.

Values are encoded, so that no request can write a line of its own. What otpvoice logs holds no code and no full
recipient; what other libraries log at INFO or finer is left out: an HTTP client's lines hold URLs.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

_OURS = "otpvoice"
_QUIET = ("httpx", "httpcore", "alembic", "sqlalchemy", "asyncio")


_SHARED: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def logger(name: str) -> Any:
    """A structured logger over the standard library's: whoever embeds the application decides where it goes."""
    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def configure(*, level: str = "info", development: bool = False) -> None:
    """Send all logs of this process to standard error: JSON, or in development lines for people."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.dev.ConsoleRenderer() if development else structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_OURS).setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error"):
        servers = logging.getLogger(name)
        servers.handlers[:] = []
        servers.propagate = True
        servers.setLevel(level.upper())
    for name in ("uvicorn.access", *_QUIET):
        logging.getLogger(name).setLevel(logging.WARNING)
