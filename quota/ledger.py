"""The Ledger protocol, and its side in Redis: one function call per pool and batch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Any, Protocol

import msgspec

from quota.decision import Attest, Decision, PoolName, Release, Side, Status, Verdict
from quota.doubt import Claim
from quota.errors import ConfigError
from quota.events import MARKET_TZ, Event, NewOrder
from quota.journal import Entry
from quota.library import Library
from quota.numbers import Sources
from quota.pool import Change, Opening, Pool
from quota.rows import packed, packed_entries, packed_terms
from quota.store.record import RedisRecord, keys, pool_of
from quota.store.sources import RedisSources


class Snapshot(msgspec.Struct, frozen=True):
    """A pool as its tick returned it; ``pool`` is None where no day was ever opened.

    ``published`` and ``last_change`` are ids in ``changes``; ``server_ms`` is the store's clock and
    ``run_id`` who the server is in this life of it (its run_id and master_replid, joined by ``-``).
    """

    server_ms: int
    pool: Pool | None
    published: str = "0-0"
    last_change: str = "0-0"
    run_id: str = ""


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's act: ``halt``, ``resume`` or ``limit`` (with its new limit)."""

    act: str
    reason: str
    user: str
    host: str
    limit_fen: int = 0
    reopen: bool = False


class Reservation(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a gateway that reserved: the contract's ``quota_reserve``."""

    verdict: Verdict
    balance_fen: int | None
    seq: int | None
    replayed: bool
    status: Status


class Released(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a gateway that gave back: the contract's ``quota_release``."""

    outcome: Release
    balance_fen: int | None
    seq: int | None


class Attestation(msgspec.Struct, frozen=True, array_like=True):
    """What came of attesting a pool; ``detail`` says why it was refused."""

    outcome: Attest
    detail: str = ""


class Replayed(msgspec.Struct, frozen=True, array_like=True):
    """How far a lost day is put back; ``detail`` says why it comes no further, empty where all was taken."""

    seq: int
    detail: str = ""


class Ledger(Protocol):
    """What keeps the pools. Every method is atomic for its pool, and safe to repeat.

    All raise LedgerUnavailable when the store is away or cannot write: whether the call had its
    effect is then unknown, and asking again with the same events tells.
    """

    @property
    def sources(self) -> Sources:
        """Where it is kept, beside the pools, which numbers of their sources have come."""
        ...

    async def apply(self, pool: PoolName, events: Sequence[Event]) -> Sequence[Decision]:
        """Apply events in their order and decide the new orders among them."""
        ...

    async def tick(self, pool: PoolName, published: str = "") -> Snapshot:
        """Judge the clock and return the pool; remember which change was published last."""
        ...

    async def open_day(self, pool: PoolName, opening: Opening) -> bool:
        """Open a day; False if it was open. Raises ConfigError when it may not be opened."""
        ...

    async def changes(self, pool: PoolName, after: str) -> Sequence[Change]:
        """Return the changes after an id, oldest first, a thousand at most."""
        ...

    async def set_rate(self, pool: PoolName, trading_day: str, rate: str) -> str:
        """Set the day's rate before its first event: ``set``, ``same``, ``refused``, ``other_day``."""
        ...

    async def operate(self, pool: PoolName, act: Act) -> Status:
        """Carry out an operator's act. Raises ConfigError when it is refused."""
        ...

    async def attest(self, pool: PoolName, claims: Sequence[Claim], *, put_back: bool = False) -> Attestation:
        """Say which numbers we know of the pool's day; refused where the store has lost one of them.

        Refused too, though nothing is known to be lost, where we had not looked for a while when the
        store took its last number. A store that was attested before is halted where it has lost one.
        ``seq`` 0 stands for a day that we saw open and on which nothing had happened yet. A day that was
        put back is attested with ``put_back`` only, and not once its store has changed again.
        """
        ...

    async def replay(self, pool: PoolName, terms: Pool, entries: Sequence[Entry]) -> Replayed:
        """Put entries of a lost day back, beside the pool, all of them or none.

        ``terms`` is the pool before its first entry. The entries come in order, a few hundred in a call;
        those that are put back already have to be the same, so that a page may be repeated. Each is
        judged at its own time and keeps its verdict, number and text. One whose ``seq`` is 0 takes the
        next number, and has no effect where it is known; without a verdict it is decided as of its
        time. Refused where the pool is attested.
        """
        ...

    async def adopt(self, pool: PoolName, trading_day: str, seq: int, live_seq: int) -> Replayed:
        """Put the day that was put back in the pool's place, halted until it is attested or resumed.

        ``seq`` is its last number; ``live_seq`` the number of the same day's in the pool (0 for none)
        up to which everything has been put back too. What the pool took since then, a thousand entries
        at most, is put back in this step.
        """
        ...


def day_ms(trading_day: str) -> tuple[int, int]:
    """Say when a date of the market begins and ends, in milliseconds since the epoch."""
    midnight = datetime.combine(date.fromisoformat(trading_day), time(), MARKET_TZ)
    starts_ms = int(midnight.timestamp()) * 1000
    return starts_ms, starts_ms + 86_400_000


class RedisLedger:
    """The Ledger in Redis or Valkey, by the functions of ``quota/lua``; ``record`` is what it keeps."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self.record = RedisRecord(library)
        self.sources = RedisSources(library)

    async def apply(self, pool: PoolName, events: Sequence[Event]) -> Sequence[Decision]:
        """Apply events in one function call."""
        reply = await self._call("quota_apply", pool, packed(events))
        return msgspec.msgpack.decode(reply, type=list[Decision])

    async def tick(self, pool: PoolName, published: str = "") -> Snapshot:
        """Judge the clock, return the pool."""
        reply = await self._library.call("quota_tick", keys(pool), published)
        server_ms, flat = reply[:2]
        run_id = reply[2].decode() if len(reply) > 2 else ""  # noqa: PLR2004 - version 1 did not say it
        await self._library.recognise(keys(pool)[0], run_id)
        texts = [item.decode() for item in flat]
        fields = dict(zip(texts[::2], texts[1::2], strict=True))
        published = fields.get("published", "0-0")
        last_change = fields.get("last_change", "0-0")
        return Snapshot(int(server_ms), pool_of(fields), published, last_change, run_id)

    async def open_day(self, pool: PoolName, opening: Opening) -> bool:
        """Open a day, or find it open."""
        fields = msgspec.to_builtins(opening)
        fields["levels"] = " ".join(str(level) for level in opening.levels)
        fields["resumes_in_opening"] = int(opening.resumes_in_opening)
        fields["open_late"], fields["lost"] = int(opening.open_late), int(opening.lost)
        fields["starts_ms"], fields["ends_ms"] = day_ms(opening.trading_day)
        outcome, detail = await self._call("quota_open", pool, msgspec.msgpack.encode(fields))
        if outcome == b"refused":
            raise ConfigError(f"{pool}: {detail.decode()}")
        return bool(outcome == b"opened")

    async def changes(self, pool: PoolName, after: str) -> Sequence[Change]:
        """Read a page of the changes."""
        return await self.record.changes(pool, after)

    async def set_rate(self, pool: PoolName, trading_day: str, rate: str) -> str:
        """Set the rate, unless an event has come."""
        (outcome,) = await self._call("quota_rate", pool, trading_day, rate)
        return str(outcome.decode())

    async def operate(self, pool: PoolName, act: Act) -> Status:
        """Carry out an operator's act."""
        outcome, detail = await self._call("quota_operate", pool, msgspec.msgpack.encode(act))
        if outcome == b"refused":
            raise ConfigError(f"{pool}: {detail.decode()}")
        return Status(detail.decode())

    async def attest(self, pool: PoolName, claims: Sequence[Claim], *, put_back: bool = False) -> Attestation:
        """Say which numbers we know."""
        words = [msgspec.msgpack.encode(claims), *([b"put back"] if put_back else [])]
        reply = await self._library.call("quota_attest", keys(pool), *words)
        return msgspec.convert([word.decode() for word in reply], Attestation)

    async def replay(self, pool: PoolName, terms: Pool, entries: Sequence[Entry]) -> Replayed:
        """Put entries back in one function call."""
        seq, detail = await self._call("quota_replay", pool, packed_terms(terms), packed_entries(entries))
        return Replayed(seq, detail.decode())

    async def adopt(self, pool: PoolName, trading_day: str, seq: int, live_seq: int) -> Replayed:
        """Put the day that was put back in the pool's place."""
        came, detail = await self._call("quota_adopt", pool, trading_day, str(seq), str(live_seq))
        return Replayed(came, detail.decode())

    async def reserve(self, pool: PoolName, order: NewOrder, hold_ms: int | None = None) -> Reservation:
        """Decide and charge an order as gateways do; raises LedgerCorrupt for malformed arguments."""
        words = [order.order_id, order.side, order.price, str(order.quantity), order.source or "-"]
        if hold_ms is not None:
            words.append(str(hold_ms))
        verdict, balance_fen, seq, replayed, status = await self._call("quota_reserve", pool, *words)
        return Reservation(
            Verdict(verdict.decode()), balance_fen, seq, bool(replayed), Status(status.decode())
        )

    async def release(self, pool: PoolName, order_id: str) -> Released:
        """Give back a reservation that was never sent; raises LedgerCorrupt for a malformed id."""
        outcome, balance_fen, seq = await self._call("quota_release", pool, order_id)
        return Released(Release(outcome.decode()), balance_fen, seq)

    async def check(self, pool: PoolName, side: Side) -> tuple[Verdict, int | None, Status]:
        """Tell what a buy or a sell would get now; writes nothing."""
        key = keys(pool)[0]
        reply = await self._library.question("quota_check", (key,), side)
        return Verdict(reply[0].decode()), reply[1], Status(reply[3].decode())

    async def _call(self, function: str, pool: PoolName, *args: bytes | str) -> Any:  # noqa: ANN401 - a reply is what the function says
        return await self._library.call(function, keys(pool), *args, lasting=True)
