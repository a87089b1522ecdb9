"""What prometheus.yml promises: its own program takes it, and it scrapes a daemon."""

from __future__ import annotations

import subprocess
from pathlib import Path

from quota.decision import Phase, PoolName
from quota.http import app, serving
from quota.ledger import Snapshot
from quota.metrics import Metrics
from quota.pool import Pool
from tests.deployed import DEPLOY, prometheus_command, running, series, until_page
from tests.servers import binary, free_port

POOL = Pool(
    trading_day="2026-11-23",
    limit_fen=52_000_000_000_00,
    rate="1.00000",
    schedule="0 continuous",
    filled_buy_fen=1_00,
    phase=Phase.CONTINUOUS,
)


def test_prometheus_accepts_its_file() -> None:
    answer = subprocess.run(
        [binary("promtool"), "check", "config", DEPLOY / "prometheus" / "prometheus.yml"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
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
