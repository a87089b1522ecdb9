"""The commands of the operations page, run as they stand there, and what they are said to do."""

from __future__ import annotations

import asyncio
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from quota.decision import PoolName
from quota.store.record import keys
from tests.daemons import new
from tests.deployed import DEPLOY, ROOT
from tests.machine import SETTINGS, Machine, blocks, chapters, machine
from tests.tap import Tap, until, until_now

DOCUMENT = ROOT / "docs" / "operations.md"
COMMANDS = {name: text for kind, name, text in blocks() if kind == "run"}
BY_HAND = [text for kind, _, text in blocks() if kind == "by"]
ORDERS = "connect/NB-SH/orders/gw1"
NB_SH = keys(PoolName.NB_SH)


@pytest.fixture(params=["redis"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path, request.param) as host:
        host.start_daemon()
        yield host


@pytest.fixture
def tap(host: Machine) -> Iterator[Tap]:
    with Tap(host.home.broker.port) as tap:
        yield tap


def figures(host: Machine) -> dict[str, str]:
    """What the store has of the pool, what says when apart."""
    found: Any = host.home.redis.hgetall(NB_SH[0])
    names = ("balance_fen", "open_buy_fen", "filled_buy_fen", "filled_sell_fen", "seq", "status", "limit_fen")
    return {name: found[name] for name in names} | {n: found[n] for n in found if n.startswith("decided_")}


def answered(tap: Tap) -> set[str]:
    return {reply["order_id"] for reply in tap.replies()}


# The document itself. -------------------------------------------------------------------------


def test_every_block_of_commands_is_run_here_or_said_to_be_run_by_hand() -> None:
    text = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    unused = [name for name in COMMANDS if f'COMMANDS["{name}"]' not in text]
    assert not unused
    assert len(re.findall(r"^ *```sh", chapters(), re.MULTILINE)) == len(COMMANDS) + len(BY_HAND)


@pytest.mark.parametrize("commands", BY_HAND)
def test_what_is_run_by_hand_is_a_shell_that_names_files_that_are_there(commands: str) -> None:
    subprocess.run(["bash", "-n", "-c", commands], check=True)
    for name in re.findall(r"\bdeploy/[\w./-]+", commands):
        assert name.startswith("deploy/compose/secrets") or (ROOT / name).exists(), name


def test_the_ports_are_those_of_the_compose_file() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yml").read_text("utf-8"))["services"].values()
    opened = {port.split(":")[1] for own in services for port in own["ports"]}
    assert set(re.findall(r"^\| (\d{4}) \|", chapters(), re.MULTILINE)) == opened


# Installing. ----------------------------------------------------------------------------------


def test_the_files_are_installed_where_the_servers_look(host: Machine) -> None:
    assert host.run(COMMANDS["files"]).strip().endswith("good")
    for source, place in (
        ("quotad.toml", "quotad/quotad.toml"),
        ("redis.conf", "redis/redis.conf"),
        ("prometheus/rules.yml", "prometheus/rules.yml"),
        ("systemd/quotad-verify.timer", "systemd/system/quotad-verify.timer"),
    ):
        assert (host.root / "etc" / place).read_bytes() == (DEPLOY / source).read_bytes()


def test_secrets_are_made_once_and_for_root_alone(host: Machine) -> None:
    host.run(COMMANDS["secrets"])
    secret = host.root / "etc/quotad/redis.password"
    before = secret.read_text()
    assert (len(before) > 40, stat.S_IMODE(secret.stat().st_mode)) == (True, 0o600)
    host.run(COMMANDS["secrets"])
    assert secret.read_text() == before
    shipped = (DEPLOY / "systemd/passwords.conf").read_bytes()
    for unit in ("quotad.service.d", "quotad-verify.service.d"):
        assert (host.root / "etc/systemd/system" / unit / "passwords.conf").read_bytes() == shipped
    named = [
        line.partition(":")[0] for line in (host.root / "etc/mosquitto/passwords").read_text().splitlines()
    ]
    assert named == ["quotad", "monitor", "rates", "health", "gw1", "gw2"]


# Upgrading. -----------------------------------------------------------------------------------


async def test_an_upgrade_in_full_traffic_loses_nothing(host: Machine, tap: Tap) -> None:
    """Orders come all the time, and ten times as many while no daemon runs."""
    going, sent = True, list[str]()

    def say(number: int) -> None:
        for _ in range(number):
            sent.append(f"gw1-{len(sent):06d}")
            tap.say(ORDERS, new(sent[-1], "buy 1.00 100", source="gw1"))

    async def traffic() -> None:
        while going:
            say(5)
            await asyncio.sleep(0.005)

    def away() -> None:
        say(2_000)
        until_now(lambda: tap.settled)
        assert not host.home.quotad.ready

    host.away = away
    speaking = asyncio.create_task(traffic())
    await asyncio.to_thread(host.run, COMMANDS["upgrade"])
    going = False
    await speaking
    await until(lambda: answered(tap) == set(sent))
    assert host.done[-3:] == ["stop quotad", "quotad-0.2.0", "start quotad"]
    assert {reply["verdict"] for reply in tap.replies()} == {"accepted"}
    assert host.home.seq() == len(sent) > 2_000
    assert figures(host)["open_buy_fen"] == str(len(sent) * 100_00)
    assert host.home.quotad.does("verify").returncode == 0


# Backup. --------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["redis", "valkey"], indirect=True)
async def test_a_copy_and_the_day_sent_again_are_the_day_that_was_lost(host: Machine, tap: Tap) -> None:
    day: list[dict[str, object]] = []
    for number in range(400):
        side = "sell" if number % 5 == 0 else "buy"
        day.append(new(f"gw1-{number:06d}", f"{side} 10.00 100", source="gw1"))
    fills = [
        {"event": "fill", "exec_id": f"x{order['order_id']}", "quantity": 50}
        | {name: order[name] for name in ("order_id", "side", "price")}
        for order in day[::3]
    ]

    def send(part: slice) -> None:
        for order in day[part]:
            tap.say(ORDERS, order)
        for fill in fills[part]:
            tap.say("connect/NB-SH/fills/gw1", fill)

    async def taken() -> None:
        await until(lambda: tap.settled)
        await until(lambda: host.home.quotad.metric("quota_unacknowledged_messages") == 0)

    send(slice(0, 200))
    await until(lambda: len(answered(tap)) == 200)
    await taken()
    await asyncio.to_thread(host.run, COMMANDS["backup"])
    copied = host.home.seq()
    send(slice(200, 400))
    await until(lambda: len(answered(tap)) == 400)
    await until(lambda: host.home.seq() == len(day) + len(fills))
    lost = figures(host)

    said = await asyncio.to_thread(host.run, COMMANDS["restore"])
    assert said.count("journal and records agree") == 4
    assert said.count(": done; the pool is now halted") == 4
    assert copied <= host.home.seq() < len(day) + len(fills)
    assert (host.root / "var/lib/redis/appendonlydir.lost").is_dir()
    tap.say(ORDERS, new("early", source="gw1"))
    await until(lambda: "early" in answered(tap))
    assert [reply["verdict"] for reply in tap.replies() if reply["order_id"] == "early"] == ["halted"]

    resume = 'quotad resume NB-SH --reason "all senders are ready" --config /etc/quotad/quotad.toml'
    assert "the pool is now halted" in await asyncio.to_thread(host.run, resume)
    await asyncio.to_thread(host.run, resume)
    send(slice(0, 400))
    await until(lambda: host.home.seq() == len(day) + len(fills) + 4)  # the halt, an order, two resumptions
    extra = {"seq": str(int(lost["seq"]) + 4), "decided_buy_halted": "1"}
    assert figures(host) == lost | extra
    assert host.home.quotad.does("verify").returncode == 0


# The day, and who may. ------------------------------------------------------------------------


def test_the_looks_of_a_day_find_nothing_wrong(host: Machine) -> None:
    assert host.run(COMMANDS["morning"]).count(" 2026-11-23 open ") == 4
    assert host.run(COMMANDS["evening"]).count("journal and records agree") == 4


async def test_a_disagreement_is_found_and_taken_into_the_limit(host: Machine, tap: Tap) -> None:
    tap.say(ORDERS, {"event": "new", "order_id": "no side", "price": "1", "quantity": 1})
    await until(lambda: "event.dead" in host.log.read_text())
    assert "now halted" in await asyncio.to_thread(host.run, COMMANDS["refused"])
    said = await asyncio.to_thread(host.run, COMMANDS["ours"])
    assert (said.count("journal and records agree"), "event.dead" in said) == (4, True)
    before = int(figures(host)["balance_fen"])
    assert "now open" in await asyncio.to_thread(host.run, COMMANDS["corrected"])
    assert int(figures(host)["balance_fen"]) == before - 100_000_000_00


def test_a_halt_is_made_seen_and_lifted(host: Machine) -> None:
    said = host.run(COMMANDS["halt"])
    states = re.findall(r"the pool is now (\w+)|buy: (\w+)", said)
    assert states == [("halted", ""), ("", "halted"), ("open", "")]


def with_users(host: Machine) -> Path:
    """Let the store know the users that were installed, besides the tester."""
    host.run(COMMANDS["secrets"])
    for line in (host.root / "etc/redis/users.acl").read_text().splitlines():
        if not line.startswith("user default "):
            host.home.redis.execute_command("ACL", "SETUSER", *line.split()[1:])  # type: ignore[no-untyped-call] # redis-py leaves it untyped
    return host.root / "etc/quotad"


@pytest.mark.parametrize("host", ["redis", "valkey"], indirect=True)
def test_an_operator_says_who_he_is_once_in_a_shell(host: Machine) -> None:
    with_users(host)
    assert "now halted" in host.run(COMMANDS["operator"] + "\n" + COMMANDS["halt"].splitlines()[0])
    assert "now open" in host.run(COMMANDS["operator"] + "\n" + COMMANDS["halt"].splitlines()[-1])
    assert host.run(COMMANDS["operator"] + "\n" + COMMANDS["evening"]).count("journal and records agree") == 4


def test_who_is_no_operator_halts_nothing(host: Machine) -> None:
    secrets = with_users(host) / "secrets"
    halt = 'quotad halt NB-SH --reason "may I" --config /etc/quotad/quotad.toml'
    for user in ("gateway", "monitor", "quotad", "keeper"):
        known = {"QUOTA_REDIS__USERNAME": user, "QUOTA_REDIS__PASSWORD_FILE": str(secrets / f"redis.{user}")}
        host.run(f"! {halt}", **known)
    assert figures(host)["status"] == "open"


def test_a_daemon_runs_as_the_user_that_is_made_for_it(host: Machine) -> None:
    secrets = with_users(host)
    settings = host.root / SETTINGS
    own = f'[redis]\nusername = "quotad"\npassword_file = "{secrets}/redis.password"'
    settings.write_text(settings.read_text().replace("[redis]", own))
    host.systemctl("stop", "quotad")
    host.systemctl("start", "quotad")
    assert host.home.quotad.pool("NB-SH")["status"] == "open"
