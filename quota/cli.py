"""The command line: what each command takes, and how it ends."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from quota.assembly import SIMULATED_LIMITS_YUAN, Options, rehearse, run_daemon
from quota.assembly import replay as replay_day
from quota.assembly import report as report_day
from quota.config import Settings, load
from quota.decision import PoolName, Side
from quota.desk import absent, audit, operator
from quota.errors import ConfigError, QuotaError
from quota.events import parse_time
from quota.logs import configure
from quota.money import yuan_to_fen

_SIMULATED_DAY = "2026-11-23T08:59:50+08:00"
_SIMULATED_SPEED = 108.0
_SIMULATED_RATE = "0.91250"
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

app = typer.Typer(
    help="Watches the daily quota of Stock Connect: MQTT in, decisions in Redis, metrics for Prometheus.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Config = Annotated[Path | None, typer.Option("--config", help="A TOML file of settings.")]
Pool = Annotated[PoolName, typer.Argument(help="NB-SH, NB-SZ, SB-SH or SB-SZ.")]
Reason = Annotated[str, typer.Option("--reason", help="Why: it is journalled with your name and host.")]


def _day(text: str) -> str:
    if _DATE.fullmatch(text):
        with suppress(ValueError):
            return date.fromisoformat(text).isoformat()
    raise typer.BadParameter("must be a date like 2026-11-23")


def _market_time(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.callback()
def first(
    *,
    shown: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    """Take what comes before the command."""
    if shown:
        typer.echo(f"quotad {version('quotad')}")
        raise typer.Exit


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
    _end_with(lambda: run_daemon(settings, options))


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
def verify(
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="More histories.")] = None,
    config: Config = None,
    *,
    history: Annotated[
        list[Path] | None,
        typer.Option(help="What a gateway asked and was answered: prove it from the journal."),
    ] = None,
) -> None:
    """Compare every pool's journal with its records; exits 1 if anything differs."""
    if more and not history:
        raise typer.BadParameter("files are histories: give them after --history")
    settings = _settings(config)
    histories = [*(history or ()), *(more or ())]
    _end_with(lambda: audit.verify_pools(settings, histories))


@app.command()
def gaps(
    config: Config = None,
    *,
    pool: Annotated[PoolName | None, typer.Option(help="One pool; else all of the settings.")] = None,
    accept: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE", help="Accept what is missing of it.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why: it is kept with your name and host.")] = "",
) -> None:
    """List numbered events that are missing, exiting 1 where any are, or accept that they stay away."""
    settings = _settings(config)
    pools = [pool] if pool else settings.market.pools
    if accept:
        _end_with(lambda: absent.accept(settings, pools, accept, reason))
    if reason:
        raise typer.BadParameter("--reason needs --accept")
    _end_with(lambda: absent.gaps(settings, pools))


@app.command()
def report(
    day: Annotated[str, typer.Argument(parser=_day, metavar="DAY", help="A date like 2026-11-23.")],
    config: Config = None,
    *,
    capture: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Of the record; else capture.folder.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write; else beside the record.")
    ] = None,
) -> None:
    """Write the report of a day from its record; exits 1 where the record is damaged or lacks entries."""
    settings = _settings(config)
    _end_with(lambda: report_day(settings, day, capture, out))


@app.command()
def replay(  # noqa: PLR0913 - the options of a command are its interface
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The record of a day.")],
    config: Config = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="In memory only, and compare each entry.")
    ] = False,
    day: Annotated[
        str | None, typer.Option(parser=_day, metavar="DAY", help="Where the files are of several.")
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(parser=_market_time, help="Rehearse: play what was delivered, from this moment on."),
    ] = None,
    speed: Annotated[
        float | None, typer.Option(min=0.01, max=10_000, help="Let the rehearsal run faster.")
    ] = None,
) -> None:
    """Put a day back from its record, into an empty store; exits 1 where anything differs or is unknown.

    With --at it is rehearsed: by a daemon, a store and a broker of its own, which keep nothing.
    """
    if speed is not None and at is None:
        raise typer.BadParameter("--speed needs --at: the real clock has its own pace")
    if at is not None and dry_run:
        raise typer.BadParameter("--at plays the day and --dry-run does not: choose one")
    settings = _settings(config)
    if at is not None:
        options = Options(embedded=True, simulate=False, seed=1, at=at, speed=speed or 1.0)
        _end_with(lambda: rehearse(settings, files, day or "", options))
    _end_with(lambda: replay_day(settings, files, day or "", dry=dry_run))


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
    yuan: Annotated[str, typer.Argument(help="Today's limit in yuan, above zero; 60,000,000,000 will do.")],
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
        limit_fen = yuan_to_fen(yuan.replace(",", ""))
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
        for pool, yuan in SIMULATED_LIMITS_YUAN.items():
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


def main() -> None:
    """Start from the console script."""
    configure()
    app()
