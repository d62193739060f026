"""No secret of a destination's URL is shown in a list, an error or a log line."""

import json
import re
import threading
from base64 import b64encode
from urllib.parse import quote, quote_plus

import pytest
from factories import event
from hypothesis import given, settings
from hypothesis import strategies as st
from receiver import answer, receiving

import forwarding
from forwarding.secrets import make_redactor

SECRET = "hush-4711"

URLS = [
    f"https://{SECRET}@host/v1/batch",
    f"https://{SECRET}:@host/v1/batch",
    f"https://user:{SECRET}@host/v1/batch",
    f"https://a/{SECRET}@host/v1/batch",
    f"https://{SECRET}/b@host/v1/batch",
    f"https://a?{SECRET}@host/v1/batch",
    f"https://a#{SECRET}@host/v1/batch",
    f"https://a@{SECRET}@host/v1/batch",
    f"https://{SECRET}@[::1/v1/batch",
    f"https://{SECRET}@host:port/v1/batch",
    f"https://host/v1/batch?token=x@{SECRET}",
    f"https://host/v1/batch#{SECRET}",
    f"webhook+https://host/in?sig={SECRET}",
    f"webhook+https://host/in?code={SECRET}&gzip=true",
    f"webhook+https://host/in?{SECRET}",
    f"webhook+https://host/in?{SECRET}&a=b",
    f"archive+az://container/prefix?connection_string={SECRET}",
    f"archive+sftp://user:{SECRET}@host/folder?seconds=5",
    f"kafka://b:9092/topic?ssl.key.password={SECRET}",
    f"kafka://b:9092/topic?passphrase={SECRET}&acks=all",
    f"kafka://b:9092/topic?sasl.jaas.config={SECRET}",
    f"postgresql://user:{SECRET}@127.0.0.1:9/db",
    f"postgresql://{SECRET}@127.0.0.1:9/db?schema=a",
    f"postgresql://127.0.0.1:9/db?password={SECRET}&sslmode=prefer",
    f"nothing {SECRET}",
    f"{SECRET}",
    f"https:{SECRET}",
    f"https:/{SECRET}@host",
    f" https://{SECRET}@host",
    f"https://{SECRET}@host\u2100/",
    f"https://ho\nst/{SECRET}@x",
]


@pytest.mark.parametrize("url", URLS)
def test_a_list_with_any_url_shows_no_secret(log, runner, url):
    log.destinations.add("there", url, [], ["example"], 0)
    result = runner.invoke(args=["destinations", "list"])
    assert result.exit_code == 0, result.output
    assert "there" in result.output
    assert SECRET not in result.output


@pytest.mark.parametrize("url", URLS)
def test_an_error_shows_no_secret(log, caplog, monkeypatch, url):
    monkeypatch.setattr("forwarding.attempts.Attempts.wait", lambda *_: None)
    log.append([event()])
    log.destinations.add("there", url, [], ["example"], 0)
    monkeypatch.setattr("forwarding.kafka.ACKNOWLEDGE_SECONDS", 0.1)
    monkeypatch.setattr("socket.getaddrinfo", lambda host, *_, **__: 1 / 0)
    forwarding.forward(log.path, ["there"], stop=threading.Event(), once=True)
    said = "".join(json.dumps([vars(record), record.getMessage()], default=str) for record in caplog.records)
    assert said
    assert SECRET not in said + str(log.destinations.get("there").last_error)


def spellings(secret):
    yield from (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1])
    yield b64encode(f"{secret}:".encode()).decode().rstrip("=")


@pytest.mark.parametrize("spelling", range(5))
@pytest.mark.parametrize("start", ["http://{}@", "webhook+http://{}@", "webhook+http://"])
def test_a_destination_that_repeats_its_secret_is_not_quoted(log, runner, monkeypatch, caplog, start, spelling):
    """The secret is in the environment, so it can be any text."""
    secret = 'h/u sh+"4711"é'
    monkeypatch.setenv("TRACKLOG_SECRET_A", secret)

    def serve(connection, _):
        said = list(spellings(secret))[spelling]
        connection.sendall(answer(400, f'<p>"{said}" is wrong</p>'.encode()))

    log.append([event()])
    with receiving(serve) as port:
        url = f"{start.format('${TRACKLOG_SECRET_A}')}127.0.0.1:{port}/in?code=${{TRACKLOG_SECRET_A}}"
        log.destinations.add("there", url, [], ["example"], 0)
        forwarding.forward(log.path, ["there"], stop=threading.Event(), once=True)
    (letter,) = log.destinations.dead_letters("there")
    assert letter.message == '400 <p>"***" is wrong</p>'
    shown = (
        runner.invoke(args=["destinations", "list"]).output
        + runner.invoke(args=["destinations", "dead", "there"]).output
    )
    assert not [each for each in spellings(secret) if each in shown + caplog.text]


TEXT = st.text(st.characters(codec="utf-8"), min_size=4, max_size=12).filter(lambda text: "***" not in text)
SCHEMES = st.sampled_from(["https", "webhook+https", "kafka", "postgresql", "archive+s3", "archive+file", "gopher"])


@settings(deadline=None)
@given(
    SCHEMES,
    TEXT,
    st.sampled_from(
        [
            "{}://{}@host/in",
            "{}://a:{}@host/in",
            "{}://host/in?code={}",
            "{}://host/in?x=${{TRACKLOG_SECRET_A}}&a={}&gzip=true",
        ]
    ),
)
def test_no_url_shows_a_secret_or_breaks(scheme, secret, form):
    shown = forwarding.redact_url(form.format(scheme, secret))
    frame = forwarding.redact_url(form.format(scheme, "hush"))
    assert secret not in shown or secret in frame
    assert make_redactor(form.format(scheme, quote(secret, safe="")))(f"no {secret}!").startswith("no ***")


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_can_be_redacted(text):
    assert isinstance(forwarding.redact_url(text), str)
    assert isinstance(make_redactor(text)("some text"), str)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://KEY@host/v1/batch?gzip=true", "https://***@host/v1/batch?gzip=true"),
        ("https://KEY@host/v1/batch?gzip=true&x=y", "https://***@host/v1/batch?gzip=true&***"),
        ("https://${TRACKLOG_SECRET_KEY}@host/v1/batch?x=y", "https://${TRACKLOG_SECRET_KEY}@host/v1/batch?***"),
        (
            "webhook+https://host/in?code=${TRACKLOG_SECRET_CODE}",
            "webhook+https://host/in?code=${TRACKLOG_SECRET_CODE}",
        ),
        ("archive+s3://bucket/prefix?seconds=60&key=x", "archive+s3://bucket/prefix?seconds=60&***"),
        ("https://a/b@host/v1/batch", "https://***"),
        ("https://[::1", "https://***"),
        ("nonsense", "***://***"),
    ],
)
def test_harmless_parts_of_a_url_are_shown(url, shown):
    assert forwarding.redact_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        url
        for url in URLS
        if not re.match(r"(webhook|archive|kafka|postgresql|https://(user:|a@)?hush-4711:?@host/)", url)
    ],
)
def test_an_invalid_url_cannot_be_added(log, runner, url):
    result = runner.invoke(args=["destinations", "add", "there", url])
    assert result.exit_code == 1, result.output
    assert log.destinations.all() == []
    assert SECRET not in result.output


@pytest.mark.parametrize(
    "url", ["https://${TRACKLOG_SECRET_NOT_THERE}@host/in", "archive+file:///x?seconds=${TRACKLOG_SECRET_NOT_THERE}"]
)
def test_a_url_with_variables_of_the_forwarder_can_be_added(log, runner, url):
    result = runner.invoke(args=["destinations", "add", "there", url])
    assert result.exit_code == 0, result.output
