"""Alertmanager's file: each alert goes to the right people, and what follows from another is not sent."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.deployed import DEPLOY
from tests.servers import binary
from tests.test_alerts import ALERTS

FILE = DEPLOY / "alertmanager.yml"
CONFIG: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))


def amtool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binary("amtool"), *words], capture_output=True, text=True, timeout=30, check=False)


def receiver(labels: dict[str, str]) -> str:
    answer = amtool(
        "config", "routes", "test", f"--config.file={FILE}", *(f"{k}={v}" for k, v in labels.items())
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def inhibited(alert: str) -> list[tuple[str, list[str]]]:
    """What silences an alert: the other's matchers, and which labels have to be equal."""
    found = []
    for rule in CONFIG["inhibit_rules"]:
        names = [matcher for matcher in rule["target_matchers"] if matcher.startswith("alertname")]
        if all(is_matched(matcher, alert) for matcher in names):
            found.append((rule["source_matchers"][0], rule.get("equal", [])))
    return found


def is_matched(matcher: str, alert: str) -> bool:
    _, sign, word = re.split(r"(=~|!=|=)", matcher, maxsplit=1)
    return bool(re.fullmatch(word.strip('"'), alert)) == (sign != "!=")


def silencers(alert: str) -> set[str]:
    return {other for other in ALERTS for source, _ in inhibited(alert) if is_matched(source, other)}


def test_amtool_accepts_it() -> None:
    answer = amtool("check-config", str(FILE))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "6 receivers" in answer.stdout


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_goes_to_its_team_and_pages_only_when_it_is_critical(alert: str) -> None:
    labels = ALERTS[alert]["labels"]
    way = "page" if labels["severity"] == "critical" else "chat"
    if labels["team"] == "engineers":
        assert receiver(labels | {"alertname": alert, "pool": "SB-SH"}) == f"engineers-{way}"
        return
    for pool, direction in (("NB-SH", "northbound"), ("SB-SZ", "southbound")):
        assert receiver(labels | {"alertname": alert, "pool": pool}) == f"desk-{direction}-{way}"


def test_what_nobody_foresaw_goes_to_the_engineers() -> None:
    assert receiver({"alertname": "Other"}) == "engineers-chat"
    assert receiver({"alertname": "Other", "severity": "critical", "team": "nobody"}) == "engineers-chat"


def test_every_name_in_an_inhibition_is_an_alert() -> None:
    for rule in CONFIG["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            if matcher.startswith("alertname"):
                for name in re.split(r"=~|!=|=", matcher)[1].strip('"').split("|"):
                    assert any(re.fullmatch(name, alert) for alert in ALERTS), name


@pytest.mark.parametrize(
    ("alert", "by"),
    [
        ("QuotaUsed70", {"QuotaUsed90", "QuotaUsed100", "QuotaExhausted", "QuotaSuspended"}),
        ("QuotaUsed90", {"QuotaUsed100", "QuotaExhausted", "QuotaSuspended"}),
        ("QuotaUsed100", {"QuotaExhausted", "QuotaSuspended"}),
        (
            "QuotaExhaustionIn30Minutes",
            {"QuotaExhaustionIn10Minutes", "QuotaExhausted", "QuotaSuspended", "QuotaHalted"},
        ),
        ("QuotaExhaustionIn10Minutes", {"QuotaExhausted", "QuotaSuspended", "QuotaHalted"}),
        ("QuotaBuysRefused", {"QuotaExhausted", "QuotaSuspended", "QuotaHalted"}),
        ("QuotaPoolStale", {"QuotaStoreDisconnected"}),
        ("QuotaNoEvents", {"QuotaStoreDisconnected", "QuotaFeedDisconnected", "QuotaPoolStale"}),
        ("QuotaExhausted", set()),
        ("QuotaVerifyFailed", set()),
    ],
)
def test_what_follows_from_something_worse_is_not_sent(alert: str, by: set[str]) -> None:
    assert silencers(alert) == by | {"QuotaNoDaemon"}


def test_nothing_silences_the_word_that_no_daemon_is_there() -> None:
    assert silencers("QuotaNoDaemon") == set()


def test_a_pool_is_silenced_by_its_own_alerts_only() -> None:
    for alert, rule in ALERTS.items():
        if rule["labels"]["team"] == "desk":
            for source, equal in inhibited(alert):
                assert equal == ["pool"] or "QuotaNoDaemon" in source, alert


def test_no_receiver_leaves_the_machine() -> None:
    assert set(re.findall(r"//([^/:]+)", FILE.read_text("utf-8"))) == {"127.0.0.1"}
