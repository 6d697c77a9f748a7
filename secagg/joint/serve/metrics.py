"""How far runs are, for Prometheus. Labels are names of jobs, parties, states and phases; nothing of anybody's tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from secagg.errors import UsageError
from secagg.jobs.job import Address
from secagg.jobs.run import Progress
from secagg.joint.serve.states import Known, State

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, start_http_server
except ImportError:
    raise UsageError("metrics need prometheus-client: pip install 'secagg[serve]'") from None

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._share = Gauge(
            "secagg_run_share_done",
            "Share of the declared bytes that were sent.",
            ["job"],
            registry=self.registry,
        )
        self._sent = Gauge("secagg_run_sent_bytes", "Bytes sent in the run.", ["job"], registry=self.registry)
        self._step = Gauge(
            "secagg_run_phase", "Number of the phase that a run is in.", ["job"], registry=self.registry
        )
        self._waits = Gauge(
            "secagg_run_waits_for",
            "1 for each peer that is waited for.",
            ["job", "peer"],
            registry=self.registry,
        )
        self._states = Gauge("secagg_jobs", "Jobs by state.", ["state"], registry=self.registry)
        self._ended = Counter("secagg_runs", "Runs that ended, by how.", ["state"], registry=self.registry)

    def progress(self, job: str, progress: Progress) -> None:
        """Take note how far a run is."""
        self._share.labels(job).set(progress.share)
        self._sent.labels(job).set(progress.sent_bytes)
        self._step.labels(job).set(progress.step)
        self._waits.clear()
        for peer in progress.waiting_for:
            self._waits.labels(job, peer).set(1)

    def jobs(self, known: Iterable[Known]) -> None:
        """Take note of the states of jobs."""
        states = [one.state for one in known]
        for state in State:
            self._states.labels(state.value).set(states.count(state))

    def ended(self, state: State) -> None:
        """Take note that a run ended."""
        self._ended.labels(state.value).inc()

    def text(self) -> bytes:
        """Return the metrics as Prometheus reads them."""
        return generate_latest(self.registry)

    def listen(self, address: Address) -> None:
        """Answer at an address, without any check of who asks.

        Raises:
          UsageError: it cannot be listened at.
        """
        try:
            start_http_server(address[1], address[0], self.registry)
        except OSError as error:
            raise UsageError(
                f"metrics: cannot listen at {address[0]}:{address[1]}: {error.strerror}"
            ) from None
