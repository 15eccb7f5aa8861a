"""Counters for Prometheus, of one process or of all that share a port."""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that tells prometheus_client where processes share their numbers."""
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """What happens in a server; each server of a process has its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self._registry}
        self.requests = Counter(
            "glip_requests", "Requests by route and status.", ["route", "status"], **own
        )
        self.seconds = Histogram(
            "glip_request_seconds",
            "From the head of a request to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            **own,
        )
        self.pictures = Counter("glip_pictures", "Pictures that went through the model.", **own)
        self.batches = Histogram(
            "glip_batch_pictures",
            "Pictures that went through the model together.",
            buckets=(1, 2, 4, 8, 16, 32),
            **own,
        )
        self.model_seconds = Counter("glip_model_seconds", "Time the model was busy.", **own)
        self.inside = Gauge(
            "glip_queue_pictures",
            "Pictures that are read, wait or are looked at.",
            multiprocess_mode="livesum",
            **own,
        )

    def batch_done(self, count: int, seconds: float) -> None:
        """Count a batch of so many pictures."""
        self.pictures.inc(count)
        self.batches.observe(count)
        self.model_seconds.inc(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' text format, over all processes."""
        registry = self._registry
        if os.environ.get(SHARED):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
