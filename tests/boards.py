"""What the tests of the dashboards share: the dashboards, the rules, and how to read PromQL."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from quota.decision import PoolName
from quota.metrics import Metrics

ROOT = Path(__file__).parent.parent
GRAFANA = ROOT / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
PROMETHEUS = ROOT / "deploy" / "prometheus"
EXCEPTIONS: Mapping[str, Any] = tomllib.loads((GRAFANA / "exceptions.toml").read_text("utf-8"))

_SELECTOR = re.compile(r"(?<![\w:$])([a-zA-Z_][\w:]*)(\{[^}]*\})?(\[[^\]]*\])?")
_WORDS = re.compile(r'"[^"]*"')


@dataclass(frozen=True, slots=True)
class Query:
    """A query of a dashboard, and where it stands."""

    board: str
    panel: str
    ref: str
    expr: str
    instant: bool = False

    def __str__(self) -> str:
        return f"{self.board}/{self.panel}/{self.ref}"


def loaded(path: Path) -> dict[str, Any]:
    """Read a dashboard."""
    return dict(json.loads(path.read_text("utf-8")))


def panels(path: Path) -> list[dict[str, Any]]:
    """All panels of a dashboard; none of them has panels within."""
    return list(loaded(path)["panels"])


def queries(path: Path) -> Iterator[Query]:
    """All queries of the panels."""
    for panel in panels(path):
        for target in panel.get("targets", ()):
            yield Query(
                path.stem, panel["title"], target["refId"], target["expr"], target.get("instant", False)
            )


def marks(path: Path) -> Iterator[Query]:
    """The queries of the annotations."""
    for annotation in loaded(path)["annotations"]["list"]:
        yield Query(path.stem, annotation["name"], "annotation", annotation["expr"])


def variables(path: Path, kind: str = "query") -> list[dict[str, Any]]:
    """The variables of a dashboard that are of a kind."""
    return [variable for variable in loaded(path)["templating"]["list"] if variable["type"] == kind]


def rules() -> list[dict[str, Any]]:
    """All rules of Prometheus, recording and alerting."""
    files = sorted(PROMETHEUS.glob("*rules*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text("utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"]]


@cache
def recorded() -> set[str]:
    """The names that recording rules make."""
    return {rule["record"] for rule in rules() if "record" in rule}


@cache
def exported() -> dict[str, list[dict[str, str]]]:
    """Every series that a daemon exports, by name, with its labels."""
    text = generate_latest(Metrics(tuple(PoolName), "1").registry).decode()
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def family(name: str) -> str:
    """The metric that a series belongs to: a histogram is one metric."""
    for histogram in ("quota_event_lag_seconds", "quota_apply_duration_seconds", "quota_batch_events"):
        if name in {f"{histogram}_{part}" for part in ("bucket", "sum", "count")}:
            return histogram
    return name


def selectors(expr: str) -> Iterator[tuple[str, str, str]]:
    """What an expression selects of our metrics: name, matchers and range, as they are written."""
    known = exported().keys() | recorded() | {"up"}
    hidden = [match.span() for match in _WORDS.finditer(expr)]
    for match in _SELECTOR.finditer(expr):
        inside = any(start < match.start() < end for start, end in hidden)
        if match[1] in known and not inside:
            yield match[1], match[2] or "", match[3] or ""


def filled(expr: str, interval: str = "1m", **variable: str) -> str:
    """Put values in the place of Grafana's variables; they are all of them unless given."""
    for name, value in ({"job": ".+", "instance": ".+", "pool": ".+"} | variable).items():
        expr = expr.replace(f"${name}", value)
    return expr.replace("$__rate_interval", interval).replace("$__interval", interval)
