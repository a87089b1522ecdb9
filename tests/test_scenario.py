"""The plot of the simulated day comes true for every seed, and the orders look like a market's."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import pairwise
from statistics import median

import msgspec
import pytest

from feeds.crowd import LONGEST_STEP_S, Crowd, PoolView
from feeds.exchange import Exchange
from feeds.scenario import LAST_S, PLOT, hours_of
from feeds.shares import shares_of, tick_milli
from feeds.simulator import STEP_S
from quota.decision import Phase, PoolName, Side, Status, Verdict
from quota.events import Bust, Cancelled, Event, Fill, NewOrder, Rejected, parse_time
from tests.tiny_market import MIDNIGHT, STEP, Pool, play, quiet_day

SEEDS = (0, 7, 42, -3)
LATE = pytest.mark.parametrize(("delay_steps", "stride"), [(1, 1.0), (8, 1.0), (3, 2.5)])
seeded = pytest.mark.parametrize("seed", SEEDS)


@LATE
@seeded
def test_shanghai_northbound_is_suspended_and_resumed_inside_the_auction(
    seed: int, delay_steps: int, stride: float
) -> None:
    day = play(PoolName.NB_SH, seed, delay_steps=delay_steps, step=stride * STEP)
    assert day.statuses() == [Status.CLOSED, Status.OPEN, Status.SUSPENDED, Status.OPEN, Status.CLOSED]
    assert "09:15" <= day.pool.history[2][0] <= "09:20"
    assert day.pool.history[2][0] < day.pool.history[3][0] < "09:25"
    assert day.pool.history[4][0] >= "15:00"


@LATE
@seeded
def test_shanghai_southbound_stays_suspended_until_trading_begins(
    seed: int, delay_steps: int, stride: float
) -> None:
    day = play(PoolName.SB_SH, seed, delay_steps=delay_steps, step=stride * STEP)
    assert day.statuses() == [Status.CLOSED, Status.OPEN, Status.SUSPENDED, Status.OPEN, Status.CLOSED]
    assert day.pool.history[2][0] < "09:16"
    assert "09:30" <= day.pool.history[3][0] < "09:31"
    assert day.balance_at("09:20") > 0.1, "it recovers while it is suspended"


@LATE
@seeded
def test_shenzhen_northbound_is_exhausted_in_the_afternoon_and_sells_go_on(
    seed: int, delay_steps: int, stride: float
) -> None:
    day = play(PoolName.NB_SZ, seed, delay_steps=delay_steps, step=stride * STEP)
    assert day.statuses() == [Status.CLOSED, Status.OPEN, Status.EXHAUSTED]
    when = day.pool.history[2][0]
    assert "13:30" <= when <= "14:15"
    assert day.balance_at("15:00") > 0.05
    sold = [event for at, event in day.sent if isinstance(event, Fill) and f"{at:%H:%M:%S}" > when]
    credit_fen = sum(day.pool.fen(it.price_milli, it.quantity) for it in sold if it.side is Side.SELL)
    lowest = min(share for _, share in day.balances)
    assert credit_fen / day.pool.limit_fen > 0.05 - lowest, "the sells alone lift it"
    assert day.crowd.summary().refused[Verdict.EXHAUSTED] > 20


@LATE
@seeded
def test_shenzhen_southbound_ends_above_its_quota(seed: int, delay_steps: int, stride: float) -> None:
    day = play(PoolName.SB_SZ, seed, delay_steps=delay_steps, step=stride * STEP)
    assert day.statuses() == [Status.CLOSED, Status.OPEN, Status.CLOSED]
    assert day.balances[-1][1] > 1.04


@pytest.mark.parametrize("name", PoolName)
def test_the_plot_comes_true_though_decisions_get_lost(name: PoolName) -> None:
    day = play(name, 5, lost=lambda order_id: order_id.endswith("7"))
    wanted = {
        PoolName.NB_SH: [Status.CLOSED, Status.OPEN, Status.SUSPENDED, Status.OPEN, Status.CLOSED],
        PoolName.SB_SH: [Status.CLOSED, Status.OPEN, Status.SUSPENDED, Status.OPEN, Status.CLOSED],
        PoolName.NB_SZ: [Status.CLOSED, Status.OPEN, Status.EXHAUSTED],
        PoolName.SB_SZ: [Status.CLOSED, Status.OPEN, Status.CLOSED],
    }
    assert day.statuses() == wanted[name]
    assert day.crowd.summary().unanswered == pytest.approx(day.crowd.summary().orders / 10, rel=0.05)


@pytest.mark.parametrize("name", PoolName)
def test_a_daemon_that_says_nothing_is_borne(name: PoolName) -> None:
    crowd = Crowd(name, 1)
    now = MIDNIGHT + timedelta(hours=9)
    while (now - MIDNIGHT).total_seconds() < LAST_S:
        assert all(isinstance(event, NewOrder) for event in crowd.step(now, PoolView()))
        now += STEP
    summary = crowd.summary()
    assert summary.orders == summary.unanswered > 1_000
    assert len(crowd._asked) < summary.orders / 10, "what is waited for too long is forgotten"


@pytest.mark.parametrize("name", PoolName)
def test_the_same_seed_and_answers_bring_the_same_day(name: PoolName) -> None:
    one, same, other = (play(name, seed).sent for seed in (11, 11, 12))
    assert one == same
    assert one != other


@pytest.mark.parametrize("name", PoolName)
def test_the_summary_counts_what_was_sent(name: PoolName) -> None:
    day = quiet_day(name)
    kinds = Counter(type(event) for _, event in day.sent)
    summary = day.crowd.summary()
    assert (summary.orders, summary.fills) == (kinds[NewOrder], kinds[Fill])
    assert (summary.busts, summary.cancels, summary.rejects) == (
        kinds[Bust],
        kinds[Cancelled],
        kinds[Rejected],
    )
    assert summary.orders == summary.accepted + sum(summary.refused.values()) + summary.unanswered
    assert min(summary.fills, summary.busts, summary.cancels, summary.rejects) > 0


@pytest.mark.parametrize("name", PoolName)
def test_nobody_orders_in_the_break_or_outside_the_day(name: PoolName) -> None:
    pool = Pool(name)
    phases = {pool.phase(at) for at, event in quiet_day(name).sent if isinstance(event, NewOrder)}
    assert phases == {Phase.OPENING, Phase.CONTINUOUS, Phase.CLOSING}


@pytest.mark.parametrize("name", PoolName)
def test_orders_look_like_a_markets(name: PoolName) -> None:
    orders = [event for _, event in quiet_day(name).sent if isinstance(event, NewOrder)]
    lots = {share.symbol: share.lot for share in shares_of(name)}
    assert {order.symbol for order in orders} == set(lots)
    assert all(order.quantity % lots[order.symbol] == 0 for order in orders)
    assert all(order.price_milli % tick_milli(name, order.price_milli) == 0 for order in orders)
    if name.northbound:
        assert all(len(order.price.partition(".")[2]) == 2 for order in orders)
    values = sorted(order.price_milli * order.quantity / 1000 for order in orders)
    assert 80_000 < median(values) < 600_000
    assert values[-1] > 10 * median(values), "a long tail"
    assert len({order.order_id for order in orders}) == len(orders)


@pytest.mark.parametrize("name", PoolName)
def test_trades_come_in_parts_and_often_better_than_the_limit(name: PoolName) -> None:
    day = quiet_day(name)
    fills = [event for _, event in day.sent if isinstance(event, Fill)]
    better = [fill for fill in fills if fill.price_milli != day.pool.orders[fill.order_id].price_milli]
    assert 0.2 < len(better) / len(fills) < 0.6
    parts = Counter(fill.order_id for fill in fills)
    assert max(parts.values()) > 2
    assert len({fill.exec_id for fill in fills}) == len(fills)


@pytest.mark.parametrize("name", PoolName)
def test_events_read_back_as_they_were_and_tell_the_markets_time(name: PoolName) -> None:
    decoder = msgspec.json.Decoder(Event)
    for at, event in quiet_day(name).sent:
        assert decoder.decode(msgspec.json.encode(event)) == event
        assert abs(parse_time(event.time) - at) < timedelta(milliseconds=1)
        assert event.time.endswith("+08:00")


def test_the_pace_is_a_hundred_or_two_a_second_and_bursts_are_small() -> None:
    days = [quiet_day(name) for name in PoolName]
    sums = [sum(steps) for steps in zip(*(day.steps for day in days), strict=True)]
    second = round(1 / STEP_S)
    seconds = [sum(sums[start : start + second]) for start in range(0, len(sums), second)]
    busy = [count for count in seconds if count > 20]
    assert 100 < sum(busy) / len(busy) < 200
    assert max(seconds) < 400
    assert max(sums) < 80


def test_what_was_missed_is_left_out() -> None:
    crowd = Crowd(PoolName.SB_SZ, 1)
    view = Pool(PoolName.SB_SZ).view()
    crowd.step(MIDNIGHT + timedelta(hours=10), view)
    late = crowd.step(MIDNIGHT + timedelta(hours=11), view)
    assert len(late) < LONGEST_STEP_S


def test_the_activity_of_a_day_is_a_u() -> None:
    orders = [at for at, event in quiet_day(PoolName.SB_SZ).sent if isinstance(event, NewOrder)]
    hours = Counter(at.hour for at in orders if at >= MIDNIGHT + timedelta(hours=9, minutes=30))
    halves = {hour: count / (0.5 if hour == 9 else 1) for hour, count in hours.items()}
    assert halves[9] > halves[10] > 0.9 * halves[11]
    assert halves[15] > halves[14]


def test_an_answer_to_nothing_we_asked_is_ignored() -> None:
    crowd = Crowd(PoolName.NB_SH, 1)
    crowd.answered("somebody-else", Verdict.ACCEPTED, MIDNIGHT)
    assert crowd.summary().accepted == 0


def test_every_pools_plot_covers_its_day() -> None:
    for name, acts in PLOT.items():
        hours = hours_of(name)
        assert acts[0].until == hours.opens
        assert acts[-1].until == hours.closes
        assert all(before.until < act.until for before, act in pairwise(acts))


def test_the_exchange_tells_a_few_facts_at_a_time() -> None:
    crowd = Crowd(PoolName.NB_SH, 1)
    exchange: Exchange = crowd._exchange
    now = MIDNIGHT + timedelta(hours=10)
    for number in range(500):
        order = NewOrder(order_id=f"o{number}", side=Side.SELL, price="10", quantity=100)
        exchange.accept(order, 36_000.0)
    facts = exchange.due(40_000.0, now.isoformat())
    assert 0 < len(facts) <= 6
