"""Metrics and spans. Labels are names from the configuration and the route table: bounded, and about nobody."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from otpvoice.upkeep import ChannelHealth

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Where the processes of ``otpvoice serve --workers N`` share their numbers; set before they start."""
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)
_OTHER = "other"
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})

tracer = trace.get_tracer("otpvoice.http")


def method(text: str) -> str:
    """A request's method as metrics, spans and logs name it: one that HTTP does not know is anybody's text."""
    return text if text in _METHODS else _OTHER


class Metrics:
    """One application's metrics."""

    def __init__(self, *, tenants: Collection[str], purposes: Collection[str]) -> None:
        self._tenants = frozenset(tenants)
        self._purposes = frozenset(purposes)
        self._registry = CollectorRegistry()
        registry = self._registry
        self._requests = Counter(
            "otpvoice_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "otpvoice_http_request_seconds", "Time to answer.", ["route"], buckets=_BUCKETS, registry=registry
        )
        self._challenges = Counter(
            "otpvoice_challenges",
            "Openings asked for, by what came of them.",
            ["tenant", "purpose", "outcome"],
            registry=registry,
        )
        self._verifications = Counter(
            "otpvoice_verifications", "Verifications, by what came of them.", ["tenant", "outcome"], registry=registry
        )
        self._takeovers = Counter(
            "otpvoice_expected_takeovers",
            "Failed guesses times the chance of each: how many had been right, if all were an attacker's.",
            ["tenant"],
            registry=registry,
        )

    def answered(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. ``method`` is one of :func:`method`, ``route`` the template, never the path."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def opened(self, tenant: str, purpose: str, outcome: str) -> None:
        """Count an opening; a purpose that is not configured is ``other``."""
        self._challenges.labels(
            tenant if tenant in self._tenants else _OTHER, purpose if purpose in self._purposes else _OTHER, outcome
        ).inc()

    def verified(self, tenant: str, outcome: str, *, guessed: bool = False, of: str = "") -> None:
        """Count a verification; a failed guess adds what it had a chance of (property P29)."""
        name = tenant if tenant in self._tenants else _OTHER
        self._verifications.labels(name, outcome).inc()
        digits = sum(character.isdigit() for character in of)
        if guessed and 4 <= digits <= 10:
            self._takeovers.labels(name).inc(10.0**-digits)

    def exposition(self) -> tuple[bytes, str]:
        """The text that Prometheus reads, over all processes of this service, and its media type."""
        if not os.environ.get(SHARED):
            return generate_latest(self._registry), CONTENT_TYPE_LATEST
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST


class _Channels:
    """How every channel's provider has done, read from the database when Prometheus asks: all processes' together."""

    def __init__(self, health: Mapping[str, ChannelHealth]) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """One value a channel; the shares only where something was sent, or reported on, in the last 15 minutes."""
        gauges: tuple[tuple[str, str, Callable[[ChannelHealth], float | None]], ...] = (
            (
                "otpvoice_channel_resting",
                "1 while the channel is passed over because its provider kept failing.",
                lambda found: float(found.resting_until is not None),
            ),
            ("otpvoice_channel_failures", "Failures in a row, until now.", lambda found: float(found.failures)),
            (
                "otpvoice_channel_accepted_ratio",
                "The share of the last 15 minutes' deliveries that the provider took.",
                lambda found: None if found.rates is None else found.rates.acceptance,
            ),
            (
                "otpvoice_channel_answered_ratio",
                "The share of those reported on that got through.",
                lambda found: None if found.rates is None else found.rates.answered,
            ),
        )
        for name, words, read in gauges:
            family = GaugeMetricFamily(name, words, labels=["channel"])
            for channel, found in self._health.items():
                value = read(found)
                if value is not None:
                    family.add_metric([channel], value)
            yield family


def channels_exposition(health: Mapping[str, ChannelHealth]) -> bytes:
    """The channels' gauges as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(_Channels(health))
    return generate_latest(registry)


def begin_span(method: str, parent: str | None) -> Span:
    """A server span under the caller's (W3C ``traceparent``). Without an SDK it records nothing."""
    context = None if parent is None else propagate.extract({"traceparent": parent})
    return tracer.start_span(method, context=context, kind=SpanKind.SERVER)


def end_span(span: Span, *, method: str, route: str, status: int) -> None:
    """Name and end it. No header, body or path is recorded: they may tell who."""
    span.update_name(f"{method} {route}")
    span.set_attribute("http.request.method", method)
    span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
    span.end()


def export_spans() -> str:
    """Set up an exporter where the environment names one (``OTEL_EXPORTER_OTLP_ENDPOINT``); says what was done."""
    if not (os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return "no exporter is configured"
    try:
        exporter = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        return "spans need: pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
    provider = TracerProvider(resource=Resource.create({"service.name": "otpvoice"}))
    provider.add_span_processor(BatchSpanProcessor(exporter.OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return "spans are exported"


def flush_spans() -> None:
    """Export what has been recorded: a process that a signal ends runs nothing at its exit. Waits for 5 s at most."""
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        flush(timeout_millis=5000)
