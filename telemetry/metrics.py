"""Collect the metrics of GET /metrics. The log counts events; workers count requests and commits."""

import itertools
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from glob import glob

from prometheus_client import Counter, Gauge, Histogram, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from eventlog import EventLog, Unavailable
from eventlog.destinations import STATES
from eventlog.side_files import make_side_folder, open_side_file
from eventlog.times import age
from eventlog.waiting import lock_file

logger = logging.getLogger("tracklog.metrics")

UNMATCHED_ROUTE = "none"  # one label for all unknown paths: clients can send any number of those
SECONDS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
EVENTS_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 25_000)
METRICS_FILE_BYTES = 64 * 1024  # room for every route with every status

# Histograms of the workers: name -> buckets, help.
HISTOGRAMS = {
    "tracklog_request_seconds": (SECONDS_BUCKETS, "Time from a request's arrival in the app to its answer"),
    "tracklog_commit_seconds": (SECONDS_BUCKETS, "Time of a group commit, including waits for other processes"),
    "tracklog_group_events": (EVENTS_BUCKETS, "Events and rejections per group commit"),
}

COUNTER, GAUGE, DESTINATION = CounterMetricFamily, GaugeMetricFamily, ("destination",)
# Metrics read from the log, so that they survive every process: name -> kind, labels, help.
LOG_METRICS = {
    "tracklog_log_available": (GAUGE, (), "1 if the log can be read, else 0; metrics from the log are then missing"),
    "tracklog_log_bytes": (GAUGE, (), "Size of the log's file"),
    "tracklog_log_wal_bytes": (GAUGE, (), "Size of the log's write-ahead log (WAL)"),
    "tracklog_log_reserve_bytes": (GAUGE, (), "Size of the reserve file; 0 from a full disk until it is created again"),
    "tracklog_disk_free_bytes": (GAUGE, (), "Free space on the log's disk"),
    "tracklog_backup_age_seconds": (GAUGE, (), "Time since the newest backup of the log; +Inf before the first"),
    "tracklog_clock_seconds": (GAUGE, (), "Unix time of this machine's clock"),
    "tracklog_events_stored_total": (COUNTER, ("source", "type"), "Events stored"),
    "tracklog_events_duplicate_total": (COUNTER, ("source",), "Events received that were already stored"),
    "tracklog_events_rejected_total": (COUNTER, ("source", "code"), "Rejected events and bodies"),
    "tracklog_destination_backlog_events": (GAUGE, DESTINATION, "Ids from the first waiting event to the last"),
    "tracklog_destination_oldest_waiting_seconds": (GAUGE, DESTINATION, "Age of the oldest waiting event; 0 if none"),
    "tracklog_destination_held_events": (GAUGE, DESTINATION, "Events kept for it by the last prune, still waiting"),
    "tracklog_destination_held_bytes": (GAUGE, DESTINATION, "About what held events use of the log's file"),
    "tracklog_destination_held_seconds": (GAUGE, DESTINATION, "Time since the first prune that kept events for it"),
    "tracklog_destination_deliveries_total": (COUNTER, DESTINATION, "Events delivered"),
    "tracklog_destination_failures_total": (COUNTER, DESTINATION, "Delivery attempts that failed"),
    "tracklog_destination_state": (GAUGE, ("destination", "state"), "1 for the present state, 0 for the others"),
    "tracklog_destination_dead_letters": (GAUGE, DESTINATION, "Events rejected for good and not delivered since"),
}


class Metrics:
    """The metrics of the whole service. Nothing is counted before `start_counting`."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._folder: str | None = None
        self._worker: WorkerMetrics | None = None

    def start_counting(self, folder: str) -> None:
        """Count this process's requests and commits in files in `folder`, and collect those of all processes.

        If the files cannot be created, log a warning: the worker then serves without counting.
        """
        self._folder = folder
        try:
            make_side_folder(self._log.path, folder)
            self._worker = WorkerMetrics(folder)
        except OSError as failure:
            fields = {"event": "not_counted", "count": 1}
            logger.warning("this worker's requests and commits are not counted: %s", failure, extra=fields)
        else:
            self._log.observe(self._worker.count_commit)

    def count_request(self, route: str | None, status: int, seconds: float) -> None:
        """Count an answered request; `route` is None if no route matched, `seconds` is how long it took."""
        if self._worker:
            self._worker.requests_of(route or UNMATCHED_ROUTE, status).inc()
            self._worker.histograms["tracklog_request_seconds"].observe(seconds)

    def count_log_failure(self) -> None:
        """Count a request that failed because the log could not be used."""
        if self._worker:
            self._worker.log_failures.inc()

    def collect(self) -> Iterable[Metric]:
        """Return all metrics; prometheus-client calls this. If the log cannot be read, return the others."""
        files = glob(f"{self._folder}/*.db") if self._folder else []
        # A file is empty while another worker creates it, which the collector could not read.
        counted = MultiProcessCollector.merge(filter(os.path.getsize, files))
        return [*counted, *_collect_log(self._log)]


class WorkerMetrics:
    """The requests and commits that one process has counted, in files that all processes can read."""

    def __init__(self, folder: str) -> None:
        """Take the lowest free slot and continue in its files, so there are never more files than processes."""
        slot = next(slot for slot in itertools.count() if _lock_slot(folder, slot))
        for kind in ("counter", "gauge_max", "histogram"):
            _allocate(folder, f"{folder}/{kind}_{slot}.db")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        values.ValueClass = values.MultiProcessValue(process_identifier=lambda: slot)
        self.requests = Counter("tracklog_requests", "Requests answered", ("route", "status"), registry=None)
        self.requests_of = cache(self.requests.labels)
        self.requests_of(UNMATCHED_ROUTE, 404)  # opens the file now: no later request can fail to do so
        self.log_failures = Counter("tracklog_log_failures", "Requests answered 503 because of the log", registry=None)
        text = "Unix time at which the newest worker started"
        started = Gauge("tracklog_worker_start_seconds", text, registry=None, multiprocess_mode="max")
        started.set_to_current_time()
        self.histograms = {
            name: Histogram(name, text, registry=None, buckets=buckets) for name, (buckets, text) in HISTOGRAMS.items()
        }

    def count_commit(self, seconds: float, events: int) -> None:
        """Count a group commit of `events` events and rejections, which took `seconds`."""
        self.histograms["tracklog_commit_seconds"].observe(seconds)
        self.histograms["tracklog_group_events"].observe(events)


def _lock_slot(folder: str, slot: int) -> bool:
    """Lock a slot until this process ends, when the kernel releases it. Return whether it was free."""
    descriptor = open_side_file(folder, f"{folder}/{slot}.lock")
    try:
        lock_file(descriptor)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True


def _allocate(folder: str, path: str) -> None:
    """Create a metrics file, all of it on disk.

    prometheus-client writes through mmap, by default to a sparse file. There, a write to a page for which the disk has
    no room would kill the process (SIGBUS).
    """
    with os.fdopen(open_side_file(folder, path), "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, METRICS_FILE_BYTES)


def _collect_log(log: EventLog) -> Iterable[Metric]:
    families = {name: kind(name, text, labels=labels) for name, (kind, labels, text) in LOG_METRICS.items()}
    for (name, *labels), value in _read_log(log).items():
        families[name].add_metric(labels, value)
    return families.values()


def _read_log(log: EventLog) -> dict[tuple[str, ...], float]:
    """Return what the log can tell at this moment: (name, *label values) -> value."""
    known: dict[tuple[str, ...], float] = defaultdict(int)
    known["tracklog_clock_seconds",] = time.time()
    with suppress(OSError):
        space = log.space()
        known["tracklog_log_bytes",] = space.log
        known["tracklog_log_wal_bytes",] = space.wal
        known["tracklog_log_reserve_bytes",] = space.reserve
        known["tracklog_disk_free_bytes",] = space.free
    try:
        counts, destinations, held = log.reader.counts(), log.destinations.progress(), log.retention.held()
        states = {(each.name, state): each.state == state for each in log.destinations.all() for state in STATES}
    except Unavailable:
        known["tracklog_log_available",] = 0
        return known
    known["tracklog_log_available",] = 1
    known["tracklog_backup_age_seconds",] = log.backup_age()
    for count in counts:
        name = f"tracklog_events_{count.outcome}_total"
        if name in LOG_METRICS:
            known[name, *(getattr(count, label) for label in LOG_METRICS[name][1])] += count.times
    for names, is_present in states.items():
        known["tracklog_destination_state", *names] = is_present
    for each in destinations:
        known["tracklog_destination_backlog_events", each.name] = each.waiting
        known["tracklog_destination_oldest_waiting_seconds", each.name] = age(each.oldest) if each.oldest else 0
        known["tracklog_destination_deliveries_total", each.name] = each.delivered
        known["tracklog_destination_failures_total", each.name] = each.failures
        known["tracklog_destination_dead_letters", each.name] = each.dead
    for name, events, size, since in held:
        known["tracklog_destination_held_events", name] = events
        known["tracklog_destination_held_bytes", name] = size
        known["tracklog_destination_held_seconds", name] = age(since) if since else 0
    return known
