"""The service's log lines and metrics."""
