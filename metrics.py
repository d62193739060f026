"""What GET /metrics tells: what the log has counted."""

from collections import defaultdict
from contextlib import suppress

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from eventlog import Unavailable
from eventlog.times import age

COUNTER, GAUGE, DESTINATION = CounterMetricFamily, GaugeMetricFamily, ("destination",)
# What is read from the log: kind, labels, meaning.
OF_THE_LOG = {
    "tracklog_log_available": (GAUGE, (), "1 if the log can be read; 0 if not, and what only it knows is left out"),
    "tracklog_log_bytes": (GAUGE, (), "Size of the log's file"),
    "tracklog_log_wal_bytes": (GAUGE, (), "Size of the write-ahead log beside it"),
    "tracklog_disk_free_bytes": (GAUGE, (), "Free space on the log's disk"),
    "tracklog_events_stored_total": (COUNTER, ("source", "type"), "Events stored"),
    "tracklog_events_duplicate_total": (COUNTER, ("source",), "Events that were stored already"),
    "tracklog_events_rejected_total": (COUNTER, ("source", "code"), "Events, or bodies that were none, refused"),
    "tracklog_destination_backlog_events": (GAUGE, DESTINATION, "Events that wait, wanted or not"),
    "tracklog_destination_oldest_waiting_seconds": (GAUGE, DESTINATION, "How long the first of them waits; 0 without"),
    "tracklog_destination_deliveries_total": (COUNTER, DESTINATION, "Events delivered"),
    "tracklog_destination_failures_total": (COUNTER, DESTINATION, "Attempts to deliver that did not succeed"),
    "tracklog_destination_dead_letters": (GAUGE, DESTINATION, "Events refused for good and not delivered since"),
}


class Metrics:
    """Collects for Prometheus what is known of the service."""

    def __init__(self, log):
        self._log = log

    def collect(self):
        """Return all metrics, as prometheus-client asks for them; where the log is in trouble, what there is."""
        return _collect_log(self._log)


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
