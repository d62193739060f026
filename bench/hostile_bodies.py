"""The longest valid body, and bodies that try to delay the other requests of their worker."""

import gzip
import json
import zlib
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

MIB = 1024 * 1024
LONG = 480_000  # bytes, slightly below the limit of an event
KEY = {"Authentication": "Basic SUxvdmVEYXRhMTIz"}
GZIP = {"Content-Encoding": "gzip"}
CALL = '{"type": "track", "userId": "1", "event": "e", '
PLAIN = CALL.rstrip(", ") + "}"


class Body(NamedTuple):
    """A request, and the number of connections that send it at once."""

    path: str
    content: bytes
    headers: dict = KEY
    at_once: int = 1
    method: str = "POST"


Named = Iterator[tuple[str, Body]]


def zipped(path: str, text: str | bytes, headers: dict = KEY, at_once: int = 1) -> Body:
    content = text if isinstance(text, bytes) else text.encode()
    return Body(path, gzip.compress(content, 6), headers | GZIP, at_once)


def fill(piece: str, size: int = 8 * MIB - 1000) -> str:
    """Return as many copies of a text as `size` bytes hold."""
    return piece * (size // len(piece.encode()))


def event(value: str, name: str = "value") -> str:
    """Return a call with one additional field."""
    return f'{CALL}"{name}": {value}}}'


def listed(piece: str, size: int = LONG) -> str:
    """Return a list filled with `piece`, an element with its comma."""
    return f"[{fill(piece, size)}0]"


def batch(*items: str, members: str = "") -> str:
    return f'{{{members}"batch": [{",".join(items)}]}}'


def valid() -> Body:
    """Return the longest valid body: 25,000 events in 8 MiB."""
    fields = {"type": "track", "userId": "1", "event": "Posted", "properties": {"text": "x" * 250}}
    return Body("/v1/batch", json.dumps({"batch": [fields] * 25_000}).encode())


def bodies() -> Named:
    """Yield the hostile bodies with their names."""
    return chain(
        many_values(), one_event(), long_numbers(), many_items(), halves(), nesting(),
        long_texts(), syntax_errors(), long_fields(), bad_encodings(), urls_and_headers(),
    )  # fmt: skip


def many_values() -> Named:
    """Yield many JSON values in one body."""
    lists = batch(listed("[],", 8 * MIB - 1000))
    yield "8 MiB of lists, no key", zipped("/v1/batch", lists, {})
    yield "8 MiB of lists, no key, 6 at once", zipped("/v1/batch", lists, {}, 6)
    yield "8 MiB of lists", zipped("/v1/batch", lists)
    yield "500 KiB of lists, no key, 6 at once", zipped("/v1/batch", batch(listed("[],")), {}, 6)
    objects = listed('{"a":{"b":"12345678901234567890"}},', 8 * MIB - 1000)
    yield "8 MiB in one item of objects", zipped("/v1/batch", batch(objects))
    yield "8 MiB in one item of texts", zipped("/v1/batch", batch(listed('"ab",', 8 * MIB - 1000)))
    yield "8 MiB in one item of texts, 6 at once", zipped("/v1/batch", batch(listed('"ab",', 8 * MIB - 1000)), KEY, 6)
    yield "8 MiB in one item of floats", zipped("/v1/batch", batch(listed("1.5,", 8 * MIB - 1000)))
    yield "8 MiB of numbers instead of a batch", zipped("/v1/batch", listed("1,", 8 * MIB - 1000))
    yield (
        "8 MiB in one unknown member",
        zipped("/v1/batch", batch("1", members=f'"x": {listed("1,", 8 * MIB - 1000)},')),
    )
    yield "8 MiB in one number", zipped("/v1/batch", batch("1." + fill("0")))


def one_event() -> Named:
    """Yield many values in events of almost the longest size."""
    for name, element in {"lists": "[],", "objects": '{"a":1},', "texts": '"ab",', "floats": "1.5,"}.items():
        yield f"480 KB in a call of {name}", zipped("/v1/track", event(listed(element)))
        items = [event(listed(element))] * (3 if "[" in element or "{" in element else 16)
        yield f"16 or fewer such events of {name}", zipped("/v1/batch", batch(*items))
    keys = "{" + ",".join(f'"{number}":0' for number in range(48_000)) + "}"
    yield "16 events of 48,000 keys", zipped("/v1/batch", batch(*[event(keys)] * 16))
    yield "16 events of 480 KB, 6 at once", zipped("/v1/batch", batch(*[event(listed('"ab",'))] * 16), KEY, 6)


def long_numbers() -> Named:
    """Yield numbers that take long to read."""
    digits = "9" * 4299 + ","
    yield "16 events of 4,299-digit integers", zipped("/v1/batch", batch(*[event(listed(digits))] * 16))
    slow = "1.2345678901234567e307,"  # msgspec takes 10 us for it
    yield "480 KB in a call of slow numbers", zipped("/v1/track", event(listed(slow)))
    yield "30 events of slow numbers", zipped("/v1/batch", batch(*[event(listed(slow, 16_000))] * 30))
    members = "".join(f'"{number}": {listed(slow, 15_000)},' for number in range(30))
    yield "30 members of slow numbers", zipped("/v1/batch", batch(event("1"), members=members))
    for route, size in (("track", LONG), ("batch", 8 * MIB - 20_000)):
        long = event(f"[{fill('9' * 4300 + ',', size)}{'9' * 4301}]")
        yield (
            f"integers too long for {route}, no key",
            zipped(f"/v1/{route}", batch(long) if route == "batch" else long, {}),
        )
        yield f"integers too long for {route}", zipped(f"/v1/{route}", batch(long) if route == "batch" else long)


def many_items() -> Named:
    """Yield as many members or items as fit."""
    yield "700,000 members", zipped("/v1/batch", "{" + ",".join(f'"{number}":0' for number in range(700_000)) + "}")
    yield (
        "700,000 members to validate",
        zipped("/v1/validate", "{" + ",".join(f'"{n}":0' for n in range(700_000)) + "}"),
    )
    context = json.dumps({"text": "x" * 2600})
    yield "25,000 items with a context", zipped("/v1/batch", batch(*[PLAIN] * 25_000, members=f'"context": {context},'))
    sent_at = f'"sentAt": "2015-11-10T02:00:00.{"0" * 400_000}Z",'
    yield "25,000 items with a long sentAt", zipped("/v1/batch", batch(*[PLAIN] * 25_000, members=sent_at))
    broken = (
        '{"type":"page","userId":[],"messageId":{},"timestamp":"x","name":1,"section":2,"context":3,"traits":[NaN]}'
    )
    for route in ("batch", "validate"):
        yield f"25,000 broken items to {route}", zipped(f"/v1/{route}", batch(*[broken] * 25_000))


def halves() -> Named:
    """Yield values that JSON or UTF-8 do not have, in long events."""
    yield "events of 100,000 NaN", zipped("/v1/batch", batch(*[event(listed("NaN,"))] * 16))
    for name, end in {"NaN": "NaN", "half a character": '"\\ud800"'}.items():
        yield f"a call of lists and {name}", zipped("/v1/track", event(f"[{fill('[],', LONG)}{end}]"))
    yield "a call of halves of characters", zipped("/v1/track", event(listed('"\\ud800",')))
    yield (
        "a call of names with halves",
        zipped("/v1/track", event("{" + ",".join(f'"{n}\\ud800":0' for n in range(30_000)) + "}")),
    )


def nesting() -> Named:
    """Yield repeated keys and deep nesting."""
    yield "the same key again and again", zipped("/v1/track", event("{" + fill('"k":[],', LONG) + '"k":0}'))
    yield "100,000 levels", zipped("/v1/batch", batch(event("[" * 100_000 + "]" * 100_000)))
    yield "8 MiB of levels", zipped("/v1/batch", batch(fill("[")))
    yield (
        "16 events too deep and wide",
        zipped("/v1/batch", batch(*[event("[" * 300 + fill("0,", 470_000) + "0" + "]" * 300)] * 16)),
    )


def long_texts() -> Named:
    """Yield long texts, names and blanks."""
    for name, piece in {
        "letters": "x",
        "escapes": "\\u00e9",
        "quotes": '\\"',
        "é and a": "éa",
        "emoji": "x\U0001f600",
    }.items():
        yield f"8 MiB in one text of {name}", zipped("/v1/batch", batch(event(f'"{fill(piece)}"')))
    yield "16 events of é and a, refused", zipped("/v1/batch", batch(*[f'{{"a": "{fill("éa", LONG)}"}}'] * 16))
    yield "a name of 8 MiB", zipped("/v1/batch", f'{{"{fill("x")}": 0}}')
    yield "8 MiB of blanks", zipped("/v1/batch", fill(" "))
    yield "a comma and 8 MiB of blanks", zipped("/v1/batch", f'{{"batch": [1,{fill(" ")}]}}')
    yield "8 MiB of line ends and a slip", zipped("/v1/batch", fill("\n") + '{"batch" [1]}')


def syntax_errors() -> Named:
    """Yield errors far from the beginning, or of many characters."""
    for name, piece in {"minus signs": "-", "backslashes": "\\", "quotes": '"', "closing brackets": "]"}.items():
        yield f"8 MiB of {name}", zipped("/v1/batch", batch(fill(piece)))
    good = valid().content
    yield "a slip at the end of 8 MiB", Body("/v1/batch", good[:-1] + b",")
    yield "a text without an end in 8 MiB", Body("/v1/batch", good[:1000] + b'"' + good[1001:])
    yield "no UTF-8 at the end of 8 MiB", Body("/v1/batch", good[:-1] + b"\xff")
    yield "no JSON, 480 KB, no key", zipped("/v1/track", event(listed("[],"))[:-1], {})


def long_fields() -> Named:
    """Yield fields that are much longer than usual."""
    for name in ("userId", "messageId", "timestamp", "sentAt", "type", "groupID"):
        value = "2015-11-10T02:00:00." + "0" * LONG if name in ("timestamp", "sentAt") else "1" * LONG
        yield (
            f"a {name} of 480 KB",
            Body("/v1/track", json.dumps(json.loads(CALL + '"a": 1}') | {name: value}).encode()),
        )
    yield "a writeKey of 480 KB, no key", Body("/v1/track", event('"' + "k" * LONG + '"', "writeKey").encode(), {})


def bad_encodings() -> Named:
    """Yield forms and gzip data."""
    yield "8 MiB of a form, no key", Body("/v1/track", fill("data=%7B&").encode(), {})
    yield "8 MiB of percent signs", Body("/v1/track", b"data=" + b"%" * (8 * MIB - 100))
    yield "8 MiB of gzip that holds nothing", Body("/v1/track", empty_blocks(8 * MIB - 100), KEY | GZIP)
    yield "8 MiB of gzip members", Body("/v1/track", gzip.compress(b"") * 400_000, KEY | GZIP)
    yield "1 GiB in gzip", zipped("/v1/track", b" " * (1024 * MIB))


def urls_and_headers() -> Named:
    """Yield uRLs and headers that are as long as they may be."""
    steps = "&".join("a" + ".a" * 190 + f"{number}=" for number in range(20))
    yield "a pixel with many steps", Body(f"/v1/pixel/track?writeKey=ILoveData123&{steps}"[:8100], b"", {}, 1, "GET")
    fields = "&a" * 4000
    yield "a pixel with many fields", Body(f"/v1/pixel/track?writeKey=ILoveData123{fields}", b"", {}, 1, "GET")
    long = {f"X-{number}": "x" * 8000 for number in range(80)}
    yield "headers of 640 KB", Body("/v1/track", b"{}", KEY | long)
    yield (
        "8 KB of proxies",
        Body("/v1/track", PLAIN.encode(), KEY | {"X-Forwarded-For": "1," * 4000, "Origin": "x" * 8000}),
    )


def empty_blocks(size: int) -> bytes:
    """Return gzip data of many empty blocks, whose tables must still be read."""
    packer = zlib.compressobj(level=9, wbits=-15)
    packer.compress(b"")
    block = packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * (size // len(block)) + b"\x03\0" + b"\0" * 8
