"""Every command of the runbooks does what it is there for, on real servers."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.daemons import QUOTAD, House, house, new
from tests.deployed import ROOT, alertmanager_command, running
from tests.servers import binary, free_port
from tests.tap import Tap, until_now

ALERTS = (ROOT / "docs" / "operations.md").read_text("utf-8").split("\n## Alerts\n")[1].split("\n## ")[0]
REFUSED, SILENT = 3, 27
"""How ``quotad check`` says that an order would be refused, and ``mosquitto_sub`` that nothing came."""

UNDONE = {
    "quotad halt": 'quotad resume NB-SH --reason "so that it can be halted"',
    "quotad resume": 'quotad halt NB-SH --reason "so that it can be resumed"',
}


def commands() -> list[str]:
    """All commands, each once, in their order."""
    blocks = re.findall(r"^```sh\n(.*?)^```", ALERTS, re.MULTILINE | re.DOTALL)
    return list(dict.fromkeys(line for block in blocks for line in block.splitlines()))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A running daemon with an order and a dead letter; what to write for the standard addresses."""
    for program in ("redis-cli", "mosquitto_sub", "amtool", "curl"):
        binary(program)
    directory, alertmanager = tmp_path_factory.mktemp("runbooks"), free_port()
    with house(directory) as home, Tap(home.broker.port) as tap:
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        tap.say("connect/NB-SH/orders/gw", [new("1"), {"event": "new"}])
        until_now(lambda: home.seq() == 1 and tap.on("dead"))
        with running(alertmanager_command(directory, alertmanager), alertmanager, directory):
            yield replaced(home, alertmanager)


def replaced(home: House, alertmanager: int) -> dict[str, str]:
    return {
        r"^quotad (?!config)(.*)": rf"{QUOTAD} \1 --config {home.quotad.config}",
        r"^quotad config": f"{QUOTAD} config",
        "redis-cli": f"redis-cli -p {home.store.port}",
        "mosquitto_sub": f"mosquitto_sub -p {home.broker.port}",
        r"-W \d+": "-W 1",
        "127.0.0.1:9464": f"127.0.0.1:{home.quotad.port}",
        "127.0.0.1:9093": f"127.0.0.1:{alertmanager}",
    }


def done(command: str, place: dict[str, str]) -> subprocess.CompletedProcess[str]:
    for words, other in place.items():
        command = re.sub(words, other, command)
    environment = {name: text for name, text in os.environ.items() if not name.startswith("QUOTA_")}
    return subprocess.run(
        ["/bin/bash", "-c", command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_runbooks_can_be_given(command: str, place: dict[str, str]) -> None:
    for act, undone in UNDONE.items():
        if command.startswith(act):
            done(undone, place)
    answer = done(command, place)
    allowed = {"quotad check": {0, REFUSED}, "mosquitto_sub": {0, SILENT}}
    codes = next((codes for start, codes in allowed.items() if command.startswith(start)), {0})
    assert answer.returncode in codes, answer.stdout + answer.stderr
    assert not answer.stdout.startswith(("ERR", "WRONGTYPE", "NOAUTH")), answer.stdout


@pytest.mark.parametrize(
    ("command", "shows"),
    [
        ("redis-cli XREVRANGE 'quota:{NB-SH}:journal' + - COUNT 20", "new 1 buy 10.00 100 source=gw"),
        ("redis-cli XREVRANGE 'quota:{NB-SH}:changes' + - COUNT 10", "phase"),
        ("redis-cli HMGET 'quota:{NB-SH}:pool' trading_day seq limit_fen status", "2026-11-23"),
        ("redis-cli HMGET 'quota:{SB-SH}:pool' trading_day rate", "0.91250"),
        ("redis-cli INFO persistence", "loading:0"),
        ("redis-cli INFO memory", "used_memory:"),
        ("mosquitto_sub -t 'connect/daemon/+' -v -W 2", "connect/daemon/quotad online"),
        ("curl -s http://127.0.0.1:9464/-/ready", '"ready":true'),
        ("quotad status", "NB-SH"),
    ],
)
def test_a_command_of_the_runbooks_shows_what_they_say(
    command: str, shows: str, place: dict[str, str]
) -> None:
    assert command in commands()
    assert shows in done(command, place).stdout


def test_every_file_that_the_runbooks_name_is_there() -> None:
    for name in re.findall(r"`((?:deploy|docs)/[\w./]+)`", ALERTS):
        assert (ROOT / name).exists(), name
