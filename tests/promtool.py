"""Worlds for promtool: what two daemons show for a while, and which alerts that raises."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quota.decision import Phase, PoolName, Status, Verdict, Violation
from tests.servers import binary

PROMETHEUS = Path(__file__).parent.parent / "deploy" / "prometheus"
RULES = PROMETHEUS / "rules.yml"
DAEMONS = ("a:9464", "b:9464")
POOLS = (PoolName.NB_SH, PoolName.SB_SZ)
STEP_S = 30
STAGES_S = (180, 600, 420)
"""Calm, trouble, and long enough after it for every window to have passed."""

BEFORE_S, DURING_S, AFTER_S = 150, 750, 1170
"""The last moments of the three."""

_FIRING = 'group by (alertname, pool, instance, verdict, kind, figure) (ALERTS{alertstate="firing"})'
_EVER = 'group by (alertname, pool) (count_over_time(ALERTS{alertstate="firing"}[%ds]))'
_NAMES = ("pool", "instance", "verdict", "kind", "figure")

Changes = dict[str, str]
"""For a series, its values in the three stages: the labels that are not named are any."""


@dataclass(frozen=True, slots=True)
class Case:
    """One play of the world. ``expected`` tells for moments, in seconds, exactly which alerts fire.

    ``ever`` tells for spans, from and to, all that fire at some moment of it.
    """

    name: str
    changes: Changes
    expected: Mapping[int, Sequence[str]]
    ever: Mapping[tuple[int, int], Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One series of the world and its value in quiet times."""

    name: str
    labels: Mapping[str, str]
    calm: str
    marks: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "marks", frozenset(f'{k}="{v}"' for k, v in self.labels.items()))

    def __str__(self) -> str:
        return f"{self.name}{{{', '.join(sorted(self.marks))}}}"

    def is_meant(self, selector: str) -> bool:
        """Whether a selector such as ``up{instance="a:9464"}`` means this series."""
        name, _, labels = selector.rstrip("}").partition("{")
        return name == self.name and set(re.findall(r'\w+="[^"]*"', labels)) <= self.marks


def quiet() -> Iterable[Series]:
    """Yield everything that two daemons show on a quiet trading day."""
    for instance in DAEMONS:
        where = {"job": "quotad", "instance": instance}
        for name, labels, calm in (*_of_daemon(), *(one for pool in POOLS for one in _of_pool(pool))):
            yield Series(name, where | labels, calm)


def _of_daemon() -> Iterable[tuple[str, dict[str, str], str]]:
    yield "up", {}, "1"
    yield "quota_build_info", {"version": "1"}, "1"
    yield "quota_feed_connected", {}, "1"
    yield "quota_redis_connected", {}, "1"
    yield "quota_capture_writable", {}, "1"
    yield "quota_clock_skew_seconds", {}, "-0.002"
    yield "quota_calendar_left_seconds", {}, str(40 * 86_400)
    yield "quota_rate_refused_total", {}, "0"
    yield "quota_events_total", {"pool": "-", "event": "unknown", "outcome": "dead"}, "0"
    for bound in ("0.005", "5.0", "10.0", "30.0", "+Inf"):
        yield "quota_event_lag_seconds_bucket", {"le": bound}, "time"


def _of_pool(pool: PoolName) -> Iterable[tuple[str, dict[str, str], str]]:
    labels = {"pool": str(pool), "direction": pool.direction, "exchange": pool.exchange}
    for name, calm in (
        ("quota_used_ratio", "0.3"),
        ("quota_exhaustion_eta_seconds", "Inf"),
        ("quota_limit_yuan", "52000000000"),
        ("quota_seq", "time"),
        ("quota_trading_day_timestamp_seconds", "86400"),
        ("quota_pool_read_timestamp_seconds", "time"),
        ("quota_verify_differences", "NaN"),
        ("quota_day_due", "0"),
        ("quota_gap_events", "0"),
        ("quota_gap_oldest_seconds", "0"),
        ("quota_gap_unwatched_events", "0"),
        ("quota_capture_entries_behind", "0"),
    ):
        yield name, labels, calm
    for status in Status:
        yield "quota_status", labels | {"status": str(status)}, str(int(status is Status.OPEN))
    for phase in Phase:
        yield "quota_phase", labels | {"phase": str(phase)}, str(int(phase is Phase.CONTINUOUS))
    for verdict in Verdict:
        yield "quota_decisions_total", labels | {"side": "buy", "verdict": str(verdict)}, "0"
    yield "quota_decisions_total", labels | {"side": "sell", "verdict": "id_reused"}, "0"
    for kind in Violation:
        yield "quota_violations_total", labels | {"kind": str(kind)}, "0"
    for event, outcome, calm in (("new", "applied", "time"), ("new", "dead", "0"), ("fx", "dead", "0")):
        yield "quota_events_total", {"pool": str(pool), "event": event, "outcome": outcome}, calm


def stage(word: str, start_s: int, length_s: int) -> str:
    """Write one stage of a series: a number, ``time`` (it grows with it), ``stopped`` or ``gone``."""
    samples = length_s // STEP_S
    if word == "gone":
        return f"stale _x{samples - 1}"
    if word == "time":
        return f"{start_s}+{STEP_S}x{samples - 1}"
    if word == "stopped":
        return f"{start_s}+0x{samples - 1}"
    return f"{word}+0x{samples - 1}"


def staged(words: str) -> str:
    """Write the three stages of a series; one word stands for all of them."""
    three = words.split() * (1 if " " in words else 3)
    starts = (0, STAGES_S[0], STAGES_S[0] + STAGES_S[1])
    return " ".join(stage(*each) for each in zip(three, starts, STAGES_S, strict=True))


def played(case: Case) -> dict[str, Any]:
    """Write a case as promtool reads it. Every change has to change something."""
    world = {series: series.calm for series in quiet()}
    for selector, words in case.changes.items():
        meant = [series for series in world if series.is_meant(selector)]
        assert meant, selector
        world |= dict.fromkeys(meant, words)
    return written(case, {str(series): staged(words) for series, words in world.items()}, STEP_S)


def written(case: Case, series: Mapping[str, str], step_s: int) -> dict[str, Any]:
    """Write a test: these series with samples so far apart, and the alerts of the case."""
    return {
        "name": case.name,
        "interval": f"{step_s}s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": _FIRING, "eval_time": f"{at_s}s", "exp_samples": [sample(alert) for alert in alerts]}
            for at_s, alerts in case.expected.items()
        ]
        + [
            {
                "expr": _EVER % (to_s - from_s),
                "eval_time": f"{to_s}s",
                "exp_samples": list(map(sample, alerts)),
            }
            for (from_s, to_s), alerts in case.ever.items()
        ],
    }


def sample(alert: str) -> dict[str, Any]:
    """Write an alert, ``QuotaUsed70 NB-SH`` or ``QuotaViolations NB-SH,kind=overfilled``, as a sample."""
    name, *labels = alert.split(" ", 1)
    words = labels[0].split(",") if labels else []
    marks = dict(map(_mark, words))
    assert set(marks) <= set(_NAMES), alert
    found = [f'{label}="{value}"' for label, value in ({"alertname": name} | marks).items()]
    return {"labels": f"{{{', '.join(found)}}}", "value": 1}


def _mark(word: str) -> tuple[str, str]:
    label, sign, value = word.partition("=")
    if sign:
        return label, value
    return "instance" if word in DAEMONS else "pool", word


def hold(tests: Sequence[Mapping[str, Any]], directory: Path) -> None:
    """Run tests of the shipped rules; raise AssertionError with what promtool complains of."""
    if complaint := complaints(tests, directory):
        raise AssertionError(complaint)


def complaints(tests: Sequence[Mapping[str, Any]], directory: Path) -> str:
    """Run tests of the shipped rules; return what promtool complains of, or nothing."""
    file = directory / "test.yml"
    groups = ["pools", "desk", "engineers"]
    content = {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{STEP_S}s",
        "group_eval_order": groups,
        "tests": list(tests),
    }
    file.write_text(json.dumps(content, ensure_ascii=False))
    answer = subprocess.run(
        [binary("promtool"), "test", "rules", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return answer.stdout + answer.stderr if answer.returncode else ""
