"""The fields of every call, as marshmallow schemas whose messages are the API's error codes."""

import json
import math

from marshmallow import Schema, ValidationError, fields, missing

from parsing.timestamps import read_time

NUMBER = (int, float)  # and bool
_OLD_SPELLINGS = {"userID": "userId", "anonymousID": "anonymousId", "groupID": "groupId"}


def _is_absent(id):
    return id is None or (isinstance(id, str) and not id.strip())


class Nullable(fields.Field):
    """A field in which null means absent, as does whatever a kind of field takes for blank."""

    def deserialize(self, value, attr=None, data=None, **kwargs):
        return missing if value is None else self._deserialize(value, attr, data, **kwargs)


class Id(Nullable):
    """A string, or a number taken as its text; blank means absent."""

    default_error_messages = {"invalid": "id_not_string", "nul": "id_invalid"}

    def _deserialize(self, value, attr, data, **kwargs):
        if isinstance(value, NUMBER) and not isinstance(value, bool):
            if isinstance(value, float) and not math.isfinite(value):  # an int of 310 digits is none, and no float
                raise ValidationError("invalid_number")
            return json.dumps(value)
        if not isinstance(value, str):
            raise self.make_error("invalid")
        if "\0" in value:
            raise self.make_error("nul")
        return value if value.strip() else missing


class Text(Nullable):
    """A string."""

    def __init__(self, code, **kwargs):
        super().__init__(error_messages={"invalid": code}, **kwargs)

    def _deserialize(self, value, attr, data, **kwargs):
        if not isinstance(value, str):
            raise self.make_error("invalid")
        return value


class EventName(Text):
    """A string; an empty one means absent."""

    def _deserialize(self, value, attr, data, **kwargs):
        return super()._deserialize(value, attr, data, **kwargs) or missing


class Object(Nullable):
    """A JSON object; `[]` is how PHP writes an empty one."""

    def __init__(self, code, **kwargs):
        super().__init__(error_messages={"invalid": code}, **kwargs)

    def _deserialize(self, value, attr, data, **kwargs):
        if value == []:
            return {}
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        return value


class Time(Nullable):
    """A Moment: ISO 8601, or the epoch in seconds or milliseconds."""

    default_error_messages = {"invalid": "timestamp_invalid"}

    def _deserialize(self, value, attr, data, **kwargs):
        try:
            return read_time(value)
        except ValueError:
            raise self.make_error("invalid") from None


class Type(Nullable):
    """The name of the call, in any case: that of the route or none."""

    def _deserialize(self, value, attr, data, **kwargs):
        if not isinstance(value, str) or value.lower() not in CALLS:
            raise ValidationError("unknown_type")
        if value.lower() != self.parent.call:
            raise ValidationError("type_mismatch")
        return missing


class Items(Nullable):
    """A list that is not empty."""

    default_error_messages = {"invalid": "batch_not_list", "empty": "empty_batch"}

    def _deserialize(self, value, attr, data, **kwargs):
        if not isinstance(value, list):
            raise self.make_error("invalid")
        if not value:
            raise self.make_error("empty")
        return value


class Checked(Schema):
    """Fields that are checked where they are present, and then for their presence, which null and blank are not."""

    required = {}  # field -> code where it is absent

    def check_fields(self, value):
        """Return a copy of `value`, a dict, with its known fields in canonical form and without what means absent.

        Raises ValidationError with codes by field. Schema.load would look at every field that is declared,
        of which most are absent.
        """
        checked, codes = {}, {}
        for name, given in value.items():
            try:
                each = self.fields[name].deserialize(given) if name in self.fields else given
            except ValidationError as error:
                codes[name] = error.messages
            else:
                if each is not missing:
                    checked[name] = each
        codes |= self.absences(checked.keys() | codes.keys())
        if codes:
            raise ValidationError(codes)
        return checked

    def absences(self, present):
        return {name: [code] for name, code in self.required.items() if name not in present}


class Call(Checked):
    """What all calls have in common."""

    call = None  # its name, which is the type of its events

    type = Type()
    userId = Id()
    anonymousId = Id()
    messageId = Id(error_messages={"invalid": "message_id_not_string"})
    timestamp = Time()
    originalTimestamp = Time()
    context = Object("context_not_object")
    integrations = Object("integrations_not_object")

    def absences(self, present):
        absences = super().absences(present)
        if not present & {"userId", "anonymousId"}:
            absences.setdefault("userId", ["id_required"])
        return absences

    def check(self, value):
        """Return the checked copy of an event: its times are Moments, its unknown fields as they came."""
        for old, new in _OLD_SPELLINGS.items():
            if old in value:
                value = {**value, new: value[old] if _is_absent(value.get(new)) else value[new]}
                del value[old]
        return {"type": self.call, **self.check_fields(value)}


class Identify(Call):
    call = "identify"
    traits = Object("traits_not_object")


class Track(Call):
    call = "track"
    required = {"event": "event_not_defined"}
    event = EventName("event_not_string")
    properties = Object("properties_not_object")


class Page(Call):
    call = "page"
    name = Text("name_not_string")
    category = Text("category_not_string")
    section = Text("section_not_string")
    properties = Object("properties_not_object")


class Screen(Page):
    call = "screen"


class Group(Call):
    call = "group"
    required = {"groupId": "group_id_required"}
    groupId = Id()
    traits = Object("traits_not_object")


class Alias(Call):
    call = "alias"
    required = {"userId": "id_required", "previousId": "previous_id_required"}
    previousId = Id()


class Untyped(Call):
    """An item of a batch that does not say which call it is: always refused, for that and all else that is wrong."""

    required = {"type": "unknown_type"}


class Batch(Checked):
    """The envelope; its items are judged one by one."""

    required = {"batch": "batch_not_list"}

    batch = Items()
    context = Object("context_not_object")
    integrations = Object("integrations_not_object")


CALLS = {schema.call: schema for schema in (Identify(), Track(), Page(), Screen(), Group(), Alias())}
UNTYPED = Untyped()
BATCH = Batch()
