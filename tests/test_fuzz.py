"""Whatever is sent, nothing breaks: the codec loses nothing, the functions write all or nothing.

Messages and calls come some at a time, calls in short days, so that what fails can be shrunk and
played again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ResponseError

from feeds.codec import ARRAY_MAX, Decoded, decode, encode
from quota.decision import Decision, PoolName, Verdict
from quota.feed import DeadLetter
from quota.journal import Entry, line, read_line
from quota.ledger import RedisLedger
from quota.proof.retrace import Retrace, Terms
from quota.store.record import keys
from tests.agreement.trading import POOL, opening
from tests.hostile import Request, days, messages
from tests.scale import cases
from tests.servers import Store

TOGETHER = 8
CASES = cases(10_000, 200_000)
LONG_S = 300 + CASES / 100
"""What fails is made smaller first, and that may take minutes."""

SERVED = frozenset({PoolName.NB_SH, PoolName.SB_SZ})
ANYHOW = settings(
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


# The codec.


@pytest.mark.soak
@pytest.mark.timeout(LONG_S)
def test_every_element_of_any_message_is_an_event_or_a_mistake(counted: Callable[[str], None]) -> None:
    @settings(ANYHOW, max_examples=CASES // TOGETHER)
    @given(some=messages(TOGETHER))
    def decoded(some: list[tuple[str, bytes]]) -> None:
        for topic, payload in some:
            loses_nothing(topic, payload)

    decoded()
    counted(f"fuzz: {CASES} messages")


def loses_nothing(topic: str, payload: bytes) -> None:
    """Decode a message, and account for its elements."""
    decoded = decode(topic, payload, "connect", SERVED)
    name = topic.removeprefix("connect/").split("/")[0]
    if decoded is None:
        assert name in set(PoolName) - SERVED
        return
    assert decoded.pool == (name if name in set(PoolName) else None)
    assert len(decoded.mistakes) + len(decoded.events) == expected_parts(decoded, payload)
    for event in decoded.events:
        assert read_line(line(event)) == event
    for mistake in decoded.mistakes:
        assert (mistake.topic, mistake.payload in payload) == (topic, True)
        _, letter, _ = encode(DeadLetter(decoded.pool, mistake), "connect")
        assert json.loads(letter)["reason"] == mistake.reason != ""


def expected_parts(decoded: Decoded, payload: bytes) -> int:
    """Say how many events and mistakes a message should have made; see that their places are told."""
    if decoded.rate is not None or decoded.mark or (decoded.pool is None and not decoded.mistakes):
        return 0
    indexes = [mistake.index for mistake in decoded.mistakes]
    if decoded.pool is None or None in indexes or not payload.strip(b" \t\r\n").startswith(b"["):
        return 1
    elements = json.loads(payload.decode(errors="replace"), strict=False)
    assert 0 < len(elements) <= ARRAY_MAX
    places = decoded.places or range(len(decoded.events))
    assert sorted([*places, *(index for index in indexes if index is not None)]) == [*range(len(elements))]
    return len(elements)


# The functions.


class World:
    """A store with a day to begin again from."""

    def __init__(self, port: int) -> None:
        self.redis = Redis(port=port, protocol=2)
        self._fresh = {name: self.redis.dump(name) for name in keys(POOL) if self.redis.exists(name)}

    def _pipeline(self) -> Any:  # noqa: ANN401 - redis-py leaves its commands untyped
        return self.redis.pipeline(transaction=False)

    def begin(self) -> None:
        """Begin the day again."""
        with self._pipeline() as pipe:
            pipe.execute_command("FLUSHALL")
            for name, dump in self._fresh.items():
                pipe.execute_command("RESTORE", name, 0, dump)
            pipe.execute()

    def call(self, request: Request) -> Any:  # noqa: ANN401 - as the function replies
        """Call a function; an error that left a trace is one of ours."""
        with self._pipeline() as pipe:
            pipe.execute_command("INFO", "persistence")
            pipe.execute_command(
                request.command, request.function, len(request.keys), *request.keys, *request.arguments
            )
            pipe.execute_command("INFO", "persistence")
            before, reply, after = pipe.execute(raise_on_error=False)
        wrote = before["rdb_changes_since_last_save"] != after["rdb_changes_since_last_save"]
        assert not (wrote and isinstance(reply, Exception)), (request, reply)
        return reply

    def state(self) -> tuple[dict[str, str], list[Entry], tuple[int, int]]:
        """Read the pool, its journal, and how many orders and holds there are."""
        with self._pipeline() as pipe:
            pipe.execute_command("HGETALL", keys(POOL)[0])
            pipe.execute_command("XRANGE", keys(POOL)[5], "-", "+")
            pipe.execute_command("HLEN", keys(POOL)[1])
            pipe.execute_command("ZCARD", keys(POOL)[3])
            fields, page, orders, holds = pipe.execute()
        entries = [Entry.read(entry_id.decode(), _texts(entry)) for entry_id, entry in page]
        return _texts(fields), entries, (orders, holds)


def _texts(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): text.decode() for name, text in fields.items()}


@pytest.fixture
async def world(store: Store, client: AsyncRedis, ledger: RedisLedger) -> World:
    """A store in which a day is open."""
    await ledger.open_day(POOL, await opening(client, limit_fen=100_000))
    return World(store.port)


@pytest.mark.soak
@pytest.mark.timeout(LONG_S)
def test_functions_answer_rightly_or_refuse_and_write_all_or_nothing(
    store: Store, world: World, counted: Callable[[str], None]
) -> None:
    @settings(ANYHOW, max_examples=CASES // 2 // TOGETHER)
    @given(requests=days(TOGETHER))
    def called(requests: list[Request]) -> None:
        world.begin()
        for request in requests:
            reply = world.call(request)
            if isinstance(reply, Exception):
                refuses_rightly(request, reply)
            else:
                assert request.is_well_formed or request.may_fail_anyhow, request
                answers_rightly(world, request, reply)
        agrees_with_itself(world)

    called()
    counted(f"fuzz: {CASES // 2} calls of the functions, {store.name}")


def refuses_rightly(request: Request, error: Exception) -> None:
    """See that an error is ours, and of a call that deserves it."""
    assert isinstance(error, ResponseError)
    if not request.may_fail_anyhow:
        assert str(error).startswith("QUOTAINVALID "), (request, error)
        assert not request.is_well_formed or "out_of_range" in str(error), (request, error)


def answers_rightly(world: World, request: Request, reply: Any) -> None:  # noqa: ANN401 - as the function replies
    """See that an answer is what the journal and the pool have."""
    fields, entries, _ = world.state()
    balances = {0: 100_000} | {entry.seq: entry.balance_fen for entry in entries}
    match request.function, reply:
        case "quota_reserve", [verdict, balance, seq, replayed, status]:
            assert (balance, status.decode()) == (int(fields["balance_fen"]), fields["status"])
            order_id = request.arguments[0].decode()
            if verdict == b"id_reused":
                assert (seq, replayed) == (int(fields["seq"]), 0)
                return
            assert entries[seq - 1].event.split(" ")[:2] == ["new", order_id]
            assert entries[seq - 1].verdict == Verdict(verdict.decode())
            assert replayed or seq == int(fields["seq"])
        case "quota_release", [outcome, balance, seq]:
            assert outcome in {b"released", b"unknown", b"settled"}
            assert (balance, seq) == (int(fields["balance_fen"]), int(fields["seq"]))
        case "quota_check", [verdict, balance, seq, status, _]:
            assert verdict == (
                b"accepted" if request.arguments[0] == b"sell" or status == b"open" else status
            )
            assert balances.get(seq, balance) == balance  # a hold that is due ends in its answer alone
        case "quota_apply", bytes():
            decisions = msgspec.msgpack.decode(reply, type=list[Decision])
            assert len(decisions) == len(request.events) or not request.events
            assert {d.seq for d in decisions if d.outcome == "applied"} <= set(balances)
            assert request.events or all(d.outcome == "dead" for d in decisions)
        case _:
            raise AssertionError(f"{request}: {reply}")


def agrees_with_itself(world: World) -> None:
    """See that no number, no charge and no count is lost."""
    fields, entries, (orders, holds) = world.state()
    journal = Retrace(Terms())
    assert [str(flaw) for entry in entries for flaw in journal.take(entry)] == []
    assert journal.seq == int(fields["seq"]) == len(entries)
    assert (journal.balance_fen if entries else 100_000) == int(fields["balance_fen"])
    assert orders == len(journal.traces.orders)
    assert holds <= sum(trace.reserved for trace in journal.traces.orders.values())
    decided = Counter(f"decided_{_side(entry)}_{entry.verdict}" for entry in entries if entry.verdict)
    violated = Counter(f"violated_{kind}" for entry in entries for kind in entry.violations)
    stored = {name: int(text) for name, text in fields.items() if name.startswith(("decided_", "violated_"))}
    assert +Counter(stored) == decided + violated


def _side(entry: Entry) -> str:
    return entry.event.split(" ")[2]
