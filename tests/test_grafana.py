"""Rules of the dashboards: the committed file is the generated one, and asks only for what is there."""

from __future__ import annotations

import json
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from quota.decision import Phase, PoolName, Status
from quota.metrics import Metrics
from tests.servers import binary, missing

GRAFANA = Path(__file__).parent.parent / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))

pytestmark = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def panels(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text("utf-8"))["panels"])


def expressions(path: Path) -> list[str]:
    return [target["expr"] for panel in panels(path) for target in panel["targets"]]


def series() -> dict[str, list[dict[str, str]]]:
    text = generate_latest(Metrics(tuple(PoolName), "1").registry).decode()
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def test_the_committed_file_is_the_generated_one(path: Path) -> None:
    if find_spec("grafana_foundation_sdk") is None:
        missing("grafana-foundation-sdk")
    from grafana.overview import overview  # noqa: PLC0415 - its library may be missing

    assert path.read_text("utf-8") == overview()


def test_every_metric_that_is_asked_for_exists(path: Path) -> None:
    asked = {name for expr in expressions(path) for name in re.findall(r"\bquota_\w+", expr)}
    assert asked
    assert asked <= series().keys()


def test_every_label_value_that_is_asked_for_exists(path: Path) -> None:
    known = series()
    for expr in expressions(path):
        for name, selector in re.findall(r"\b(quota_\w+)\{([^}]*)\}", expr):
            for label, value in re.findall(r'(\w+)="([^"]*)"', selector):
                assert value in {labels.get(label) for labels in known[name]}, f"{name} {label}={value}"


def test_every_query_is_promql(path: Path, tmp_path: Path) -> None:
    """Recording rules are checked by promtool; so each query becomes one."""
    rules = [
        {"record": f"query:{number}", "expr": expr.replace("$__rate_interval", "1m").replace("$pool", ".*")}
        for number, expr in enumerate(expressions(path))
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    answer = subprocess.run(
        [binary("promtool"), "check", "rules", str(file)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


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
    assert max(x for x, _ in cells) < 24


def test_every_panel_says_what_it_shows_and_asks_the_chosen_source(path: Path) -> None:
    for panel in panels(path):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs))


def test_every_rate_uses_the_interval_that_grafana_chooses(path: Path) -> None:
    ranges = [found for expr in expressions(path) for found in re.findall(r"\[(.*?)\]", expr)]
    assert set(ranges) == {"$__rate_interval"}


def test_figures_have_units(path: Path) -> None:
    for panel in panels(path):
        if panel["type"] in {"timeseries", "bargauge"}:
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@pytest.mark.parametrize(("title", "states"), [("Status", Status), ("Phase", Phase)])
def test_a_states_number_has_its_word(path: Path, title: str, states: type[Status | Phase]) -> None:
    (panel,) = (panel for panel in panels(path) if panel["title"] == title)
    numbers = re.findall(r'="(\w+)"\} == 1\) \* 0 \+ (\d+)', panel["targets"][0]["expr"])
    words = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    assert {word: words[number]["text"] for word, number in numbers} == {state: state for state in states}


def test_provisioned_intervals_are_prometheus_own(path: Path) -> None:
    assert path.parent == GRAFANA / "dashboards"
    source = (GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text("utf-8")
    scrape = (GRAFANA.parent / "deploy" / "prometheus.yml").read_text("utf-8")
    (interval,) = re.findall(r"^ +timeInterval: (\S+)$", source, re.MULTILINE)
    assert re.findall(r"^ +scrape_interval: (\S+)$", scrape, re.MULTILINE) == [interval]
