"""Real service processes over real sockets, and an endpoint that takes the messages they send."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from otpvoice import tenant_keys
from otpvoice.runner import HashingPool, Runner
from otpvoice.store.engine import Store
from tests.conftest import SECRET

START_SECONDS = 60


class Phone:
    """Takes what the ``webhook`` channel posts, as the person's phone would ring."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.picks_up = threading.Event()
        """While it is not set, whoever calls is heard and gets no answer."""
        self.picks_up.set()
        self._news = threading.Condition()
        phone = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with phone._news:
                    phone.heard.append(message)
                    phone._news.notify_all()
                phone.picks_up.wait(60)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def code(self, recipient: str) -> str:
        """The newest code of a recipient, once it has arrived."""
        with self._news:
            arrived = self._news.wait_for(lambda: any(item["recipient"] == recipient for item in self.heard), 30)
            assert arrived, "no message arrived"
            return str(next(item["code"] for item in reversed(self.heard) if item["recipient"] == recipient))

    def close(self) -> None:
        self.picks_up.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass(slots=True)
class Process:
    """One ``otpvoice serve``."""

    port: int
    log: Path
    popen: subprocess.Popen[bytes]
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"http{'' if self.tls is None else 's'}://127.0.0.1:{self.port}"

    def wrote(self, text: str) -> None:
        """Wait until its log has this text."""
        deadline = time.monotonic() + START_SECONDS
        while text not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def wait(self) -> Process:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.popen.poll() is None, self.log.read_text()
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5, verify=self.tls or True).status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(timeout=60)


PATIENT = "header_timeout = 60\nbody_timeout = 60"
"""A machine that is busy with other tests reads slowly: that is no slow client."""


@dataclass(slots=True)
class Installation:
    """A configuration file and a database, for as many processes as wanted."""

    directory: Path
    database_url: str
    phone: Phone
    processes: list[Process] = field(default_factory=list)

    def configure(self, extra: str = "", *, profile: str = "fast", http: str = "") -> None:
        # A JSON string is a TOML string, too.
        (self.directory / "otpvoice.toml").write_text(
            f"""
            secret = "{SECRET}"
            database_url = {json.dumps(self.database_url)}
            hash_profile = "{profile}"
            pool_size = 4

            [channels.voice]
            type = "webhook"
            url = "{self.phone.url}"
            bearer_token = "{SECRET}"

            [http]
            log_level = "info"
            {http or PATIENT}

            {extra or "[tenants.shop]"}
            """
        )

    def start(self, *options: str, tls: ssl.SSLContext | None = None) -> Process:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = self.directory / f"{port}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", "otpvoice", "serve", "--port", str(port), *options],
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
                stdout=output,
                stderr=output,
            )
        process = Process(port, log, popen, tls)
        self.processes.append(process)
        return process

    def key(self, tenant: str = "shop", *, test: bool = False) -> str:
        runner = Runner(Store(self.database_url), HashingPool(permits=1))
        try:
            made = runner.run(tenant_keys.create(tenant, scopes=tenant_keys.SCOPES, test=test))
        finally:
            runner.close()
        return str(made.key)

    def client(self, process: Process, key: str) -> httpx.Client:
        limits = httpx.Limits(max_connections=300)
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(
            base_url=process.url, headers=headers, limits=limits, timeout=60, verify=process.tls or True
        )

    def close(self) -> None:
        for process in self.processes:
            process.stop()
        self.phone.close()
