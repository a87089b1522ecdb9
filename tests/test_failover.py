"""A primary dies under Sentinel in mid-traffic: what is lost is noticed before another buy is decided."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from quota.decision import PoolName, Side, Verdict
from quota.gate.answers import Result
from quota.store.record import keys
from tests.daemons import Quotad, new
from tests.fleet import Watched, say, watched
from tests.servers import Mosquitto
from tests.shift import CHARGE_FEN, Shift, working
from tests.tap import Tap, until, until_now

POOL = PoolName.NB_SH
ORDERS = f"connect/{POOL}/orders"


@dataclass(slots=True)
class Site:
    """A watched pair, a broker and a daemon."""

    fleet: Watched
    broker: Mosquitto
    quotad: Quotad

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.fleet.sentinel}/quota/0"

    async def field(self, name: str) -> str:
        """A field of the pool, on the server that was promoted."""
        async with Redis(port=self.fleet.replica.port, decode_responses=True) as client:
            return str(await client.hget(keys(POOL)[0], name))

    async def promoted(self) -> None:
        """Wait until the Sentinel names the replica as the primary, and no longer as one that is down."""
        wanted = {b"port": str(self.fleet.replica.port).encode(), b"flags": b"master"}
        async with asyncio.timeout(20):
            while not wanted.items() <= (await self._named()).items():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)

    async def _named(self) -> dict[bytes, bytes]:
        flat = await say(self.fleet.sentinel, "SENTINEL", "MASTER", "quota")
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def returns(self) -> None:
        """Start the one that died again, as a replica of the new primary."""
        await asyncio.to_thread(self.fleet.primary.start)
        await say(self.fleet.primary.port, "REPLICAOF", "127.0.0.1", self.fleet.replica.port)

    async def caught_up(self) -> None:
        """Wait until the replica has what the primary has."""
        async with asyncio.timeout(10), Redis(port=self.fleet.replica.port) as client:
            while await client.hget(keys(POOL)[0], "seq") != b"1":  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)

    async def cut_off(self) -> None:
        """Let the replica hear no more of its primary."""
        await say(self.fleet.primary.port, "ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
        await say(self.fleet.primary.port, "CLIENT", "KILL", "TYPE", "replica")

    def warnings(self) -> list[str]:
        found: list[str] = json.loads(self.quotad.get("/-/ready")[1])["warnings"]
        return found


@pytest.fixture
def home(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site whose daemon serves one pool; its parameter is the daemon's durability."""
    durability = getattr(request, "param", "memory")
    with watched(tmp_path) as fleet, Mosquitto(tmp_path) as broker:
        store = f'url = "redis+sentinel://127.0.0.1:{fleet.sentinel}/quota/0"\ndurability = "{durability}"'
        with Quotad(tmp_path, 0, broker.port, store=store, toml=f'pools = ["{POOL}"]') as quotad:
            quotad.start()
            until_now(lambda: quotad.ready)
            yield Site(fleet, broker, quotad)


def verified(site: Site, shift: Shift, directory: Path) -> tuple[int, str]:
    done = site.quotad.does("verify", "--history", str(shift.history(directory)))
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("home", ["replica"], indirect=True)
async def test_what_a_replica_has_confirmed_outlives_a_failover_in_mid_traffic(
    home: Site, tmp_path: Path
) -> None:
    with Tap(home.broker.port, ("connect/+/decisions/#",)) as tap:
        async with working(home.url, [POOL], "replica") as shift:
            await until(lambda: len(shift.answered()) > 300)
            for number in range(300):
                tap.say(ORDERS, new(f"m-{number}"))
            await until(lambda: len(tap.replies()) > 20)
            home.fleet.primary.stop()
            await home.promoted()
            await home.returns()
            before = len(shift.answered(Verdict.ACCEPTED))
            await until(lambda: len(shift.answered(Verdict.ACCEPTED)) > before + 300)
            await until(lambda: len({reply["order_id"] for reply in tap.replies()}) == 300)
        async with working(home.url, [POOL], "replica") as asking:
            asking.over = True
            asking.calls = shift.calls
            await asking.finish()
            await asking.still_stands()
        taken = {reply["order_id"] for reply in tap.replies() if reply["verdict"] == "accepted"}
        taken |= {call.order_id for call in shift.answered(Verdict.ACCEPTED)}
        limit, balance = int(await home.field("limit_fen")), int(await home.field("balance_fen"))
        assert limit - balance == CHARGE_FEN * len(taken)
        assert "store.attested" in home.quotad.log
        assert home.warnings() == []
        assert await home.field("halted") == ""
        code, said = await asyncio.to_thread(verified, home, shift, tmp_path)
        assert code == 0, said


async def test_what_a_failover_lost_is_noticed_before_another_buy_is_decided(
    home: Site, tmp_path: Path
) -> None:
    with Tap(home.broker.port, ("connect/+/decisions/#",)) as tap:
        async with working(home.url, [POOL]) as shift:
            shift.over = True
            kept = await asked(shift, "kept")
            await home.caught_up()
            await until(lambda: home.quotad.metric(f"quota_seq{{pool={q(POOL)}}}") == 1)
            await home.cut_off()
            lost = await asked(shift, "lost")
            tap.say(ORDERS, new("m-lost"))
            await until(lambda: home.quotad.metric(f"quota_seq{{pool={q(POOL)}}}") == 3)
            home.fleet.primary.stop()
            await home.promoted()
            assert await asked(shift, "after") is Verdict.HALTED
            assert await asked(shift, "sells", Side.SELL) is Verdict.ACCEPTED
            assert (kept, lost) == (Verdict.ACCEPTED, Verdict.ACCEPTED)
            await until(lambda: "store.not_attested" in home.quotad.log)
            await until(home.warnings)
            assert "seq: the store ended at 1" in home.warnings()[0]
            tap.say(ORDERS, new("m-after"))
            await until(lambda: [reply["verdict"] for reply in tap.replies()][1:] == ["halted"])
            assert home.quotad.log.count("store.not_attested") == 1
            code, said = await asyncio.to_thread(verified, home, shift, tmp_path)
            assert (code, "lost" in said) == (1, True), said
            done = await asyncio.to_thread(home.quotad.does, "resume", POOL, "--reason", "sent again")
            assert done.returncode == 0, done.stderr
            assert await asked(shift, "lost") is Verdict.ACCEPTED
            await until(lambda: home.warnings() == [])
        assert (await asyncio.to_thread(home.quotad.does, "verify")).returncode == 0


async def test_a_fresh_daemon_that_knows_nothing_does_not_attest(home: Site) -> None:
    async with working(home.url, [POOL]) as shift:
        shift.over = True
        assert await asked(shift, "kept") is Verdict.ACCEPTED
        await home.caught_up()
        home.quotad.kill()
        home.fleet.primary.stop()
        await home.promoted()
        home.quotad.start()
        await until(lambda: home.quotad.ready)
        await until(home.warnings)
        assert "has not seen the day on the store before" in home.warnings()[0]
        assert await asked(shift, "after") is Verdict.HALTED


async def test_a_former_primary_that_comes_back_does_not_hide_what_the_other_one_answered(
    home: Site, tmp_path: Path
) -> None:
    async with working(home.url, [POOL]) as shift:
        shift.over = True
        assert await asked(shift, "kept") is Verdict.ACCEPTED
        await home.caught_up()
        assert home.fleet.primary.process is not None
        os.kill(home.fleet.primary.process.pid, signal.SIGSTOP)
        await home.promoted()
        await until(lambda: "store.attested" in home.quotad.log)
        for number in range(5):
            assert await asked(shift, f"other-{number}") is Verdict.ACCEPTED
        await until(lambda: home.quotad.metric(f"quota_seq{{pool={q(POOL)}}}") == 6)
        home.fleet.replica.stop()
        os.kill(home.fleet.primary.process.pid, signal.SIGCONT)
        await until(lambda: "store.not_attested" in home.quotad.log)
        await until(home.warnings)
        assert "seq: the store ended at" in home.warnings()[0]
        assert await asked(shift, "after") is Verdict.HALTED
        assert await asked(shift, "sells", Side.SELL) is Verdict.ACCEPTED
        async with asyncio.timeout(30):  # the Sentinel has not made up its mind yet
            while "No master found" in (found := await asyncio.to_thread(verified, home, shift, tmp_path))[1]:
                pass
        assert (found[0], "other-4" in found[1]) == (1, True), found


def q(text: str) -> str:
    """Write a label's value."""
    return f'"{text}"'


async def asked(shift: Shift, order_id: str, side: Side = Side.BUY) -> Verdict | None:
    """Ask until there is an answer."""
    async with asyncio.timeout(20):
        while (answer := await shift.ask(POOL, order_id, side)).outcome is Result.UNKNOWN:
            pass
    return answer.verdict
