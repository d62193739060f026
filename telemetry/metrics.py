"""What GET /metrics tells: of events what the log has counted, of requests and commits what all workers have."""

import itertools
import logging
import os
import shutil
import threading
from bisect import bisect_left
from collections import defaultdict
from contextlib import closing, suppress
from functools import cache
from glob import glob
from math import inf
from mmap import mmap
from time import monotonic

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.utils import floatToGoString

from eventlog import Unavailable
from eventlog.file_lock import lock_file
from eventlog.side_files import make_side_folder, open_side_file
from eventlog.times import age

logger = logging.getLogger("tracklog.metrics")

UNMATCHED = "none"  # the route of a path that is none, since anybody can ask for any number of those
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 25_000)
FILE_BYTES = 64 * 1024  # room for every route with every status

COUNTER, GAUGE, DESTINATION = CounterMetricFamily, GaugeMetricFamily, ("destination",)
# What is read from the log, and so exact whatever becomes of processes: kind, labels, meaning.
OF_THE_LOG = {
    "tracklog_log_available": (GAUGE, (), "1 if the log can be read; 0 if not, and what only it knows is left out"),
    "tracklog_log_bytes": (GAUGE, (), "Size of the log's file"),
    "tracklog_log_wal_bytes": (GAUGE, (), "Size of the write-ahead log beside it"),
    "tracklog_log_reserve_bytes": (GAUGE, (), "Size of the reserve next to it; 0 once the disk was full"),
    "tracklog_disk_free_bytes": (GAUGE, (), "Free space on the log's disk"),
    "tracklog_events_stored_total": (COUNTER, ("source", "type"), "Events stored"),
    "tracklog_events_duplicate_total": (COUNTER, ("source",), "Events that were stored already"),
    "tracklog_events_rejected_total": (COUNTER, ("source", "code"), "Events, or bodies that were none, refused"),
    "tracklog_destination_backlog_events": (GAUGE, DESTINATION, "Events that wait, wanted or not"),
    "tracklog_destination_oldest_waiting_seconds": (GAUGE, DESTINATION, "How long the oldest of them waits; 0 without"),
    "tracklog_destination_deliveries_total": (COUNTER, DESTINATION, "Events delivered"),
    "tracklog_destination_failures_total": (COUNTER, DESTINATION, "Attempts to deliver that did not succeed"),
    "tracklog_destination_dead_letters": (GAUGE, DESTINATION, "Events refused for good and not delivered since"),
}


class Metrics:
    """Counts what this process does, once it has a folder for that, and collects what is known of the whole service."""

    def __init__(self, log):
        self._log = log
        self._folder = None
        self._tally = None

    def share(self, folder):
        """Count in files in `folder` from now on, and collect what all processes have counted there."""
        self._folder = folder
        try:
            make_side_folder(self._log.path, folder)
            self._tally = Tally(folder)
        except OSError as failure:
            _warn(failure)
        else:
            self._log.observe(self._tally.count_commit)

    def count_request(self, request, status):
        """Count a request that is about to be answered; it has noted when it began."""
        tally, rule = self._tally, request.url_rule
        if tally:
            tally.request_seconds.observe(monotonic() - request.began)
            try:
                tally.requests.count((rule.rule if rule else UNMATCHED, status))
            except OSError as failure:  # the folder is gone; that is no reason to fail a request
                _warn(failure)

    def collect(self):
        """Return all metrics, as prometheus-client asks for them; where the log is in trouble, what there is."""
        files = glob(f"{self._folder}/*.db") if self._folder else []
        counted = MultiProcessCollector.merge([file for file in files if os.path.getsize(file)])  # else it is new
        return [*counted, *_collect_log(self._log)]


def _warn(failure):
    fields = {"event": "not_counted", "count": 1}
    logger.warning("what this worker does is not counted: %s", failure, extra=fields)


def forget(folder):
    """Delete what was counted in `folder`, before any process counts there."""
    shutil.rmtree(folder, ignore_errors=True)


class Tally:
    """What one process has counted."""

    def __init__(self, folder):
        # The files of a process that has ended are counted on in, so there are no more than processes at a time.
        number = next(number for number in itertools.count() if _claim(folder, number))
        counters, histograms = (Numbers(folder, f"{kind}_{number}.db") for kind in ("counter", "histogram"))
        self.requests = Counter(counters, "tracklog_requests", "Requests answered", ("route", "status"))
        self.request_seconds = Histogram(
            histograms, "tracklog_request_seconds", "From a request's arrival in the app to its answer", SECONDS
        )
        self._commit_seconds = Histogram(
            histograms, "tracklog_commit_seconds", "Writing a group to disk, with waiting for other processes", SECONDS
        )
        self._group_events = Histogram(
            histograms, "tracklog_group_events", "Events, and bodies that were refused, in a group", EVENTS
        )

    def count_commit(self, seconds, events):
        self._commit_seconds.observe(seconds)
        self._group_events.observe(events)


def _claim(folder, number):
    """Take a number's lock, which the kernel takes back when this process ends; tell whether it was free."""
    descriptor = open_side_file(folder, f"{folder}/{number}.lock")
    try:
        lock_file(descriptor)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True


class Numbers:
    """A file as prometheus-client's own classes write it, which its collector adds up with those of other processes.

    Its numbers are changed in place: += on one calls nothing, so that no other thread comes in between, and costs a
    request less than half of what those classes do.
    """

    def __init__(self, folder, name):
        self._path = f"{folder}/{name}"
        self._placing = threading.Lock()
        with os.fdopen(open_side_file(folder, self._path), "r+b") as file:
            # It is written through memory, and a page for which the disk has no room would end the process.
            os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
            self.cells = memoryview(mmap(file.fileno(), FILE_BYTES)).cast("d")

    def place(self, metric, name, meaning, labels):
        """Return where in `cells` a number is, a new one if need be."""
        entry = mmap_key(metric, name, list(labels), list(labels.values()), meaning)
        with self._placing, closing(MmapedDict(self._path)) as entries:
            entries.read_value(entry)
        at = {key: position for key, _, _, position in MmapedDict.read_all_values_from_file(self._path)}
        return at[entry] // self.cells.itemsize


class Counter:
    def __init__(self, numbers, name, meaning, labels):
        self._cells = numbers.cells

        def place(values):
            return numbers.place(name, f"{name}_total", meaning, dict(zip(labels, map(str, values), strict=True)))

        self._place = cache(place)

    def count(self, values):
        """Count one with these values of its labels."""
        self._cells[self._place(values)] += 1


class Histogram:
    def __init__(self, numbers, name, meaning, bounds):
        self._cells = numbers.cells
        self._bounds = bounds
        self._sum = numbers.place(name, f"{name}_sum", meaning, {})
        self._buckets = [
            numbers.place(name, f"{name}_bucket", meaning, {"le": floatToGoString(bound)}) for bound in (*bounds, inf)
        ]

    def observe(self, value):
        self._cells[self._sum] += value
        self._cells[self._buckets[bisect_left(self._bounds, value)]] += 1


def _collect_log(log):
    families = {name: kind(name, meaning, labels=labels) for name, (kind, labels, meaning) in OF_THE_LOG.items()}
    for (name, *labels), value in _ask(log).items():
        families[name].add_metric(labels, value)
    return families.values()


def _ask(log):
    """Return what can be known of the log at this moment: (name, *labels) -> value."""
    known = defaultdict(int)
    with suppress(OSError):
        space = log.space()
        known["tracklog_log_bytes",] = space.log
        known["tracklog_log_wal_bytes",] = space.wal
        known["tracklog_log_reserve_bytes",] = space.reserve
        known["tracklog_disk_free_bytes",] = space.free
    try:
        counts, destinations = log.reader.counts(), log.destinations.progress()
    except Unavailable:
        known["tracklog_log_available",] = 0
        return known
    known["tracklog_log_available",] = 1
    for count in counts:
        name = f"tracklog_events_{count.outcome}_total"
        if name in OF_THE_LOG:
            known[name, *(getattr(count, label) for label in OF_THE_LOG[name][1])] += count.times
    for each in destinations:
        known["tracklog_destination_backlog_events", each.name] = each.waiting
        known["tracklog_destination_oldest_waiting_seconds", each.name] = age(each.oldest) if each.oldest else 0
        known["tracklog_destination_deliveries_total", each.name] = each.delivered
        known["tracklog_destination_failures_total", each.name] = each.failures
        known["tracklog_destination_dead_letters", each.name] = each.dead
    return known
