"""What can be held of the units where no systemd runs: it reads them, and finds them closed enough."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quota.config import load
from tests.deployed import DEPLOY
from tests.servers import binary

UNITS = DEPLOY / "systemd"
SERVICES = ("quotad.service", "quotad-verify.service")
PROGRAM = "/opt/quotad/bin/quotad"
EXPOSURE_MAX = 15
"""In tenths: 1.5 of 10. What is left is the network, which is what quotad is there for."""


def analyzed(*words: str) -> subprocess.CompletedProcess[str]:
    command = [binary("systemd-analyze"), "--no-pager", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as they would be installed, with a program that is there."""
    quotad = str(Path(sys.executable).with_name("quotad"))
    for path in UNITS.iterdir():
        (tmp_path / path.name).write_text(path.read_text("utf-8").replace(PROGRAM, quotad))
    for name in SERVICES:
        (tmp_path / f"{name}.d").mkdir()
        (tmp_path / f"{name}.d" / "passwords.conf").write_bytes((UNITS / "passwords.conf").read_bytes())
    return tmp_path


def directives(name: str) -> Iterator[tuple[str, str]]:
    for line in (UNITS / name).read_text("utf-8").splitlines():
        if found := re.fullmatch(r"([A-Za-z]+)=(.*)", line):
            yield found[1], found[2]


def test_systemd_reads_the_units_without_a_word(installed: Path) -> None:
    units = [str(installed / name) for name in (*SERVICES, "quotad-verify.timer")]
    said = analyzed("verify", *units)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_systemd_says_so_when_a_unit_is_wrong(installed: Path) -> None:
    """The test above would be worth nothing if it could not fail."""
    unit = installed / "quotad.service"
    unit.write_text(unit.read_text().replace("WatchdogSec=60", "WatchdogSec=soon"))
    assert "ignoring: soon" in analyzed("verify", str(unit)).stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_exposes_little(installed: Path, name: str) -> None:
    said = analyzed("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", str(installed / name))
    assert said.returncode == 0, said.stdout


def test_verify_may_no_more_than_the_daemon() -> None:
    hardening = [set(directives(name)) for name in SERVICES]
    differ = {key for key, _ in hardening[0] ^ hardening[1]}
    assert differ == {
        *("Description", "After", "StartLimitIntervalSec", "StartLimitBurst", "Type", "NotifyAccess"),
        *("ExecStart", "TimeoutStartSec", "WatchdogSec", "Restart", "RestartSec", "TimeoutStopSec"),
        *("WantedBy", "Nice", "StateDirectory", "StateDirectoryMode", "Environment"),
    }


def test_the_program_and_its_commands_are_the_ones_that_are_installed() -> None:
    assert (
        dict(directives("quotad.service"))["ExecStart"] == f"{PROGRAM} run --config /etc/quotad/quotad.toml"
    )
    assert dict(directives("quotad-verify.service"))["ExecStart"] == (
        f"{PROGRAM} verify --config /etc/quotad/quotad.toml"
    )


def test_the_watchdog_is_slower_than_a_store_that_does_not_answer() -> None:
    """A tick waits ``deadline_ms`` for the first pool that gets no answer, and then gives up."""
    watchdog_s = int(dict(directives("quotad.service"))["WatchdogSec"])
    deadline_ms = load(DEPLOY / "quotad.toml", {}).redis.deadline_ms
    assert watchdog_s / 2 > 4 * deadline_ms / 1000


def test_a_start_that_waits_for_its_store_is_never_given_up() -> None:
    """It is ready once the store serves it; systemd's own 90 seconds would end it again and again."""
    settings = dict(directives("quotad.service"))
    assert (settings["Type"], settings["TimeoutStartSec"]) == ("notify", "infinity")


def test_passwords_come_from_files_that_the_service_alone_sees(tmp_path: Path) -> None:
    assigned = dict(
        value.split("=", 1) for key, value in directives("passwords.conf") if key == "Environment"
    )
    credentials = dict(
        value.split(":") for key, value in directives("passwords.conf") if key == "LoadCredential"
    )
    for name in credentials:
        (tmp_path / name).write_text("secret\n")
    files = {name: path for name, path in assigned.items() if name.endswith("PASSWORD_FILE")}
    assert {Path(path).name for path in files.values()} == set(credentials)
    (tmp_path / "ca.pem").write_text("")
    assigned["QUOTA_MQTT__CA_FILE"] = str(tmp_path / "ca.pem")
    settings = load(
        DEPLOY / "quotad.toml", {name: path.replace("%d", str(tmp_path)) for name, path in assigned.items()}
    )
    for server in (settings.redis, settings.mqtt):
        assert server.password is not None
        assert server.password.get_secret_value() == "secret"
        assert server.username == "quotad"
    assert settings.mqtt.tls


def test_the_timer_fires_after_the_close_by_the_clock_of_the_market() -> None:
    (when,) = (value for key, value in directives("quotad-verify.timer") if key == "OnCalendar")
    said = analyzed("calendar", when)
    assert (said.returncode, when) == (0, "Mon..Fri 16:30 Asia/Shanghai"), said.stderr
