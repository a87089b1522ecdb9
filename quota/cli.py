"""The command line, and the only file that knows both quota and feeds: it puts the parts together."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console

from feeds.mqtt import MqttFeed, MqttSettings, client_tls
from feeds.scenario import LIMITS_YUAN
from feeds.simulator import Simulator
from quota import http, operator, screen
from quota.clock import MarketClock
from quota.config import Settings, load
from quota.days import Almanac, Days
from quota.decision import PoolName, Side
from quota.embedded import embedded_broker, embedded_store
from quota.errors import ConfigError, QuotaError
from quota.events import parse_time
from quota.ledger import RedisLedger
from quota.library import Library, connected
from quota.logs import configure
from quota.metrics import Metrics
from quota.money import yuan_to_fen
from quota.rulebook import Calendar
from quota.running import Running
from quota.verify import verify as verified

_SIMULATED_DAY = "2026-11-23T08:59:50+08:00"
_SIMULATED_SPEED = 108.0
_SIMULATED_RATE = "0.91250"

app = typer.Typer(
    help="Watches the daily quota of Stock Connect: MQTT in, decisions in Redis, metrics for Prometheus.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Config = Annotated[Path | None, typer.Option("--config", help="A TOML file of settings.")]
Pool = Annotated[PoolName, typer.Argument(help="NB-SH, NB-SZ, SB-SH or SB-SZ.")]
Reason = Annotated[str, typer.Option("--reason", help="Why: it is journalled with your name and host.")]


def _market_time(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def run(  # noqa: PLR0913 - the options of a command are its interface
    config: Config = None,
    *,
    embedded: Annotated[
        bool, typer.Option(help="Start a store and a broker of our own on loopback.")
    ] = False,
    simulate: Annotated[bool, typer.Option(help="Play a simulated market day.")] = False,
    seed: Annotated[int, typer.Option(help="Of the simulated market.")] = 1,
    at: Annotated[
        datetime | None, typer.Option(parser=_market_time, help="Start the market clock here.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(min=0.01, max=10_000, help="Let the clock run faster.")
    ] = None,
) -> None:
    """Run the daemon."""
    if simulate:
        at, speed = at or _market_time(_SIMULATED_DAY), speed or _SIMULATED_SPEED
    if speed is not None and at is None:
        raise typer.BadParameter("--speed needs --at: the real clock has its own pace")
    settings = _settings(config, daemon=True, embedded=embedded, simulate=simulate)
    options = Options(embedded=embedded, simulate=simulate, seed=seed, at=at, speed=speed or 1.0)
    _end_with(lambda: _run(settings, options))


@app.command()
def status(
    config: Config = None,
    *,
    watch: Annotated[bool, typer.Option(help="Go on until Ctrl-C.")] = False,
    json: Annotated[bool, typer.Option(help="JSON, as /api/pools has it.")] = False,
) -> None:
    """Show the pools."""
    settings = _settings(config)
    _end_with(lambda: operator.status(settings, watch=watch, json=json))


@app.command()
def check(pool: Pool, side: Side, config: Config = None) -> None:
    """Tell what a buy or a sell would get now; exits 3 where it would be refused."""
    settings = _settings(config)
    _end_with(lambda: operator.check(settings, pool, side))


@app.command()
def verify(config: Config = None) -> None:
    """Compare every pool's journal with its records; exits 1 if anything differs."""
    settings = _settings(config)
    _end_with(lambda: operator.verify_pools(settings))


@app.command()
def halt(pool: Pool, reason: Reason, config: Config = None) -> None:
    """Refuse all new buys of a pool until it is resumed."""
    settings = _settings(config)
    _end_with(lambda: operator.act(settings, pool, "halt", reason))


@app.command()
def resume(pool: Pool, reason: Reason, config: Config = None) -> None:
    """Lift a halt."""
    settings = _settings(config)
    _end_with(lambda: operator.act(settings, pool, "resume", reason))


@app.command()
def limit(
    pool: Pool,
    yuan: Annotated[str, typer.Argument(help="Today's limit in yuan, above zero.")],
    reason: Reason,
    config: Config = None,
    *,
    reopen: Annotated[
        bool, typer.Option(help="Lift an exhaustion too, if the balance is then above zero.")
    ] = False,
) -> None:
    """Change today's limit of a pool, at once."""
    settings = _settings(config)
    try:
        limit_fen = yuan_to_fen(yuan)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="YUAN") from None
    _end_with(lambda: operator.act(settings, pool, "limit", reason, limit_fen=limit_fen, reopen=reopen))


@app.command(name="config")
def check_config(file: Annotated[Path, typer.Argument(help="The file to check.")]) -> None:
    """Check a settings file; names every mistake and exits 1 if there is one."""
    _settings(file, daemon=True)
    typer.echo(f"{file}: good")


def _settings(
    config: Path | None, *, daemon: bool = False, embedded: bool = False, simulate: bool = False
) -> Settings:
    """Read the settings. A rate that nobody gave is needed by a daemon on servers of its own only."""
    environ = dict(os.environ)
    if config is None and (embedded or not daemon):
        environ.setdefault("QUOTA_MARKET__HKD_CNY", _SIMULATED_RATE)
    if simulate:
        for pool, yuan in LIMITS_YUAN.items():
            environ.setdefault(f"QUOTA_MARKET__LIMITS_YUAN__{pool.name}", yuan)
    try:
        return load(config, environ)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def _end_with(work: Callable[[], Coroutine[Any, Any, int]]) -> None:
    """Do the work and exit with its code; our own errors are one line and code 1."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(work())
    except QuotaError as error:
        typer.echo(f"quotad: {error}", err=True)
        code = 1
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run: what of our own to start, and by which clock."""

    embedded: bool
    simulate: bool
    seed: int
    at: datetime | None
    speed: float


async def _run(settings: Settings, options: Options) -> int:
    """Put the parts together and run them; exit 1 if a simulated day does not verify."""
    async with AsyncExitStack() as stack:
        if options.embedded:
            settings = await _embedded(stack, settings)
        client = connected(settings.redis)
        stack.push_async_callback(client.aclose)
        library = Library(client)
        running = await _parts(stack, settings, options, library)
        address = await _serve(stack, settings, running, options)
        showing = asyncio.create_task(
            screen.chosen(Console(), embedded=options.embedded)(running, _notes(settings, address))
        )
        stack.callback(showing.cancel)
        if not options.simulate:
            await running.run()
            return 0
        clock = running.days.almanac.clock
        market = Simulator(settings.mqtt.url, settings.mqtt.root, clock, options.seed)
        summary = await screen.until_over(running, market.run())
        showing.cancel()
        if summary is None:
            return 0
        found = [await verified(RedisLedger(library), pool) for pool in settings.market.pools]
        return screen.end_of_day(Console(), summary.pools, running.watch.reports(), found)


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
    running = Running(
        feed=feed,
        ledger=ledger,
        library=library,
        days=Days(ledger, almanac, market.pools),
        metrics=Metrics(market.pools, version("quotad")),
    )
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(name, running.stop)
    return running


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


async def _serve(stack: AsyncExitStack, settings: Settings, running: Running, options: Options) -> str:
    """Serve the pages; with ``--embedded`` on another port where the usual one is taken."""
    watch = running.watch
    pages = http.app(
        running.metrics.registry, pools=watch.reports, ready=watch.unready, warnings=watch.warnings
    )
    try:
        return await stack.enter_async_context(http.serving(pages, settings.http.host, settings.http.port))
    except ConfigError:
        if not options.embedded:
            raise
        return await stack.enter_async_context(http.serving(pages, settings.http.host, 0))


def _notes(settings: Settings, address: str) -> list[str]:
    pool = f"{settings.mqtt.root}/NB-SH"
    return [
        f"pages    http://{address}/metrics  /api/pools",
        f"broker   {settings.mqtt.url}  topics {pool}/orders  {pool}/fills",
        f"store    {settings.redis.url}",
    ]


def main() -> None:
    """Start from the console script."""
    configure()
    app()
