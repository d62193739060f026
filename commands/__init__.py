"""What an operator types: one Flask CLI group a file."""

from .events import events
from .sources import sources

GROUPS = [sources, events]
