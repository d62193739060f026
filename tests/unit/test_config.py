"""Settings come from the environment, and an invalid one stops the start."""

from dataclasses import fields

import pytest

from config import Config


def test_every_setting_has_the_promised_default(monkeypatch):
    for setting in fields(Config):
        monkeypatch.delenv(f"TRACKLOG_{setting.name.upper()}", raising=False)
    assert Config.from_environment() == Config(
        database="tracklog.db",
        bind="127.0.0.1:8000",
        allowed_origins="*",
        trusted_proxies=0,
        ip_policy="keep",
        max_body_bytes=8 * 1024 * 1024,
        max_event_bytes=512 * 1024,
        max_batch_events=25_000,
        max_rejected_bytes=1024**3,
        min_free_bytes=100 * 1024**2,
        access_log="off",
    )


@pytest.mark.parametrize("setting", fields(Config), ids=lambda setting: setting.name)
def test_every_setting_is_read_and_has_a_meaning(monkeypatch, setting):
    text = {"bind": "0.0.0.0:1", "ip_policy": "drop", "access_log": "on"}.get(setting.name, "7")
    monkeypatch.setenv(f"TRACKLOG_{setting.name.upper()}", text)
    value = getattr(Config.from_environment(), setting.name)
    assert str(value) == text
    assert type(value) is setting.type
    assert setting.metadata["meaning"]


@pytest.mark.parametrize(
    ("setting", "text"),
    [(setting.name, text) for setting in fields(Config) for text in ("", " ")]
    + [
        (setting.name, text)
        for setting in fields(Config)
        if setting.type is int
        for text in ("0", "-1", "1e3", "8MB", "\u0663")
        if (setting.name, text) != ("trusted_proxies", "0")
    ]
    + [("ip_policy", "hash"), ("access_log", "yes")],
)
def test_an_invalid_setting_stops_the_start_and_is_named(monkeypatch, setting, text):
    monkeypatch.setenv(f"TRACKLOG_{setting.upper()}", text)
    with pytest.raises(SystemExit, match=f"TRACKLOG_{setting.upper()} must"):
        Config.from_environment()


@pytest.mark.parametrize("text", ["localhost", "localhost:", ":8000", "localhost:http", "localhost:65536", "unix:"])
def test_an_address_has_a_host_and_a_port_or_is_a_socket(monkeypatch, text):
    monkeypatch.setenv("TRACKLOG_BIND", text)
    with pytest.raises(SystemExit, match="TRACKLOG_BIND must"):
        Config.from_environment()


@pytest.mark.parametrize("text", ["0.0.0.0:80", "[::1]:8000", "unix:/run/tracklog.sock"])
def test_a_valid_address_is_accepted(monkeypatch, text):
    monkeypatch.setenv("TRACKLOG_BIND", text)
    assert Config.from_environment().bind == text
