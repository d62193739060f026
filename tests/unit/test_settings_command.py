"""`tracklog settings` shows every setting, and no secret."""

from dataclasses import fields

import pytest

import forwarding
from config import Config

SECRETS = ["TRACKLOG_SECRET_MASK", "TRACKLOG_SECRET_NAME", "TRACKLOG_SECRET_WAREHOUSE"]


@pytest.fixture
def settings(path):
    return Config(database=path, bind="unix:/run/x", trusted_proxies=2)


def test_every_setting_is_shown_with_value_default_and_meaning(run, settings):
    lines = run("settings").splitlines()
    for each in fields(Config):
        value = getattr(settings, each.name)
        default = "the default" if value == each.default else f"default {each.default}"
        shown = lines.index(f"TRACKLOG_{each.name.upper()}={value} ({default})")
        assert lines[shown + 1] == f"  {each.metadata['meaning']}"


@pytest.mark.parametrize("variable", forwarding.VARIABLES)
def test_every_variable_of_the_forwarder_is_shown(run, monkeypatch, variable):
    monkeypatch.delenv(variable, raising=False)
    lines = run("settings").splitlines()
    assert lines[lines.index(f"{variable} (not set)") + 1] == f"  {forwarding.VARIABLES[variable]}"


@pytest.mark.parametrize("variable", SECRETS)
def test_a_secret_is_shown_only_as_set(run, monkeypatch, variable):
    monkeypatch.setenv(variable, "geheim")
    output = run("settings")
    assert f"{variable} (set)\n" in output
    assert "geheim" not in output


def test_the_folder_of_transforms_is_no_secret(run, monkeypatch):
    monkeypatch.setenv("TRACKLOG_TRANSFORMS", "/etc/transforms")
    assert "TRACKLOG_TRANSFORMS (set to /etc/transforms)\n" in run("settings")


def test_settings_needs_no_log(run, log, tmp_path):
    log.close()
    for file in tmp_path.iterdir():
        file.unlink()
    assert "TRACKLOG_DATABASE=" in run("settings")
    assert list(tmp_path.iterdir()) == []
