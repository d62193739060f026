"""systemd accepts the units in deploy/."""

import subprocess

import pytest
from needs import need
from service import EVENT, PROJECT

UNITS = [
    path.name for path in sorted((PROJECT / "deploy").iterdir()) if path.suffix in (".socket", ".service", ".timer")
]


@pytest.mark.parametrize(("template", "instance"), [("", ""), ("@", "@2")])
def test_systemd_accepts_the_units(tmp_path, template, instance):
    """A copy under the name of a template, such as tracklog@.service, is for a second service."""
    need("systemd-analyze")
    for unit in UNITS:
        shipped = (PROJECT / "deploy" / unit).read_text()
        # systemd checks that the program exists.
        here = shipped.replace("/opt/tracklog/.venv/bin/", f"{PROJECT}/").replace("/opt/tracklog", str(PROJECT))
        (tmp_path / unit.replace(".", f"{template}.")).write_text(here)
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(tmp_path / unit.replace(".", f"{instance}.") for unit in UNITS)],
        capture_output=True,
        text=True,
    )
    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_never_gives_up(unit):
    """By default, systemd ends a unit for good after 5 starts in 10 s, and a socket after 20 connections in 2 s."""
    lines = (PROJECT / "deploy" / unit).read_text().splitlines()
    kind = unit.rpartition(".")[2]
    assert "StartLimitIntervalSec=0" in lines[: lines.index(f"[{kind.title()}]")]
    assert kind != "socket" or "TriggerLimitIntervalSec=0" in lines[lines.index("[Socket]") :]


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.endswith(".service")])
def test_a_service_is_sandboxed(unit):
    """systemd rates the exposure from 0 to 10.0, the worst; the threshold is in tenths."""
    need("systemd-analyze")
    judged = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=yes",
            "--no-pager",
            "--threshold=25",
            PROJECT / "deploy" / unit,
        ],
        capture_output=True,
        text=True,
    )
    assert judged.returncode == 0, judged.stdout + judged.stderr
    print(judged.stdout.splitlines()[-1])


def test_the_service_starts_with_the_example_settings(service):
    lines = (PROJECT / "deploy" / "tracklog.env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert given.pop("TRACKLOG_DATABASE").startswith("/var/lib/tracklog/")
    service.environment.update(given)
    service.start()
    assert service.post("/v1/track", EVENT)[0] == 200
