"""The whole state of a pool, read from the model and from a store, and days whose phase is chosen.

Every field of the hash, every order, every execution, the journal and the changes; times and
stream ids are the store's own and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace
from redis.asyncio import Redis

from quota import library
from quota.book import Book
from quota.decision import PoolName, Side, Verdict
from quota.journal import Entry
from quota.pool import Change, Execution, Pool
from quota.store.record import change_of, execution_of, keys, order_of, pool_of
from tests.servers import Store

DAY = "2026-11-23"
HOUR_MS = 3_600_000
PLACES = ("before", "opening", "morning", "break", "afternoon", "closing", "after")
"""Where in a day the clock can stand: each is a phase, two of them are ``continuous``."""

_SEGMENTS = ("opening", "continuous", "break", "continuous", "closing", "closed")
_PRIVATE = {"frame", "published", "last_change"}
_SIDES = (None, *Side)


ELSEWHERE = "0" * 40
"""The run_id of a server that is no more."""

DOUBTED = f"{'1' * 40} 1 "
"""A doubt about another one."""

NEVER_MS = 1 << 52
"""A moment after all that ever happens."""


def schedule_of(place: str, now_ms: int) -> str:
    """Write a day's schedule in which now is an hour into ``place`` and an hour from the next."""
    stands = PLACES.index(place)
    return " ".join(
        f"{now_ms + (2 * (segment - stands) + 1) * HOUR_MS} {phase}"
        for segment, phase in enumerate(_SEGMENTS)
    )


def frame_names() -> list[str]:
    """Read from the library which fields its frame holds, in order."""
    match = re.search(r"local FRAME = \{(.*?)\}", library.SOURCE, re.DOTALL)
    return re.findall(r"'(\w+)'", match[1]) if match else []


def fields_of(pool: Pool) -> dict[str, str]:
    """Write a pool as its hash must read, field by field."""
    flags = ("began", "exhausted", "suspended", "resumes_in_opening")
    counts = ("limit_fen", "balance_fen", "open_buy_fen", "filled_buy_fen", "filled_sell_fen", "seq", "level")
    texts = (
        "trading_day",
        "rate",
        "schedule",
        "admission",
        "phase",
        "status",
        "halted",
        "origin",
    )
    fields = {name: str(int(getattr(pool, name))) for name in flags + counts}
    fields |= {name: str(getattr(pool, name)) for name in texts}
    fields |= {"levels": " ".join(map(str, pool.levels)), "kept": " ".join(pool.kept)}
    fields |= {"attested": pool.attested} if pool.attested else {}
    fields |= {"doubted": pool.doubted} if pool.attested else {}
    fields |= {"next_lapse": str(pool.next_lapse_ms)} if pool.next_lapse_ms else {}
    decided = {(Side.BUY, Verdict.ACCEPTED): 0} | pool.decided
    fields |= {f"decided_{side}_{verdict}": str(count) for (side, verdict), count in decided.items()}
    return fields | {f"violated_{kind}": str(count) for kind, count in pool.violated.items()}


class State(msgspec.Struct):
    """Everything that is kept of a pool, with the store's own times and ids left out."""

    fields: dict[str, str]
    pool: Pool | None
    orders: dict[str, Any]
    executions: dict[str, Execution]
    holds: dict[str, int]
    changes: list[Change]
    journal: list[Entry]
    days: list[str]


def announced(book: Book) -> dict[str, str]:
    """Write the rate of a day to come, if one was heard."""
    return {"next_rate": " ".join(book.next_rate)} if book.next_rate[0] else {}


def answered(doubted: str) -> str:
    """Write a doubt without the moment at which an operator answered: the two clocks are not one."""
    return re.sub(r"^answered \d+", "answered", doubted)


def _ageless(fields: dict[str, str]) -> dict[str, str]:
    return fields | ({"doubted": answered(fields["doubted"])} if "doubted" in fields else {})


def ours_of(book: Book) -> State:
    """Read the model."""
    return State(
        fields=_ageless(fields_of(book.pool) | announced(book)) if book.pool else {},
        pool=replace(book.pool, doubted=answered(book.pool.doubted)) if book.pool else None,
        orders=dict(book.orders),
        executions=dict(book.executions),
        holds=dict(book.holds),
        changes=[replace(change, id="", time_ms=0) for change in book.changes],
        journal=[replace(entry, time_ms=0) for entry in book.journal],
        days=sorted(book.pool.kept) if book.pool else [],
    )


async def theirs_of(client: Redis, pool: PoolName, suffix: str = "") -> State:
    """Read a store, in one round trip; with a suffix, a day that is kept beside the pool."""
    names = keys(pool, suffix)
    async with client.pipeline(transaction=False) as pipe:
        for name in names[:3]:
            pipe.execute_command("HGETALL", name)
        pipe.execute_command("ZRANGE", names[3], 0, -1, "WITHSCORES")
        for name in names[4:]:
            pipe.execute_command("XRANGE", name, "-", "+")
        pipe.execute_command("KEYS", f"quota:{{{pool}}}:*")
        raw: Any = await pipe.execute()
    fields = _texts(raw[0])
    _check_frame(fields, raw[4])
    fields = _ageless(fields)
    orders = {name.decode(): order_of(record) for name, record in raw[1].items()}
    order_ids = {order.seq: order_id for order_id, order in orders.items() if order.seq}
    return State(
        fields={
            name: text
            for name, text in fields.items()
            if name not in _PRIVATE and (name, text) != ("next_lapse", "0")
        },
        pool=pool_of(fields),
        orders=orders,
        executions={name.decode(): execution_of(record, order_ids) for name, record in raw[2].items()},
        holds=_holds(raw[3]),
        changes=[replace(change_of("", entry), time_ms=0) for _, entry in raw[4]],
        journal=[replace(Entry.read(key.decode(), _texts(entry)), time_ms=0) for key, entry in raw[5]],
        days=sorted({name.decode().split(":")[3] for name in raw[6] if name.count(b":") == 3}),
    )


def same(theirs: State, ours: State) -> None:
    """Compare two states; what stands beside the pool under names of its own is no earlier day."""
    theirs.days = [day for day in theirs.days if day != "rebuilt" and ".lost" not in day]
    for part in State.__struct_fields__:
        assert getattr(theirs, part) == getattr(ours, part), part


def _holds(flat: Sequence[Any]) -> dict[str, int]:
    return {name.decode(): round(float(score)) for name, score in zip(flat[::2], flat[1::2], strict=True)}


def _check_frame(fields: Mapping[str, str], changes: Sequence[Any]) -> None:
    """See that the frame says what the fields say, and that the last change is known by its id."""
    if not fields:
        return
    assert changes
    assert fields["last_change"] == changes[-1][0].decode()
    if "frame" in fields:
        names = frame_names()
        assert names[-2:] == ["attested", "doubted"]
        names = [name for name in names if name in fields or name not in names[-2:]]
        assert fields["frame"].split("\n") == [fields.get(name) for name in names]


def versioned(version: int) -> str:
    """Write the library as another version of it."""
    old = f"local VERSION, DIGEST = {library.VERSION},"
    assert old in library.SOURCE
    return library.SOURCE.replace(old, f"local VERSION, DIGEST = {version},")


def timeless(detail: str) -> str:
    """What was said, without how many milliseconds it was about: the two clocks are not one."""
    return re.sub(r"\d+ ms", "", detail)


def linked(store: Store) -> Redis:
    """Build a client that speaks as ours do."""
    return Redis.from_url(store.url, protocol=2)


async def command(client: Redis, *words: str | int | bytes) -> Any:  # noqa: ANN401 - as the command replies
    """Send any command."""
    return await client.execute_command(*words)  # type: ignore[no-untyped-call] # redis-py leaves it untyped


async def server_ms(client: Redis) -> int:
    """Read the store's clock."""
    seconds, micros = await client.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def identity(client: Redis) -> str:
    """Read what the library calls its server: the process, and the history of its writes."""
    facts: Any = await client.info("everything")
    return f"{facts['run_id']}-{facts['master_replid']}"


async def contents(client: Redis) -> dict[bytes, Any]:
    """Take a copy of every key. DUMP would do, but a hash that rehashes dumps in another order."""
    names: Any = sorted(await client.keys("*"))
    return {name: await _content(client, name) for name in names}


async def _content(client: Redis, name: bytes) -> Any:  # noqa: ANN401 - whatever it holds
    match await client.type(name):
        case b"hash":
            return await client.hgetall(name)
        case b"stream":
            return await client.xrange(name)
        case _:
            return await client.dump(name)


def _texts(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): text.decode() for name, text in fields.items()}
