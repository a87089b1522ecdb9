"""The alerts: each fires when it should and at no other time, and says what it is and what to do."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from quota.decision import PoolName
from quota.metrics import Metrics
from tests.alert_cases import DESK, SOON_S, Row
from tests.alert_cases_engineers import ENGINEERS
from tests.promtool import AFTER_S, BEFORE_S, DURING_S, RULES, Case, complaints, hold, played, quiet
from tests.servers import binary

OPERATIONS = Path(__file__).parent.parent / "docs" / "operations.md"
ROWS = (*DESK, *ENGINEERS)
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
RULE_LIST: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULE_LIST if "alert" in rule}
RECORDED = {rule["record"] for rule in RULE_LIST if "record" in rule}
STAYING = {"up", "quota_build_info"}
"""What every daemon shows from its first moment on."""

NAMES = {
    "NB-SH": "沪股通 Northbound Shanghai",
    "NB-SZ": "深股通 Northbound Shenzhen",
    "SB-SH": "港股通(沪) Southbound Shanghai",
    "SB-SZ": "港股通(深) Southbound Shenzhen",
}


def exported() -> Iterator[tuple[str, Mapping[str, str]]]:
    text = generate_latest(Metrics(tuple(PoolName), "1").registry).decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels
    yield "up", {}


def asked(expr: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield each metric of an expression with its ``label="value"`` selectors."""
    for name, selector in re.findall(r"(?<![\w:])(quota_\w+|up)\b(?:\{([^}]*)\})?", expr):
        if f"{name}:" not in expr:
            yield name, re.findall(r'(\w+)="([^"]*)"', selector)


def queries(text: str) -> list[str]:
    """Read the queries of the runbooks, one to a line."""
    blocks = re.findall(r"^```promql\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def section(alert: str) -> str:
    (text,) = re.findall(
        rf"^### {alert}\n(.*?)(?=^##|\Z)", OPERATIONS.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return str(text)


def test_every_alert_has_its_cases() -> None:
    assert [row.alert for row in ROWS] == list(ALERTS)
    for row in ROWS:
        assert any(fired.split()[0] == row.alert for fired in row.fires), row.alert
        misses = [fired for _, fired in row.near.values() if not any(row.alert in one for one in fired)]
        assert misses, row.alert
        assert row.at_once == ("for" not in ALERTS[row.alert]), row.alert


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.alert)
def test_it_fires_when_it_should_and_resolves_and_does_not_when_it_should_not(
    row: Row, tmp_path: Path
) -> None:
    hold([played(case) for case in row.cases()], tmp_path)


def test_nothing_fires_in_a_quiet_session(tmp_path: Path) -> None:
    hold([played(Case("quiet", {}, {}, {(0, AFTER_S): ()}))], tmp_path)


def test_under_another_name_of_the_job_no_daemon_is_missed_until_none_is_there(tmp_path: Path) -> None:
    """QuotaNoDaemon silences all others: it must not fire because a job is called differently."""
    gone = {"up": "1 0 1", "quota_build_info": "1 gone 1"}
    tests = [
        played(Case("they answer", {}, {}, {(0, AFTER_S): ()})),
        played(Case("they do not", gone, {BEFORE_S: (), DURING_S: ["QuotaNoDaemon"], AFTER_S: ()})),
    ]
    for test in tests:
        for each in test["input_series"]:
            each["series"] = each["series"].replace('job="quotad"', 'job="kubernetes-pods"')
    hold(tests, tmp_path)


def test_the_runbook_of_a_failed_verify_says_that_the_next_day_ends_it_too() -> None:
    assert "It also goes when the next day opens" in " ".join(section("QuotaVerifyFailed").split())


def test_a_daemon_that_starts_again_resolves_nothing(tmp_path: Path) -> None:
    away = {
        str(series): f"{series.calm} gone {series.calm}" for series in quiet() if series.name not in STAYING
    }
    exhausted = {
        'quota_status{pool="NB-SH",status="exhausted"}': "1 gone 1",
        'quota_status{pool="NB-SH",status="open"}': "0 gone 0",
    }
    told = ["QuotaExhausted NB-SH"]
    expected = {BEFORE_S: told, SOON_S: told, DURING_S: [], AFTER_S: told}
    hold([played(Case("a restart, then a longer absence", away | exhausted, expected))], tmp_path)


def test_the_quiet_world_shows_what_quotad_exports() -> None:
    known = [(name, set(labels.items())) for name, labels in exported()]
    for series in quiet():
        labels = set(series.labels.items()) - {("job", "quotad"), ("instance", series.labels["instance"])}
        assert (series.name, labels) in known, str(series)


@pytest.mark.parametrize("rule", RULE_LIST, ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_that_a_rule_asks_for_exists_with_its_labels(rule: dict[str, Any]) -> None:
    known: dict[str, list[Mapping[str, str]]] = {}
    for name, labels in exported():
        known.setdefault(name, []).append(labels)
    assert set(re.findall(r"\w+:quota_\w+:\w+", rule["expr"])) <= RECORDED
    for name, selectors in asked(rule["expr"]):
        assert name in known, name
        for label, value in set(selectors) - {("job", "quotad")}:
            assert value in {labels.get(label) for labels in known[name]}, f"{name} {label}={value}"


def test_every_recorded_series_is_used() -> None:
    exprs = " ".join(rule["expr"] for rule in RULE_LIST)
    assert [record for record in RECORDED if record not in exprs] == []


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_what_it_is_and_has_its_runbook(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["labels"]["team"] in {"desk", "engineers"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == f"docs/operations.md#{alert.lower()}"
    for part in ("Means", "Look", "Do", "Who"):
        assert f"\n**{part}.**" in section(alert), part


def test_the_table_of_alerts_is_the_rules() -> None:
    rows = re.findall(
        r"^\| \[(\w+)\]\(#(\w+)\) \| (\w+) \| (\w+) \|", OPERATIONS.read_text("utf-8"), re.MULTILINE
    )
    assert rows == [
        (name, name.lower(), rule["labels"]["severity"], rule["labels"]["team"])
        for name, rule in ALERTS.items()
    ]


def test_every_link_within_the_runbooks_has_its_heading() -> None:
    text = OPERATIONS.read_text("utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors


def test_every_text_can_be_written_and_names_its_pool(tmp_path: Path) -> None:
    """Alerts that promtool did not expect it shows, with their texts: so expect none."""
    tests = []
    for row in ROWS:
        test = played(Case(row.alert, row.trouble, {}))
        moment = min(row.fires_at_s, DURING_S)
        test["alert_rule_test"] = [{"eval_time": f"{moment}s", "alertname": row.alert, "exp_alerts": []}]
        tests.append(test)
    shown = complaints(tests, tmp_path)
    assert "error expanding" not in shown
    assert "<no value>" not in shown
    for alert in ALERTS:
        (labels, notes), *_ = re.findall(
            rf'Labels:(\{{alertname="{alert}".*?\}})\s+Annotations:(\{{.*?\}})\n', shown, re.DOTALL
        )
        pool = re.search(r'pool="(.*?)"', labels)
        assert pool is None or f"{NAMES[pool[1]]} ({pool[1]}): " in notes, notes


def test_every_pool_has_its_name_in_both_languages() -> None:
    named = [rule["labels"] for rule in RULE_LIST if rule.get("record") == "pool:quota_name:info"]
    assert {each["pool"]: each["name"] for each in named if each["pool"] != "-"} == NAMES
    assert set(NAMES) == set(PoolName)


def test_every_query_of_the_runbooks_is_promql_of_ours(tmp_path: Path) -> None:
    text = OPERATIONS.read_text("utf-8")
    known = {name for name, _ in exported()}
    for query in queries(text):
        assert {name for name, _ in asked(query)} <= known, query
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries(text))]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "runbooks", "rules": rules}]}))
    answer = subprocess.run(
        [binary("promtool"), "check", "rules", str(file)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert len(rules) > len(ALERTS)
