"""The small worlds: for each group of rules the smallest day and alphabet in which its boundaries are met.

Amounts are a fen or two and a limit a few, so that every balance about zero, every total about a limit and
every level is met; moments are those at which a phase begins, and the last before it.
"""

from __future__ import annotations

from itertools import product

from msgspec.structs import replace

from quota.decision import Admission, PoolName, Side
from quota.events import Bust, Cancelled, Event, Fill, NewOrder, Rejected
from quota.ledger import Act, day_ms
from quota.money import BOUND
from quota.pool import Opening
from tests.agreement.small import World
from tests.agreement.state import DAY
from tests.agreement.steps import (
    Acted,
    Asked,
    Attested,
    Call,
    Checked,
    Elsewhere,
    Later,
    Looked,
    Opened,
    Rated,
    Returned,
    Told,
)

NORTH, SOUTH = PoolName.NB_SH, PoolName.SB_SZ
SCHEDULE = "1000 opening 2000 continuous 3000 break 4000 continuous 5000 closing 6000 closed"
HALF_DAY = "1000 opening 2000 continuous 5000 closing 6000 closed"
BUY, SELL = Side.BUY, Side.SELL
ASKED = Checked(BUY)


def opening(pool: PoolName, limit_fen: int, **changed: object) -> Opening:
    """A day of a pool as the rulebook would open it."""
    fields: dict[str, object] = {
        "trading_day": DAY,
        "limit_fen": limit_fen,
        "rate": "1.00000" if pool.northbound else "0.91250",
        "schedule": SCHEDULE,
        "resumes_in_opening": pool.northbound,
        "origin": "at",
        "open_late": True,
    }
    return Opening(**(fields | changed))  # type: ignore[arg-type] # the fields of an opening


def new(order_id: str, price: str = "0.01", quantity: int = 2, side: Side = BUY) -> NewOrder:
    """An order of two fen, unless said otherwise."""
    return NewOrder(order_id=order_id, side=side, price=price, quantity=quantity)


def fill(name: str, price: str = "0.01", quantity: int = 1, side: Side = BUY) -> Fill:
    """A trade: ``ax`` is the execution x of the order a."""
    return Fill(order_id=name[0], exec_id=name[1:], side=side, price=price, quantity=quantity)


def bust(name: str, price: str = "0.01", quantity: int = 1, side: Side = BUY) -> Bust:
    """A trade undone."""
    return Bust(order_id=name[0], exec_id=name[1:], side=side, price=price, quantity=quantity)


def cancelled(order_id: str) -> Cancelled:
    """An order off the book."""
    return Cancelled(order_id=order_id)


def told(*events: Event) -> tuple[Call, ...]:
    """Each of these by itself, over MQTT."""
    return tuple(Told((event,)) for event in events)


def act(name: str, limit_fen: int = 0, *, reopen: bool = False) -> Acted:
    """An operator's act."""
    return Acted(Act(act=name, limit_fen=limit_fen, reopen=reopen, reason="why", user="ann", host="desk"))


HALT, RESUME = act("halt"), act("resume")
OVER = Later(99)
"""Nobody looks until the day is over."""


def whole_day(pool: PoolName) -> World:
    """Exhaustion, suspension and resumption at every phase's beginning, and just before trading begins."""
    sold, undone = fill("sx", side=SELL), bust("sx", side=SELL)
    steps = (
        *told(new("a"), new("b"), cancelled("a"), sold, undone),
        *(act("limit", 3), act("limit", 5, reopen=True), HALT, RESUME, Looked(), Later(), OVER),
    )
    moments = (999, 1000, 1999, 2000, 2999, 3000, 4000, 5000, 6000)
    return World(f"a whole day, {pool}", pool, opening(pool, 2), moments, steps)


def half_day() -> World:
    """The same without a break, with halts, and with a clock that can be set back."""
    steps = (
        *told(new("a"), new("b"), cancelled("a"), fill("sx", side=SELL)),
        *(HALT, RESUME, Looked(), ASKED, Checked(SELL), Later(), Later(-1), OVER),
    )
    chosen = opening(SOUTH, 3, schedule=HALF_DAY, rate="1.00000")
    return World("a half day, the clock set back", SOUTH, chosen, (999, 1000, 2000, 5000, 6000), steps)


def facts(pool: PoolName) -> World:
    """All that can be told of one buy: twice, with other content, from another side, above its limit."""
    steps = told(
        *(new("a"), new("a", "0.02"), new("a", side=SELL)),
        *(
            fill("ax"),
            fill("ay", "0.005"),
            fill("az", "0.013", 2),
            fill("ax", "0.02"),
            fill("ax", quantity=2),
        ),
        *(bust("ax"), bust("ay", "0.005"), fill("aw", side=SELL)),
        *(cancelled("a"), Rejected(order_id="a"), fill("bx")),
    )
    moments = (2000, 3000)
    return World(f"the facts of a buy, {pool}", pool, opening(pool, 2), moments, (*steps, ASKED, Later()))


def sells() -> World:
    """All that can be told of one sell; it brings the balance over the limit, and is never refused."""
    steps = told(
        *(new("s", side=SELL), new("s", "0.02", side=SELL), new("s"), new("a")),
        *(fill("sx", side=SELL), fill("sy", "0.015", side=SELL), fill("sz", "0.02", 2, side=SELL)),
        *(bust("sx", side=SELL), bust("sz", "0.02", 2, side=SELL), fill("sw"), cancelled("s")),
    )
    moments = (2000, 3000, 6000)
    return World("the facts of a sell", SOUTH, opening(SOUTH, 2), moments, (*steps, ASKED, Later()))


def holds(pool: PoolName) -> World:
    """Reservations that are confirmed, lapse and are given back, about the beginning of trading."""
    steps = (
        *(Asked(new("a"), 500), Asked(new("a"), 999), Asked(new("b"), 1000), Asked(new("b", "0.02"))),
        *told(new("a"), new("b"), fill("ax"), cancelled("a")),
        *(Returned("a"), Returned("b"), Looked(), ASKED, Later(), OVER),
    )
    moments = (1000, 1499, 1500, 1999, 2000, 3000)
    return World(f"holds, {pool}", pool, opening(pool, 2), moments, steps)


def gateways() -> World:
    """What gateways ask for without holds: twice, with other content, of sells, of ids that are spent."""
    steps = (
        *(Asked(new("a")), Asked(new("a", "0.02")), Asked(new("s", side=SELL)), Asked(new("b"))),
        *told(new("a"), new("a", "0.02"), new("b"), fill("ax"), bust("ax"), fill("sx", side=SELL)),
        *(*told(cancelled("a"), cancelled("b")), Returned("a"), Returned("b"), Returned("s"), ASKED),
    )
    return World("gateways", NORTH, opening(NORTH, 3), (2000,), steps)


def must_fit(pool: PoolName) -> World:
    """The other admission: a buy has to fit, to the fen."""
    steps = (
        *(Asked(new("a", "0.011", 1)), Asked(new("b"))),
        *told(new("b"), new("c", "0.013"), fill("cx", "0.013"), cancelled("b")),
        *(act("limit", 2), act("limit", 4), Returned("a"), Later()),
    )
    chosen = opening(pool, 3, admission=Admission.MUST_FIT)
    return World(f"orders that must fit, {pool}", pool, chosen, (1999, 2000), steps)


def another_server() -> World:
    """Keys that come to stand on another server, halts, and the words that end them; a rate heard late."""
    steps = (
        *(
            Elsewhere(),
            Attested(),
            Attested(1),
            HALT,
            RESUME,
            Looked(),
            ASKED,
            Rated("0.50000"),
            Rated("0.91250"),
        ),
        *(Asked(new("a"), 500), Asked(new("b")), *told(new("a"), new("c", side=SELL), cancelled("a"))),
        *(Returned("a"), act("limit", 3), Later()),
    )
    return World("another server", SOUTH, opening(SOUTH, 2), (1000, 1999, 2000), steps)


def bounds() -> World:
    """Totals at the bound and just past it, and odd ones near it; what is too much is a counted mistake."""
    whole, odd, odder = BOUND // 10, 321_428_571_000_000, 171_428_571_000_000
    steps = (
        *told(new("a", "0.010", whole), new("a", "0.010", whole + 1), new("b", "0.007", odd)),
        *told(fill("ax", "0.010", whole), fill("ay", "0.013", odder), bust("ax", "0.010", whole)),
        *told(fill("sx", "10.001", odd // 700, SELL), fill("sy", "10.003", odd // 700, SELL)),
        *(Asked(new("b", "0.007", odd), 500), Asked(new("c", "0.010", BOUND)), Returned("b")),
        *(act("limit", BOUND), act("limit", BOUND + 1), act("limit", 1, reopen=True), Later()),
    )
    chosen = opening(SOUTH, BOUND, rate="0.91253")
    return World("totals at the bound", SOUTH, chosen, (2000, 2500), steps)


def together(pool: PoolName) -> World:
    """Two events in one call, whichever and in whichever order."""
    events: tuple[Event, ...] = (
        *(new("a"), new("a", "0.02"), new("b"), cancelled("a"), fill("ax"), bust("ax")),
        *(fill("ay", "0.005"), fill("sx", side=SELL)),
    )
    pairs = tuple(Told(pair) for pair in product(events, repeat=2))
    return World(f"two in a call, {pool}", pool, opening(pool, 2), (1999, 2000), (*pairs, Later()))


def days() -> World:
    """Days that open, late and twice, by the real clock and a set one, about a midnight that comes again."""
    (monday_ms, tuesday_ms), minute_ms = day_ms(DAY), 60_000
    dated = {DAY: monday_ms, "2026-11-24": tuesday_ms}
    real = {
        date: opening(
            NORTH,
            2,
            trading_day=date,
            origin="real",
            open_late=False,
            schedule=f"{begins + 550 * minute_ms} opening {begins + 570 * minute_ms} continuous",
        )
        for date, begins in dated.items()
    }
    steps = (
        *(Opened(one) for one in real.values()),
        *(Opened(replace(one, origin="at")) for one in real.values()),
        Opened(replace(real["2026-11-24"], open_late=True, keep_days=0)),
        *told(fill("sx", side=SELL)),
        *told(*(replace(new("b"), time=f"{date}T10:00:00+08:00") for date in dated)),
        *(HALT, RESUME, Looked(), Elsewhere(), Later(), Later(-1)),
    )
    moments = (monday_ms + 560 * minute_ms, tuesday_ms - 1, tuesday_ms, tuesday_ms + 550 * minute_ms)
    return World("days that open", NORTH, real[DAY], moments, steps)


def everything(pool: PoolName) -> World:
    """The steps of all the others at once, on a whole day, as far as the cases last."""
    others = (whole_day(pool), half_day(), facts(pool), sells(), holds(pool), gateways(), another_server())
    steps = dict.fromkeys(step for world in others for step in world.steps)
    moments = (999, 1000, 1499, 1500, 1999, 2000, 2999, 3000, 4000, 5000, 6000)
    return World(f"everything, {pool}", pool, opening(pool, 3), moments, tuple(steps))


MOST = 3_000_000
"""The most cases of all worlds together; a case is a step tried on a state, in the model and the stores."""

_BOTH = {whole_day: 300_000, facts: 200_000, holds: 150_000, must_fit: 60_000, together: 140_000}
_ONE = {half_day: 120_000, sells: 250_000, gateways: 200_000, another_server: 200_000, bounds: 100_000}
_DAYS = 60_000
_EVERYTHING = 180_000


def worlds() -> tuple[tuple[World, int], ...]:
    """All of them, and how many cases each may take."""
    return (
        *((make(pool), most) for make, most in _BOTH.items() for pool in (NORTH, SOUTH)),
        *((make(), most) for make, most in _ONE.items()),
        (days(), _DAYS),
        *((everything(pool), _EVERYTHING) for pool in (NORTH, SOUTH)),
    )
