"""Operators and gateways against a daemon that runs: acts, checks, reservations, alerts, presence."""

from __future__ import annotations

import getpass
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.prompt import Confirm

from quota.decision import PoolName
from quota.desk import operator
from quota.ledger import Act
from quota.pool import Pool
from quota.store.record import keys
from tests.daemons import DAY, House, Quotad, house, new
from tests.tap import Tap, until, until_now

NB_SH = PoolName.NB_SH
LIMITS = 'limits_yuan = {NB-SH = "1000.00"}'
ORDERS = "connect/NB-SH/orders"
HERE = socket.gethostname()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path, toml=LIMITS) as home:
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        yield home


@pytest.fixture
def tap(home: House) -> Iterator[Tap]:
    with Tap(home.broker.port) as tap:
        yield tap


def journal(home: House) -> list[dict[str, str]]:
    entries: Any = home.redis.xrange(keys(NB_SH)[5])
    return [{"id": entry_id, **fields} for entry_id, fields in entries]


def reserve(home: House, *words: str) -> object:
    """Reserve as a gateway does, past broker and daemon."""
    reply: object = home.redis.fcall("quota_reserve", 6, *keys(NB_SH), *words)
    return reply


async def ask(tap: Tap, order: dict[str, object]) -> dict[str, object]:
    """Send an order and wait for its first decision since."""
    before = len(tap.replies())
    tap.say(ORDERS, order)
    await until(lambda: len(tap.replies()) > before)
    reply: dict[str, object] = tap.replies()[before]
    assert reply["order_id"] == order["order_id"]
    return reply


async def test_halt_and_resume_show_everywhere(home: House, tap: Tap) -> None:
    told = home.quotad.does("halt", "NB-SH", "--reason", "the feed smells")
    assert (told.returncode, told.stdout.splitlines()[0]) == (0, "halt NB-SH: done; the pool is now halted")
    await until(lambda: home.quotad.pool("NB-SH")["status"] == "halted")
    series = 'quota_status{pool="NB-SH",status="%s"}'
    assert [home.quotad.metric(series % word) for word in ("halted", "open")] == [1, 0]
    await until(lambda: any(report["status"] == "halted" for report in tap.on("status")))
    await until(lambda: "the feed smells" in home.quotad.log)
    assert (await ask(tap, new("1")))["verdict"] == "halted"
    assert (await ask(tap, new("2", "sell 1.00 1")))["verdict"] == "accepted"
    refused = home.quotad.does("check", "NB-SH", "buy")
    assert refused.returncode == 3
    assert refused.stdout.startswith("NB-SH buy: halted (balance 1,000.0")

    resumed = home.quotad.does("resume", "NB-SH", "--reason", "it was lunch")
    assert (resumed.returncode, resumed.stdout.splitlines()[0]) == (
        0,
        "resume NB-SH: done; the pool is now open",
    )
    assert (await ask(tap, new("1")))["verdict"] == "halted"  # the first answer stays
    assert (await ask(tap, new("3")))["verdict"] == "accepted"
    acts = [entry for entry in journal(home) if entry["event"] in {"halt", "resume"}]
    assert [(act["event"], act["reason"], act["user"], act["host"]) for act in acts] == [
        ("halt", "the feed smells", getpass.getuser(), HERE),
        ("resume", "it was lunch", getpass.getuser(), HERE),
    ]
    said = {"the feed smells", "it was lunch"}
    await until(lambda: said <= {alert["reason"] for alert in tap.on("alerts")})
    told_of = [(a["from"], a["to"], a["reason"]) for a in tap.on("alerts") if a["reason"] in said]
    assert told_of == [("open", "halted", "the feed smells"), ("halted", "open", "it was lunch")]
    assert home.quotad.does("verify").returncode == 0


async def test_a_higher_limit_works_at_once_and_refused_orders_stay_refused(home: House, tap: Tap) -> None:
    assert (await ask(tap, new("1", "buy 10.00 100")))["status"] == "exhausted"
    assert (await ask(tap, new("2")))["verdict"] == "exhausted"
    raised = home.quotad.does("limit", "NB-SH", "3000", "--reason", "more")
    assert (raised.returncode, raised.stdout.splitlines()[0]) == (
        0,
        "limit NB-SH: done; the pool is now exhausted, the limit was 1,000.00 RMB",
    )
    await until(lambda: home.quotad.pool("NB-SH")["limit_fen"] == 300_000)
    assert (await ask(tap, new("3")))["verdict"] == "exhausted"
    reopened = home.quotad.does("limit", "NB-SH", "3000.50", "--reason", "and open", "--reopen")
    assert (reopened.returncode, reopened.stdout.splitlines()[0]) == (
        0,
        "limit NB-SH: done; the pool is now open, the limit was 3,000.00 RMB",
    )
    assert (await ask(tap, new("4")))["verdict"] == "accepted"
    assert (await ask(tap, new("2")))["verdict"] == "exhausted"
    act = journal(home)[-2]
    assert (act["event"], act["was_fen"], act["limit_fen"], act["reopen"]) == (
        "limit",
        "300000",
        "300050",
        "1",
    )
    await until(lambda: home.quotad.metric('quota_limit_yuan{pool="NB-SH"}') == 3000.5)
    await until(lambda: home.quotad.pool("NB-SH")["seq"] == home.seq())
    assert home.quotad.does("verify").returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("halt", "NB-SH"), 2, "Missing option '--reason'"),
        (("halt", "NB-SH", "--reason", " "), 1, "--reason: must be 1 to 256 printable characters"),
        (("halt", "NB-SH", "--reason", "a\nb"), 1, "--reason: must be 1 to 256 printable characters"),
        (("halt", "NB-XX", "--reason", "x"), 2, "NB-XX"),
        (("resume", "NB-SH", "--reason", "x"), 1, "quotad: NB-SH: the pool is not halted"),
        (("limit", "NB-SH", "0", "--reason", "x"), 2, "above zero"),
        (("limit", "NB-SH", "1e3", "--reason", "x"), 2, "must be an amount in yuan"),
        (("limit", "NB-SH", "45000000000000", "--reason", "x"), 0, "limit NB-SH: done; the pool is now open"),
        (("check", "NB-SH", "buy"), 0, "NB-SH buy: accepted (balance 1,000.00, open)"),
        (("check", "SB-SH", "sell"), 0, "SB-SH sell: accepted (balance 42.000 bn, "),
        (("verify",), 0, f"NB-SH {DAY}: 0 entries, 0 orders: journal and records agree"),
        (("status",), 0, f"NB-SH {DAY} open continuous balance 1,000.00 of 1,000.00 RMB"),
    ],
)
def test_commands_say_what_they_did_or_what_is_wrong(
    home: House, words: tuple[str, ...], code: int, text: str
) -> None:
    told = home.quotad.does(*words)
    assert (told.returncode, text in told.stdout + told.stderr) == (code, True), told
    assert home.seq() == (words[0] == "limit" and code == 0)


def test_status_as_json_has_what_the_pages_have(home: House) -> None:
    told = home.quotad.does("status", "--json")
    (report,) = [pool for pool in json.loads(told.stdout) if pool["pool"] == "NB-SH"]
    shown = home.quotad.pool("NB-SH")
    assert report.keys() == shown.keys()
    assert {key: report[key] for key in report if key != "time"} == {
        key: shown[key] for key in shown if key != "time"
    }


async def test_a_reservation_over_redis_shows_like_an_order(home: House, tap: Tap) -> None:
    reserved = reserve(home, "r1", "buy", "10", "60", "gw")
    assert reserved == ["accepted", 40_000, 1, 0, "open"]
    await until(lambda: any(report["balance_fen"] == 40_000 for report in tap.on("status")))
    await until(lambda: home.quotad.metric('quota_balance_yuan{pool="NB-SH"}') == 400)
    series = 'quota_decisions_total{pool="NB-SH",side="buy",verdict="accepted"}'
    assert home.quotad.metric(series) == 1
    await until(lambda: tap.on("alerts"))
    alert = tap.on("alerts")[0]
    assert (alert["kind"], alert["from"], alert["to"], alert["seq"]) == ("level", 0, 50, 1)
    reply = await ask(tap, new("r1", "buy 10.00 60", source="gw"))
    assert (reply["verdict"], reply["replayed"], reply["seq"]) == ("accepted", True, 1)
    assert home.seq() == 2  # the order confirmed its reservation


async def test_levels_and_statuses_are_told_from_what_to_what(home: House, tap: Tap) -> None:
    for number, cost in enumerate((500, 200, 250, 50)):
        await ask(tap, new(str(number), f"buy {cost}.00 1"))
    tap.say(ORDERS, {"event": "cancelled", "order_id": "1"})
    await until(lambda: len(tap.on("alerts")) >= 6)
    told = [(a["kind"], a["from"], a["to"], a["used_ratio"], a["seq"]) for a in tap.on("alerts")]
    assert told == [
        ("level", 0, 50, 0.5, 1),
        ("level", 50, 70, 0.7, 2),
        ("level", 70, 90, 0.95, 3),
        ("status", "open", "exhausted", 1.0, 4),
        ("level", 90, 100, 1.0, 4),
        ("level", 100, 70, 0.8, 5),
    ]
    with Tap(home.broker.port, ("connect/+/status", "connect/daemon/quotad")) as late:
        await until(lambda: len(late.retained) == 5)
        latest = dict(late.retained)
    assert latest["connect/daemon/quotad"] == b"online"
    assert json.loads(latest["connect/NB-SH/status"])["status"] == "exhausted"


@pytest.mark.parametrize("crash", [False, True])
async def test_presence_ends_with_the_daemon(home: House, tap: Tap, *, crash: bool) -> None:
    if crash:
        home.quotad.kill()
    else:
        home.quotad.ask_to_end()
        assert home.quotad.code(5) == 0
    await until(lambda: ("connect/daemon/quotad", b"offline") in tap.heard)


async def test_of_two_daemons_with_one_client_id_the_second_stops(
    home: House, tap: Tap, tmp_path: Path
) -> None:
    with Quotad(tmp_path, home.store.port, home.broker.port, toml=LIMITS) as second:
        second.start()
        await until(lambda: second.process is not None and second.process.poll() is not None)
        stays = home.quotad
        assert second.code() == 1
        assert "quotad: another daemon runs with the client id 'quotad'" in second.log
        await until(lambda: stays.ready)
        assert (await ask(tap, new("1")))["verdict"] == "accepted"
        assert stays.process is not None
        assert stays.process.poll() is None


def test_alerts_missed_while_the_daemon_was_away_are_told_later(home: House) -> None:
    with Tap(home.broker.port, ("connect/+/alerts",)) as tap:
        home.quotad.kill()
        reserve(home, "r1", "buy", "10", "60", "gw")
        home.quotad.start()
        until_now(lambda: tap.heard)
        alert = json.loads(tap.heard[0][1])
        assert (alert["from"], alert["to"], alert["seq"]) == (0, 50, 1)


@pytest.mark.parametrize(
    ("left_fen", "terminal", "asked"), [(1, True, False), (0, True, True), (0, False, False)]
)
def test_a_limit_that_leaves_nothing_is_asked_about_at_a_terminal(
    monkeypatch: pytest.MonkeyPatch, left_fen: int, *, terminal: bool, asked: bool
) -> None:
    questions: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: terminal)
    monkeypatch.setattr(Confirm, "ask", lambda text, **_: questions.append(text))
    pool = Pool(
        trading_day=DAY, limit_fen=100_000, rate="1.00000", schedule="0 continuous", open_buy_fen=50_000
    )
    deed = Act(act="limit", reason="x", user="me", host="here", limit_fen=50_000 + left_fen)
    assert operator._sure(pool, deed) is not asked
    assert [text.split()[1] for text in questions] == ["500.00"] * asked


async def test_verify_goes_on_past_a_pool_that_it_cannot_read_and_tells_of_it(home: House, tap: Tap) -> None:
    home.redis.xadd(keys(NB_SH)[5], {"event": "x", "verdict": "bogus"}, id="0-5")
    assert (await ask(tap, new("1")))["verdict"] == "accepted"
    found = home.quotad.does("verify")
    assert found.returncode == 1
    assert "cannot be read: journal 0-5" in found.stdout
    assert "NB-SZ" in found.stdout
    await until(lambda: home.quotad.metric('quota_verify_differences{pool="NB-SH"}') == 1)
    await until(lambda: home.quotad.metric('quota_verify_differences{pool="NB-SZ"}') == 0)


async def test_what_verify_found_is_told_though_it_cannot_be_noted(home: House, tap: Tap) -> None:
    assert (await ask(tap, new("1")))["verdict"] == "accepted"
    home.redis.acl_setuser("default", enabled=True, commands=["-hset"])
    found = home.quotad.does("verify")
    home.redis.acl_setuser("default", enabled=True, commands=["+hset"])
    assert found.returncode == 0
    assert "journal and records agree" in found.stdout
    assert "the result is not in the metrics" in found.stderr
