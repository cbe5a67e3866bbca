"""Where requests come from, what answers carry, and what logs, metrics and spans tell."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otpvoice.errors import ConfigurationError, OTPVoiceError, ProviderUnavailable, SchemaMismatch, StoreUnavailable
from otpvoice.http import addresses, housekeeping, logs, problems, telemetry
from otpvoice.http import app as application
from otpvoice.http.settings import HttpSettings
from otpvoice.settings import Settings
from tests.conftest import NUMBER, SECRET
from tests.http_tools import House, Make, houses


@pytest.fixture
def make(sqlite_template: Any, tmp_path: Any, clock: Any) -> Iterator[Make]:
    path = tmp_path / "otpvoice.db"
    path.write_bytes(sqlite_template.read_bytes())
    yield from houses(f"sqlite:///{path}", clock)


def origin(peer: str | None, *forwarded: str, proto: str | None = None, scheme: str = "http") -> addresses.Origin:
    return addresses.origin(
        peer=peer,
        scheme=scheme,
        forwarded_for=list(forwarded),
        forwarded_proto=[] if proto is None else [proto],
        trusted=addresses.networks(["10.0.0.0/8", "fd00::/8"]),
    )


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, rubbish"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("fd00::1", ["[2001:db8::1]"], "2001:db8::1"),
        (None, ["198.51.100.1"], None),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str | None, forwarded: list[str], address: str | None) -> None:
    """P30: what a stranger writes into the header moves nothing."""
    assert origin(peer, *forwarded).address == address


@pytest.mark.parametrize(
    ("peer", "proto", "scheme", "secure"),
    [
        ("203.0.113.9", None, "http", False),
        ("203.0.113.9", "https", "http", False),
        ("203.0.113.9", None, "https", True),
        ("10.0.0.1", "https", "http", True),
        ("10.0.0.1", "http", "http", False),
        ("10.0.0.1", None, "http", False),
        ("10.0.0.1", "https, http", "http", False),
        ("127.0.0.1", None, "http", True),
        ("127.0.0.1", "http", "http", False),
        ("127.0.0.1", "https", "http", True),
        ("10.0.0.1", "http", "https", False),
        (None, None, "http", True),
    ],
)
def test_tls_is_asserted_by_this_process_or_a_trusted_proxy(
    peer: str | None, proto: str | None, scheme: str, secure: bool
) -> None:
    assert origin(peer, proto=proto, scheme=scheme).secure == secure


def test_plain_http_is_refused_and_not_redirected(make: Make) -> None:
    """P90. Probes and metrics inside a cluster excepted."""
    house = make(http={"tls": "required", "trusted_proxies": ["10.0.0.0/8"]})
    key = house.key()
    outside = house.client(key, peer="203.0.113.9")
    answer = outside.post("/v1/challenges", {"recipient": NUMBER, "purpose": "login"})
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:otpvoice:problem:insecure-transport")
    assert outside.get("/healthz").status_code == 200
    proxied = house.client(key, peer="10.0.0.1", **{"X-Forwarded-Proto": "https"})
    assert proxied.post("/v1/challenges", {"recipient": NUMBER, "purpose": "login"}).status_code == 201


def test_strangers_addresses_are_counted_where_the_caller_is_no_server(make: Make) -> None:
    """P30: rotating headers from one untrusted peer, and addresses inside one /64, fill one bucket."""
    house = make(http={"limit_by_address": True})
    key = house.key()

    def statuses(peers: list[str]) -> list[int]:
        found = []
        for number, peer in enumerate(peers):
            client = house.client(key, peer=peer, **{"X-Forwarded-For": f"198.51.100.{number}", "X-Real-IP": "1.1.1.1"})
            body = {"recipient": f"+849123456{number:02}", "purpose": "login"}
            found.append(client.post("/v1/challenges", body).status_code)
        return found

    assert statuses(["203.0.113.9"] * 21) == [201] * 20 + [429]
    assert statuses([f"2001:db8:1:2::{number:x}" for number in range(1, 22)]) == [201] * 20 + [429]
    other = house.client(key, peer="203.0.113.9")
    named = {"recipient": "+84912345699", "purpose": "login", "client": "203.0.113.77"}
    assert other.post("/v1/challenges", named).status_code == 201


def test_the_scheme_of_the_client_is_that_of_the_request(make: Make) -> None:
    """HSTS is sent, and URLs are read, as the client spoke; a stranger's header changes neither."""
    house = make(http={"trusted_proxies": ["10.0.0.0/8"]})
    said = {"X-Forwarded-Proto": "https"}
    assert "strict-transport-security" in house.client(peer="10.0.0.1", **said).get("/healthz").headers
    assert "strict-transport-security" not in house.client(peer="203.0.113.9", **said).get("/healthz").headers


def test_every_answer_has_its_headers(make: Make) -> None:
    house = make()
    shop = house.client()
    for answer in (shop.get("/healthz"), shop.get("/nowhere"), shop.post("/v1/challenges", content=b"{")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in answer.headers
        assert len(answer.headers.get_list("x-request-id")) == 1
    assert shop.get("/healthz", headers={"X-Request-Id": "abcdef-123"}).headers["x-request-id"] == "abcdef-123"
    for hostile in ("short", "x" * 65, 'a"b{}cdefghij', "<script>alert(1)"):
        assert shop.get("/healthz", headers={"X-Request-Id": hostile}).headers["x-request-id"] != hostile


def test_headers_have_their_limit(make: Make) -> None:
    house = make()
    answer = house.client(**{"X-Filler": "x" * 20000}).get("/healthz")
    assert (answer.status_code, answer.json()["type"]) == (431, "urn:otpvoice:problem:headers-too-large")


def test_docs_are_off_in_production(make: Make) -> None:
    """P91."""
    production, development = make(), make(http={"mode": "development"})
    assert production.client(None).get("/docs").status_code == 404
    assert development.client(None).get("/docs").status_code == 200
    assert production.client(None).get("/openapi.json").status_code == 200
    assert make(http={"openapi": False}).client(None).get("/openapi.json").status_code == 404


@pytest.mark.parametrize("error", [RuntimeError("secret 482913"), OTPVoiceError("secret 482913"), KeyError("x")])
def test_the_last_resort_tells_nothing(make: Make, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """P91: neither in the answer nor in the log."""
    house = make()
    shop = house.client()

    async def broken(*_args: object, **_named: object) -> None:
        raise error

    monkeypatch.setattr(house.deps.live("shop"), "get", broken, raising=False)
    answer = shop.get("/v1/challenges/ch_" + "0" * 32)
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:otpvoice:problem:internal")
    assert answer.headers["x-request-id"]
    assert "482913" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("error", [StoreUnavailable, SchemaMismatch])
def test_a_store_that_is_away_is_a_503_that_says_nothing_of_it(
    make: Make, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """P32: nothing is approved, nothing is sent. A store of another revision is away, too."""
    house = make()
    shop = house.client()
    opened = shop.open()
    sent = len(house.voice.sent)

    def away(*_args: object, **_named: object) -> None:
        raise error("the database did not answer (OperationalError: host db.internal port 5432)")

    monkeypatch.setattr(house.deps.service._assembly.store, "transact", away)
    answers = [
        shop.verify(opened["id"], house.code),
        shop.post("/v1/challenges", {"recipient": NUMBER, "purpose": "login"}),
        shop.get(f"/v1/challenges/{opened['id']}"),
    ]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert all("retry-after" in answer.headers for answer in answers)
    assert not any("internal" in answer.text for answer in answers)
    ready = shop.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"status": "unavailable"})
    assert shop.get("/healthz").status_code == 200
    assert len(house.voice.sent) == sent


def test_a_process_that_is_stopping_is_not_ready(make: Make) -> None:
    house = make()
    house.deps.stopping = True
    assert house.client(None).get("/readyz").json() == {"status": "stopping"}
    assert house.client(None).request("HEAD", "/readyz").status_code == 503
    assert house.client(None).request("HEAD", "/healthz").status_code == 200


def test_a_request_that_a_stopping_process_gives_up_is_a_503(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the last thing that is said, and no 500 in plain text."""
    house = make()
    shop = house.client()
    opened = shop.open()
    begun = asyncio.Event()
    sent: list[Any] = []

    async def slow(*_args: object, **_named: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def keep(message: Any) -> None:
            sent.append(message)
            await send(message)

        await house.app(scope, receive, keep)

    async def give_up() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=shop.http.headers) as client:
            asked = asyncio.create_task(client.post(f"/v1/challenges/{opened['id']}/verify", json={"code": "1"}))
            await asyncio.wait_for(begun.wait(), 20)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked

    monkeypatch.setattr(house.deps.live("shop"), "verify_code", slow, raising=False)
    house.run(give_up())
    assert sent[0]["status"] == 503
    assert b"retry-after" in dict(sent[0]["headers"])
    assert json.loads(sent[1]["body"])["type"] == "urn:otpvoice:problem:stopping"


def test_metrics_count_and_hold_no_person(make: Make) -> None:
    house = make()
    shop = house.client()
    opened = shop.open(subject="alice@example.org")
    shop.verify(opened["id"], house.wrong())
    shop.verify(opened["id"], house.code)
    shop.post("/v1/challenges", {"recipient": NUMBER, "purpose": "nobody-has-this"})
    for path in ("/a", "/b", "/c"):
        shop.get(path)
    shop.request("BREW", "/a")
    text = house.client(None).get("/metrics").text
    for line in (
        'otpvoice_challenges_total{outcome="opened",purpose="login",tenant="shop"} 1.0',
        'otpvoice_challenges_total{outcome="unknown-purpose",purpose="other",tenant="shop"} 1.0',
        'otpvoice_verifications_total{outcome="failed",tenant="shop"} 1.0',
        'otpvoice_verifications_total{outcome="approved",tenant="shop"} 1.0',
        'otpvoice_expected_takeovers_total{tenant="shop"} 1e-06',
        'otpvoice_http_requests_total{method="GET",route="unmatched",status="404"} 3.0',
        'otpvoice_http_requests_total{method="other",route="unmatched",status="404"} 1.0',
    ):
        assert line in text, line
    for secret in (opened["id"], NUMBER, house.code, "alice", shop.http.headers["authorization"][7:]):
        assert secret not in text


def test_metrics_say_which_channel_is_passed_over(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    house = make()
    shop = house.client()
    house.voice.fail_with(ProviderUnavailable("down"), times=5)
    for last in range(5):
        shop.post("/v1/challenges", {"recipient": f"+8491234567{last}", "purpose": "login"})
    text = house.client(None).get("/metrics").text
    assert 'otpvoice_channel_resting{channel="voice"} 1.0' in text
    assert 'otpvoice_channel_failures{channel="voice"} 5.0' in text
    assert 'otpvoice_channel_accepted_ratio{channel="voice"} 0.0' in text
    assert "otpvoice_channel_answered_ratio{" not in text
    house.clock.advance(31)
    shop.open()
    text = house.client(None).get("/metrics").text
    assert 'otpvoice_channel_resting{channel="voice"} 0.0' in text
    assert text.count("# TYPE otpvoice_channel_resting gauge") == 1

    async def away() -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(house.deps.service, "health", away)
    alone = house.client(None).get("/metrics")
    assert alone.status_code == 200
    assert "otpvoice_channel_resting" not in alone.text


def test_metrics_are_for_those_inside(make: Make) -> None:
    private = make()
    assert private.client(None, peer="10.1.2.3").get("/metrics").status_code == 200
    assert private.client(None, peer="8.8.8.8").get("/metrics").status_code == 404
    proxied = private.client(None, peer="10.1.2.3", **{"X-Forwarded-For": "8.8.8.8"})
    assert proxied.get("/metrics").status_code == 404
    assert private.client(None, peer="::ffff:10.1.2.3").get("/metrics").status_code == 200
    assert private.client(None, peer="::ffff:8.8.8.8").get("/metrics").status_code == 404
    for header in ("X-Forwarded-Proto", "Forwarded", "X-Real-IP", "Via"):
        assert private.client(None, peer="10.1.2.3", **{header: "x"}).get("/metrics").status_code == 404
    assert make(http={"metrics": "open"}).client(None, peer="8.8.8.8").get("/metrics").status_code == 200
    assert make(http={"metrics": "off"}).client(None).get("/metrics").status_code == 404


def test_log_lines_are_json_with_the_request_and_without_the_person(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """P77: at DEBUG too; a line break from outside stays inside its value."""
    before = logging.getLogger().handlers[:], logging.getLogger().level, logging.getLogger("otpvoice").level
    try:
        logs.configure(level="debug")
        house = make()
        shop = house.client(**{"X-Request-Id": "request-0001", "User-Agent": "x"})
        opened = shop.open(subject="alice@example.org")
        shop.verify(opened["id"], house.code)
        shop.get("/a%0a%7b%22event%22:%22forged%22%7d")
        shop.post("/v1/challenges", {"recipient": "+1\n{}", "purpose": "login\nforged"})
        shop.get(f"/v1/challenges/{NUMBER}")
        shop.request("SECRET482913", f"/v1/challenges/{house.code}")
    finally:
        logging.getLogger().handlers[:], level, ours = before
        logging.getLogger().setLevel(level)
        logging.getLogger("otpvoice").setLevel(ours)
    written = capsys.readouterr().err
    lines = [json.loads(line) for line in written.splitlines()]
    requests = [line for line in lines if line["logger"] == "otpvoice.access"]
    assert [line["status"] for line in requests] == [201, 200, 404, 422, 404, 405]
    assert {line["request_id"] for line in requests} == {"request-0001"}
    assert requests[1]["challenge"] == opened["id"]
    assert requests[1]["tenant"] == "shop"
    for secret in (NUMBER, NUMBER[1:], house.code, "SECRET", "alice", shop.http.headers["authorization"][-43:]):
        assert secret not in written


def test_spans_are_named_by_route_and_hold_no_path(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", trace.get_tracer("otpvoice.http", tracer_provider=provider))
    house = make()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    shop = house.client(traceparent=parent)
    opened = shop.open()
    shop.verify(opened["id"], house.code)
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == [
        "POST /v1/challenges",
        "POST /v1/challenges/{challenge_id}/verify",
    ]
    assert {format(span.context.trace_id, "032x") for span in spans if span.context} == {parent[3:35]}
    told = " ".join(span.to_json() for span in spans)
    for secret in (opened["id"], house.code, NUMBER):
        assert secret not in told


def test_spans_are_exported_before_the_process_ends(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM ends it without what Python does at its exit."""
    flushed: list[int] = []

    class Provider:
        def force_flush(self, timeout_millis: int) -> bool:
            flushed.append(timeout_millis)
            return True

    house = make()
    monkeypatch.setattr(trace, "get_tracer_provider", Provider)

    async def live() -> None:
        async with house.app.router.lifespan_context(house.app):
            assert not flushed

    house.run(live())
    assert flushed == [5000]


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"prot": 1}, "http.prot"),
        ({"port": "80"}, "http.port"),
        ({"mode": "prod"}, "http.mode"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "http.trusted_proxies"),
        ({"trusted_proxies": ["everybody"]}, "http.trusted_proxies"),
        ({"proof_ttl": 301}, "http.proof_ttl"),
        ({"tls_key": "key.pem"}, "tls_certificate"),
        ({"verify_body": 1}, "http.verify_body"),
    ],
)
def test_a_wrong_setting_is_named(table: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        HttpSettings.from_table(table)


@pytest.mark.parametrize("table", [{"development": True}, {"channels": {"voice": {"type": "console"}}}])
def test_what_prints_codes_is_no_production(table: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """P81: refused where production is written down, and told where nothing is."""
    told = {"secret": [SECRET], **table}
    with pytest.raises(ConfigurationError, match="not with mode"):
        application.create_app(Settings(http={"mode": "production"}, **told))
    application.create_app(Settings(**told))
    assert "no production" in caplog.text


def test_every_error_of_the_package_has_its_row() -> None:
    """One table, and whole: what is added to the tree is told as its parent until somebody decides."""
    from otpvoice import errors

    named = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, OTPVoiceError) and not value.__name__.startswith("_")
    ]
    told = {error.__name__: problems.kind_of(error).status for error in named}
    assert {name for name, status in told.items() if status == 500} == {
        "OTPVoiceError", "ConfigurationError", "WeakSecret", "Refused",
    }  # fmt: skip
    kinds = set(problems.TABLE.values())
    assert len({kind.slug for kind in kinds}) == len(kinds)


def test_nothing_of_the_house_is_a_coroutine_left_over(make: Make) -> None:
    """The lifespan starts what runs beside the requests, and ends it."""
    house: House = make()

    async def live() -> list[bool]:
        seen = []
        async with house.app.router.lifespan_context(house.app):
            seen.append(house.deps.stopping)
        seen.append(house.deps.stopping)
        return seen

    assert house.run(live()) == [False, True]


def test_answers_and_redeemed_proofs_are_forgotten_in_time(make: Make) -> None:
    """P76: neither table grows with history, and nothing is forgotten while it counts."""
    house = make()
    shop = house.client()
    opened = shop.open()
    header = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
    verified = shop.post(f"/v1/challenges/{opened['id']}/verify", {"code": house.code}, headers=header).json()
    shop.post("/v1/proofs/redeem", {"proof": verified["proof"]})
    assert house.run(housekeeping.once(house.deps)) == 0
    house.clock.advance(122)
    assert house.run(housekeeping.once(house.deps)) == 1
    house.clock.advance(25 * 3600)
    assert house.run(housekeeping.once(house.deps)) == 1
    assert shop.get(f"/v1/challenges/{opened['id']}").status_code == 404


def test_what_runs_beside_the_requests_is_begun_again_when_it_breaks(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make()
    begun: list[int] = []

    async def breaks(_deps: object) -> None:
        begun.append(1)
        if len(begun) < 3:
            raise RuntimeError("broken")

    monkeypatch.setattr(application, "_PAUSE", 0)
    house.run(application._kept_running(breaks, house.deps))
    assert len(begun) == 3
