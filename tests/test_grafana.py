"""Rules of the dashboards: the committed files are the generated ones, and ask only for what is there."""

from __future__ import annotations

import json
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from quota.decision import Phase, PoolName, Status
from tests.boards import (
    DASHBOARDS,
    EXCEPTIONS,
    GRAFANA,
    PROMETHEUS,
    exported,
    family,
    filled,
    loaded,
    marks,
    panels,
    queries,
    rules,
    selectors,
    variables,
)
from tests.servers import binary, missing

SCREEN_ROWS = 22
"""What 1080 lines hold below the browser's and Grafana's own bars, at 38 to a row."""

each_board = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def expressions(path: Path) -> list[str]:
    return [query.expr for query in (*queries(path), *marks(path))]


# The files.


def test_the_committed_files_are_the_generated_ones() -> None:
    if find_spec("grafana_foundation_sdk") is None:
        missing("grafana-foundation-sdk")
    from grafana.__main__ import written  # noqa: PLC0415 - its library may be missing

    assert {path.name: path.read_text("utf-8") for path in DASHBOARDS} == written()


def test_there_are_three_dashboards_that_link_to_each_other() -> None:
    boards = {path.stem: loaded(path) for path in DASHBOARDS}
    assert boards.keys() == {"overview", "pool", "daemon"}
    for name, board in boards.items():
        assert board["uid"] == f"quotad-{name}"
        targets = [re.findall(r"^/d/quotad-(\w+)\?", link["url"]) for link in board["links"]]
        assert sorted(targets) == sorted([other] for other in boards.keys() - {name})
        assert all(link["keepTime"] for link in board["links"])


@each_board
def test_every_link_carries_only_variables_that_its_target_knows(path: Path) -> None:
    text = path.read_text("utf-8")
    known = {variable["name"] for variable in loaded(path)["templating"]["list"]}
    urls = re.findall(r'"(/d/quotad-(\w+)\?[^"]*)"', text)
    assert urls
    for url, name in urls:
        target = GRAFANA / "dashboards" / f"{name}.json"
        asked = set(re.findall(r"\$\{(\w+):queryparam\}", url))
        given = set(re.findall(r"var-(\w+)=", url))
        assert asked <= known
        assert asked | given <= {variable["name"] for variable in loaded(target)["templating"]["list"]}


def test_grafana_finds_dashboards_and_source_where_they_are_mounted() -> None:
    source, provider = (
        yaml.safe_load((GRAFANA / "provisioning" / name).read_text("utf-8"))
        for name in ("datasources/prometheus.yml", "dashboards/quotad.yml")
    )
    (datasource,) = source["datasources"]
    assert datasource["type"] == "prometheus"
    assert datasource["isDefault"] is True
    assert datasource["url"] == "${PROMETHEUS_URL}"
    assert provider["providers"][0]["options"]["path"] == "/var/lib/grafana/dashboards"
    scrape = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))["global"]["scrape_interval"]
    assert datasource["jsonData"]["timeInterval"] == scrape


# What is asked for.


@each_board
def test_every_metric_that_is_asked_for_exists(path: Path) -> None:
    asked = {name for expr in expressions(path) for name in re.findall(r"\bquota_\w+", expr)}
    assert asked
    assert asked <= exported().keys()


@each_board
def test_every_label_value_that_is_asked_for_exists(path: Path) -> None:
    known = exported()
    for expr in expressions(path):
        for name, matchers, _ in selectors(expr):
            for label, value in re.findall(r'(\w+)=~?"([^"$]*)"', matchers):
                have = {labels.get(label) for labels in known[name]}
                assert set(value.split("|")) <= have, f"{name} {label}={value}"


def test_every_metric_is_in_a_panel_a_rule_or_the_list_of_exceptions() -> None:
    shown = [expr for path in DASHBOARDS for expr in expressions(path)]
    asked = {family(name) for expr in shown for name, _, _ in selectors(expr)}
    asked |= {family(name) for rule in rules() for name, _, _ in selectors(rule["expr"])}
    metrics = {family(name) for name in exported()}
    excepted = EXCEPTIONS["metrics"]
    assert metrics - asked == excepted.keys()
    assert all(reason.endswith(".") for reason in excepted.values())


def test_every_query_is_promql(tmp_path: Path) -> None:
    """Recording rules are checked by promtool; so each query becomes one."""
    made = [
        {"record": f"query:{number}", "expr": filled(expr)}
        for number, expr in enumerate(expr for path in DASHBOARDS for expr in expressions(path))
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboards", "rules": made}]}))
    answer = subprocess.run(
        [binary("promtool"), "check", "rules", "--lint=none", str(file)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


@each_board
def test_every_range_is_one_that_grafana_chooses(path: Path) -> None:
    for query in queries(path):
        assert set(re.findall(r"\[(.*?)\]", query.expr)) <= {"$__rate_interval"}, str(query)
    for query in marks(path):
        assert set(re.findall(r"\[(.*?)\]", query.expr)) == {"$__interval:"}, str(query)


@pytest.mark.parametrize("path", [path for path in DASHBOARDS if path.stem != "daemon"], ids=lambda p: p.stem)
def test_a_pools_figures_are_folded_before_they_are_added(path: Path) -> None:
    """Two daemons tell the same pool twice: nothing may be summed or joined before it is one for each."""
    for query in queries(path):
        for name, matchers, _ in selectors(query.expr):
            if "$pool" in matchers:
                assert re.search(rf"\b(?:max|min) by \([^)]*\) \([^)]*{name}", query.expr), str(query)
        for added in re.findall(r"\bsum by \([^)]*\) \((.{10})", query.expr):
            assert added.startswith(("max by", "rate(quota_event_lag"[:10])), str(query)


# How it looks.


@each_board
def test_ids_and_places_are_each_panels_own(path: Path) -> None:
    ids = [panel["id"] for panel in panels(path)]
    assert len(ids) == len(set(ids))
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels(path))
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len(cells) == 24 * (1 + max(y for _, y in cells)), "a gap between panels"
    assert max(x for x, _ in cells) < 24


def test_what_the_desk_needs_is_on_one_screen() -> None:
    essential = {
        "Remaining, of the events that quotad is fed",
        "Is it live",
        "Used",
        "Used up in",
        "$pool: balance and pace",
        "Status",
        "Today",
    }
    places = {panel["title"]: panel["gridPos"] for panel in panels(GRAFANA / "dashboards" / "overview.json")}
    assert {title for title, at in places.items() if at["y"] + at["h"] <= SCREEN_ROWS} == essential


@each_board
def test_every_panel_says_what_it_shows(path: Path) -> None:
    for panel in panels(path):
        assert panel["title"]
        assert panel["description"].endswith(".")
        refs = [target["refId"] for target in panel.get("targets", ())]
        assert len(refs) == len(set(refs))


@each_board
def test_the_day_is_seen_in_the_markets_own_time(path: Path) -> None:
    board = loaded(path)
    assert board["timezone"] == "Asia/Shanghai"
    assert board["refresh"] == "5s"
    assert board["time"] == {"from": "now-8h", "to": "now"}
    assert board["graphTooltip"] == 1, "the crosshair is shared"
    assert "quotad" in board["tags"]


@pytest.mark.parametrize("path", [path for path in DASHBOARDS if path.stem != "daemon"], ids=lambda p: p.stem)
def test_a_dashboard_of_pools_says_whose_balance_it_is(path: Path) -> None:
    (said,) = (panel["options"]["content"] for panel in panels(path) if panel["type"] == "text")
    assert "that of the events it is fed" in " ".join(said.split())


@each_board
def test_what_is_not_known_is_a_word_and_not_zero(path: Path) -> None:
    for panel in panels(path):
        if panel["type"] in {"stat", "bargauge", "table"}:
            matches = [
                mapping["options"].get("match") for mapping in panel["fieldConfig"]["defaults"]["mappings"]
            ]
            assert "null+nan" in matches, panel["title"]
        if panel["type"] == "timeseries":
            assert panel["fieldConfig"]["defaults"]["custom"]["spanNulls"] is False, panel["title"]


@each_board
@pytest.mark.parametrize(("metric", "states"), [("status", Status), ("phase", Phase)])
def test_a_states_number_has_its_word(path: Path, metric: str, states: type[Status | Phase]) -> None:
    for panel in panels(path):
        for target in panel.get("targets", ()):
            numbers = re.findall(rf'{metric}="(\w+)"\}} == 1\) \* 0 \+ (\d+)', target["expr"])
            if numbers:
                known = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
                spoken = {word: known[number]["text"] for word, number in numbers}
                assert spoken == {state: state for state in states}


def test_every_pool_has_its_chinese_name() -> None:
    overview = (GRAFANA / "dashboards" / "overview.json").read_text("utf-8")
    named = set(re.findall(r'"([NS]B-S[HZ]) \S+"', overview))
    assert named == set(PoolName)


@each_board
def test_only_one_pool_or_all_of_them_are_chosen(path: Path) -> None:
    chosen = {variable["name"]: variable["multi"] for variable in variables(path)}
    wanted = {
        "overview": {"job": False, "pool": True},
        "pool": {"job": False, "pool": False},
        "daemon": {"job": True, "instance": True},
    }
    assert chosen == wanted[path.stem]
