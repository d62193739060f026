"""Keep all events of one user in ten, and drop those of the others."""

from hashlib import sha256

ONE_IN = 10


def transform(event):
    user = event.get("userId") or event.get("anonymousId") or ""
    # Python's own hash() differs from one process to the next.
    return event if int(sha256(user.encode()).hexdigest(), 16) % ONE_IN == 0 else None
