"""The alert rules fire when they should, and only then."""

import re

import pytest
import yaml
from needs import need
from promtool import RULES, firing, names_of, run
from service import PROJECT

CASES = PROJECT / "tests" / "system" / "alerts_test.yml"
ALERTS = 'ALERTS{alertname="%s", alertstate="firing"}'


@pytest.fixture(autouse=True)
def promtool():
    need("promtool")


def parts_about(alert):
    """Return the tests that ask for an alert, each with its other cases left out."""
    for test in yaml.safe_load(CASES.read_text())["tests"]:
        if cases := [case for case in test["promql_expr_test"] if case["expr"] == ALERTS % alert]:
            yield test | {"promql_expr_test": cases}


def test_the_alerts_fire_only_if_something_is_wrong():
    status, said = run("test", "rules", str(CASES))
    assert status == 0, said
    assert "SUCCESS" in said


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_has_a_case_that_fires_and_one_that_does_not(alert):
    """In the latter, all its metrics are there."""
    fires, is_silent = [], []
    for test in parts_about(alert):
        for case in test["promql_expr_test"]:
            (fires if case.get("exp_samples") else is_silent).append(test)
    assert fires
    metrics = set(re.findall(r"tracklog_\w+|\bup\b", RULES[alert]["expr"]))
    assert any(metrics <= set(re.findall(r"'(\w+){", str(test["input_series"]))) for test in is_silent)


def test_every_case_asks_for_an_existing_alert():
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["promql_expr_test"]]
    assert {case["expr"] for case in cases} == {ALERTS % alert for alert in RULES}


@pytest.mark.parametrize("alert", [alert for alert, rule in RULES.items() if "for" in rule])
def test_a_case_is_too_short_for_the_alert(alert, tmp_path):
    """If the alert did not wait, that case would fail."""
    rule = {name: value for name, value in RULES[alert].items() if name != "for"}
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump({"groups": [{"name": "tracklog", "rules": [rule]}]}))
    cases = {"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": list(parts_about(alert))}
    (tmp_path / "cases.yml").write_text(yaml.safe_dump(cases))
    status, said = run("test", "rules", str(tmp_path / "cases.yml"))
    assert status != 0
    assert "exp: nil" in said or "exp:nil" in said, said


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_says_what_is_wrong_and_where_to_read_on(alert):
    annotations = RULES[alert]["annotations"]
    assert set(annotations) == {"summary", "description", "runbook"}
    assert len(annotations["description"].split()) > 6
    page, _, anchor = annotations["runbook"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (PROJECT / page).read_text(), re.MULTILINE)
    assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_annotations_of_every_alert_are_rendered():
    """promtool prints the alerts that fire in the cases above, where none is expected."""
    rendered = []
    for test in yaml.safe_load(CASES.read_text())["tests"]:
        series = {each["series"]: each["values"] for each in test["input_series"]}
        for minutes in {case["eval_time"] for case in test["promql_expr_test"] if case.get("exp_samples")}:
            minute = int(minutes[:-1]) * (60 if minutes[-1] == "h" else 1)
            rendered += firing(series, minute, interval="5m")
    assert names_of(rendered) == set(RULES)
    for _, annotations in rendered:
        assert not re.search(r"<error|<no value>|<nil>|{{| {2}|[%$]|\(\w+=", annotations), annotations
        print(annotations)
