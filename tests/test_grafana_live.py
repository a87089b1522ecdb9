"""Every query of the dashboards and of the rules finds data: Prometheus scrapes two daemons that work.

The two watch the same pools, so this is also where a query that counts a pool twice would show.
"""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from quota.decision import PoolName
from tests.boards import DASHBOARDS, Query, filled, marks, queries, rules, selectors, variables
from tests.daemons import DAY, House, Quotad, house, new
from tests.deployed import prometheus_command, running
from tests.servers import free_port
from tests.tap import Tap, until_now

BEFORE_THE_OPEN = f"{DAY}T09:29:30+08:00"
"""In the opening phase, and seconds before it ends: a pool that is suspended then is exhausted after it."""

LIMITS = 'limits_yuan = {NB-SZ = "1000.00"}'
STEP_S = 0.2  # as often as it is scraped: a halt may be over within a second

ALL = [query for path in DASHBOARDS for query in queries(path)]
MARKS = [query for path in DASHBOARDS for query in marks(path)]
ASKED = [variable for path in DASHBOARDS for variable in variables(path)]


@dataclass(frozen=True, slots=True)
class Seen:
    """A Prometheus and what it scrapes."""

    port: int
    began_s: float
    home: House

    def ask(self, path: str, **words: object) -> Any:  # noqa: ANN401 - JSON
        """Ask its API."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(words)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def now(self, expr: str) -> list[dict[str, Any]]:
        """Evaluate an expression now."""
        return list(self.ask("query", query=expr)["result"])

    def over_time(self, expr: str) -> list[dict[str, Any]]:
        """Evaluate an expression over all of the test's time."""
        found = self.ask("query_range", query=expr, start=self.began_s, end=time.time(), step=STEP_S)
        return list(found["result"])

    def found(self, query: Query) -> list[dict[str, Any]]:
        """Ask as Grafana does."""
        expr = filled(query.expr, "5s")
        return self.now(expr) if query.instant else self.over_time(expr)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Two daemons of one house, a Prometheus with the rules that we ship, and a lively opening."""
    directory = tmp_path_factory.mktemp("prometheus")
    began_s = time.time()
    with house(directory, at=BEFORE_THE_OPEN, toml=LIMITS) as home:
        ports = home.store.port, home.broker.port
        with Quotad(directory, *ports, toml=LIMITS, at=BEFORE_THE_OPEN, name="quotad-2") as second:
            home.quotad.start()
            until_now(lambda: home.quotad.ready)
            second.start()
            port, targets = free_port(), [f'"127.0.0.1:{each.port}"' for each in (home.quotad, second)]
            changes = {
                "scrape_interval: 5s": "scrape_interval: 200ms",
                "evaluation_interval: 5s": "evaluation_interval: 200ms",
                '"127.0.0.1:9464"': ", ".join(targets),
                "127.0.0.1:9093": f"127.0.0.1:{free_port()}",
            }
            with running(prometheus_command(directory, port, changes), port, directory):
                view = Seen(port, began_s, home)
                until_now(lambda: second.ready and len(view.now("quota_seq")) == 2 * len(PoolName))
                _play(view)
                yield view


def _play(seen: Seen) -> None:
    """Let everything happen that a dashboard shows."""
    quotad = seen.home.quotad
    with Tap(seen.home.broker.port) as tap:
        _orders(tap)
        until_now(lambda: quotad.pool("NB-SZ")["status"] == "suspended")
        _facts(tap)
        for act in ("halt", "resume"):
            assert quotad.does(act, "SB-SH", "--reason", "a test").returncode == 0
            status = "halted" if act == "halt" else "open"
            until_now(lambda status=status: _shown(seen, "SB-SH", status))  # type: ignore[misc]  # bound now
        quotad.does("verify")
        until_now(lambda: _shown(seen, "NB-SZ", "exhausted"))
        until_now(lambda: seen.now('quota_events_total{outcome="dead"} > 0'))
        _orders(tap, "later")


def _shown(seen: Seen, pool: str, status: str) -> bool:
    return len(seen.now(f'quota_status{{pool="{pool}", status="{status}"}} == 1')) > 1


def _orders(tap: Tap, name: str = "first") -> None:
    at = {"time": BEFORE_THE_OPEN}
    for pool in PoolName:
        orders = [new(f"{name}-{number}", "buy 10.00 200", **at) for number in range(20)]
        tap.say(f"connect/{pool}/orders", [*orders, new(f"{name}-s", "sell 10.00 100", **at)])


def _facts(tap: Tap) -> None:
    trade = {"event": "fill", "exec_id": "x-1", "order_id": "first-0"} | {"side": "buy", "price": "9.00"}
    tap.say("connect/NB-SH/fills", [trade | {"quantity": 100}])
    tap.say("connect/NB-SZ/orders", new("refused"))
    tap.say("connect/NB-SZ/fills", [trade | {"order_id": "refused", "quantity": 100}])
    tap.say("connect/NB-SH/orders", [{"event": "cancelled", "order_id": "first-1"}, new("first-2")])
    tap.say("connect/SB-SZ/orders", b"not an event")
    tap.say("connect/fx", {"trading_day": DAY, "rate": "0.95"}, retain=True)


@pytest.mark.parametrize("query", ALL, ids=str)
def test_a_panels_query_finds_data(seen: Seen, query: Query) -> None:
    until_now(lambda: seen.found(query))


@pytest.mark.parametrize("query", [query for query in ALL if query.board != "daemon"], ids=str)
def test_two_daemons_tell_a_pool_once(seen: Seen, query: Query) -> None:
    """Where a pool is chosen, nothing in the answer tells the daemons apart, and no series comes twice."""
    until_now(lambda: seen.found(query))
    labels = [series["metric"] for series in seen.found(query)]
    assert not {"instance", "job"} & {label for metric in labels for label in metric}
    assert len(labels) == len({tuple(sorted(metric.items())) for metric in labels})


def test_the_balance_shown_is_the_pools_own(seen: Seen) -> None:
    (query,) = (query for query in ALL if query.panel.startswith("Remaining"))
    until_now(lambda: _balances(seen, query) == _own(seen))


def _balances(seen: Seen, query: Query) -> dict[str, float]:
    return {series["metric"]["pool"]: float(series["value"][1]) for series in seen.found(query)}


def _own(seen: Seen) -> dict[str, float]:
    return {pool: seen.home.quotad.pool(pool)["balance_fen"] / 100 for pool in PoolName}


@pytest.mark.parametrize("query", MARKS, ids=str)
def test_an_annotations_query_finds_the_moment(seen: Seen, query: Query) -> None:
    """Its values are milliseconds within the test: the moments at which the marks are drawn."""
    until_now(lambda: seen.found(query))
    for series in seen.found(query):
        assert series["metric"].keys() == {"pool"}
        for _, moment_ms in series["values"]:
            assert seen.began_s - 5 < float(moment_ms) / 1000 < time.time()


@pytest.mark.parametrize("variable", ASKED, ids=lambda variable: str(variable["name"]))
def test_a_variables_query_finds_values(seen: Seen, variable: dict[str, Any]) -> None:
    selector, _, label = filled(variable["query"]).removeprefix("label_values(").rpartition(", ")
    values = set(seen.ask(f"label/{label.removesuffix(')')}/values", **{"match[]": selector}))
    wanted = {"job": 1, "instance": 2, "pool": len(PoolName)}
    assert len(values) == wanted[variable["name"]]


def rule_id(rule: dict[str, Any]) -> str:
    return str(rule.get("alert") or rule["record"])


@pytest.mark.parametrize("rule", rules(), ids=rule_id)
def test_a_rules_query_is_evaluated_and_what_it_reads_is_there(seen: Seen, rule: dict[str, Any]) -> None:
    """A recording rule finds data. An alert finds none while all is well; what it selects is there."""
    until_now(lambda: _health(seen, rule_id(rule)) == {("ok", "")})
    if "record" in rule:
        until_now(lambda: seen.over_time(rule["expr"]))
    for name, matchers, _ in selectors(rule["expr"]):
        until_now(lambda series=f"{name}{matchers}": seen.over_time(series))  # type: ignore[misc]  # bound now


def _health(seen: Seen, name: str) -> set[tuple[str, str]]:
    groups = seen.ask("rules")["groups"]
    found = [rule for group in groups for rule in group["rules"] if rule["name"] == name]
    return {(rule["health"], rule.get("lastError", "")) for rule in found}
