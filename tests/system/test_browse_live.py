"""The live page of `make browse` shows in Chromium what is wrong with a sender's requests, while they arrive."""

import json
import math
import os
import shutil
import subprocess

import pytest
from browse import Browse, look
from library import Driver
from needs import need
from service import AUTHENTICATION, PROJECT, SOURCE_ID, free_port, wait_until

HOSTILE = '</pre></li><img src="/hostile" onerror="throw 1"><script>throw 2</script>'


class Page(Driver):
    """A live page that is open in Chromium."""

    def __init__(self, browse, source=""):
        need("chromium")
        super().__init__("node", "live.mjs", f"{browse.url}/-/live?source={source}")
        assert self.wait_for("opened")

    def tell(self, answer, **command):
        number = len(self.said(answer)) + 1
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.wait_for(answer, number)[-1][answer]

    def run(self, script):
        """Return the value of a JavaScript expression."""
        return self.tell("value", run=script)

    def until(self, script):
        return wait_until(lambda: self.run(script))

    def rows(self, list):
        return self.run(f"[...document.querySelectorAll('#{list} > li')].map((row) => row.id)")

    def scroll_top(self, list):
        return self.run(f"document.getElementById('{list}').scrollTop")


@pytest.fixture
def browse(running):
    """Yield a service with an empty log, and a `make browse` of it."""
    browse = Browse(running)
    yield running, browse
    browse.stop()


@pytest.fixture
def page(browse):
    with Page(browse[1], "example") as page:
        yield page
        assert page.said("failed") == []


def test_events_and_rejections_appear_while_the_page_is_open(browse, page):
    service, _ = browse
    assert "Waiting for the first event from example" in page.run("document.body.innerText")
    assert "Nothing was rejected from example" in page.run("document.body.innerText")
    service.post("/v1/track", {"userId": "1", "event": "Added File"})
    service.post("/v1/track", "{'userId': '1'}")
    page.until("document.querySelector('#events li b')?.innerText === 'Added File'")
    page.until("document.querySelector('#rejections mark')?.innerText === `'userId'`")
    words = page.run("document.body.innerText")
    assert 'write text in double quotes, "like this"' in words
    assert "Waiting for" not in words
    assert "Nothing was rejected" not in words
    assert page.run("document.getElementById('rejected-count').innerText").startswith("1 rejected, last at")
    service.post("/v1/track", {"userId": "1", "event": "Second"})
    page.until("document.querySelector('#events li b').innerText === 'Second'")
    assert page.rows("events") == ["e2", "e1"]


def test_a_body_that_is_sent_again_moves_to_the_top(browse, page):
    service, _ = browse
    service.post("/v1/track", "{'first'")
    service.post("/v1/track", "{'second'")
    wait_until(lambda: page.rows("rejections") == ["r2", "r1"])
    service.post("/v1/track", "{'first'")
    wait_until(lambda: page.rows("rejections") == ["r1", "r2"])
    assert "sent 2 times" in page.run("document.getElementById('r1').innerText")


def test_what_is_being_read_stays_in_place(browse, page):
    service, _ = browse
    for number in range(20):
        service.post("/v1/track", f"{{'no': {number}}}")
        service.post("/v1/track", {"userId": "1", "event": "Posted", "properties": {"n": number}})
    page.until("document.querySelectorAll('#rejections > li').length === 20")
    page.run("""
        document.getElementById('rejections').scrollTop = 900
        getSelection().selectAllChildren(document.querySelector('#r9 pre'))
        document.querySelector('#e20 details').open = true
    """)
    place = "document.getElementById('r9').getBoundingClientRect().top"
    event_place = "document.getElementById('e20').getBoundingClientRect().top"
    places = page.run(place), page.run(event_place)
    service.post("/v1/track", "{'another'")
    service.post("/v1/track", "{'no': 9}")  # the one that is read
    service.post("/v1/track", {"userId": "1", "event": "Another"})
    page.until("document.getElementById('r21') && document.getElementById('e21')")
    assert (page.run(place), page.run(event_place)) == pytest.approx(places, abs=2)
    assert page.run("getSelection().toString().trim()") == "{'no': 8}"
    assert page.run("document.querySelector('#e20 details').open")
    assert page.run("document.querySelector('section .new').innerText") == "1 new"
    page.run("document.querySelector('section .new').click()")
    page.until("document.getElementById('rejections').scrollTop === 0 && document.querySelector('section .new').hidden")
    assert page.rows("rejections")[0] == "r21"


def test_a_hidden_tab_pauses(browse, page):
    service, _ = browse
    page.tell("hidden", hide=True)
    asked = "performance.getEntriesByType('resource').filter((each) => each.name.includes('rejected=')).length"
    page.run("new Promise((go) => setTimeout(go, 2500))")
    before = page.run(asked)
    service.post("/v1/track", {"userId": "1", "event": "Unseen"})
    page.run("new Promise((go) => setTimeout(go, 5000))")
    assert (page.run(asked), page.rows("events")) == (before, [])
    page.tell("hidden", hide=False)
    wait_until(lambda: page.rows("events") == ["e1"])


def test_a_page_says_that_it_is_not_live(browse, page):
    _, browse = browse
    page.until("document.getElementById('state').innerText === 'live'")
    browse.stop()
    page.until("document.getElementById('state').innerText.startsWith('not live since')")
    page.lines[:] = [line for line in page.lines if "ERR_CONNECTION_REFUSED" not in line.get("failed", "")]


def test_text_of_senders_is_shown_and_not_executed(browse, page):
    service, browse = browse
    service.post("/v1/track", {"userId": HOSTILE, "event": HOSTILE, "properties": {HOSTILE: HOSTILE}})
    service.post("/v1/track", {"userId": HOSTILE, "properties": HOSTILE, "context": HOSTILE})
    service.post("/v1/track", HOSTILE)
    service.post("/v1/track", json.dumps({"userId": "1", "event": "x", HOSTILE: math.nan}))
    service.post("/v1/track", HOSTILE.encode() + b"\xff", AUTHENTICATION | {"Content-Encoding": "gzip"})
    page.until("document.querySelectorAll('#rejections > li').length === 4")
    page.until("document.querySelector('#events summary b').innerText")
    assert page.run("document.querySelector('#events summary b').innerText") == HOSTILE
    assert page.run("document.body.innerText").count("onerror") >= 6
    assert page.run("document.querySelectorAll('img, #rejections script').length") == 0
    seen = look(
        browse, service.folder, {"live": "/-/live", "source": "/-/live?source=%22%3E%3Cscript%3Ethrow+3%3C/script%3E"}
    )
    for name, page_seen in seen.items():
        assert page_seen["failed"] == [], name
        assert not [url for url in page_seen["requested"] if url.endswith("/hostile")], name


def test_the_page_loads_and_runs_nothing_from_elsewhere(browse, page):
    _, browse = browse
    urls = [line["requested"] for line in page.said("requested")]
    assert {url.split("/")[2] for url in urls} == {browse.url[7:]}
    script = """
        new Promise((tell) => {
            document.addEventListener('securitypolicyviolation', (event) => tell(event.violatedDirective))
            const inline = document.createElement('script')
            inline.textContent = 'window.hasRun = true'
            document.body.append(inline)
        })
    """
    assert page.run(script) == "script-src-elem"
    assert page.run("window.hasRun") is None
    page.lines[:] = [line for line in page.lines if "Content Security Policy" not in line.get("failed", "")]


def test_the_page_fits_a_narrow_window_and_a_dark_scheme(browse, page, tmp_path):
    service, _ = browse
    service.post("/v1/track", '{"userId": "%s"}' % ("long" * 100))
    service.post("/v1/track", {"userId": "long" * 100, "event": "long" * 100})
    page.until("document.querySelectorAll('li[id]').length === 2")
    back = {}
    for scheme, width in (("light", 1280), ("light", 360), ("dark", 360)):
        path = tmp_path / f"{scheme}-{width}.png"
        page.tell("taken", screenshot=str(path), width=width, height=640, scheme=scheme)
        assert path.stat().st_size > 10_000
        assert page.run("document.documentElement.scrollWidth") <= width
        back[scheme] = page.run("getComputedStyle(document.body).backgroundColor")
    assert back["light"] != back["dark"]


def test_keys_are_not_shown(browse):
    service, browse = browse
    service.flask("sources", "add", "website", "--source-id", "OtherKey")
    service.flask("destinations", "add", "hook", "webhook+http://HookKey@127.0.0.1:1/in")
    for key in (SOURCE_ID, "OtherKey", "unknown-key"):
        service.post("/v1/track", {"writeKey": key, "properties": key if key != "unknown-key" else None})
        service.post("/v1/track", f"{{'writeKey': '{key}'}}")
    body = browse.get("/-/live")[1]
    assert body.count("••••••••") >= 6
    assert not [key for key in (SOURCE_ID, "OtherKey", "HookKey", "unknown-key") if key in body]


@pytest.mark.parametrize(
    "query",
    [
        {"source": "' OR 1=1 --"},
        {"source": "\0"},
        {"event": "9" * 30, "rejection": "-1", "rejected": "x"},
        {"event": "9" * 15},
        {"event": "²", "rejected": "٣"},
    ],
)
def test_no_query_breaks_the_page(browse, query):
    assert browse[1].get("/-/live", **query)[0] == 200


def test_a_log_that_cannot_be_read_is_reported(browse):
    service, browse = browse
    status, body = browse.get("/-/live")
    assert (status, "live.js" in body) == (200, True)
    service.stop()
    shutil.move(service.database, service.folder / "moved.db")
    status, body = browse.get("/-/live")
    assert (status, "The log cannot be read now" in body) == (503, True)


def test_a_chart_without_data_says_what_it_waits_for(browse, tmp_path):
    service, browse = browse
    pages = {
        "log": "/-/dashboards/log?minutes=60",
        "user": "/-/dashboards/user?user=nobody",
        "one": "/-/dashboards/log/rejected",
    }
    shown = look(browse, tmp_path, pages)
    for name, texts in {
        "log": [
            "Waiting for the first event.",
            "Nothing was rejected.",
            "no destination yet",
            "No track event was received",
        ],
        "user": ["None of the newest 500,000 events is of this user."],
        "one": ["Nothing was rejected."],
    }.items():
        assert shown[name]["failed"] == []
        assert not [text for text in texts if text not in shown[name]["words"]], name
    service.post("/v1/page", {"userId": "1", "name": "Home"})
    shown = look(browse, tmp_path, pages)["log"]
    assert shown["words"].count("Waiting for the first event.") == 0
    for plot in shown["plots"][:2]:
        assert len([word for word in plot["words"] if ":" in word]) >= 6  # the axis covers the hour


@pytest.mark.skipif(os.getuid() != 0, reason="run the tests as root")
def test_root_does_not_serve_the_log_of_another_user(service):
    need("make")
    need(".venv-browse")
    shutil.chown(service.database, "nobody")
    command = ["make", "browse", f"BROWSE_PORT={free_port()}"]
    ended = subprocess.run(command, cwd=PROJECT, env=service.environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert f"Run this as the owner of {service.database}: runuser -u nobody -- make browse" in ended.stderr


def test_a_page_tells_what_it_leaves_out(browse, page):
    service, browse = browse
    service.post("/v1/track", "{'oldest'")
    wait_until(lambda: page.rows("rejections") == ["r1"])
    items = [{"type": "track", "userId": "1", "n": number} for number in range(60)]
    items += [{"type": "page", "userId": "1", "name": f"{number}"} for number in range(120)]
    assert service.post("/v1/batch", {"batch": items})[1]["rejectedCount"] == 60
    page.until("document.querySelectorAll('#rejections > li').length > 25")
    words = page.run("document.getElementById('rejections').innerText")
    assert "at least 35 more rejections came before these" in words
    assert page.rows("rejections") == [*(f"r{id}" for id in range(61, 36, -1)), "", "r1"]
    assert page.rows("events")[:50] == [f"e{id}" for id in range(120, 70, -1)]
    with Page(browse, "example") as another:
        service.post("/v1/track", "{'oldest'")
        another.until("!document.getElementById('again').hidden")
        assert another.run("document.getElementById('rejected-count').innerText").endswith(": invalid_json")
        assert "older than those below" in another.run("document.getElementById('again').innerText")
