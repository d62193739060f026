"""Rename events, and properties of events."""

EVENTS = {"Added File": "File Added"}
PROPERTIES = {"fileName": "file_name"}


def transform(event):
    if event["type"] == "track":
        event["event"] = EVENTS.get(event["event"], event["event"])
    if properties := event.get("properties"):
        event["properties"] = {PROPERTIES.get(name, name): value for name, value in properties.items()}
    return event
