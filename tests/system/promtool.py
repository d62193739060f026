"""Ask Prometheus' own tool which alerts fire on given series."""

import json
import re
import subprocess

import yaml
from service import PROJECT

PATH = PROJECT / "deploy" / "alerts.yml"
RULES = {rule["alert"]: rule for rule in yaml.safe_load(PATH.read_text())["groups"][0]["rules"]}


def run(*arguments, input=None):
    """Run promtool, and return its exit status and all that it printed."""
    ended = subprocess.run(["promtool", *arguments], input=input, capture_output=True, text=True, timeout=100)
    return ended.returncode, ended.stdout + ended.stderr


def firing(series, minute, interval="1m"):
    """Return the alerts that fire in this minute: the labels and annotations of each, as promtool prints them.

    `series` maps each series to its values, in promtool's notation, one a minute. The rules are evaluated at an interval.
    """
    asked = [{"alertname": alert, "eval_time": f"{minute}m"} for alert in RULES]  # no alert is expected
    given = [{"series": name, "values": values} for name, values in series.items()]
    tests = [{"interval": "1m", "input_series": given, "alert_rule_test": asked}]
    test = {"rule_files": [str(PATH)], "evaluation_interval": interval, "tests": tests}
    status, said = run("test", "rules", "/dev/stdin", input=json.dumps(test))
    assert status == 0 or "FAILED" in said, said
    return re.findall(r"Labels:(\{.*\})\s+Annotations:(\{.*\})", said)


def names_of(alerts):
    """Return the names of the alerts that `firing` has returned."""
    return {re.search(r'alertname="(\w+)"', labels)[1] for labels, _ in alerts}
