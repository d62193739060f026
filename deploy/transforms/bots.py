"""Flag the events of bots: set context.bot to true or false, as the user agent says."""

import re

NAMES = r"(?<!cu)bot\b|crawler|spider|slurp|headless|lighthouse|facebookexternalhit|curl/|python-"  # Cubot is a phone
BOT = re.compile(NAMES, re.IGNORECASE)


def transform(event):
    context = event.get("context") or {}
    event["context"] = {**context, "bot": bool(BOT.search(str(context.get("userAgent", ""))))}
    return event
