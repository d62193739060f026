"""A destination gets only the events that its rules want, transformed and masked as they say."""

import hmac
import json
import os
import threading
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from factories import AT, event
from receiver import answer, receiving
from recording import Recorder
from service import wait_until

import eventlog
import forwarding
from eventlog import schema
from forwarding import DeliveryRejected, EventRules, Forwarder, RetryLater

PROJECT = Path(__file__).parents[2]
KEY = "mask-key-4711"
WEBHOOK = "webhook+http://nowhere"


def call(number=1, type="track", **fields):
    """Return an event with these fields, as the service stores it."""
    times = dict.fromkeys(("timestamp", "receivedAt", "originalTimestamp"), AT)
    fields = {"type": type, "messageId": str(number), "userId": "1"} | times | fields
    if type == "track":
        fields = {"event": "Added File"} | fields
    columns = {"user_id": fields.get("userId"), "name": fields.get("event", fields.get("name"))}
    return event(number, type=type, payload=json.dumps(fields), **columns)


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv("TRACKLOG_SECRET_MASK", KEY)
    monkeypatch.setattr("forwarding.attempts.FIRST_DELAY_SECONDS", 0.01)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes a transform into the folder of transforms, and returns its path."""
    folder = tmp_path / "transforms"
    folder.mkdir(mode=0o755)
    monkeypatch.setenv("TRACKLOG_TRANSFORMS", str(folder))
    if user := os.geteuid():  # the files must belong to another user than the forwarder's
        monkeypatch.setattr("forwarding.transforms.os.geteuid", lambda: user + 1)

    def write(body, name="change"):
        path = folder / f"{name}.py"
        path.write_text("def transform(event):\n" + "".join(f"    {line}\n" for line in body.splitlines()))
        path.chmod(0o644)
        return path

    return write


@pytest.fixture
def deliver(log):
    """Return a function that appends events, delivers the log by some rules, and returns the rows that arrive."""

    def deliver(events, kind=None, **rules):
        log.append(events)
        if not log.destinations.all():
            log.destinations.add("there", WEBHOOK, [], [], 0, {}, EventRules(**rules).to_json())
        kind = kind or Recorder()
        run(log, kind)
        return kind.delivered

    return deliver


def run(log, kind, **options):
    forwarder = Forwarder(log, "there", threading.Event(), open_deliverer=lambda *_: kind, **{"once": True} | options)
    return forwarder.run()


def sent(rows):
    return [json.loads(row.payload) for row in rows]


def letters(log):
    return [(each.event.message_id, each.code, each.message) for each in log.destinations.dead_letters("there")]


# Only and not


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"only": ("track",)}, "1 2"),
        ({"only": ("track:Added File",)}, "1"),
        ({"only": ("track:Added File", "page")}, "1 3 4"),
        ({"only": ("page:Home",)}, "3"),
        ({"only": ("page:None",)}, ""),
        ({"only": ("track:added file",)}, ""),
        ({"only": ("track:a:b",)}, "2"),
        ({"excluded": ("track",)}, "3 4 5"),
        ({"excluded": ("track:Added File",)}, "2 3 4 5"),
        ({"only": ("track", "page"), "excluded": ("page:Home", "track:a:b")}, "1 4"),
        ({"only": ("track",), "excluded": ("track",)}, ""),
        ({}, "1 2 3 4 5"),
    ],
)
def test_only_and_not_choose_events(deliver, log, run, client, rules, expected):
    events = [call(1), call(2, event="a:b"), call(3, "page", name="Home"), call(4, "page"), call(5, "identify")]
    assert [row.message_id for row in deliver(events, **rules)] == expected.split()
    there = log.destinations.get("there")
    assert (there.position, there.delivered, log.destinations.count_dead("there")) == (5, len(expected.split()), 0)
    assert run("destinations", "list").splitlines()[1].split()[2:4] == ["5", "0"]
    assert 'tracklog_destination_backlog_events{destination="there"} 0.0' in client.get("/metrics").text


# Transforms


def test_a_transform_changes_what_is_sent_and_not_the_log(deliver, write, stored):
    write("event['event'] = 'File Added'\nevent['userId'] = 'u'\nevent['extra'] = {'n': 1}\nreturn event")
    (row,) = deliver([call()], transform="change")
    assert (row.name, row.user_id, row.message_id, row.type, row.source) == ("File Added", "u", "1", "track", "example")
    assert sent([row])[0]["extra"] == {"n": 1}
    assert stored()[0]["event"] == "Added File"


def test_a_transform_may_drop_an_event(deliver, write, log):
    write("return event if event['messageId'] == '2' else None")
    assert [row.message_id for row in deliver([call(1), call(2), call(3)], transform="change")] == ["2"]
    there = log.destinations.get("there")
    assert (there.position, there.delivered, log.destinations.count_dead("there")) == (3, 1, 0)


UNFIT = [
    ("raise ValueError('not this one')", "ValueError: not this one"),
    ("return event['traits']", "KeyError: 'traits'"),
    ("raise SystemExit(1)", "SystemExit: 1"),
    ("raise ValueError('half \\ud83d')", "ValueError: half �"),
    ("return transform(event)", "RecursionError"),
    ("class Odd(Exception):\n    def __str__(self): return 1 / 0\nraise Odd", "exception str() failed"),
    ("event['messageId'] = '3'\nreturn event", "changed messageId"),
    ("del event['messageId']\nreturn event", "changed messageId"),
    ("event['type'] = 'page'\nreturn event", "changed type"),
    ("event['source'] = 'other'\nreturn event", "changed source"),
    ("return {}", "changed messageId"),
    ("event['n'] = float('nan')\nreturn event", "ValueError"),
    ("event['n'] = float('inf')\nreturn event", "ValueError"),
    ("event['n'] = {1, 2}\nreturn event", "TypeError"),
    ("event['n'] = b'bytes'\nreturn event", "TypeError"),
    ("event['n'] = {(1, 2): 3}\nreturn event", "TypeError"),
    ("event['n'] = 10 ** 5000\nreturn event", "ValueError"),
    ("event['n'] = event\nreturn event", "RecursionError"),
    ("for _ in range(250): event['n'] = [event.get('n')]\nreturn event", "nested too deeply"),
    ("event['n'] = 'x' * 600_000\nreturn event", "more than 524288 bytes"),
    ("return [event]", "neither an event nor None"),
    ("return 'event'", "neither an event nor None"),
    ("return False", "neither an event nor None"),
    ("event['userId'] = 1\nreturn event", "userId that is not a text"),
    ("event['event'] = ['a']\nreturn event", "event that is not a text"),
    ("event['timestamp'] = 'yesterday'\nreturn event", "timestamp that is not a time"),
    ("event['receivedAt'] = {}\nreturn event", "receivedAt that is not a time"),
]


@pytest.mark.parametrize(("body", "reason"), UNFIT, ids=range(len(UNFIT)))
def test_an_event_that_a_transform_spoils_is_a_dead_letter(deliver, write, log, body, reason):
    """The others are delivered, and the dead letter holds the log's event."""
    write("if event['messageId'] != '2': return event\n" + body)
    assert [row.message_id for row in deliver([call(1), call(2), call(3)], transform="change")] == ["1", "3"]
    ((message_id, code, message),) = letters(log)
    assert (message_id, code) == ("2", "transform_failed")
    assert reason in message
    assert log.destinations.get("there").delivered == 2
    assert log.destinations.dead_letters("there")[0].event.payload == call(2).payload


def test_an_event_that_was_large_before_may_stay_so(deliver, write):
    write("return event")
    assert len(deliver([call(1, text="x" * 700_000)], transform="change")) == 1


def test_a_transform_may_return_an_event_of_its_own(deliver, write):
    write("return {'type': event['type'], 'messageId': event['messageId'], 'half': '\\ud83d', 'pair': (1, 2)}")
    (row,) = deliver([call()], transform="change")
    assert sent([row]) == [{"type": "track", "messageId": "1", "half": "�", "pair": [1, 2]}]
    assert (row.user_id, row.name, row.timestamp, row.received_at) == (None, None, AT, AT)


def test_a_changed_time_is_in_its_column_too(deliver, write):
    write("event['timestamp'] = '2015-11-10'\nreturn event")
    (row,) = deliver([call()], transform="change")
    assert row.timestamp == "2015-11-10T00:00:00.000Z"


def test_batches_have_at_most_the_bytes_of_their_kind_after_a_transform(deliver, write, log):
    class Small(Recorder):
        max_bytes = 1000
        sizes = []

        def deliver(self, events):
            self.sizes.append(sum(len(each.payload) for each in events))
            return super().deliver(events)

    write("event['text'] = 'x' * 400\nreturn event")
    kind = Small()
    assert len(deliver([call(n) for n in range(1, 9)], kind, transform="change")) == 8
    assert max(kind.sizes) <= 1000
    assert log.destinations.get("there").delivered == 8


def test_a_retry_after_a_part_of_a_batch_sends_the_rest(deliver, write):
    class Failing(Recorder):
        max_bytes = 1000
        failures = 1

        def deliver(self, events):
            if self.delivered and self.failures:
                self.failures = 0
                raise RetryLater("no connection")
            return super().deliver(events)

    write("event['text'] = 'x' * 800\nreturn event")
    rows = deliver([call(1), call(2), call(3)], Failing(), transform="change")
    assert [row.message_id for row in rows] == ["1", "2", "3"]


def test_a_rejected_event_is_replayed_by_the_present_transform(deliver, write, log, monkeypatch):
    class Picky(Recorder):
        def deliver(self, events):
            if any("bad" in each.payload for each in events):
                raise DeliveryRejected("400", "no bad ones")
            return super().deliver(events)

    path = write("event['n'] = 'bad' if event['messageId'] == '2' else 'good'\nreturn event")
    kind = Picky()
    assert [row.message_id for row in deliver([call(1), call(2), call(3)], kind, transform="change")] == ["1", "3"]
    assert letters(log) == [("2", "400", "no bad ones")]
    assert log.destinations.dead_letters("there")[0].event.payload == call(2).payload
    path.write_text("def transform(event):\n    return event | {'n': 'mended'}\n")
    monkeypatch.setattr("forwarding.forwarder.opened.__wrapped__.__defaults__", (lambda *_: kind,))
    dead = [each.event for each in log.destinations.dead_letters("there")]
    assert forwarding.redeliver(log, "there", dead) == (1, [2], [], "")
    assert sent(kind.delivered)[-1]["n"] == "mended"


def test_a_dropped_event_is_no_answer_of_the_destination(log, write, monkeypatch):
    """So the event before it is not taken for the cause of a server fault."""

    class Broken(Recorder):
        tries = 0

        def deliver(self, events):
            self.tries += 1
            if self.tries > 20:
                stop.set()
            raise RetryLater("500", is_server_fault=True)

    monkeypatch.setattr("forwarding.attempts.MAX_DELAY_SECONDS", 0.01)
    write("if event['messageId'] == '3': raise ValueError\nreturn event if event['messageId'] == '1' else None")
    log.append([call(1), call(2), call(3)])
    log.destinations.add("there", WEBHOOK, [], [], 0, {}, EventRules(transform="change").to_json())
    stop = threading.Event()
    Forwarder(log, "there", stop, open_deliverer=lambda *_: Broken(), give_up_after=0).run()
    assert stop.is_set()
    assert letters(log) == []


def test_a_poisonous_event_before_dropped_ones_is_still_found(log, write, monkeypatch):
    class Poisoned(Recorder):
        def deliver(self, events):
            if any(each.message_id == "1" for each in events):
                raise RetryLater("500", is_server_fault=True)
            return super().deliver(events)

    monkeypatch.setattr("forwarding.attempts.MAX_DELAY_SECONDS", 0.01)
    write("return None if event['messageId'] in ('2', '3') else event")
    log.append([call(1), call(2), call(3), call(4)])
    log.destinations.add("there", WEBHOOK, [], [], 0, {}, EventRules(transform="change").to_json())
    assert run(log, Poisoned(), give_up_after=0) is True
    assert letters(log) == [("1", "server_fault", "500")]


# The file


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def transform(event:", "SyntaxError"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("raise SystemExit", "SystemExit"),
        ("x = 1", "no function transform(event)"),
        ("transform = 1", "no function transform(event)"),
        ("\0", "null bytes"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_named_with_its_reason(log, write, text, reason):
    write("return event").write_text(text)
    assert reason in refusal(log, transform="change")


def refusal(log, **rules):
    """Return why a destination with these rules cannot be opened. The list shows the same."""
    log.destinations.add("there", WEBHOOK, [], [], 0, {}, EventRules(**rules).to_json())
    log.append([call()])
    kind = Recorder()
    with pytest.raises(eventlog.NotPossible) as raised:
        run(log, kind)
    assert kind.delivered == []
    assert log.destinations.get("there").last_error == str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("name", ["../change", "a/b", "change.py", ".", "", "/etc/passwd", "a\nb", "x" * 61, "ä"])
def test_a_transform_is_a_name_and_no_path(log, write, run, name):
    write("return event")
    if name:
        assert "may have only letters" in refusal(log, transform=name)
        options = ("--transform", name)
        assert "may have only letters" in run("destinations", "add", "new", WEBHOOK, *options, exit_code=1)


def test_without_a_folder_no_transform_is_allowed(log, write, monkeypatch):
    write("return event")
    monkeypatch.delenv("TRACKLOG_TRANSFORMS")
    assert "The environment has no TRACKLOG_TRANSFORMS" in refusal(log, transform="change")


def test_a_missing_file_is_the_reason(log, write):
    write("return event")
    assert "No such file" in refusal(log, transform="other")


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646, 0o777])
@pytest.mark.parametrize("what", ["the file", "its folder", "a folder above", "the target of a link", "its folder too"])
def test_a_transform_that_others_may_write_is_refused(log, write, tmp_path, monkeypatch, what, mode):
    path = write("return event")
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    if what in ("the target of a link", "its folder too"):
        path.rename(outside / "real.py")
        path.symlink_to(outside / "real.py")
    victim = {
        "the file": path,
        "its folder": path.parent,
        "a folder above": tmp_path,
        "the target of a link": outside / "real.py",
        "its folder too": outside,
    }[what]
    victim.chmod(mode | 0o111)
    reason = refusal(log, transform="change")
    assert f"{victim} must be writable by its owner only" in reason
    victim.chmod(0o755)
    assert run(log, Recorder())


@pytest.mark.parametrize("kind", ["a loop of links", "a dangling link", "a folder", "Latin-1"])
def test_what_is_no_readable_file_is_refused(log, write, kind):
    path = write("return event")
    path.unlink()
    if kind == "a folder":
        path.mkdir(mode=0o755)
    elif kind == "Latin-1":
        path.write_bytes(b"x = '\xe9'")
    else:
        path.symlink_to(path if "loop" in kind else "nowhere")
    assert "The transform change cannot be " in refusal(log, transform="change")


def test_a_link_to_a_safe_file_is_allowed(deliver, write, tmp_path):
    path = write("return event | {'n': 1}")
    path.rename(tmp_path / "real.py")
    path.symlink_to(tmp_path / "real.py")
    assert sent(deliver([call()], transform="change"))[0]["n"] == 1


def test_a_file_of_the_forwarders_own_user_is_refused(log, write, monkeypatch):
    path = write("return event")
    monkeypatch.setattr("forwarding.transforms.os.geteuid", lambda: 4711)
    status = Path.stat

    class Own:
        def __init__(self, real):
            self.st_mode, self.st_uid = real.st_mode, 4711

    monkeypatch.setattr(Path, "stat", lambda self: Own(status(self)) if self == path else status(self))
    assert "must belong to root, or another user" in refusal(log, transform="change")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, which can give files away")
@pytest.mark.parametrize("what", ["the file", "its folder"])
def test_root_runs_no_file_of_another_user(log, write, what):
    path = write("return event")
    os.chown(path if what == "the file" else path.parent, 4711, 4711)
    assert "must belong to root" in refusal(log, transform="change")


def test_no_compiled_file_is_read_or_written(deliver, write):
    """It would not be checked."""
    path = write("return event")
    deliver([call()], transform="change")
    assert os.listdir(path.parent) == ["change.py"]


def test_a_changed_file_is_used_from_the_next_batch_on(log, write):
    path = write("return event | {'n': 1}")
    log.append([call(1), call(2)])
    log.destinations.add("there", WEBHOOK, [], [], 0, {}, EventRules(transform="change").to_json())

    class Single(Recorder):
        max_events = 1

        def deliver(self, events):
            path.with_suffix(".new").write_text("def transform(event):\n    return event | {'n': 2}\n")
            path.with_suffix(".new").replace(path)
            return super().deliver(events)

    kind = Single()
    assert run(log, kind)
    assert [each["n"] for each in sent(kind.delivered)] == [1, 2]


def test_a_file_that_breaks_while_the_forwarder_runs_is_a_failure(log, write):
    path = write("return event")
    log.append([call(1), call(2)])
    log.destinations.add("there", WEBHOOK, [], [], 0, {}, EventRules(transform="change").to_json())

    class Single(Recorder):
        max_events = 1

        def deliver(self, events):
            path.write_text("def transform(event:\n")
            return super().deliver(events)

    kind = Single()
    assert run(log, kind) is False
    assert [row.message_id for row in kind.delivered] == ["1"]
    there = log.destinations.get("there")
    assert "SyntaxError" in there.last_error
    assert (there.position, letters(log)) == (1, [])
    path.write_text("def transform(event):\n    return event\n")
    assert run(log, kind) is True


@pytest.fixture
def never(tmp_path):
    """Yield statements that do not return before the end of the test."""
    over = tmp_path / "over"
    yield f"import os, threading\nthreading.current_thread().name = 'stuck'\nwhile not os.path.exists({str(over)!r}): pass"
    over.touch()


def test_a_transform_that_never_returns_is_shown_and_stops_nothing(log, write, never, monkeypatch):
    """A retry starts no second thread. A file that is mended is used, and the forwarder can be stopped."""
    monkeypatch.setattr("forwarding.preparing.PATIENCE_SECONDS", 0.3)
    write(never)
    log.append([call(1)])
    log.destinations.add("there", WEBHOOK, [], [], 0, {}, EventRules(transform="change").to_json())
    stop, kind = threading.Event(), Recorder()
    forwarder = Forwarder(log, "there", stop, open_deliverer=lambda *_: kind)
    thread = threading.Thread(target=forwarder.run, daemon=True)
    thread.start()
    wait_until(lambda: log.destinations.get("there").failures >= 2)
    assert "the transform has not returned after" in log.destinations.get("there").last_error
    assert [each.name for each in threading.enumerate()].count("stuck") == 1
    write("return event")
    wait_until(lambda: kind.delivered)
    write(never)
    log.append([call(2)])
    wait_until(lambda: [each.name for each in threading.enumerate()].count("stuck") == 2)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert len(kind.delivered) == 1


def test_a_file_that_never_ends_is_refused(log, write, never, monkeypatch):
    monkeypatch.setattr("forwarding.transforms.LOAD_SECONDS", 0.2)
    write("return event").write_text(never)
    assert "is not loaded after" in refusal(log, transform="change")


# The mask


def masked(value):
    return hmac.new(KEY.encode(), value.encode(), "sha256").hexdigest()


@pytest.mark.parametrize(
    ("mask", "fields", "expected"),
    [
        ("context.ip", {"context": {"ip": "1.2.3.4", "a": 1}}, {"context": {"ip": masked("1.2.3.4"), "a": 1}}),
        ("context.ip", {"context": {"page": {}}}, {"context": {"page": {}}}),
        ("context.ip", {"context": None}, {"context": None}),
        ("context.ip", {"context": {"ip": None}}, {"context": {"ip": None}}),
        ("context.ip", {"context": {"ip": ""}}, {"context": {"ip": masked("")}}),
        ("context.ip", {"context": "text"}, {"context": "text"}),
        ("traits.age", {"traits": {"age": 42}}, {"traits": {"age": masked("42")}}),
        ("traits.is", {"traits": {"is": True}}, {"traits": {"is": masked("true")}}),
        ("traits.e", {"traits": {"e": "ü€"}}, {"traits": {"e": masked("ü€")}}),
        ("traits", {"traits": {"a": "x", "b": [1, None]}}, {"traits": {"a": masked("x"), "b": [masked("1"), None]}}),
        ("p.list.e", {"p": {"list": [{"e": "x"}, 1, [{"e": "y"}]]}}, {"p": {"list": [{"e": masked("x")}, 1, [{"e": masked("y")}]]}}),
        ("p.a.b", {"p": {"a.b": "x"}}, {"p": {"a.b": masked("x")}}),
        ("p.a.b", {"p.a": {"b": "x"}}, {"p.a": {"b": masked("x")}}),
        ("p.A", {"p": {"a": "x"}}, {"p": {"a": "x"}}),
    ],
)  # fmt: skip
def test_a_mask_hides_values(deliver, mask, fields, expected):
    (row,) = deliver([call(**fields)], mask=(mask,))
    assert sent([row]) == [json.loads(call(**expected).payload)]


def test_a_masked_id_or_name_is_masked_in_its_column_too(deliver):
    (row,) = deliver([call(anonymousId="device")], mask=("userId", "anonymousId", "event"))
    assert (row.user_id, row.anonymous_id, row.name) == (masked("1"), masked("device"), masked("Added File"))


@pytest.mark.parametrize("type", ["identify", "group", "alias"])
@pytest.mark.parametrize("value", [5, "x"])
def test_a_field_without_a_name_is_no_name_of_an_event(deliver, log, type, value):
    """Calls of these types have none. Senders may send any other field, also one called ""."""
    (row,) = deliver([call(type=type, **{"": value})], mask=("context.ip",))
    assert row.name is None
    assert sent([row])[0][""] == value


def test_only_comes_before_the_transform_and_the_mask_after_it(deliver, write):
    write("event['event'] = 'Renamed'\nevent['traits'] = {'email': event['event']}\nreturn event")
    (row,) = deliver([call()], only=("track:Added File",), transform="change", mask=("traits.email",))
    assert sent([row])[0]["traits"]["email"] == masked("Renamed")


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_key_nothing_is_delivered(log, monkeypatch, value):
    monkeypatch.delenv("TRACKLOG_SECRET_MASK")
    if value is not None:
        monkeypatch.setenv("TRACKLOG_SECRET_MASK", value)
    assert "The environment has no TRACKLOG_SECRET_MASK" in refusal(log, mask=("context.ip",))


# Commands


def test_add_set_and_list_take_and_show_the_rules(log, run):
    rules = "--only", "track:Added File", "--only", "page", "--not", "page:Home", "--transform", "bots"
    run("destinations", "add", "there", WEBHOOK, *rules, "--mask", "context.ip, traits.email", "--mask", "userId")
    lines = [
        "  only track:Added File, page",
        "  not page:Home",
        "  transform bots",
        "  mask context.ip, traits.email, userId",
    ]
    assert "\n".join(lines) in run("destinations", "list")
    run("destinations", "set", "there", "--mask", "context.ip", "--only", "", "--transform", "")
    listed = run("destinations", "list")
    assert "  not page:Home\n  mask context.ip\n" in listed
    assert "only" not in listed
    assert "transform" not in listed
    run("destinations", "set", "there", "webhook+http://elsewhere")
    assert "elsewhere" in run("destinations", "list")
    assert "  not page:Home\n  mask context.ip\n" in run("destinations", "list")
    run("destinations", "set", "there", "webhook+http://third", "--not", "", "--mask", "")
    assert log.destinations.get("there").event_rules == "{}"
    assert KEY not in listed


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--only", "tracks"), "is not TYPE or TYPE:NAME"),
        (("--only", "track:"), "is not TYPE or TYPE:NAME"),
        (("--not", "Added File"), "is not TYPE or TYPE:NAME"),
        (("--mask", "messageId"), "cannot be masked"),
        (("--mask", "timestamp"), "cannot be masked"),
        (("--mask", "context..ip"), "cannot be masked"),
        (("--mask", "type"), "cannot be masked"),
        (("--transform", "../x"), "may have only letters"),
    ],
)
def test_an_invalid_rule_is_refused(log, runner, options, sentence):
    result = runner.invoke(args=["destinations", "add", "there", WEBHOOK, *options])
    assert result.exit_code in (1, 2)
    assert sentence in result.output
    assert log.destinations.all() == []
    log.destinations.add("there", WEBHOOK, [], [], 0)
    assert sentence in runner.invoke(args=["destinations", "set", "there", *options]).output
    assert log.destinations.get("there").event_rules == "{}"


def test_set_needs_a_url_or_a_rule(log, run):
    log.destinations.add("there", WEBHOOK, [], [], 0)
    assert "Give a URL, --create, a rule" in run("destinations", "set", "there", exit_code=2)


@pytest.mark.parametrize("rule", [("--only", "track"), ("--not", "page"), ("--mask", "userId"), ("--transform", "x")])
def test_an_archive_takes_no_rule(log, run, tmp_path, rule):
    url = f"archive+file://{tmp_path}"
    assert "An archive takes no --only" in run("destinations", "add", "cold", url, *rule, exit_code=1)
    run("destinations", "add", "cold", url)
    assert "An archive takes no --only" in run("destinations", "set", "cold", *rule, exit_code=1)
    log.destinations.set_url("cold", url, {}, EventRules(only=("track",)).to_json())
    assert "An archive takes no --only" in run("destinations", "test", "cold", exit_code=1)


def test_the_test_event_is_prepared(log, run, write):
    write("event['n'] = 1\nreturn event")
    received = []

    def serve(connection, request):
        received.append(json.loads(request.partition(b"\r\n\r\n")[2]))
        connection.sendall(answer(200))

    with receiving(serve) as port:
        url = f"webhook+http://127.0.0.1:{port}/"
        run("destinations", "add", "there", url, "--transform", "change", "--mask", "userId")
        assert "accepted the event" in run("destinations", "test", "there")
        run("destinations", "set", "there", "--only", "page")
        assert "does not get the test event" in run("destinations", "test", "there", exit_code=1)
        run("destinations", "set", "there", "--only", "")
        write("return None")
        assert "does not get the test event" in run("destinations", "test", "there", exit_code=1)
    assert [(each["n"], each["userId"]) for each in received] == [(1, masked("tracklog"))]


def test_a_running_forwarder_uses_new_rules(log, path):
    received = []

    def serve(connection, request):
        received.append(json.loads(request.partition(b"\r\n\r\n")[2])["userId"])
        connection.sendall(answer(200))

    stop = threading.Event()
    thread = threading.Thread(target=forwarding.forward, args=(path, []), kwargs={"stop": stop})
    with receiving(serve) as port:
        url = f"webhook+http://127.0.0.1:{port}/"
        log.destinations.add("there", url, [], [], 0)
        thread.start()
        log.append([call(1)])
        wait_until(lambda: received == ["1"])
        log.destinations.set_url("there", url, {}, EventRules(mask=("userId",)).to_json())
        log.append([call(2)])
        wait_until(lambda: len(received) == 2)
        stop.set()
        thread.join(10)
    assert received == ["1", masked("1")]


# A destination that refuses every event


class Judging(Recorder):
    """Takes the events that `takes` allows, one at a time."""

    max_events = 1

    def __init__(self, takes=lambda event: False):
        super().__init__()
        self.takes = takes
        self.tries = []

    def deliver(self, events):
        self.tries += [event.id for event in events]
        if not all(map(self.takes, events)):
            raise DeliveryRejected("422", "no such field")
        return super().deliver(events)


SOME = "n = int(event['messageId']) % 4\nif n == 1: raise ValueError\nreturn event if n > 1 else None"  # 2 and 3 of 4


@pytest.mark.parametrize("max_events", [1, 100])
def test_failures_of_the_transform_are_no_refusals(deliver, write, log, max_events):
    write("raise ValueError")
    kind = Judging()
    kind.max_events = max_events
    deliver([call(n) for n in range(1, 101)], kind, transform="change")
    assert (log.destinations.get("there").state, kind.tries) == ("ok", [])
    assert len(letters(log)) == 100


def test_only_events_that_the_destination_refuses_are_counted(deliver, write, log):
    write(SOME)
    kind = Judging()
    deliver([call(n) for n in range(1, 36)], kind, transform="change")  # 2 and 3, ... 34 and 35: 18 refusals
    assert log.destinations.get("there").state == "ok"
    deliver([call(n) for n in range(36, 41)], kind)
    there = log.destinations.get("there")
    assert (there.state, there.position, there.last_error) == ("refusing", 1, "422: no such field")


def test_an_event_that_never_reaches_it_does_not_end_the_refusals(deliver, write, log, monkeypatch):
    monkeypatch.setattr("forwarding.forwarder.MAX_TRIES_ONCE", 2)
    write(SOME)
    deliver([call(n) for n in range(1, 101)], Judging(), transform="change")
    write(SOME.replace("n > 1", "n > 1 and event['messageId'] not in ('2', '22', '23')"))  # now drops these, too
    kind = Judging()
    assert run(log, kind) is False
    assert (log.destinations.get("there").state, kind.tries) == ("refusing", [3, 26, 3, 26])
    kind = Judging(lambda event: event.id > 3)
    assert run(log, kind) is True
    assert (log.destinations.get("there").state, log.destinations.get("there").position) == ("ok", 100)
    assert {each.id for each in kind.delivered} == {n for n in range(6, 101) if n % 4 > 1} - {22, 23}
    assert [code for _, code, _ in letters(log) if code != "transform_failed"] == ["422"]
    assert len(letters(log)) == 26


def test_a_transform_that_drops_all_ends_the_refusals(deliver, write, log, monkeypatch):
    write("return event")
    deliver([call(n) for n in range(1, 101)], Judging(), transform="change")
    assert log.destinations.get("there").state == "refusing"
    monkeypatch.setattr("forwarding.forwarder.PROBED_EVENTS", 30)
    write("return event if event['messageId'] == '95' else None")
    kind = Judging()
    assert run(log, kind) is False
    there = log.destinations.get("there")
    assert (there.state, there.position) == ("refusing", 90)
    assert set(kind.tries) == {95}
    write("return None")
    assert run(log, kind) is True
    there = log.destinations.get("there")
    assert (there.state, there.position, letters(log)) == ("ok", 100, [])


# Beside the other settings


def test_a_change_of_headers_or_rules_keeps_the_other(log, run):
    run("destinations", "add", "there", WEBHOOK, "--header", "X-Key: a", "--mask", "userId")
    before = log.destinations.get("there")
    run("destinations", "set", "there", "--header", "X-Key: b")
    assert log.destinations.get("there").event_rules == before.event_rules
    run("destinations", "set", "there", "--mask", "context.ip")
    assert log.destinations.get("there").headers == {"X-Key": "b"}
    run("destinations", "set", "there", "--no-headers")
    run("destinations", "set", "there", "webhook+http://elsewhere")
    there = log.destinations.get("there")
    assert (there.url, there.headers) == ("webhook+http://elsewhere", {})
    assert EventRules.from_json(there.event_rules).mask == ("context.ip",)


def test_the_answer_and_the_headers_pass_through_the_rules(run):
    heads = []

    def serve(connection, request):
        heads.append(request.partition(b"\r\n\r\n")[0])
        connection.sendall(answer(200))

    with receiving(serve) as port:
        url = f"webhook+http://127.0.0.1:{port}/"
        run("destinations", "add", "there", url, "--header", "X-Key: a", "--mask", "userId")
        assert "It answered 200" in run("destinations", "test", "there")
    assert b"X-Key: a" in heads[0]


# The upgrade


def test_destinations_of_the_version_before_get_every_event(tmp_path):
    path = str(tmp_path / "old.db")
    with pytest.MonkeyPatch.context() as patch:
        before = schema.MIGRATIONS.index("0011_event_rules.sql")
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:before])
        eventlog.create(path)
    insert = (
        "INSERT INTO destinations (name, url, types, sources, position, created_at) VALUES (?, ?, '[]', '[]', 0, ?)"
    )
    for name in ("old", "new"):
        with closing(apsw.Connection(path)) as connection:
            connection.execute(insert, (name, WEBHOOK, AT))
        eventlog.migrate(path)
    log = eventlog.EventLog(path)
    assert [each.event_rules for each in log.destinations.all()] == ["{}", "{}"]
    log.close()


# The examples


def example(name, monkeypatch):
    if user := os.geteuid():
        monkeypatch.setattr("forwarding.transforms.os.geteuid", lambda: user + 1)
    scope = {}
    exec((PROJECT / "deploy" / "transforms" / f"{name}.py").read_text(), scope)
    return scope["transform"]


@pytest.mark.parametrize(
    ("agent", "is_bot"),
    [
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", True),
        ("curl/8.5.0", True),
        ("python-requests/2.31", True),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/120.0", True),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0", False),
        ("Mozilla/5.0 (Linux; Android 10; Cubot X30) AppleWebKit/537.36", False),
        (None, False),
    ],
)
def test_the_example_bots_flags_bots(monkeypatch, agent, is_bot):
    transform = example("bots", monkeypatch)
    assert transform({"context": {"userAgent": agent, "ip": "1"}})["context"] == {
        "userAgent": agent,
        "ip": "1",
        "bot": is_bot,
    }
    assert transform({})["context"] == {"bot": False}
    assert transform({"context": None})["context"] == {"bot": False}


def test_the_example_sample_keeps_one_user_in_ten(monkeypatch):
    transform = example("sample", monkeypatch)
    kept = {n for n in range(5000) if transform({"userId": str(n)})}
    assert 400 < len(kept) < 600
    assert {n for n in range(5000) if transform({"anonymousId": str(n), "event": "other"})} == kept


def test_the_example_rename_renames(monkeypatch):
    transform = example("rename", monkeypatch)
    event = {"type": "track", "event": "Added File", "properties": {"fileName": "a", "b": 1}}
    assert transform(event) == {"type": "track", "event": "File Added", "properties": {"file_name": "a", "b": 1}}
    assert transform({"type": "track", "event": "Other"}) == {"type": "track", "event": "Other"}
    assert transform({"type": "page"}) == {"type": "page"}


def test_list_shows_each_filter_under_the_name_of_its_option(run):
    options = "--type", "track", "--type", "page", "--source", "example", "--only", "track:Added File"
    run("destinations", "add", "there", WEBHOOK, *options)
    assert "  type track, page\n  source example\n  only track:Added File\n" in run("destinations", "list")


@pytest.mark.parametrize(
    ("rules", "is_told"),
    [
        ({}, False),
        ({"only": ("track",), "mask": ("context.ip",)}, False),
        ({"transform": "bots"}, True),
        ({"mask": ("context.ip", "userId")}, True),
        ({"mask": ("anonymousId",)}, True),
        ({"mask": ("previousId",)}, True),
    ],
)
def test_forget_tells_when_ids_may_differ_at_the_destination(log, run, rules, is_told):
    log.append([call()])
    log.destinations.add("tables", "postgresql://nowhere/db", [], [], 0, {}, EventRules(**rules).to_json())
    said = run("events", "forget", "1", "--yes")
    assert "DELETE FROM" in said
    assert ("may have changed ids" in said) == is_told


def test_dead_shows_the_whole_reason(deliver, write, run):
    write(f"raise ValueError({'long ' * 30!r} + 'end')")
    deliver([call()], transform="change")
    assert f"transform_failed  ValueError: {'long ' * 30}end" in run("destinations", "dead", "there")
