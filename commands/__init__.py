"""Define the commands of Flask's CLI, one file per group or command."""

from . import backup, redelivery, retention
from .destinations import destinations
from .events import events
from .forward import forward
from .rejected import rejected
from .sources import sources

GROUPS = [sources, events, rejected, destinations]
COMMANDS = [*GROUPS, forward]

# The last three add their commands to a group.
__all__ = ["COMMANDS", "GROUPS", "backup", "redelivery", "retention"]
