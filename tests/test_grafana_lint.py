"""The rules of Grafana's dashboard-linter, held over our JSON: the linter itself is a program in Go.

A rule is a function that names the panels, or the dashboard, that break it. What may break it, and
why, is in grafana/exceptions.toml.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.boards import DASHBOARDS, EXCEPTIONS, loaded, panels, queries, selectors, variables

UNITS = {
    "bytes",
    "dateTimeAsIso",
    "dateTimeFromNow",
    "locale",
    "none",
    "ops",
    "percent",
    "percentunit",
    "s",
    "short",
}
"""The units of Grafana that we use."""

WHOLE = ""
"""Stands for the dashboard where a rule is about no panel."""


def _variable(path: Path, name: str) -> Iterator[str]:
    found = [variable for variable in variables(path) if variable["name"] == name]
    wanted: dict[str, object] = {"label": name.capitalize(), "multi": True, "allValue": ".+"}
    wanted |= {"datasource": {"type": "prometheus", "uid": "${datasource}"}}
    if not found or any(found[0].get(key) != value for key, value in wanted.items()):
        yield WHOLE


def template_datasource(path: Path) -> Iterator[str]:
    (source,) = variables(path, "datasource")
    if (source["name"], source["label"], source["query"]) != ("datasource", "Data source", "prometheus"):
        yield WHOLE


def template_job(path: Path) -> Iterator[str]:
    yield from _variable(path, "job")


def template_instance(path: Path) -> Iterator[str]:
    yield from _variable(path, "instance")


def template_label_promql(path: Path) -> Iterator[str]:
    for variable in variables(path):
        if not re.fullmatch(r"label_values\(quota_\w+(\{[^}]*\})?, \w+\)", variable["query"]):
            yield WHOLE


def template_on_time_change_reload(path: Path) -> Iterator[str]:
    if any(variable["refresh"] != 2 for variable in variables(path)):
        yield WHOLE


def uneditable_dashboard(path: Path) -> Iterator[str]:
    if loaded(path)["editable"]:
        yield WHOLE


def _drawn(path: Path) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in panels(path) if panel["type"] != "text")


def panel_datasource(path: Path) -> Iterator[str]:
    for panel in _drawn(path):
        if panel["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
            yield panel["title"]


def panel_title_description(path: Path) -> Iterator[str]:
    yield from (panel["title"] for panel in panels(path) if not (panel["title"] and panel["description"]))


def panel_units(path: Path) -> Iterator[str]:
    for panel in _drawn(path):
        if panel["type"] != "state-timeline" and panel["fieldConfig"]["defaults"].get("unit") not in UNITS:
            yield panel["title"]


def panel_no_targets(path: Path) -> Iterator[str]:
    yield from (panel["title"] for panel in _drawn(path) if not panel.get("targets"))


def target_promql(path: Path) -> Iterator[str]:
    """Promtool reads the queries in another test; here: each selects something that we export."""
    yield from (query.panel for query in queries(path) if not list(selectors(query.expr)))


def target_rate_interval(path: Path) -> Iterator[str]:
    for query in queries(path):
        ranges = re.findall(r"\b(?:rate|irate|increase)\([^[]*\[([^\]]*)\]", query.expr)
        calls = re.findall(r"\b(?:rate|irate|increase)\(", query.expr)
        if ranges != ["$__rate_interval"] * len(calls):
            yield query.panel


def _matcher(path: Path, label: str) -> Iterator[str]:
    for query in queries(path):
        if any(f'{label}=~"${label}"' not in matchers for _, matchers, _ in selectors(query.expr)):
            yield query.panel


def target_job(path: Path) -> Iterator[str]:
    yield from _matcher(path, "job")


def target_instance(path: Path) -> Iterator[str]:
    yield from _matcher(path, "instance")


def target_counter_agg(path: Path) -> Iterator[str]:
    for query in queries(path):
        counters = {name for name, _, _ in selectors(query.expr) if name.endswith("_total")}
        if any(not re.search(rf"\b(?:rate|increase)\({name}\{{[^}}]*\}}\[", query.expr) for name in counters):
            yield query.panel


RULES: tuple[Callable[[Path], Iterator[str]], ...] = (
    template_datasource,
    template_job,
    template_instance,
    template_label_promql,
    template_on_time_change_reload,
    uneditable_dashboard,
    panel_datasource,
    panel_title_description,
    panel_units,
    panel_no_targets,
    target_promql,
    target_rate_interval,
    target_job,
    target_instance,
    target_counter_agg,
)


def rule_name(rule: Callable[[Path], Iterator[str]]) -> str:
    name = rule.__name__.replace("_", "-")
    return name if name == "uneditable-dashboard" else f"{name}-rule"


def excepted(rule: str, board: str) -> tuple[bool, set[str]]:
    """Whether the whole dashboard is excepted from a rule, and else which of its panels."""
    found = [item for item in EXCEPTIONS["linter"] if item["rule"] == rule and board in item["dashboards"]]
    return any("panels" not in item for item in found), {
        title for item in found for title in item.get("panels", ())
    }


@pytest.mark.parametrize("rule", RULES, ids=rule_name)
@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_follows_the_linter_but_for_its_exceptions(
    path: Path, rule: Callable[[Path], Iterator[str]]
) -> None:
    broken = set(rule(path))
    everywhere, some = excepted(rule_name(rule), path.stem)
    if everywhere:
        assert broken, "the exception is not needed"
    else:
        assert broken == some


def test_every_exception_names_a_rule_and_its_reason() -> None:
    for item in EXCEPTIONS["linter"]:
        assert item["rule"] in {rule_name(rule) for rule in RULES}
        assert item["reason"].endswith(".")
        assert set(item["dashboards"]) <= {path.stem for path in DASHBOARDS}
