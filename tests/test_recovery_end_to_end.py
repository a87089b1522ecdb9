"""A real daemon with its record in files: whatever becomes of the store, what was answered stands again.

Buys wait until it does. What gateways heard last under ``memory``, and nobody had written down, may be
missing; everything else is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from quota.decision import Side, Verdict
from tests import losses
from tests.captures import become, content, only
from tests.daemons import AT, House, Quotad
from tests.fleet import Watched, linked, say, watched
from tests.losses import POOL, Told, emptied, ended, entries_found, entries_kept, recorded, warned
from tests.scale import cases
from tests.servers import Mosquitto
from tests.shift import Shift, working
from tests.tap import Tap, until

YESTERDAY = "2026-11-20T09:31:00+08:00"


async def stands(home: House, shift: Shift, told: Told, *, daemon: Quotad | None = None) -> None:
    """See that everything is as it was told, and that the store agrees with itself and with the gateways."""
    daemon = daemon or home.quotad
    await until(lambda: warned(daemon) == [] and daemon.ready)
    told.stands(home.redis, entries_found(daemon))
    losses.bought_nothing_meanwhile(home.redis)
    losses.balances(home.redis)
    await agrees(home, told.history(shift, home.store.directory))


async def agrees(home: House, history: Path) -> None:
    for words in (("verify",), ("verify", "--history", str(history))):
        done = await asyncio.to_thread(home.quotad.does, *words)
        assert done.returncode == 0, done.stdout + done.stderr


async def quiet_morning(home: House, tap: Tap, shift: Shift, count: int = 50) -> None:
    """Let gateways and sources trade until it is all written down, and then rest."""
    await losses.orders(tap, "early", count)
    await until(lambda: len(shift.answered()) > count)
    await rest(home, shift)


async def rest(home: House, shift: Shift) -> None:
    """Let the gateway end its calls, and wait until all of it is written down."""
    shift.over = True
    await shift.heard()
    folder, seq = home.store.directory / "capture", home.seq()
    await until(lambda: entries_kept(folder) >= home.seq() >= seq)


@pytest.mark.soak
@pytest.mark.parametrize("time", range(cases(1, 20)))
async def test_a_store_that_comes_back_empty_in_mid_traffic_has_its_day_again(
    tmp_path: Path, time: int
) -> None:
    with recorded(tmp_path) as home, Tap(home.broker.port, losses.DECISIONS) as tap:
        async with working(home.store.url, [POOL]) as shift:
            await losses.orders(tap, "early", 100)
            await until(lambda: entries_kept(tmp_path / "capture") > 300 + 100 * time)
            await asyncio.to_thread(home.store.stop)
            await shift.heard()
            told = Told.by(tap, shift)
            await asyncio.to_thread(emptied, home)
            assert await losses.ask(shift, "sell", Side.SELL) is Verdict.ACCEPTED
            await losses.orders(tap, "meanwhile", 20)
            await until(lambda: ended(home.quotad))
            before = len(shift.answered(Verdict.ACCEPTED))
            await until(lambda: len(shift.answered(Verdict.ACCEPTED)) > before + 100)
            await losses.orders(tap, "late", 20)
        await stands(home, shift, told)


@pytest.mark.soak
@pytest.mark.parametrize("orders", [50, 1, 2_000][: cases(1, 3)])
async def test_a_store_that_comes_back_older_has_its_day_again(tmp_path: Path, orders: int) -> None:
    with recorded(tmp_path) as home, Tap(home.broker.port, losses.DECISIONS) as tap:
        async with working(home.store.url, [POOL]) as shift:
            await losses.orders(tap, "older", 20)
            copy = await asyncio.to_thread(losses.copied, home)
            await quiet_morning(home, tap, shift, orders)
            told = Told.by(tap, shift)
            home.store.stop()
            losses.put_back(home, copy)
            await asyncio.to_thread(home.store.start)
            await losses.opens_again(shift, "late")
            await stands(home, shift, told)
            assert not told.lost_answers


async def test_store_and_daemon_die_and_come_back_together_and_the_store_is_empty(tmp_path: Path) -> None:
    await both_die(tmp_path, emptied)


async def test_store_and_daemon_die_and_come_back_together_and_the_store_is_older(tmp_path: Path) -> None:
    await both_die(tmp_path, restored)


def restored(home: House) -> None:
    """Put the copy back that was made, and start the store with it."""
    losses.put_back(home, home.store.directory / "older")
    home.store.start()


async def both_die(tmp_path: Path, comes_back: Any) -> None:  # noqa: ANN401 - what becomes of a house's store
    with recorded(tmp_path) as home, Tap(home.broker.port, losses.DECISIONS) as tap:
        async with working(home.store.url, [POOL]) as shift:
            await losses.orders(tap, "older", 20)
            await asyncio.to_thread(losses.copied, home)
            await quiet_morning(home, tap, shift)
            told = Told.by(tap, shift)
            home.quotad.kill()
            home.store.stop()
            await asyncio.to_thread(comes_back, home)
            await asyncio.to_thread(losses.started, home.quotad)
            await losses.opens_again(shift, "late")
            await stands(home, shift, told)
            assert not told.lost_answers


async def test_a_store_of_yesterday_has_todays_day_again(tmp_path: Path) -> None:
    with recorded(tmp_path, at=YESTERDAY) as home, Tap(home.broker.port, losses.DECISIONS) as tap:
        async with working(home.store.url, [POOL]) as shift:
            shift.over = True
            assert await losses.ask(shift, "yesterday") is Verdict.ACCEPTED
            home.quotad.kill()
            await asyncio.to_thread(losses.copied, home)
            home.quotad.at = AT
            await asyncio.to_thread(losses.started, home.quotad)
            shift.calls.clear()
            await losses.opens_again(shift, "early")
            await losses.orders(tap, "early", 50)
            await rest(home, shift)
            told = Told.by(tap, shift)
            home.store.stop()
            await asyncio.to_thread(restored, home)
            await losses.opens_again(shift, "late")
            await stands(home, shift, told)


async def test_an_operator_says_when_buys_go_on(tmp_path: Path) -> None:
    with recorded(tmp_path, "operator") as home, Tap(home.broker.port, losses.DECISIONS) as tap:
        async with working(home.store.url, [POOL]) as shift:
            await quiet_morning(home, tap, shift)
            told = Told.by(tap, shift)
            await asyncio.to_thread(emptied, home)
            await until(lambda: "an operator has to resume it" in str(warned(home.quotad)))
            assert "an operator has to resume it" in await asyncio.to_thread(losses.shown, home.quotad)
            assert await losses.ask(shift, "held") is Verdict.HALTED
            assert await losses.ask(shift, "sell", Side.SELL) is Verdict.ACCEPTED
            assert not ended(home.quotad)
            resumed = await asyncio.to_thread(home.quotad.does, "resume", POOL, "--reason", "compared")
            assert resumed.returncode == 0, resumed.stderr
            assert await losses.ask(shift, "free") is Verdict.ACCEPTED
            await until(partial(ended, home.quotad))
            await stands(home, shift, told)


async def test_two_daemons_put_an_empty_store_right_together_and_either_may_die(tmp_path: Path) -> None:
    with (
        recorded(tmp_path) as home,
        Tap(home.broker.port, losses.DECISIONS) as tap,
        beside(home, tmp_path / "capture2") as other,
    ):
        losses.started(other)
        async with working(home.store.url, [POOL]) as shift:
            await quiet_morning(home, tap, shift)
            await until(lambda: entries_kept(tmp_path / "capture2") >= home.seq())
            told = Told.by(tap, shift)
            await asyncio.to_thread(emptied, home)
            await losses.opens_again(shift, "late")
            await until(lambda: warned(home.quotad) == warned(other) == [] and other.ready)
            first, second = ((one, losses.events(one, "recovery.adopted")) for one in (home.quotad, other))
            assert first[1] or second[1]
            rebuilt = first[0] if first[1] else second[0]
            await stands(home, shift, told, daemon=rebuilt)
            home.quotad.kill()
            assert await losses.ask(shift, "alone") is Verdict.ACCEPTED
            await losses.orders(tap, "alone", 20)
            assert {it["verdict"] for it in tap.replies()[-20:]} == {"accepted"}
            await asyncio.to_thread(losses.started, home.quotad)
            other.kill()
            assert await losses.ask(shift, "the-other") is Verdict.ACCEPTED
            losses.balances(home.redis)


def beside(home: House, folder: Path) -> Quotad:
    """Another daemon over the same store and broker, with a record of its own."""
    store, port = home.store, home.broker.port
    return Quotad(store.directory, store.port, port, toml=losses.toml(folder), name="standby")


async def test_a_flipped_bit_in_the_record_is_told_and_the_day_waits_for_a_person(tmp_path: Path) -> None:
    with recorded(tmp_path) as home, Tap(home.broker.port, losses.DECISIONS) as tap:
        async with working(home.store.url, [POOL]) as shift:
            await quiet_morning(home, tap, shift)
            flip(only(tmp_path / "capture"))
            await asyncio.to_thread(emptied, home)
            await until(lambda: "is damaged" in str(warned(home.quotad)))
            (warning,) = [one for one in warned(home.quotad) if "is damaged" in one]
            assert "entries" in warning
            assert "missing" in warning
            assert await losses.ask(shift, "held") is Verdict.HALTED
            assert losses.events(home.quotad, "recovery.adopted") == []
            await asyncio.to_thread(home.quotad.does, "resume", POOL, "--reason", "nothing else is left")
            await until(lambda: warned(home.quotad) == [])
            assert await losses.ask(shift, "free") is Verdict.ACCEPTED


def flip(path: Path) -> None:
    """Change a bit in the middle of a file."""
    body = bytearray(content(path))
    body[len(body) // 2] ^= 1
    become(path, body)


async def test_a_record_that_cannot_be_read_at_the_start_lets_no_buy_in_on_an_empty_store(
    tmp_path: Path,
) -> None:
    with recorded(tmp_path) as home, Tap(home.broker.port, losses.DECISIONS) as tap:
        async with working(home.store.url, [POOL]) as shift:
            await quiet_morning(home, tap, shift)
            home.quotad.kill()
            path = only(tmp_path / "capture")
            path.unlink()
            path.mkdir()
            await asyncio.to_thread(emptied, home)
            home.quotad.start()
            await until(lambda: losses.events(home.quotad, "store.not_attested"))
            await until(lambda: losses.events(home.quotad, "recovery.failed"))
            await until(lambda: home.quotad.pool(POOL).get("status") == "halted")
            assert await losses.ask(shift, "held") is Verdict.HALTED
            await until(lambda: "cannot be written" in home.quotad.get("/-/ready")[1])


async def test_the_record_of_another_client_id_is_not_taken_for_ours(tmp_path: Path) -> None:
    with recorded(tmp_path) as home, Tap(home.broker.port, losses.DECISIONS) as tap:
        async with working(home.store.url, [POOL]) as shift:
            await quiet_morning(home, tap, shift)
            home.quotad.kill()
            await asyncio.to_thread(emptied, home)
            with beside(home, tmp_path / "capture") as other:
                other.start()
                await until(lambda: "only as quotad" in str(warned(other)))
                assert await losses.ask(shift, "held") is Verdict.HALTED


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path) as servers:
        yield servers


async def test_a_failover_that_lost_writes_is_made_good(fleet: Watched, tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        url = f"redis+sentinel://127.0.0.1:{fleet.sentinel}/quota/0"
        toml = losses.toml(tmp_path / "capture")
        with (
            Quotad(tmp_path, 0, broker.port, toml=toml, store=f'url = "{url}"') as quotad,
            Tap(broker.port, losses.DECISIONS) as tap,
        ):
            losses.started(quotad)
            async with working(url, [POOL]) as shift:
                shift.over = True
                await losses.orders(tap, "kept", 20)
                await linked(fleet.primary.port)
                await cut_off(fleet)
                await losses.orders(tap, "lost", 20)
                assert await losses.ask(shift, "lost") is Verdict.ACCEPTED
                last = max(call.seq or 0 for call in shift.answered())
                await until(lambda: entries_kept(tmp_path / "capture") >= last)
                told = Told.by(tap, shift)
                fleet.primary.stop()
                await losses.opens_again(shift, "late")
                await until(lambda: warned(quotad) == [] and quotad.ready)
            with Redis(port=fleet.replica.port, decode_responses=True) as client:
                told.stands(client, entries_found(quotad))
                losses.bought_nothing_meanwhile(client)
                losses.balances(client)


async def cut_off(fleet: Watched) -> None:
    """Let the replica hear no more of its primary."""
    await say(fleet.primary.port, "ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
    await say(fleet.primary.port, "CLIENT", "KILL", "TYPE", "replica")
