"""What an operator types: one command of Flask's CLI, or one group of them, a file."""

from . import backup, retention
from .destinations import destinations
from .events import events
from .forward import forward
from .rejected import rejected
from .sources import sources

GROUPS = [sources, events, rejected, destinations]
COMMANDS = [*GROUPS, forward]

__all__ = ["COMMANDS", "GROUPS", "backup", "retention"]  # the last two add to the group of events
