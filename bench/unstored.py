"""Serve tracklog without storing, to measure the cost of everything else."""

from eventlog import EventLog

EventLog.append = lambda self, events, rejected=(): [True] * len(events)

from wsgi import app  # noqa: E402, F401
