"""What the live page is told of a daemon, without servers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import msgspec
import pytest

from quota.course import Course, Point
from quota.decision import Phase, PoolName, Side, Status, Verdict
from quota.events import NewOrder
from quota.forecast import Forecast
from quota.journal import Entry
from quota.ledger import Act
from quota.page.live import Live
from quota.page.shown import State
from quota.page.standing import Known, Tone
from quota.page.tape import limit_told
from quota.pool import Change
from tests.rigs import MONDAY, NB_SH, SB_SH, SUNDAY, Rig, ms, rig

HALT = Act(act="halt", reason="<b>why</b>", user="me", host="here")


class Foreseen(Course):
    """A course that expects what it is told to."""

    expects = Forecast()

    def forecast(self) -> Forecast:
        return self.expects

    def points(self) -> list[Point]:
        return [Point(self.phases[0][0] + timedelta(hours=1), 500_000)]


@dataclass(slots=True)
class Seen:
    """A rig, and what the watch and the follower would know of it."""

    rig: Rig
    store_up: bool = True
    skew_s: float = 0.0
    trouble: str = ""
    began_ms: int = 0
    courses: dict[PoolName, Course] = field(default_factory=dict)
    latest: dict[PoolName, tuple[Entry, ...]] = field(default_factory=dict)
    changes: dict[PoolName, tuple[Change, ...]] = field(default_factory=dict)

    def unready(self) -> list[str]:
        return (
            [] if self.store_up else ["the store is away: gone", "NB-SH: the day 2026-11-24 is not open yet"]
        )

    def missing(self) -> list[str]:
        return []

    warnings = missing

    async def look(self) -> Live:
        """Read everything as a daemon does, and build the view."""
        for name in self.rig.days.pools:
            await self.rig.days.look(name)
            book = self.rig.store.books[name]
            self.latest[name] = tuple(reversed(book.journal))
            self.changes[name] = tuple(book.changes)
        return Live(self.rig.days, self, self, self.rig.desk, "1.2.3", self.began_ms)

    async def buy(self, order_id: str, price: str, pool: PoolName = NB_SH) -> None:
        order = NewOrder(
            order_id=order_id, side=Side.BUY, price=price, quantity=1, source="gw1", symbol="600519 <i>"
        )
        await self.rig.store.apply(pool, [order])


@pytest.fixture
async def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen = Seen(rig(monkeypatch))
    await seen.rig.days.begin()
    return seen


def told(state: State) -> list[tuple[str | None, str]]:
    return [(line.pool, line.text) for line in (*state.notices, *state.headline)]


async def test_a_pool_is_shown_with_its_figures_and_words(seen: Seen) -> None:
    await seen.buy("1", "2500.00")
    state = (await seen.look()).state()
    view = state.pools[0]
    assert (view.pool, view.english, view.chinese) == (NB_SH, "Northbound Shanghai", "沪股通")
    assert (view.status, view.phase, view.next_phase) == (Status.OPEN, Phase.CONTINUOUS, Phase.BREAK)
    assert view.figures is not None
    assert (view.figures.balance_fen, view.figures.used_ratio) == (750_000, 0.25)
    assert view.figures.market_limit_fen == 5_200_000_000_000
    assert [(each.side, each.verdict, each.count) for each in view.figures.decided] == [
        (Side.BUY, Verdict.ACCEPTED, 1)
    ]
    assert view.next_ms == ms(f"{MONDAY}T11:30")


async def test_what_is_not_known_is_null_and_what_never_comes_too(seen: Seen) -> None:
    state = (await seen.look()).state()
    sent = msgspec.json.decode(msgspec.json.encode(state))
    assert sent["pools"][0]["expected"] == {
        "net_use_1m": None, "net_use_10m": None, "eta_ms": None, "eta": "", "usual_share": None, "pace": None,
        "pace_told": "too early",
    }  # fmt: skip
    await seen.buy("1", "1.00")
    seen.courses[NB_SH] = course = Foreseen(NB_SH)
    course.expects = Forecast(1.0, 2.0, float("inf"), 0.5, 0.9)
    view = (await seen.look()).state().pools[0]
    assert (view.expected.eta_ms, view.outlook, view.expected.pace) == (None, "Lasts until the close", 0.9)


async def test_an_expected_end_is_a_moment_of_the_market(seen: Seen) -> None:
    await seen.buy("1", "1.00")
    seen.courses[NB_SH] = course = Foreseen(NB_SH)
    course.expects = Forecast(1.0, 2.0, 1_200.0, 0.5, 0.9)
    view = (await seen.look()).state().pools[0]
    assert (view.tone, view.expected.eta_ms) == (Tone.WATCH, ms(f"{MONDAY}T10:20"))
    assert (view.outlook, view.expected.eta) == ("Used up about 10:20", "in 20 min")


async def test_the_clock_tells_how_old_the_figures_are(seen: Seen) -> None:
    live, read_ms = await seen.look(), ms(f"{MONDAY}T10:00")
    seen.rig.now[0] += 4_200
    clock = live.clock()
    assert (clock.as_of_ms, clock.now_ms, clock.read_s) == (read_ms, read_ms + 4_200, 4.2)
    assert (clock.known, clock.fed) == (Known.ONCE, True)
    state = live.state()
    assert told(state) == [
        (None, "The pools are not being read: the figures are old."),
        (None, "All four pools were open at 10:00:00."),
    ]
    assert [(view.word, view.next_ms) for view in state.pools] == [("Was open", None)] * 4


async def test_the_clock_is_that_of_the_figures_while_they_are_fresh(seen: Seen) -> None:
    live = await seen.look()
    seen.rig.now[0] += 180
    clock = live.clock()
    assert (clock.now_ms, clock.as_of_ms, clock.known) == (ms(f"{MONDAY}T10:00"), clock.now_ms, Known.NOW)


async def test_nothing_read_yet_shows_every_pool_and_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(rig(monkeypatch), store_up=False, trouble="gone")
    live = Live(seen.rig.days, seen, seen, seen.rig.desk, "1")
    assert (live.clock().as_of_ms, live.clock().read_s, live.clock().known) == (None, None, Known.NEVER)
    state = live.state()
    assert [(view.word, view.until, view.outlook) for view in state.pools] == [("Not known", "", "")] * 4
    assert [view.figures for view in state.pools] == [None] * 4
    assert told(state) == [
        (None, "Nothing has been read yet: the store is away (gone)."),
        (None, "Not ready: NB-SH: the day 2026-11-24 is not open yet."),
        (None, "Nothing is known of any pool."),
    ]
    seen.trouble = "starting"
    assert told(live.state())[0] == (None, "Nothing has been read yet: quotad is starting.")
    assert state.tone is Tone.TROUBLE


async def test_what_is_away_is_told_once(seen: Seen) -> None:
    live = await seen.look()
    seen.store_up, seen.trouble, seen.rig.desk.connected = False, "gone", False
    assert told(live.state())[:3] == [
        (None, "The store is away (gone): the figures are old."),
        (None, "The broker is away: no orders and no fills come in."),
        (None, "Not ready: NB-SH: the day 2026-11-24 is not open yet."),
    ]
    seen.rig.desk.unacknowledged = 1
    assert told(live.state())[1] == (None, "The broker is still sending what it kept for us.")


async def test_a_pool_that_brings_nothing_for_five_minutes_is_silent(seen: Seen) -> None:
    seen.rig.at(f"{MONDAY}T09:35")
    await seen.buy("1", "1.00")
    for clock, silent in (("09:39:59", False), ("09:40", True), ("11:45", False), ("12:59:59", False)):
        seen.rig.at(f"{MONDAY}T{clock}")
        lines = [text for _, text in told((await seen.look()).state()) if "no event" in text]
        assert any(NB_SH in text for text in lines) is silent, clock
    seen.rig.at(f"{MONDAY}T14:00")
    lines = [text for _, text in told((await seen.look()).state())]
    assert lines[0] == "NB-SH, NB-SZ, SB-SH and SB-SZ have brought no event for 1 h 00 min."


async def test_silence_counts_from_when_we_began_to_look(seen: Seen) -> None:
    seen.rig.at(f"{MONDAY}T09:35")
    await seen.buy("1", "1.00")
    seen.began_ms = ms(f"{MONDAY}T10:05")
    for clock, silent in (("10:09:59", []), ("10:12", ["for 7 min."])):
        seen.rig.at(f"{MONDAY}T{clock}")
        lines = [text for _, text in told((await seen.look()).state()) if "no event" in text]
        assert [line[-10:] for line in lines] == silent, clock
    seen.rig.desk.connected = False
    live = await seen.look()
    assert told(live.state()) == [
        (None, "The broker is away: no orders and no fills come in."),
        (None, "All four pools are open, as far as is known."),
    ]
    assert live.clock().fed is False


async def test_a_day_that_did_not_open_is_due_and_one_that_is_over_is_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = Seen(rig(monkeypatch))
    said = {}
    for clock in ("10:00", "15:30"):
        seen.rig.at(f"{MONDAY}T{clock}")
        said[clock] = (await seen.look()).state().pools[0].until
    assert said == {
        "10:00": "As soon as the day is opened, which is due since 09:10",
        "15:30": "Tue 24 Nov, 09:10",
    }


async def test_the_beginning_of_a_status_comes_from_the_changes(seen: Seen) -> None:
    seen.rig.at(f"{MONDAY}T10:07")
    await seen.buy("1", "10000.00")
    seen.rig.at(f"{MONDAY}T10:30")
    state = (await seen.look()).state()
    assert state.headline[0].pool is NB_SH
    assert state.headline[0].text.startswith("is exhausted since 10:07: no more buys today")


async def test_a_day_that_is_not_open_tells_when_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(rig(monkeypatch, at=f"{SUNDAY}T10:00"))
    await seen.rig.days.begin()
    state = (await seen.look()).state()
    assert told(state) == [(None, "No trading day is open. The next begins Mon 23 Nov, 09:00.")]
    assert [view.until for view in state.pools] == ["Mon 23 Nov, 09:10"] * 2 + ["Mon 23 Nov, 09:00"] * 2


async def test_the_tape_has_decisions_and_changes_newest_first(seen: Seen) -> None:
    await seen.buy("first", "10000.00")
    seen.rig.at(f"{MONDAY}T10:01")
    await seen.buy("second", "1.00")
    await seen.rig.store.operate(SB_SH, HALT)
    tape = (await seen.look()).tape()
    lines = [
        (line.pool, line.what, line.amount, line.symbol, line.order, line.verdict) for line in tape.entries
    ]
    assert lines == [
        (NB_SH, "buy order", "1 at 1", "600519 <i>", "second gw1", "refused: exhausted"),
        (SB_SH, "halt", "", "", "me@here: <b>why</b>", "done"),
        (NB_SH, "buy order", "1 at 10000", "600519 <i>", "first gw1", "accepted"),
    ]
    changes = [(line.pool, line.text, line.reason) for line in tape.changes]
    assert changes[0] == (SB_SH, "halted, was open", "<b>why</b>")
    assert (NB_SH, "exhausted, was open", "order first") in changes
    assert (NB_SH, "100 % used", "order first") in changes


async def test_an_operators_limit_and_reason_are_told_as_they_were_given(seen: Seen) -> None:
    act = Act(act="limit", reason="new limits", user="me", host="here", limit_fen=520_000_000)
    await seen.rig.store.operate(NB_SH, act)
    tape = (await seen.look()).tape()
    assert [(line.what, line.amount) for line in tape.entries] == [("limit", "520 万 = 5.2 m RMB")]
    assert [(line.text, line.reason) for line in tape.changes][:1] == [
        ("limit 520 万 = 5.2 m RMB, was 1 万 = 10,000 RMB", "new limits")
    ]


@pytest.mark.parametrize(
    ("fen", "said"),
    [
        (5_200_000_000_000, "520 亿 = 52 bn RMB"),
        (20_000_000_000, "2 亿 = 200 m RMB"),
        (25_050_000_000, "2.505 亿 = 250.5 m RMB"),
        (1_234_567_890_123, "12,345,678,901.23 yuan"),
        (123, "1.23 元 = 1.23 RMB"),
    ],
)
def test_a_limit_is_told_in_the_units_of_the_page_or_exactly(fen: int, said: str) -> None:
    assert limit_told(fen) == said


async def test_the_chart_has_the_days_phases_points_and_stops(seen: Seen) -> None:
    seen.courses[NB_SH] = course = Foreseen(NB_SH)
    await seen.buy("1", "10000.00")
    live = await seen.look()
    clock = seen.rig.days.almanac.clock
    course.phases = [(clock.at_ms(ms(f"{MONDAY}T09:10")), Phase.OPENING)]
    chart = live.day()[0]
    assert chart.phases[0] == (ms(f"{MONDAY}T09:10"), Phase.OPENING)
    assert chart.phases[-1] == (ms(f"{MONDAY}T15:00"), Phase.CLOSED)
    assert chart.spans[-1] == (ms(f"{MONDAY}T10:00"), Status.EXHAUSTED)
    assert (chart.at_ms, chart.used_fen) == ((ms(f"{MONDAY}T10:10"),), (500_000,))
    assert chart.published_below == 0.3


async def test_a_half_day_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(rig(monkeypatch, at="2026-12-24T10:00"))
    await seen.rig.days.begin()
    state = (await seen.look()).state()
    assert [view.half_day for view in state.pools] == [True] * 4
    assert state.pools[2].meaning == "Buys and sells are taken until the close at 12:10."
