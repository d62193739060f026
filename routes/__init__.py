"""One blueprint per call type, and one for those who operate the service."""

from . import alias, batch, group, identify, ops, page, screen, track

BLUEPRINTS = [each.blueprint for each in (identify, track, page, screen, group, alias, batch, ops)]
