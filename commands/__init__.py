"""What an operator types: one Flask CLI group a file."""

from .events import events
from .rejected import rejected
from .sources import sources

GROUPS = [sources, events, rejected]
