"""The fields of every call, as marshmallow schemas. Error messages are API error codes."""

import json
import math
from typing import Any, ClassVar

from marshmallow import INCLUDE, Schema, ValidationError, fields, missing

from parsing.json_text import is_unicode
from parsing.timestamps import parse_timestamp

OLD_SPELLINGS = {"userID": "userId", "anonymousID": "anonymousId", "groupID": "groupId"}


def is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


class Nullable(fields.Field[Any]):
    """A field for which null means absent."""

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **kwargs: Any) -> Any:
        return missing if value is None or value is missing else self._deserialize(value, attr, data)


class TextOrNumber(Nullable):
    """A string, or a number that is converted to a string."""

    default_error_messages = {"infinite": "invalid_number"}

    def to_text(self, value: Any) -> str:
        """Return the text. Raise ValidationError if the value is neither a string nor a finite number."""
        if isinstance(value, str):
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.make_error("invalid")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.make_error("infinite")
        return json.dumps(value)


class Id(TextOrNumber):
    """An id; blank means absent."""

    default_error_messages = {
        "required": "id_required",
        "invalid": "id_not_string",
        "nul": "id_invalid",
        "surrogate": "invalid_text",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        text = self.to_text(value)
        if "\0" in text or not is_unicode(text):
            raise self.make_error("nul" if "\0" in text else "surrogate")
        return text if text.strip() else missing


class EventName(TextOrNumber):
    """The name of a tracked action; an empty one means absent."""

    default_error_messages = {"required": "event_not_defined", "invalid": "event_not_string"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return self.to_text(value) or missing


class Text(Nullable):
    """A string."""

    default_error_messages = {"invalid": "{field}_not_string"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, str):
            raise self.make_error("invalid", field=self.name)
        return value


class Object(Nullable):
    """A JSON object; `[]` is how PHP writes an empty one."""

    default_error_messages = {"invalid": "{field}_not_object"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        if value == []:
            return {}
        if not isinstance(value, dict):
            raise self.make_error("invalid", field=self.name)
        return value


class Time(Nullable):
    """A time in any of the forms that `parse_timestamp` reads; blank means absent."""

    default_error_messages = {"invalid": "timestamp_invalid"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if is_blank(value):
            return missing
        try:
            return parse_timestamp(value)
        except ValueError:
            raise self.make_error("invalid") from None


class Type(Nullable):
    """The call's name, in upper or lower case. If given, it must match the route."""

    default_error_messages = {"required": "unknown_type", "invalid": "unknown_type", "mismatch": "type_mismatch"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        name = value.lower() if isinstance(value, str) else None
        if name not in CALLS:
            raise self.make_error("invalid")
        if type(CALLS[name]) is not type(self.parent):
            raise self.make_error("mismatch")
        return name


class Items(Nullable):
    """A list that is not empty."""

    default_error_messages = {"required": "batch_not_list", "invalid": "batch_not_list", "empty": "empty_batch"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list) or not value:
            raise self.make_error("empty" if value == [] else "invalid")
        return value


class OrderedSchema(Schema):
    """A schema that keeps unknown fields, and all fields in the sender's order."""

    renamed: ClassVar[dict[str, str]] = {}  # old name -> present name
    required_any: ClassVar[list[tuple[str, ...]]] = []  # fields of which at least one is required

    def __init__(self) -> None:
        super().__init__(unknown=INCLUDE)
        self.required = [name for name, field in self.fields.items() if field.required]
        self._needed = [*((name,) for name in self.required), *self.required_any]

    def rename_old_spellings(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the data with present names instead of old ones."""
        for old, new in self.renamed.items():
            if old in data and (old in OLD_SPELLINGS or is_blank(data.get(new))):
                data = {**data, new: data[old] if is_blank(data.get(new)) else data[new]}
                del data[old]
        return data

    def _deserialize(self, data: Any, *, error_store: Any, many: bool = False, **options: Any) -> Any:
        """Deserialize the fields that `data` has, in its order. Then report required ones that are absent.

        marshmallow visits all declared fields, most of them absent, and returns the unknown ones in an order that
        differs between processes. Renaming and requiring here, and not in its hooks, takes 0.7 of the time.
        """
        if many or not isinstance(data, dict):
            return super()._deserialize(data, error_store=error_store, many=many, **options)
        loaded, declared = {}, self.fields
        for name, value in self.rename_old_spellings(data).items():
            if name in declared:
                try:
                    value = declared[name].deserialize(value, name, data)
                except ValidationError as error:
                    error_store.store_error(error.messages, name)
                    continue
            if value is not missing:
                loaded[name] = value
        for names in self._needed:
            if loaded.keys().isdisjoint(names) and error_store.errors.keys().isdisjoint(names):
                error_store.store_error([declared[names[0]].error_messages["required"]], names[0])
        return loaded


class Call(OrderedSchema):
    """The fields that all calls have."""

    call: ClassVar[str] = ""  # its name, which is the type of its events
    renamed = OLD_SPELLINGS
    error_messages = {"type": "event_not_object"}

    type = Type()
    userId = Id()
    anonymousId = Id()
    messageId = Id(error_messages={"invalid": "message_id_not_string"})
    timestamp = Time()
    originalTimestamp = Time()
    context = Object()
    integrations = Object()


class UserCall(Call):
    """A call that needs a userId or an anonymousId."""

    required_any = [("userId", "anonymousId")]


class Identify(UserCall):
    call = "identify"
    traits = Object()


class Track(UserCall):
    call = "track"
    event = EventName(required=True)
    properties = Object()


class Page(UserCall):
    call = "page"
    name = Text()
    category = Text()
    section = Text()
    properties = Object()


class Screen(Page):
    call = "screen"


class Group(UserCall):
    call = "group"
    groupId = Id(required=True, error_messages={"required": "group_id_required"})
    traits = Object()


class Alias(Call):
    call = "alias"
    renamed = OLD_SPELLINGS | {"from": "previousId", "to": "userId"}  # as in libraries of 2012 to 2014
    userId = Id(required=True)
    previousId = Id(required=True, error_messages={"required": "previous_id_required"})


class Untyped(UserCall):
    """A batch item without a valid type. It is always rejected; its other errors are reported too."""

    type = Type(required=True)


class Batch(OrderedSchema):
    """The envelope of a batch. Its items are validated one by one."""

    batch = Items(required=True)
    context = Object()
    integrations = Object()


CALLS = {schema.call: schema for schema in (Identify(), Track(), Page(), Screen(), Group(), Alias())}
UNTYPED = Untyped()
BATCH = Batch()
