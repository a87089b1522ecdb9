"""The composition root: the only file that knows both quota and feeds puts the parts together."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from starlette.applications import Starlette

from feeds.archive import Archive, archive_in
from feeds.capture import CaptureSettings, FileCapture
from feeds.mqtt import MqttFeed, MqttSettings, client_tls
from feeds.player import Player
from feeds.recorded import FileRecorded
from feeds.scenario import LIMITS_YUAN as SIMULATED_LIMITS_YUAN
from feeds.simulator import Simulator
from quota import http
from quota.captured import Delivered, refuse_another_clock
from quota.clock import MarketClock
from quota.config import Settings
from quota.days import Almanac, Days
from quota.decision import PoolName
from quota.desk import replaying, reporting, screen
from quota.door import tls_of
from quota.embedded import embedded_broker, embedded_store
from quota.errors import CaptureUnavailable, ConfigError
from quota.events import MARKET_TZ
from quota.ledger import RedisLedger
from quota.library import Library
from quota.metrics import Metrics
from quota.notify import Notifier
from quota.page.live import Live
from quota.proof.dayend import clock_of
from quota.proof.verify import verify
from quota.recovery import Recovery
from quota.rulebook import Calendar
from quota.running import Running
from quota.store.nodes import connected
from quota.store.record import RedisRecord

__all__ = ["SIMULATED_LIMITS_YUAN", "Options", "rehearse", "replay", "report", "run_daemon"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run: what of our own to start, and by which clock."""

    embedded: bool
    simulate: bool
    seed: int
    at: datetime | None
    speed: float


Market = Callable[[Settings, Running], Coroutine[None, None, Mapping[PoolName, screen.Sent]]]
"""Plays a market to its end against a daemon, and tells what it sent to each pool."""


async def run_daemon(settings: Settings, options: Options, market: Market | None = None) -> int:
    """Put the parts together and run them; exit 1 if a day that was played does not verify."""
    if options.simulate:
        market = partial(_simulated, options.seed)
    async with AsyncExitStack() as stack:
        if options.embedded:
            settings = await _embedded(stack, settings)
        nodes = connected(settings.redis)
        stack.push_async_callback(nodes.aclose)
        library = Library(nodes, settings.redis.durability, settings.redis.deadline_ms * 3 // 4)
        running = await _parts(stack, settings, options, library)
        pages = _pages(running, settings)
        address = await _serve(stack, settings, pages, options)
        showing = asyncio.create_task(
            screen.chosen(Console(), embedded=options.embedded)(running, _notes(settings, address))
        )
        stack.callback(showing.cancel)
        _report_by_itself(stack, settings, running)
        if market is None:
            await running.run()
            return 0
        sent = await screen.until_over(running, market(settings, running))
        showing.cancel()
        pages.state.broadcast.end()
        return 0 if sent is None else await _over(settings, running, RedisRecord(library), sent)


async def _over(
    settings: Settings, running: Running, record: RedisRecord, sent: Mapping[PoolName, screen.Sent]
) -> int:
    """Say what a day was that was played to its end, and write its report where there is a record."""
    if running.capture is not None:
        day = max(it.pool.trading_day for it in running.days.snapshots.values() if it.pool)
        await report(settings, day, None, None)
    found = [await verify(record, pool) for pool in settings.market.pools]
    return screen.end_of_day(Console(), sent, running.watch.reports(), found)


async def _simulated(seed: int, settings: Settings, running: Running) -> Mapping[PoolName, screen.Sent]:
    clock = running.days.almanac.clock
    return (await Simulator(settings.mqtt.url, settings.mqtt.root, clock, seed).run()).pools


async def _embedded(stack: AsyncExitStack, settings: Settings) -> Settings:
    """Start a store and a broker, and point the settings at them."""
    store = await stack.enter_async_context(embedded_store())
    broker = await stack.enter_async_context(embedded_broker())
    redis = settings.redis.model_copy(update={"url": store})
    mqtt = settings.mqtt.model_copy(update={"url": broker})
    return settings.model_copy(update={"redis": redis, "mqtt": mqtt})


async def _parts(stack: AsyncExitStack, settings: Settings, options: Options, library: Library) -> Running:
    """Build the daemon and connect its feed; signals end it."""
    market, ledger, clock = settings.market, RedisLedger(library), MarketClock()
    if options.at is not None:
        clock = MarketClock(options.at, await library.server_ms(), options.speed, real=False)
    own = market.calendar
    almanac = Almanac(
        clock=clock,
        calendar=Calendar.load(closed=own.closed, extra=own.open, half_days=own.half_days),
        market=market,
        levels=settings.alerts.levels,
        open_late=market.open_late == "open" or options.embedded or options.at is not None,
    )
    feed = await stack.enter_async_context(MqttFeed(_mqtt(settings)))
    metrics = Metrics(market.pools, version("quotad"))
    days = Days(ledger, almanac, market.pools)
    running = Running(
        feed=feed,
        ledger=ledger,
        library=library,
        days=days,
        metrics=metrics,
        record=ledger.record,
        capture=await _capture(stack, settings, almanac, metrics),
        recovery=_recovery(settings, ledger, days),
        notifier=Notifier.from_environment(os.environ),
    )
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(name, running.stop)
    return running


async def _capture(
    stack: AsyncExitStack, settings: Settings, almanac: Almanac, metrics: Metrics
) -> FileCapture | None:
    """Open the record of the day, where one is to be kept: under the client id, per trading day."""
    own = settings.capture
    if own.folder is None:
        return None
    capture = CaptureSettings(
        folder=own.folder,
        client_id=settings.mqtt.client_id,
        rotate_bytes=own.rotate_mib * 1024 * 1024,
        keep_days=own.keep_days,
    )
    kept = await stack.enter_async_context(FileCapture(capture, almanac.latest_day, metrics.captured))
    clock = almanac.clock
    with suppress(CaptureUnavailable):  # the daemon tells of it, and waits
        refuse_another_clock(await kept.reached(), clock.today().isoformat(), is_real=clock.real)
    return kept


def _report_by_itself(stack: AsyncExitStack, settings: Settings, running: Running) -> None:
    """Have the report of each day written, where a record is kept."""
    folder, recorder = settings.capture.folder, running.recorder
    if folder is None or recorder is None:
        return
    mine = partial(Archive, folder, settings.mqtt.client_id, settings.mqtt.root)
    day_end = reporting.DayEnd(running.days, mine, folder, version("quotad"), recorder.behind)
    stack.callback(asyncio.create_task(day_end.run(), name="report").cancel)


async def report(settings: Settings, day: str, folder: Path | None, out: Path | None) -> int:
    """Write the report of a day from the record in a folder."""
    folder = folder or settings.capture.folder
    if folder is None:
        raise ConfigError("capture.folder: is not set: name it with --capture")
    archive = archive_in(folder, settings.mqtt.client_id, settings.mqtt.root)
    return await asyncio.to_thread(reporting.tell, archive, day, out or folder, version("quotad"))


def _recovery(settings: Settings, ledger: RedisLedger, days: Days) -> Recovery | None:
    """Read the same record again where a store has lost something of a day."""
    folder, mqtt = settings.capture.folder, settings.mqtt
    if folder is None:
        return None
    recorded = FileRecorded(folder, mqtt.client_id, mqtt.root)
    return Recovery(ledger, ledger.record, days, recorded, settings.recovery.resume == "auto")


async def replay(settings: Settings, files: Sequence[Path], day: str, *, dry: bool) -> int:
    """Put the day that is in files back: in memory to check it, or into the store of the settings."""
    archive = Archive(Path(), settings.mqtt.client_id, settings.mqtt.root)
    if dry:
        return await replaying.dry_run(archive, files, day)
    return await replaying.restore(settings, archive, files, day)


async def rehearse(settings: Settings, files: Sequence[Path], day: str, options: Options) -> int:
    """Play what was delivered on a day once more, to a daemon, a store and a broker of our own."""
    archive = Archive(Path(), settings.mqtt.client_id, settings.mqtt.root)
    day, plans = replaying.read(archive, files, day)
    if options.at is None or options.at.astimezone(MARKET_TZ).date().isoformat() != day:
        raise ConfigError(f"--at: must be a moment of {day}")
    name, plan = next(iter(plans.items()))
    moment = clock_of(name, plan.terms).at_ms

    async def market(settings: Settings, running: Running) -> Mapping[PoolName, screen.Sent]:
        delivered = (record for record in archive.records(files) if isinstance(record, Delivered))
        clock, url, root = running.days.almanac.clock, settings.mqtt.url, settings.mqtt.root
        await Player(url, root, clock, delivered, moment, lambda: not running.unready()).run()
        return {}

    return await run_daemon(replaying.as_of(settings, plans), options, market)


def _mqtt(settings: Settings) -> MqttSettings:
    mqtt = settings.mqtt
    files = (mqtt.ca_file, mqtt.cert_file, mqtt.key_file)
    return MqttSettings(
        host=mqtt.host,
        port=mqtt.port,
        client_id=mqtt.client_id,
        root=mqtt.root,
        served=frozenset(settings.market.pools),
        username=mqtt.username,
        password=mqtt.password.get_secret_value() if mqtt.password else None,
        tls=client_tls(*(str(file) if file else None for file in files)) if mqtt.tls else None,
        window=mqtt.window,
    )


def _pages(running: Running, settings: Settings) -> Starlette:
    watch, token = running.watch, settings.http.token
    return http.app(
        running.metrics.registry,
        pools=watch.reports,
        ready=running.unready,
        warnings=running.warnings,
        view=Live(
            running.days,
            watch,
            running.follower,
            running.feed,
            version("quotad"),
            recording=running.recording,
        ),
        token=token.get_secret_value() if token else None,
    )


async def _serve(stack: AsyncExitStack, settings: Settings, pages: Starlette, options: Options) -> str:
    """Serve the pages; with ``--embedded`` on another port where the usual one is taken."""
    own = settings.http
    tls = tls_of(own.cert_file, own.key_file) if own.cert_file and own.key_file else None
    try:
        return await stack.enter_async_context(http.serving(pages, own.host, own.port, tls=tls))
    except ConfigError:
        if not options.embedded:
            raise
        return await stack.enter_async_context(http.serving(pages, own.host, 0, tls=tls))


def _notes(settings: Settings, address: str) -> list[str]:
    pool = f"{settings.mqtt.root}/NB-SH"
    scheme = "https" if settings.http.cert_file else "http"
    return [
        f"page     {scheme}://{address}/  and /metrics  /api/pools",
        f"broker   {settings.mqtt.url}  topics {pool}/orders  {pool}/fills",
        f"store    {settings.redis.url}",
    ]
