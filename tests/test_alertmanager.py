"""Alertmanager's file: each alert goes to the right people, and what follows from another is not sent."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
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


def silences(source: Mapping[str, str], target: Mapping[str, str]) -> bool:
    """Whether an alert that fires keeps another from being sent, as Alertmanager reads the rules."""
    return any(
        all(is_matched(matcher, source) for matcher in rule["source_matchers"])
        and all(is_matched(matcher, target) for matcher in rule["target_matchers"])
        and all(source.get(label, "") == target.get(label, "") for label in rule.get("equal", ()))
        for rule in CONFIG["inhibit_rules"]
    )


def is_matched(matcher: str, labels: Mapping[str, str]) -> bool:
    label, sign, word = re.split(r"(=~|!~|!=|=)", matcher, maxsplit=1)
    value, text = labels.get(label, ""), word.strip('"')
    found = re.fullmatch(text, value) is not None if "~" in sign else text == value
    return found is not sign.startswith("!")


def labelled(alert: str, words: str) -> dict[str, str]:
    """Write ``verdict=closed,pool=NB-SH`` as the labels of an alert, with those of its rule."""
    own = dict(word.split("=") for word in words.split(",") if word)
    of_rule: dict[str, str] = ALERTS[alert]["labels"]
    return {"alertname": alert} | of_rule | own


def silencers(alert: str, words: str = "", *, apart: str = "") -> set[str]:
    """Find what silences an alert of these labels: others that have them too, but for those ``apart``."""
    target = labelled(alert, words)
    return {other for other in ALERTS if silences(labelled(other, words) | labelled(other, apart), target)}


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


RUN_OUT = {"QuotaExhausted", "QuotaSuspended"}
KNOWN = RUN_OUT | {"QuotaHalted"}
CUT_OFF = {"QuotaStoreDisconnected", "QuotaDaemonDown"}


@pytest.mark.parametrize(
    ("alert", "words", "by"),
    [
        ("QuotaUsed70", "pool=NB-SH", {"QuotaUsed90", "QuotaUsed100"} | RUN_OUT),
        ("QuotaUsed90", "pool=NB-SH", {"QuotaUsed100"} | RUN_OUT),
        ("QuotaUsed100", "pool=NB-SH", RUN_OUT),
        ("QuotaExhaustionIn30Minutes", "pool=NB-SH", {"QuotaExhaustionIn10Minutes"} | KNOWN),
        ("QuotaExhaustionIn10Minutes", "pool=NB-SH", KNOWN),
        ("QuotaBuysRefused", "pool=NB-SH,verdict=exhausted", KNOWN),
        ("QuotaBuysRefused", "pool=NB-SH,verdict=suspended", KNOWN),
        ("QuotaBuysRefused", "pool=NB-SH,verdict=halted", KNOWN),
        ("QuotaBuysRefused", "pool=NB-SH,verdict=insufficient", set()),
        ("QuotaBuysRefused", "pool=NB-SH,verdict=closed", set()),
        ("QuotaBuysRefused", "pool=NB-SH,verdict=id_reused", set()),
        ("QuotaFeedDisconnected", "instance=a", {"QuotaDaemonDown"}),
        ("QuotaStoreDisconnected", "instance=a", {"QuotaDaemonDown"}),
        ("QuotaEventLag", "instance=a", CUT_OFF | {"QuotaFeedDisconnected", "QuotaCaptureUnwritable"}),
        ("QuotaCaptureUnwritable", "instance=a", {"QuotaDaemonDown"}),
        ("QuotaCaptureBehind", "instance=a,pool=NB-SH", {"QuotaDaemonDown", "QuotaCaptureUnwritable"}),
        ("QuotaClocksApart", "instance=a", CUT_OFF),
        ("QuotaNoEvents", "pool=NB-SH", {"QuotaPoolStale"}),
        ("QuotaDaemonsDisagree", "pool=NB-SH,figure=seq", {"QuotaPoolStale"}),
        ("QuotaPoolStale", "pool=NB-SH", set()),
        ("QuotaExhausted", "pool=NB-SH", set()),
        ("QuotaVerifyFailed", "pool=NB-SH", set()),
    ],
)
def test_what_follows_from_something_worse_is_not_sent(alert: str, words: str, by: set[str]) -> None:
    assert silencers(alert, words) == by | {"QuotaNoDaemon"}


def test_nothing_silences_the_word_that_no_daemon_is_there() -> None:
    assert silencers("QuotaNoDaemon") == set()


@pytest.mark.parametrize("alert", [alert for alert in ALERTS if alert != "QuotaNoDaemon"])
def test_another_pool_or_daemon_silences_nothing(alert: str) -> None:
    """Else what one daemon has lost would hide what is wrong with all."""
    for verdict in ("exhausted", "closed"):
        words = f"pool=NB-SH,instance=a,verdict={verdict}"
        assert silencers(alert, words, apart="pool=SB-SZ,instance=b") == {"QuotaNoDaemon"}


def test_no_receiver_leaves_the_machine() -> None:
    assert set(re.findall(r"//([^/:]+)", FILE.read_text("utf-8"))) == {"127.0.0.1"}
