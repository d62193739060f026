"""Define the commands of `tracklog`, which are also those of `flask`, one file per group or command."""

from . import backup, redelivery, retention
from .destinations import destinations
from .events import events
from .forward import forward
from .rejected import rejected
from .serve import serve
from .settings import settings
from .sources import sources

GROUPS = [sources, events, rejected, destinations]
COMMANDS = [*GROUPS, forward, serve, settings]

# The last three add their commands to a group.
__all__ = ["COMMANDS", "GROUPS", "backup", "redelivery", "retention"]
