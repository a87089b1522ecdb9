"""One play of the simulation: some days of a market, a daemon, gateways, an operator, and misfortunes.

Everything that happens follows from the seed. The daemon, its watch and its feed are the product's
own; the broker, the store's connections, the clock and the loop are ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

from structlog.testing import capture_logs

from quota.clock import MarketClock
from quota.day import date_of
from quota.decision import PoolName
from quota.metrics import Metrics
from tests.rigs import ms
from tests.simulation.broker import IDS, Broker, Message
from tests.simulation.cast import Cast, calendar, settings
from tests.simulation.disk import Disk, Writer, recording
from tests.simulation.line import Line
from tests.simulation.link import Link
from tests.simulation.loop import OWNER, SimulatedLoop, Stalled
from tests.simulation.store import Truth

POOLS = (PoolName.NB_SH, PoolName.SB_SH)
SETTLED_S = 30.0
"""How long (virtually) everything may take to come to rest once nothing goes wrong any more."""


class Broken(AssertionError):
    """A law of the world was broken."""


@dataclass(slots=True, eq=False)
class Life:
    """One process of the daemon, until it is stopped or crashes."""

    link: Link
    lines: list[Line] = field(default_factory=list)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    running: Any = None
    root: asyncio.Task[None] | None = None
    writer: Writer | None = None
    dead: bool = False
    stopping: bool = False


class World:
    """Everything of one play. ``seen`` collects what happened that a run has to have seen."""

    def __init__(self, seed: int, cast: Cast) -> None:
        self.seed, self.cast = seed, cast
        self.rng = Random(seed)
        self.loop = SimulatedLoop(Random(self.rng.random()))
        self.start_ms = ms("2026-11-23T08:50")
        self.jumped_ms = 0
        self.truth: Truth = cast["tests.simulation.store"].Truth(self.loop, self.now_ms)
        self.broker = Broker(
            self.loop,
            Random(self.rng.random()),
            window=self.rng.choice((1, 3, 10, 30)),
            renumbers=self.rng.random() < 0.3,
            overshoots=self.rng.random() < 0.3,
            served=self._served,
            today=lambda: date_of(self.now_ms()),
        )
        self.pools = POOLS if self.rng.random() < 0.5 else (self.rng.choice(POOLS),)
        self.settings = settings(
            self.rng.choice(("0.06", "0.12", "0.40")),
            self.rng.choice(("positive_balance", "positive_balance", "must_fit")),
            "open" if self.rng.random() < 0.85 else "halt",
        )
        self.disk = Disk(self.loop, Random(self.rng.random())) if self.rng.random() < 0.8 else None
        self.truth.page_size = self.rng.choice((2, 5, 1_000))
        self.life: Life | None = None
        self.lives: list[Life] = []
        self.links: list[Link] = []
        self.crash_at = 0
        self.loss = 0.0
        self.seen: set[str] = set()
        self.logs: list[Any] = []
        self.on_served: Callable[[Message, int], None] = lambda _message, _step: None
        self.on_crash: Callable[[], None] = lambda: None
        self.truth.before_opening = self.land
        self._set_scene()

    def _set_scene(self) -> None:
        """Put our world into the copies of the modules: time, chance, the network, small bounds."""
        rng, mqtt = self.rng, self.cast["feeds.mqtt"]
        mqtt.time = SimpleNamespace(monotonic=self.loop.time)
        mqtt.random = Random(rng.random())
        names = Random(rng.random())
        mqtt.uuid = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=f"{names.getrandbits(64):016x}"))
        self.cast["feeds.claim"].uuid = mqtt.uuid
        self.cast["feeds.claim"].time = SimpleNamespace(time_ns=lambda: self.now_ms() * 1_000_000)
        mqtt.new_client = lambda _settings: self._new_line()
        mqtt.Pump = lambda client, _keepalive_s: client
        mqtt.subscribe = lambda client, _settings, **_: client.subscribe()
        mqtt.until_lost = lambda client: client.until_lost()
        sizes = ((2, 40), (8, 40), (8, 12_000), (4_096, 12_000))
        # As in the world, less is received at once than there are answers allowed, or packet ids.
        mqtt.RECEIVE_EVENTS, sent_max = rng.choice(sizes[:3] if self.broker.overshoots else sizes)
        self.cast["quota.daemon"].BATCH_EVENTS = rng.choice((1, 2, 5, 512))
        self.cast["quota.daemon"].REPLIES_MAX = rng.choice((1, 3, 200))
        self.cast["feeds.session"].SENT_MAX = sent_max
        self.cast["feeds.session"]._SLACK = rng.choice((-20, 256))
        self.cast["feeds.session"].HELD_BYTES_MAX = rng.choice((1_000, 1 << 26))
        self.cast["feeds.session"]._HELD_MAX = IDS - 4

    # Time.

    def now_ms(self) -> int:
        """Tell the time, of the server and of ours."""
        return self.start_ms + self.jumped_ms + int(self.loop.time() * 1000)

    def set_clock(self, moment: str) -> None:
        """Let the world begin at a moment of the market."""
        self.start_ms, self.jumped_ms = ms(moment), 0

    def leap_to(self, moment: str) -> None:
        """Let the clocks show a later moment of the market; what was late arrives before."""
        self.land()
        self.jumped_ms += max(0, ms(moment) - self.now_ms())

    def land(self) -> None:
        """Let the store do what arrives late; no request outlives the day in which it was made."""
        for link in self.links:
            link.land()

    # The daemon.

    def link(self) -> Link:
        """Make a way to the store."""
        made = Link(self.truth, self.loop, Random(self.rng.random()), self.loss)
        self.links.append(made)
        return made

    def _new_line(self) -> Line:
        life = self.life
        line = Line(self.broker)
        assert life is not None
        life.lines.append(line)
        return line

    def begin_life(self) -> None:
        """Start a daemon."""
        life = Life(self.link())
        self.life = life
        self.lives.append(life)
        context = copy_context()
        context.run(OWNER.set, life.tasks)
        life.root = self.loop.create_task(self._live(life), context=context)

    async def _live(self, life: Life) -> None:
        cast, mqtt = self.cast, self.cast["feeds.mqtt"]
        clock, link = MarketClock(), life.link
        almanac = cast["quota.days"].Almanac(
            clock=clock,
            calendar=calendar(),
            market=self.settings.market,
            levels=self.settings.alerts.levels,
            open_late=self.settings.market.open_late == "open",
        )
        own = mqtt.MqttSettings(
            host="here",
            served=frozenset(self.pools),
            window=self.broker.window,
            backoff_min_s=0.01,
            backoff_max_s=0.3,
        )
        async with recording(self, life, almanac.latest_day) as capture, mqtt.MqttFeed(own) as feed:
            life.running = cast["quota.running"].Running(
                feed=feed,
                ledger=link,
                library=_Library(),
                days=cast["quota.days"].Days(link, almanac, self.pools),
                metrics=Metrics(self.pools, "1"),
                record=link,
                capture=capture,
            )
            if life.stopping:
                life.running.stop()
            await life.running.run()

    def crash(self) -> None:
        """Kill the daemon: nothing that it does from now on has an effect."""
        life = self.life
        if life is None or life.dead:
            return
        self.on_crash()
        life.dead = True
        life.link.cut()
        if life.writer is not None:
            life.writer.die()
        for line in life.lines:
            line.cut()
        self._cancel(life.tasks)

    @staticmethod
    def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()  # and again, as `wait_for` of Python 3.11 may lose one

    async def restart(self) -> None:
        """Let a dead daemon's tasks unwind, and start another; what it had sent has arrived by then."""
        assert self.life is not None
        was_killed = self.life.dead
        await self.ended(self.life)
        while was_killed and (left := [task for task in self.life.tasks if not task.done()]):
            self._cancel(left)
            await asyncio.wait(left, timeout=0.05)
        await asyncio.sleep(self.rng.uniform(0.01, 0.2))
        self.life.link.land()
        self.begin_life()

    async def ended(self, life: Life) -> None:
        """Wait for the end of a daemon; it has to end well, unless it was killed."""
        assert life.root is not None
        await asyncio.wait({life.root})
        if not life.root.cancelled() and (error := life.root.exception()) is not None and not life.dead:
            raise Broken(f"the daemon ended: {error!r}") from error
        if not life.dead and not life.stopping:
            raise Broken("the daemon ended by itself")
        life.dead = True

    async def stop(self) -> None:
        """Ask the daemon to end, and wait."""
        life = self.life
        assert life is not None
        life.stopping = True
        if life.running is not None:
            life.running.stop()
        await self.ended(life)

    def _served(self, message: Message, step: int) -> None:
        self.on_served(message, step)

    # The play.

    def play(self, story: Callable[[World], Any]) -> None:
        """Play a story to its end; raises Broken, or whatever else went wrong, with the seed."""
        try:
            with _clock_of(self), capture_logs() as self.logs:
                self.loop.run_until_complete(story(self))
        except Exception as error:
            error.add_note(f"QUOTA_SEED={self.seed} plays it again")
            raise
        finally:
            self._close()

    def _close(self) -> None:
        """Drop what is left of the tasks without a word."""
        self.loop.set_exception_handler(lambda *_: None)
        self.loop.each_step = lambda: None
        for _ in range(1_000):
            if not (left := asyncio.all_tasks(self.loop)):
                break
            for task in left:
                task.cancel()
            try:
                self.loop.run_until_complete(asyncio.sleep(0))
            except (Stalled, AssertionError):
                break
        self.loop.close()


class _Library:
    """The library of functions: the rules in memory need none."""

    async def load(self) -> None:
        """It is there."""


@contextmanager
def _clock_of(world: World) -> Iterator[None]:
    own = MarketClock.__dict__["local_ms"]
    MarketClock.local_ms = staticmethod(world.now_ms)  # type: ignore[method-assign] # the machine's clock is the world's
    try:
        yield
    finally:
        MarketClock.local_ms = own  # type: ignore[method-assign] # and the machine's own again
