"""tracklog with storing switched off: what all the rest costs."""

from eventlog import EventLog

EventLog.append = lambda self, events, rejected=(): [True] * len(events)

from wsgi import app  # noqa: E402, F401
