"""What Prometheus reads: datasets by state, claims and their ends from the database; requests from the processes.

What is in the database is that of the whole server, and read from numbers that are kept, so that it costs the same
however many datasets and claims there are. Requests are counted by each process for itself; with the environment's
PROMETHEUS_MULTIPROC_DIR, prometheus-client's own, all processes of a machine count in that folder, and each answers
for all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, ClassVar

from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request

from server.api.base import API
from server.models import Dataset
from server.models.claims import ClaimEnd
from server.permissions import Act
from server.services import counts
from server.triggers import GRANTED

STATUS_ROUTE = "crunch:api:statuses"
"""Where clients report how a stage went."""

_own = CollectorRegistry()
_requests = Counter("crunch_requests", "Requests answered.", ["route", "method", "code"], registry=_own)
_status_seconds = Histogram(
    "crunch_status_seconds",
    "Seconds to answer a client's status.",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
    registry=_own,
)


def count_request(method: str, route: str, code: int, seconds: float) -> None:
    """Count an answered request in this process."""
    _requests.labels(route, method, str(code)).inc()
    if (method, route) == ("POST", STATUS_ROUTE):
        _status_seconds.observe(seconds)


def text() -> bytes:
    """All metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(Kept()) + generate_latest(registry)
    return generate_latest(Kept()) + generate_latest(_own)


class Kept:
    """The metrics of the database."""

    def collect(self) -> Iterator[Metric]:
        datasets = GaugeMetricFamily("crunch_datasets", "Datasets by project and state.", labels=["project", "state"])
        for slug, state, number in counts.by_slug_and_state():
            datasets.add_metric([slug, state], number)
        yield datasets
        late = Dataset.objects.expired(timezone.now()).count()
        yield GaugeMetricFamily("crunch_leases_expired", "Running datasets whose client is silent too long.", late)
        claims = counts.of_claims()
        yield CounterMetricFamily("crunch_claims_granted", "Claims granted.", claims[GRANTED])
        ended = CounterMetricFamily("crunch_claims_ended", "Claims that ended, by how.", labels=["reason"])
        for reason in ClaimEnd.values:
            ended.add_metric([reason], claims[reason])
        yield ended


class AnyAccepted(BaseContentNegotiation):
    """Prometheus' versions ask for formats that are all served by the one text, and problems come as JSON."""

    def select_renderer(self, _request: Request, renderers: Any, _format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


@extend_schema(exclude=True)
class Metrics(API):
    """All metrics, to staff: the names of private projects are among them."""

    acts: ClassVar = {"get": Act.WATCH}
    content_negotiation_class = AnyAccepted

    def get(self, _request: Request) -> HttpResponse:
        return HttpResponse(text(), content_type=CONTENT_TYPE_PLAIN_0_0_4)
