"""One blueprint per call type, and one for those who operate the service."""

from . import alias, batch, client_metrics, group, identify, ops, page, pixel, screen, track

BLUEPRINTS = [
    each.blueprint for each in (identify, track, page, screen, group, alias, batch, pixel, client_metrics, ops)
]
