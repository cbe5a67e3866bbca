"""One POST, to the judged address and nowhere else: against a real TLS server, and against a hostile one."""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from otpvoice import ConfigurationError
from otpvoice.webhooks.addresses import Guard, Target
from otpvoice.webhooks.sender import Answer, Sender

HOST = "hooks.example.com"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


def make_certificate(folder: Path, host: str = HOST) -> Path:
    """A certificate for ``host`` that signs itself, and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{host}.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


class Receiver:
    """A TLS server that keeps what it was sent and answers with these bytes, then hangs up."""

    def __init__(self, pem: Path, answer: bytes | Callable[[ssl.SSLSocket], None] = OK) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.names: list[str | None] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        self._context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            try:
                with self._context.wrap_socket(plain, server_side=True) as secured:
                    self.requests.append(self._read(secured))
                    if callable(self.answer):
                        self.answer(secured)
                    else:
                        secured.sendall(self.answer)
            except OSError:
                plain.close()

    @staticmethod
    def _read(secured: ssl.SSLSocket) -> bytes:
        got = b""
        while b"\r\n\r\n" not in got:
            got += secured.recv(65536) or b"\r\n\r\n"
        head, _, body = got.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        while len(body) < length:
            body += secured.recv(65536)
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        self._listening.close()


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("webhook"))


@pytest.fixture
def receiver(pem: Path) -> Iterator[Receiver]:
    server = Receiver(pem)
    yield server
    server.close()


@pytest.fixture
def tls(pem: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pem))


def here(*answers: str) -> Guard:
    return Guard(resolver=lambda host, port: answers or ["127.0.0.1"], allowed=LOOPBACK)


def send(sender: Sender, receiver: Receiver, guard: Guard | None = None, *, host: str = HOST) -> Answer:
    target = Target(host=host, port=receiver.port, path="/in?x=1")
    return sender.post(target, {"webhook-id": "msg_1"}, b'{"a":1}', guard=guard or here())


def test_the_connection_goes_to_the_address_and_the_name_stays_in_host_sni_and_certificate(
    receiver: Receiver, tls: ssl.SSLContext
) -> None:
    answer = send(Sender(tls=tls), receiver)
    assert answer == Answer(status=200)
    assert answer.delivered
    assert receiver.names == [HOST]
    head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /in?x=1 HTTP/1.1"
    assert f"Host: {HOST}:{receiver.port}" in lines
    assert "webhook-id: msg_1" in lines
    assert body == b'{"a":1}'


def test_a_certificate_for_another_name_or_of_nobody_known_is_refused(receiver: Receiver, tls: ssl.SSLContext) -> None:
    assert send(Sender(tls=tls), receiver, host="other.example.com") == Answer(reason="tls")
    assert send(Sender(), receiver) == Answer(reason="tls")
    assert receiver.requests == []


def test_an_authority_of_ones_own_is_named_in_the_environment(
    receiver: Receiver, pem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    assert send(Sender(), receiver).delivered
    assert send(Sender(), receiver, host="other.example.com") == Answer(reason="tls")
    for wrong in (tmp_path / "none.pem", tmp_path):
        monkeypatch.setenv("SSL_CERT_FILE", str(wrong))
        with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
            Sender()


def test_a_denied_address_is_never_connected_to(receiver: Receiver, tls: ssl.SSLContext) -> None:
    strict = Guard(resolver=lambda host, port: ["127.0.0.1"])
    assert send(Sender(tls=tls), receiver, strict) == Answer(reason="denied")
    mapped = Guard(resolver=lambda host, port: ["::ffff:127.0.0.1"])
    assert send(Sender(tls=tls), receiver, mapped) == Answer(reason="denied")
    assert receiver.connections == 0


class Spy(httpcore.NetworkBackend):
    """Notes where it is told to connect, and connects nowhere."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def connect_tcp(self, host: str, port: int, *more: Any, **options: Any) -> httpcore.NetworkStream:
        self.asked.append(host)
        raise httpcore.ConnectError


def test_a_name_that_answers_differently_the_second_time_gains_nothing() -> None:
    """DNS rebinding: the name is asked once, and what was judged is what is connected to."""
    answers: Iterator[Sequence[str]] = itertools.chain([["93.184.216.34"]], itertools.repeat(["127.0.0.1"]))
    asked: list[str] = []

    def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return next(answers)

    spy = Spy()
    target = Target(host=HOST, port=443, path="/")
    answer = Sender(connect=spy).post(target, {}, b"{}", guard=Guard(resolver=rebinding))
    assert answer == Answer(reason="unreachable")
    assert asked == [HOST]
    assert spy.asked == ["93.184.216.34"]


def test_further_addresses_of_the_same_answer_are_tried() -> None:
    spy = Spy()
    guard = Guard(resolver=lambda host, port: ["93.184.216.34", "93.184.216.35"])
    Sender(connect=spy).post(Target(host=HOST, port=443, path="/"), {}, b"{}", guard=guard)
    assert spy.asked == ["93.184.216.34", "93.184.216.35"]


def test_no_proxy_of_the_environment_is_used(
    receiver: Receiver, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert send(Sender(tls=tls), receiver).delivered


def test_a_redirect_is_a_failure_and_not_followed(receiver: Receiver, tls: ssl.SSLContext) -> None:
    receiver.answer = (
        f"HTTP/1.1 302 Found\r\nLocation: https://{HOST}:{receiver.port}/inside\r\nContent-Length: 0\r\n\r\n".encode()
    )
    assert send(Sender(tls=tls), receiver) == Answer(status=302, reason="redirected")
    assert receiver.connections == 1


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        (b"204 No Content", Answer(status=204)),
        (b"400 Bad Request", Answer(status=400, reason="status")),
        (b"410 Gone", Answer(status=410, reason="gone")),
        (
            b"429 Slow\r\nRetry-After: 30",
            Answer(status=429, reason="status", retry_after=timedelta(seconds=30)),
        ),
        (
            b"503 No\r\nRetry-After: 999999999",
            Answer(status=503, reason="status", retry_after=timedelta(hours=1)),
        ),
        (b"503 No\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT", Answer(status=503, reason="status")),
    ],
)
def test_any_2xx_is_taken_and_every_other_status_is_a_failure(
    receiver: Receiver, tls: ssl.SSLContext, head: bytes, answer: Answer
) -> None:
    receiver.answer = b"HTTP/1.1 " + head + b"\r\nContent-Length: 0\r\n\r\n"
    assert send(Sender(tls=tls), receiver) == answer


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nbroken"])
def test_what_does_not_speak_http_is_a_failure(receiver: Receiver, tls: ssl.SSLContext, answer: bytes) -> None:
    receiver.answer = answer
    assert send(Sender(tls=tls), receiver).reason in {"protocol", "unreachable"}


def test_the_body_of_an_answer_is_not_waited_for(receiver: Receiver, tls: ssl.SSLContext) -> None:
    receiver.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n"
    assert send(Sender(tls=tls), receiver).delivered


def test_a_receiver_that_drips_is_left_at_the_deadline(receiver: Receiver, tls: ssl.SSLContext) -> None:
    """Each byte comes well within any timeout of its own; all of them together do not."""
    hours = itertools.count(step=7)  # Whenever the clock is looked at, seven seconds have gone by.
    dripped = threading.Event()

    def drip(secured: ssl.SSLSocket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 5000:
            secured.sendall(bytes([byte]))
        dripped.set()

    receiver.answer = drip
    sender = Sender(tls=tls, deadline=timedelta(seconds=70), monotonic=lambda: float(next(hours)))
    assert send(sender, receiver) == Answer(reason="timeout")


def test_a_name_that_does_not_resolve_is_a_failure(receiver: Receiver) -> None:
    def fails(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    assert send(Sender(), receiver, Guard(resolver=fails)) == Answer(reason="unresolved")


def test_nothing_listens_there(tls: ssl.SSLContext) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        target = Target(host=HOST, port=bound.getsockname()[1], path="/")
        assert Sender(tls=tls).post(target, {}, b"{}", guard=here()) == Answer(reason="unreachable")
