"""What Prometheus' files promise: its own program takes them, and they find and scrape a daemon."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from quota.decision import Phase, PoolName
from quota.http import app, serving
from quota.ledger import Snapshot
from quota.metrics import Metrics
from quota.pool import Pool
from tests.deployed import DEPLOY, ROOT, prometheus_command, running, series, until_page
from tests.servers import binary, free_port
from tests.test_containers import DAEMON, VERIFY

CLUSTER: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "kubernetes.yml").read_text("utf-8"))
(PORT,) = DAEMON["spec"]["containers"][0]["ports"]

POOL = Pool(
    trading_day="2026-11-23",
    limit_fen=52_000_000_000_00,
    rate="1.00000",
    schedule="0 continuous",
    filled_buy_fen=1_00,
    phase=Phase.CONTINUOUS,
)


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    command = [binary("promtool"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_prometheus_accepts_its_file() -> None:
    answer = promtool("check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "SUCCESS" in answer.stdout + answer.stderr


async def test_prometheus_scrapes_a_daemon(tmp_path: Path) -> None:
    metrics = Metrics(tuple(PoolName), "1")
    metrics.pool(PoolName.NB_SH, Snapshot(1, POOL))
    port = free_port()
    site = app(metrics.registry, pools=list, ready=list)
    async with serving(site, "127.0.0.1", 0) as address:
        changes = {"127.0.0.1:9464": address, "scrape_interval: 5s": "scrape_interval: 100ms"}
        with running(prometheus_command(tmp_path, port, changes), port, tmp_path):
            url = f"http://127.0.0.1:{port}"
            await until_page(f"{url}/-/ready", bool)
            found = await until_page(f"{url}/api/v1/query?query=quota_balance_yuan", series)
            up = await until_page(f"{url}/api/v1/query?query=up", series)
    assert len(found) == len(PoolName)
    balances = {each["metric"]["pool"]: each["value"][1] for each in found}
    assert balances == {"NB-SH": "51999999999", "NB-SZ": "NaN", "SB-SH": "NaN", "SB-SZ": "NaN"}
    assert [(each["metric"]["job"], each["value"][1]) for each in up] == [("quotad", "1")]


# In a cluster. --------------------------------------------------------------------------------


def found(tmp_path: Path, *pods: dict[str, str]) -> list[dict[str, str]]:
    """What the job of the cluster makes of pods: the cluster's own search is replaced by a list of them."""
    (job,) = CLUSTER["scrape_configs"]
    listed = [
        {"targets": ["10.0.0.1:9464"], "labels": {f"__meta_kubernetes_pod_{k}": v for k, v in pod.items()}}
        for pod in pods
    ]
    plain = {key: value for key, value in job.items() if key != "kubernetes_sd_configs"}
    file = tmp_path / "prometheus.yml"
    file.write_text(json.dumps({"scrape_configs": [plain | {"static_configs": listed}]}))
    assert "SUCCESS" in promtool("check", "config", str(file)).stdout
    said = promtool("check", "service-discovery", "--timeout=1s", str(file), "quotad")
    return [target["labels"] for target in json.loads(said.stdout) if target["labels"]]


def test_in_a_cluster_the_job_has_the_name_and_the_pace_that_the_rules_need(tmp_path: Path) -> None:
    port = {"phase": "Running", "container_port_name": PORT["name"]}
    (labels,) = found(
        tmp_path,
        port | {"name": "quotad-1"},
        port | {"name": "quotad-2", "phase": "Failed"},
        port | {"name": "quotad-3", "container_port_name": "other"},
    )
    asked = ("job", "instance", "__metrics_path__", "__scrape_interval__")
    assert [labels[name] for name in asked] == ["quotad", "quotad-1", "/metrics", "5s"]


def test_in_a_cluster_the_job_chooses_the_daemon_and_nothing_else() -> None:
    (search,) = CLUSTER["scrape_configs"][0]["kubernetes_sd_configs"]
    (selector,) = search["selectors"]
    assert (search["role"], selector["role"]) == ("pod", "pod")
    chosen = dict(word.split("=") for word in selector["label"].split(",")).items()
    assert chosen <= DAEMON["metadata"]["labels"].items()
    assert not chosen <= VERIFY["metadata"]["labels"].items()


def test_no_annotation_has_a_job_for_all_pods_read_the_daemon_a_second_time() -> None:
    assert "annotations" not in DAEMON["metadata"]


def test_the_page_tells_what_prometheus_needs_in_a_cluster() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    section = text.split("### In Kubernetes\n")[1].split("\n## ")[0]
    for word in ("deploy/prometheus/kubernetes.yml", "deploy/prometheus/rules.yml", "job=", "`monitoring`"):
        assert word in section, word
