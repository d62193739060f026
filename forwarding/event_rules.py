"""A destination's rules for its events, as an operator sets them: which it gets, and how they are changed."""

import json
from typing import NamedTuple

from eventlog import NotPossible, StoredEvent

from .transforms import check_name

FIXED_FIELDS = ("messageId", "type", "source")  # a destination recognizes a repeat by them
ID_FIELDS = ("userId", "anonymousId", "previousId")
UNMASKED_FIELDS = (*FIXED_FIELDS, "timestamp", "receivedAt", "originalTimestamp", "sentAt")


class EventRules(NamedTuple):
    """The rules, in the order of their use. The log stores them as JSON."""

    only: tuple[str, ...] = ()  # TYPE or TYPE:NAME; empty for all events
    excluded: tuple[str, ...] = ()  # TYPE or TYPE:NAME
    transform: str = ""  # the name of a file, without .py
    mask: tuple[str, ...] = ()  # paths such as context.ip

    @classmethod
    def from_json(cls, text: str) -> "EventRules":
        rules = json.loads(text)
        only, excluded, mask = (tuple(rules.get(name, ())) for name in ("only", "excluded", "mask"))
        return cls(only, excluded, rules.get("transform", ""), mask)

    def to_json(self) -> str:
        return json.dumps({name: rule for name, rule in self._asdict().items() if rule})

    @property
    def may_change_ids(self) -> bool:
        """True if a user may have other ids at the destination than in the log."""
        return bool(self.transform) or not set(self.mask).isdisjoint(ID_FIELDS)

    def check(self, kind: str) -> None:
        """Raise NotPossible if a destination of this kind cannot have these rules."""
        if kind == "archive" and any(self):
            raise NotPossible(
                "An archive takes no --only, --not, --transform and --mask: "
                "after a crash it must write the same object again, byte for byte"
            )
        if self.transform:
            check_name(self.transform)
        for path in self.mask:
            if not all(path.split(".")) or path.partition(".")[0] in UNMASKED_FIELDS:
                raise NotPossible(f"{path!r} cannot be masked. Write it as context.ip; type, messageId and times stay")

    def wants(self, event: StoredEvent) -> bool:
        """Return True if the destination gets this event."""
        names = {event.type} if event.name is None else {event.type, f"{event.type}:{event.name}"}
        return (not self.only or not names.isdisjoint(self.only)) and names.isdisjoint(self.excluded)

    def describe(self) -> list[str]:
        """Return a line for each rule that is set."""
        rules = (("only", self.only), ("not", self.excluded), ("transform", (self.transform,)), ("mask", self.mask))
        return [f"{name} {', '.join(texts)}" for name, texts in rules if any(texts)]
