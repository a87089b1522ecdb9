"""Rules of the metrics: the store's figures, every series from the start, no label from outside."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from math import isnan
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from quota.decision import Outcome, Phase, PoolName, Side, Status, Verdict, Violation
from quota.ledger import Snapshot
from quota.metrics import EVENTS, Metrics
from quota.pool import Pool

NB_SH = {"pool": "NB-SH", "direction": "northbound", "exchange": "SH"}
SB_SZ = {"pool": "SB-SZ", "direction": "southbound", "exchange": "SZ"}

OF_POOLS: dict[str, dict[str, Iterable[str]]] = {
    "quota_limit_yuan": {},
    "quota_balance_yuan": {},
    "quota_used_ratio": {},
    "quota_status": {"status": Status},
    "quota_phase": {"phase": Phase},
    "quota_seq": {},
    "quota_level": {},
    "quota_open_buy_orders_yuan": {},
    "quota_filled_buys_yuan": {},
    "quota_filled_sells_yuan": {},
    "quota_decisions_total": {"side": Side, "verdict": Verdict},
    "quota_violations_total": {"kind": Violation},
}
OF_DAEMON = [
    "quota_feed_connected",
    "quota_redis_connected",
    "quota_last_event_timestamp_seconds",
    "quota_clock_skew_seconds",
    "quota_event_lag_seconds_count",
    "quota_apply_duration_seconds_count",
    "quota_batch_events_count",
    "quota_rate_refused_total",
]

TENSE = Pool(
    trading_day="2026-11-23",
    limit_fen=1_000_000_00,
    rate="1.00000",
    schedule="0 continuous",
    open_buy_fen=700_000_01,
    filled_buy_fen=400_000_00,
    filled_sell_fen=50_000_00,
    seq=17,
    level=100,
    phase=Phase.CONTINUOUS,
    exhausted=True,
    decided={(Side.BUY, Verdict.ACCEPTED): 5, (Side.SELL, Verdict.ACCEPTED): 2},
    violated={Violation.OVERFILLED: 1},
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(tuple(PoolName), "1.2.3")


def value(metrics: Metrics, name: str, labels: Mapping[str, str] | None = None) -> float:
    found = metrics.registry.get_sample_value(name, dict(labels or {}))
    assert found is not None, f"no series {name} {labels}"
    return found


def exposed(metrics: Metrics) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("name", OF_POOLS)
def test_every_pool_series_exists_from_the_start(metrics: Metrics, name: str) -> None:
    series = [labels for sample, labels in exposed(metrics) if sample == name]
    expected = len(PoolName)
    for words in OF_POOLS[name].values():
        expected *= len(list(words))
    assert len(series) == expected
    wanted = {"pool", "direction", "exchange", *OF_POOLS[name]}
    assert all({key for key, _ in labels} == wanted for labels in series)


@pytest.mark.parametrize("name", OF_DAEMON)
def test_every_series_of_the_daemon_exists_from_the_start(metrics: Metrics, name: str) -> None:
    assert (name, ()) in exposed(metrics)


def test_every_event_series_exists_from_the_start(metrics: Metrics) -> None:
    for pool in (*PoolName, "-"):
        for event in EVENTS:
            for outcome in Outcome:
                labels = {"pool": pool, "event": event, "outcome": outcome}
                assert value(metrics, "quota_events_total", labels) == 0


def test_the_contract_names_every_metric_and_no_other(metrics: Metrics) -> None:
    page = (Path(__file__).parent.parent / "docs" / "contract.md").read_text("utf-8")
    named = set(re.findall(r"`(quota_\w+)`", page.split("## Metrics")[1].split("## HTTP")[0]))
    names = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name, _ in exposed(metrics)}
    assert named == {name for name in names if not name.startswith("quota_process_")}


@pytest.mark.parametrize("words", [PoolName, Side, Phase, Verdict, Status, Violation, Outcome])
def test_the_contract_names_every_word(words: type[StrEnum]) -> None:
    page = (Path(__file__).parent.parent / "docs" / "contract.md").read_text("utf-8")
    assert {word for word in words if f"`{word}`" not in page} == set()


def test_the_version_is_a_label_of_the_build(metrics: Metrics) -> None:
    assert value(metrics, "quota_build_info", {"version": "1.2.3"}) == 1


def test_only_served_pools_are_shown() -> None:
    served = Metrics([PoolName.SB_SZ], "1")
    shown = {dict(labels)["pool"] for _, labels in exposed(served) if "pool" in dict(labels)}
    assert shown == {"SB-SZ", "-"}


def test_figures_are_those_of_the_latest_snapshot(metrics: Metrics) -> None:
    metrics.pool(PoolName.NB_SH, Snapshot(1, msgspec.structs.replace(TENSE, seq=16)))
    metrics.pool(PoolName.NB_SH, Snapshot(1_795_397_460_500, TENSE))
    figures = {
        "quota_limit_yuan": 1_000_000,
        "quota_balance_yuan": -50_000.01,
        "quota_used_ratio": 1.05000001,
        "quota_seq": 17,
        "quota_level": 100,
        "quota_open_buy_orders_yuan": 700_000.01,
        "quota_filled_buys_yuan": 400_000,
        "quota_filled_sells_yuan": 50_000,
        "quota_pool_read_timestamp_seconds": 1_795_397_460.5,
        "quota_trading_day_timestamp_seconds": 1_795_363_200,  # 2026-11-23T00:00+08:00
    }
    assert {name: value(metrics, name, NB_SH) for name in figures} == figures


def test_totals_are_the_stores_own(metrics: Metrics) -> None:
    metrics.pool(PoolName.NB_SH, Snapshot(1, TENSE))
    decided = {
        (side, verdict): value(metrics, "quota_decisions_total", NB_SH | {"side": side, "verdict": verdict})
        for side in Side
        for verdict in Verdict
    }
    assert {key: count for key, count in decided.items() if count} == TENSE.decided
    assert value(metrics, "quota_violations_total", NB_SH | {"kind": "overfilled"}) == 1
    assert value(metrics, "quota_violations_total", NB_SH | {"kind": "side_conflict"}) == 0


def states(metrics: Metrics, word: str, pool: Mapping[str, str]) -> list[str]:
    words: Any = {"status": Status, "phase": Phase}[word]
    return [state for state in words if value(metrics, f"quota_{word}", {**pool, word: state}) == 1]


def test_a_pool_is_in_one_status_and_one_phase(metrics: Metrics) -> None:
    metrics.pool(PoolName.NB_SH, Snapshot(1, TENSE))
    assert states(metrics, "status", NB_SH) == ["exhausted"]
    assert states(metrics, "phase", NB_SH) == ["continuous"]


def test_where_no_day_is_open_a_pool_is_closed_and_its_figures_are_not_zero(metrics: Metrics) -> None:
    metrics.pool(PoolName.SB_SZ, Snapshot(1, None))
    assert states(metrics, "status", SB_SZ) == ["closed"]
    assert states(metrics, "phase", SB_SZ) == ["closed"]
    assert isnan(value(metrics, "quota_balance_yuan", SB_SZ))
    assert isnan(value(metrics, "quota_used_ratio", SB_SZ))


def test_a_pool_that_was_never_read_is_in_no_status(metrics: Metrics) -> None:
    assert states(metrics, "status", SB_SZ) == []
    assert isnan(value(metrics, "quota_limit_yuan", SB_SZ))
    assert value(metrics, "quota_pool_read_timestamp_seconds", SB_SZ) == 0


@pytest.mark.parametrize("event", ["new", "cancelled", "rejected", "fill", "bust", "fx"])
def test_events_are_counted_by_name_and_outcome(metrics: Metrics, event: str) -> None:
    metrics.event(PoolName.NB_SZ, event, Outcome.DUPLICATE)
    metrics.event(PoolName.NB_SZ, event, Outcome.DUPLICATE, 3)
    labels = {"pool": "NB-SZ", "event": event, "outcome": "duplicate"}
    assert value(metrics, "quota_events_total", labels) == 4


def test_no_label_comes_from_outside() -> None:
    metrics = Metrics([PoolName.NB_SH], "1")
    before = exposed(metrics)
    metrics.event(PoolName.NB_SH, "amend", Outcome.DEAD)
    metrics.event(None, "\n", Outcome.DEAD)
    metrics.event(PoolName.SB_SH, "new", Outcome.DEAD)
    assert exposed(metrics) == before
    for pool, event in (("NB-SH", "unknown"), ("-", "unknown"), ("-", "new")):
        labels = {"pool": pool, "event": event, "outcome": "dead"}
        assert value(metrics, "quota_events_total", labels) == 1


def test_a_batch_is_observed_with_its_size_and_duration(metrics: Metrics) -> None:
    metrics.applied(200, 0.0007)
    metrics.lag(0.004)
    assert value(metrics, "quota_batch_events_bucket", {"le": "128.0"}) == 0
    assert value(metrics, "quota_batch_events_bucket", {"le": "256.0"}) == 1
    assert value(metrics, "quota_apply_duration_seconds_bucket", {"le": "0.0005"}) == 0
    assert value(metrics, "quota_apply_duration_seconds_bucket", {"le": "0.001"}) == 1
    assert value(metrics, "quota_event_lag_seconds_bucket", {"le": "0.005"}) == 1
    assert value(metrics, "quota_last_event_timestamp_seconds") > 0


def test_connections_are_told_apart(metrics: Metrics) -> None:
    metrics.connected(feed=True)
    metrics.connected(store=True)
    metrics.connected(feed=False)
    assert value(metrics, "quota_feed_connected") == 0
    assert value(metrics, "quota_redis_connected") == 1


def test_the_daemons_own_figures_are_shown(metrics: Metrics) -> None:
    metrics.skew(-0.25)
    metrics.calendar_left(38)
    metrics.reconnects(2, 1)
    metrics.unacknowledged(120)
    metrics.rate_refused()
    assert value(metrics, "quota_clock_skew_seconds") == -0.25
    assert value(metrics, "quota_calendar_left_seconds") == 38 * 86_400
    assert value(metrics, "quota_feed_reconnects_total") == 2
    assert value(metrics, "quota_feed_sessions_lost_total") == 1
    assert value(metrics, "quota_unacknowledged_messages") == 120
    assert value(metrics, "quota_rate_refused_total") == 1
