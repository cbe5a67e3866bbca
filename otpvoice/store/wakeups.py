"""Waking workers: a notification where the database has them, nothing where it is polled."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

if TYPE_CHECKING:
    from otpvoice.store.engine import Store

log = logging.getLogger("otpvoice.store")

CHANNEL = "otpvoice_due"

_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', '')")
_CONNECT_SECONDS = 5
"""How long it tries to connect: a stop waits for that, too."""


def notify(connection: Connection) -> None:
    """Wake every listening worker when this transaction commits (PostgreSQL ``NOTIFY``)."""
    if connection.dialect.name == "postgresql":
        connection.execute(_NOTIFY)


class Listener:
    """Calls back for every notification, from a thread of its own. Does nothing on SQLite."""

    def __init__(self, store: Store, wake: Callable[[], None]) -> None:
        self._url = store.url
        self._wake = wake
        self._stopped = threading.Event()
        self._bell, self._ear = socket.socketpair()
        self._thread = None if store.sqlite else threading.Thread(target=self._listen, daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        if self._thread is not None:
            self._thread.start()

    def stop(self) -> None:
        """Stop listening, and wait for the thread to end."""
        self._stopped.set()
        self._bell.close()  # Its other end, which the thread waits for beside the database, can be read from now on.
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()
        self._ear.close()

    def _listen(self) -> None:
        import psycopg

        address = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        while not self._stopped.is_set():
            try:
                with (
                    psycopg.connect(address, autocommit=True, connect_timeout=_CONNECT_SECONDS) as connection,
                    selectors.DefaultSelector() as selector,
                ):
                    connection.execute(f"LISTEN {CHANNEL}")
                    selector.register(connection.fileno(), selectors.EVENT_READ)
                    selector.register(self._ear, selectors.EVENT_READ)
                    self._wake()  # What was queued before we listened.
                    while not self._stopped.is_set():
                        for _ in connection.notifies(timeout=0):
                            self._wake()
                        selector.select()
            except psycopg.Error as error:
                # The worker polls meanwhile: work is late by a moment, never lost.
                log.warning("not notified of new work for now: %s", type(error).__name__)
                self._stopped.wait(1.0)
