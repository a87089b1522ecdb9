"""The store keeps of the sources' numbers what the model keeps, at every bound, and each fault is noticed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest
from redis.asyncio import Redis

from quota import library, numbers
from quota.errors import ConfigError, QuotaError
from quota.events import Numbers
from quota.library import Library
from quota.money import BOUND
from quota.numbers import joined
from quota.store.sources import RedisSources
from tests.agreement.numbering import DAYS, POOL, TINY, pair, wander, with_tiny_bounds
from tests.agreement.state import command, linked
from tests.agreement.test_faults import CAUGHT, Fault, _fault, faulty, one_store
from tests.agreement.test_rights import closed, limited
from tests.agreement.trading import unchanged
from tests.scale import seeds
from tests.servers import Store


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a short walk meets."""
    for name, bound in TINY.items():
        monkeypatch.setattr(numbers, name, bound)


@pytest.mark.usefixtures("tiny")
@pytest.mark.soak
@pytest.mark.parametrize("seed", seeds(8, 400))
async def test_model_and_store_keep_the_same_of_all_that_comes(client: Redis, seed: int) -> None:
    await wander(await pair(client, with_tiny_bounds(library.SOURCE)), Random(seed), 60)


async def test_a_gap_keeps_its_time_when_it_is_split(client: Redis) -> None:
    both = await pair(client)
    await both.arrived(Numbers("a", "1", 10, 10))
    (before,) = (await both.theirs.read(POOL)).sources["a"].epochs[0].gaps
    assert before.since_ms > 0
    await both.arrived(Numbers("a", "1", 5, 5), Numbers("a", "1", 12, 12))
    gaps = (await both.theirs.read(POOL)).sources["a"].epochs[0].gaps
    assert [(gap.first, gap.last) for gap in gaps] == [(1, 4), (6, 9), (11, 11)]
    assert [gap.since_ms for gap in gaps[:2]] == [before.since_ms] * 2
    assert gaps[2].since_ms >= before.since_ms


async def test_the_largest_numbers_stay_exact(client: Redis) -> None:
    both = await pair(client)
    await both.arrived(Numbers("a", "1", BOUND - 1, BOUND - 1), Numbers("a", "2", BOUND, BOUND))
    await both.arrived(Numbers("a", "1", BOUND // 2, BOUND // 2), Numbers("a", "1", BOUND + 1, BOUND))
    await both.agree()
    assert (await both.theirs.read(POOL)).sources["a"].missing == 2 * BOUND - 3


@pytest.mark.parametrize("seed", seeds(3, 100))
async def test_several_daemons_at_once_miss_exactly_what_did_not_come(client: Redis, seed: int) -> None:
    both, chance = await pair(client), Random(seed)
    come = {number for number in range(1, 201) if chance.random() < 0.8} | {200}
    daemons = [RedisSources(Library(client)) for _ in range(3)]

    async def takes_down(sources: RedisSources, numbers_come: list[int]) -> None:
        for at in range(0, len(numbers_come), 7):
            runs = [Numbers("gw", "e", number, number) for number in numbers_come[at : at + 7]]
            await sources.arrived(POOL, joined(runs))

    heard = [chance.sample(sorted(come), len(come)) for _ in daemons]  # each in an order of its own
    await asyncio.gather(*map(takes_down, daemons, heard))
    (epoch,) = (await both.theirs.read(POOL)).sources["gw"].epochs
    missing = {number for gap in epoch.gaps for number in range(gap.first, gap.last + 1)}
    assert missing == set(range(1, 201)) - come


async def test_somebody_hostile_fills_his_own_room_and_no_more(client: Redis) -> None:
    both = await pair(client)
    for start in range(0, 6_000, 500):
        runs = [Numbers("mallory", f"e{n % 40}", 3 * n, 3 * n) for n in range(start + 1, start + 501)]
        await both.arrived(*runs, Numbers("honest", "1", start + 1, start + 500))
    await both.agree()
    packed = await command(client, "HSTRLEN", f"quota:{{{POOL}}}:sources", "mallory")
    assert packed < 10_000
    register = await both.theirs.read(POOL)
    assert set(register.missing_on(DAYS[0])) == {"mallory"}
    assert register.sources["mallory"].unlisted > 0


async def test_sources_beyond_the_room_are_counted_and_a_day_makes_room(client: Redis) -> None:
    both = await pair(client)
    names = [f"s{n}" for n in range(numbers.SOURCES_MAX + 5)]
    await both.arrived(*(Numbers(name, "1", 1, 2) for name in names))
    await both.agree()
    register = await both.theirs.read(POOL)
    assert len(register.sources) == numbers.SOURCES_MAX
    assert register.unwatched_on(DAYS[0]) == 10
    await both.begin(DAYS[1])
    await both.arrived(Numbers("s1", "1", 3, 3), Numbers(names[-1], "1", 3, 3))
    await both.agree()
    assert set((await both.theirs.read(POOL)).sources) == {"s1", names[-1]}


@pytest.mark.parametrize("right", ["hset", "expire"])
async def test_who_may_not_write_the_numbers_writes_nothing(client: Redis, store: Store, right: str) -> None:
    await pair(client)
    other = await limited(client, store, f"-{right}")
    async with unchanged(client):
        with pytest.raises(ConfigError):
            await other.sources.arrived(POOL, [Numbers("a", "1", 3, 3)])
    await closed(other)


async def test_who_may_not_make_room_writes_nothing(client: Redis, store: Store) -> None:
    both = await pair(client)
    await both.arrived(*(Numbers(f"s{n}", "1", 1, 1) for n in range(numbers.SOURCES_MAX)))
    await both.begin(DAYS[1])
    other = await limited(client, store, "-unlink")
    async with unchanged(client):
        with pytest.raises(ConfigError):
            await other.sources.arrived(POOL, [Numbers("a", "1", 3, 3)])
    await closed(other)


async def test_a_key_that_is_none_of_ours_is_left_alone(client: Redis) -> None:
    await pair(client)
    await command(client, "SET", f"quota:{{{POOL}}}:sources", "mine")
    async with unchanged(client):
        with pytest.raises(QuotaError):
            await RedisSources(Library(client)).arrived(POOL, [Numbers("a", "1", 3, 3)])


def faults() -> list[Fault]:
    """Read the list of faults."""
    text = (Path(__file__).parent / "faults_numbers.txt").read_text()
    return [_fault(block.splitlines()) for block in text.split("\n== ")[1:]]


async def probe(client: Redis, source: str) -> None:
    """Look for a fault; raises one of CAUGHT."""
    for seed in range(6):
        await wander(await pair(client, with_tiny_bounds(source)), Random(seed), 50)


@one_store
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
async def test_the_fault_is_caught(store: Store, fault: Fault) -> None:
    async with linked(store) as client:
        with pytest.raises(CAUGHT):
            await probe(client, faulty(fault))
