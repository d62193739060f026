"""Collect the blueprints: one per call type, then those for client developers and operators."""

from . import alias, batch, client_metrics, group, identify, ops, page, pixel, screen, settings, track, validate

MODULES = (identify, track, page, screen, group, alias, batch, pixel, validate, client_metrics, settings, ops)
BLUEPRINTS = [each.blueprint for each in MODULES]
