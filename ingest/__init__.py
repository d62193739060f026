"""From a request to a receipt: authenticate, read, validate, store."""
