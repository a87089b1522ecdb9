"""What happens in a play: scenes of a market, each with its traffic, and misfortunes all the time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random

from quota.decision import PoolName
from tests.simulation.broker import Message
from tests.simulation.counted import unmissed
from tests.simulation.counters import Counters
from tests.simulation.epilogue import Epilogue
from tests.simulation.gateways import Desk
from tests.simulation.kept import unrecorded
from tests.simulation.laws import Laws
from tests.simulation.seen import sights
from tests.simulation.traffic import Traffic
from tests.simulation.world import SETTLED_S, Broken, World

FRIDAY, SATURDAY, MONDAY, TUESDAY = "2026-11-20", "2026-11-21", "2026-11-23", "2026-11-24"
WEDNESDAY = "2026-11-25"
WEEKS = (
    (MONDAY,),
    (MONDAY, TUESDAY),
    (FRIDAY, MONDAY),
    (FRIDAY, SATURDAY, MONDAY),
    (FRIDAY, MONDAY, TUESDAY),
    (FRIDAY, SATURDAY),
)
MOMENTS = (
    "00:00:03",
    "08:50:00",
    "09:05:00",
    "09:12:00",
    "09:20:00",
    "09:29:59",
    "10:00:00",
    "11:45:00",
    "13:10:00",
    "14:58:00",
    "16:20:00",
    "23:59:58",
)


@dataclass(slots=True)
class Fate:
    """How unlucky a play is."""

    loss: float
    crashes: int
    cuts_s: float
    outages_s: float
    changes_store: bool

    @classmethod
    def of(cls, rng: Random) -> Fate:
        """Draw one: a quarter of the plays is calm."""
        calm = rng.random() < 0.1
        return cls(
            loss=0.0 if calm else rng.choice((0.0, 0.05, 0.2)),
            crashes=0 if calm else rng.choice((0, 1, 2, 4)),
            cuts_s=rng.choice((0.3, 1.0, 3.0)),
            outages_s=rng.choice((1.0, 4.0)),
            changes_store=rng.random() < 0.25,
        )


@dataclass(slots=True)
class Play:
    """A story under way."""

    world: World
    fate: Fate = field(init=False)
    traffic: Traffic = field(init=False)
    desk: Desk = field(init=False)
    laws: Laws = field(init=False)
    over: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    noticed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        rng = self.world.rng
        self.fate = Fate.of(rng)
        counting = frozenset(source for source in ("a", "b", "gw") if rng.random() < 0.6)
        counters = Counters(Random(rng.random()), counting)
        self.traffic = Traffic(Random(rng.random()), self.world.pools, counters)
        self.world.loss = self.fate.loss
        if self.world.disk is not None:
            self.world.disk.failing = self.fate.loss
        self.desk = Desk(self.world, self.world.link(), self.traffic)
        self.laws = Laws(self.world, self.desk)
        self.world.on_crash = self._notice_crash
        self.world.broker.on_again = self._notice_again
        self.world.truth.opened = self._notice_opening

    async def run(self) -> None:
        """Play, and see to the daemon meanwhile; whichever fails ends the play."""
        watching = self.world.loop.create_task(self._watch_over())
        playing = self.world.loop.create_task(self._play())
        done, _ = await asyncio.wait({watching, playing}, return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
        for task in done:
            task.result()
        await self.world.stop()
        self.laws.hold()
        if self.world.rng.random() < 0.6:
            await Epilogue(self).run()
            await self.world.stop()
        self.world.seen |= sights(self)

    async def _play(self) -> None:
        """Play all scenes, then let everything come to rest."""
        world, rng = self.world, self.world.rng
        days = rng.choice(WEEKS)
        scenes = [(day, moment) for day in days for moment in self._moments(day == days[0])]
        world.set_clock(f"{scenes[0][0]}T{scenes[0][1]}")
        world.begin_life()
        self.begun.set()
        misfortunes = world.loop.create_task(self._misfortunes())
        last = scenes[0][0]
        for day, moment in scenes:
            if day != last and self.fate.crashes and rng.random() < 0.4:
                self.noticed.add("a daemon that was dead at midnight")
                world.crash()
            last = day
            world.leap_to(f"{day}T{moment}")
            await self._scene(day, moment)
        if rng.random() < 0.4:
            world.leap_to(f"{WEDNESDAY}T00:00:03")  # a day begins, and nobody says anything
        self.over = True
        misfortunes.cancel()
        await self._rest()

    def _moments(self, first: bool) -> list[str]:  # noqa: FBT001 - whether it is the first day
        rng = self.world.rng
        share = rng.choice((0.25, 0.5))
        chosen = [moment for moment in MOMENTS[first:] if rng.random() < share]
        return chosen or ["09:12:00", "10:00:00"]

    async def _scene(self, day: str, moment: str) -> None:
        world, rng = self.world, self.world.rng
        for _ in range(rng.choice((0, 1, 2))):
            self.desk.begin(day, moment)
        if rng.random() < 0.3:
            rate = rng.choice(("0.91250", "0.90000", "0.92000"))
            world.broker.retain("connect/fx", f'{{"trading_day":"{day}","rate":"{rate}"}}'.encode())
        await self.desk.operate()
        for topic, payload in self.traffic.burst(day, moment):
            world.broker.publish(topic, payload)
            if rng.random() < 0.4:
                await asyncio.sleep(rng.uniform(0, 0.1))
        await asyncio.sleep(rng.choice((0.0, 0.3, 1.0)))

    # Misfortunes.

    async def _misfortunes(self) -> None:
        rng, world = self.world.rng, self.world
        world.loop.each_step = self._perhaps_crash
        self._plan_crash()
        while True:
            await asyncio.sleep(rng.expovariate(1 / min(self.fate.cuts_s, self.fate.outages_s)))
            draw = rng.random()
            if draw < 0.5:
                world.broker.cut()
            elif draw < 0.65:
                await self._while_away(world.broker, rng.uniform(0.05, 0.8))
            elif draw < 0.75 and world.disk is not None:
                await self._while_away(world.disk, rng.uniform(0.05, 0.8))
            elif draw < 0.85:
                await self._while_away(world.truth, rng.uniform(0.05, 0.8))
            elif self.fate.changes_store:
                world.truth.become(f"memory-{world.loop.steps}")

    async def _while_away(self, whom: object, seconds: float) -> None:
        """Let the broker or the store be away for a while."""
        whom.away = True  # type: ignore[attr-defined] # both can be
        if whom is self.world.broker:
            self.world.broker.cut()
        try:
            await asyncio.sleep(seconds)
        finally:
            whom.away = False  # type: ignore[attr-defined] # both can be

    def _plan_crash(self) -> None:
        """Choose the step at which the daemon dies next: any, or one soon after it did something."""
        loop, rng = self.world.loop, self.world.rng
        self.world.crash_at = 0
        if self.fate.crashes > 0 and not self.over:
            self.fate.crashes -= 1
            self.world.crash_at = loop.steps + int(rng.expovariate(1 / 400)) + 1
            if rng.random() < 0.5:
                self.world.crash_at = 1 << 62
                self.world.truth.committed = self._crash_soon

    def _crash_soon(self) -> None:
        """Let the daemon die a few steps after the next commit."""
        self.world.truth.committed = lambda: None
        self.world.crash_at = self.world.loop.steps + self.world.rng.randint(1, 15)

    def _perhaps_crash(self) -> None:
        if self.world.crash_at and self.world.loop.steps >= self.world.crash_at and not self.over:
            self.world.crash_at = 0
            self.world.crash()

    async def _watch_over(self) -> None:
        """Start the daemon again whenever it has died; ask it to end well now and then."""
        world, rng = self.world, self.world.rng
        await self.begun.wait()
        while True:
            life = world.life
            assert life is not None
            assert life.root is not None
            if not self.over and rng.random() < 0.05:
                if world.broker.in_hand:
                    self.noticed.add("a daemon that ended well with work in hand")
                await world.stop()
            done, _ = await asyncio.wait({life.root}, timeout=0.5)
            if done or life.dead:
                await world.restart()
                self._plan_crash()

    # The end.

    async def _rest(self) -> None:
        """Let nothing go wrong any more, and wait until everything is done with."""
        world = self.world
        world.broker.away = world.truth.away = False
        world.loss = 0.0
        for link in world.links:
            link.loss = 0.0
        if world.disk is not None:
            world.disk.away, world.disk.failing = False, 0.0
        await asyncio.sleep(1.0)  # until the watch has looked at the last scene
        until = world.loop.time() + SETTLED_S
        while restless := self.restless():
            if world.loop.time() > until:
                raise Broken(f"does not come to rest: {restless}")
            await asyncio.sleep(0.1)
            await self.desk.answer_for_the_store()
        self.laws.rested = world.loop.steps

    def restless(self) -> str:
        """Say what is still to be done; empty when all is at rest and as it should be."""
        world, life = self.world, self.world.life
        if life is None or life.dead or life.running is None:
            return "no daemon runs"
        if self.desk.at_work:
            return f"{len(self.desk.at_work)} gateways are at work"
        if world.broker.waiting:
            left = [message for message in world.broker.messages if not message.acknowledged]
            return "; ".join(f"{it.topic} {it.payload[:80]!r} sent {len(it.sent)} times" for it in left[:3])
        if life.running.feed.unacknowledged:
            return "the feed waits for acknowledgements"
        if unready := life.running.unready():
            return str(unready)
        return self._untold() or unrecorded(world) or unmissed(world)

    def _untold(self) -> str:
        """Say of which pool the world does not know all yet."""
        for pool in self.world.pools:
            book = self.world.truth.books[pool]
            if book.changes and book.published != book.changes[-1].id:
                return f"{pool}: changes after {book.published} are not told"
            if book.pool is None:
                continue  # no day was ever opened: the daemon came for the first time on a Saturday
            if self.laws.reported(pool) != (book.pool.trading_day, book.pool.seq, book.pool.status):
                return f"{pool}: its status is not told"
        return ""

    # What is noticed as it happens.

    def _notice_crash(self) -> None:
        names = {
            "uncommitted": "a crash before the commit",
            "committed": "a crash between commit and reply",
            "answered": "a crash between reply and acknowledgement",
        }
        states = {self.laws.state(message) for message in self.world.broker.in_hand}
        self.noticed |= {names[state] for state in states if state in names}

    def _notice_again(self, message: Message) -> None:
        if self.laws.state(message) == "answered":
            self.noticed.add("a redelivery of an answered order")
        if self.world.broker.renumbers:
            self.noticed.add("a redelivery under another id")

    def _notice_opening(self, _pool: PoolName) -> None:
        if len({message.published for message in self.world.broker.in_hand}) > 1:
            self.noticed.add("a day opened in mid-queue")


async def story(world: World) -> None:
    """Play a story."""
    await Play(world).run()
