"""The command line: options that make no sense, settings that are wrong, servers that are not there."""

from __future__ import annotations

import asyncio
import os
import socket
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from feeds.capture_reading import files_of
from quota.cli import app
from tests.captures import kept, opened
from tests.servers import free_port

GOOD = '[market]\nhkd_cny = "0.91250"\n'


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("QUOTA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Good settings that lead to servers which are not there."""
    path = tmp_path / "quotad.toml"
    path.write_text(
        f'[redis]\nurl = "redis://127.0.0.1:{free_port()}/0"\n'
        f'[mqtt]\nurl = "mqtt://127.0.0.1:{free_port()}"\n'
        f'[http]\nlisten = "127.0.0.1:{free_port()}"\n{GOOD}'
    )
    return path


def does(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("run", "--speed", "2"), "--speed needs --at: the real clock has its own pace"),
        (("run", "--at", "2026-11-23T09:30:00+08:00", "--speed", "0"), "Invalid value for '--speed'"),
        (("run", "--at", "monday"), "time: must be RFC 3339 with an offset"),
        (("run", "--at", "2026-11-23T09:30:00"), "time: must be RFC 3339 with an offset"),
        (("run", "--seed", "x"), "Invalid value for '--seed'"),
        (("run", "--fast"), "No such option"),
        (("check", "NB-HK", "buy"), "'NB-HK' is not one of 'NB-SH', 'NB-SZ', 'SB-SH', 'SB-SZ'"),
        (("check", "NB-SH", "hold"), "'hold' is not one of 'buy', 'sell'"),
        (("check", "NB-SH"), "missing argument 'side'"),
        (("halt", "NB-SH"), "Missing option '--reason'"),
        (("gaps", "--reason", "lost"), "--reason needs --accept"),
        (("replay",), "missing argument 'FILE"),
        (("replay", "x", "--speed", "2"), "--speed needs --at: the real clock has its own pace"),
        (("replay", "x", "--dry-run", "--at", "2026-11-23T09:30:00+08:00"), "--dry-run does not: choose one"),
        (("replay", "x", "--day", "monday"), "must be a date like 2026-11-23"),
        (("report",), "missing argument 'DAY'"),
        (("gaps", "--pool", "NB-HK"), "'NB-HK' is not one of 'NB-SH', 'NB-SZ', 'SB-SH', 'SB-SZ'"),
        (("resume", "NB-SH"), "Missing option '--reason'"),
        (("limit", "NB-SH", "5"), "Missing option '--reason'"),
        (("config",), "missing argument 'file'"),
        (("open", "NB-SH"), "No such command 'open'"),
    ],
)
def test_words_that_make_no_sense_exit_2(words: tuple[str, ...], text: str) -> None:
    told = does(*words)
    assert told.exit_code == 2
    assert text.lower() in told.output.lower()


@pytest.mark.parametrize("yuan", ["0", "-1", "1.001", "1e3", "50,000,000,000,000", ""])
def test_a_limit_that_is_no_amount_is_refused_before_anything_is_reached(config: Path, yuan: str) -> None:
    told = does("limit", "--reason", "x", "--config", config, "NB-SH", "--", yuan)
    assert told.exit_code == 2
    assert "Invalid value for YUAN" in told.output


@pytest.mark.parametrize("reason", ["", "  ", "a\nb", "x" * 257, "\x1b[31m"])
def test_a_reason_that_nobody_can_read_is_refused_before_anything_is_reached(
    config: Path, reason: str
) -> None:
    told = does("halt", "NB-SH", "--reason", reason, "--config", config)
    assert told.exit_code == 1
    assert told.output == "quotad: --reason: must be 1 to 256 printable characters\n"


def test_good_settings_are_called_good(config: Path) -> None:
    told = does("config", config)
    assert (told.exit_code, told.output) == (0, f"{config}: good\n")


def test_bad_settings_are_named_every_one(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('[mqtt]\nroot = "a/#"\nwindow = 0\n[market]\nkeep_days = 1.5\n[cinema]\nseats = 3\n')
    told = does("config", path)
    assert told.exit_code == 1
    assert told.output.splitlines() == [
        "cinema: unknown key",
        "mqtt.root: must be a topic without + and #, without / at either end and without $ in front",
        "mqtt.window: must be from 1 to 20000",
        "market.hkd_cny: required where a southbound pool is served (SB-SH, SB-SZ)",
        "market.keep_days: must be a whole number",
    ]


def test_settings_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    told = does("config", tmp_path / "none.toml")
    assert (told.exit_code, "none.toml: cannot be read (No such file or directory)" in told.output) == (
        1,
        True,
    )
    path = tmp_path / "no.toml"
    path.write_text("market = ")
    told = does("config", path)
    assert told.exit_code == 1
    assert told.output.startswith(f"{path}: is not TOML: ")


def test_the_environment_counts_more_than_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUOTA_MARKET__HKD_CNY", "10")
    told = does("config", config)
    assert told.exit_code == 1
    assert told.output == "market.hkd_cny: must be a decimal string below 10 with at most 5 decimals\n"


def test_running_without_a_rate_says_which_setting_is_missing() -> None:
    for words in (("run",), ("run", "--simulate")):
        told = does(*words)
        assert told.exit_code == 1
        assert told.output.startswith("market.hkd_cny: required where a southbound pool is served")


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "--json"),
        ("check", "NB-SH", "buy"),
        ("verify",),
        ("halt", "NB-SH", "--reason", "x"),
        ("run", "--at", "2026-11-23T09:30:00+08:00"),
    ],
)
def test_a_store_that_is_not_there_is_one_line_and_exit_1(config: Path, words: tuple[str, ...]) -> None:
    told = does(*words, "--config", config)
    assert told.exit_code == 1
    (line,) = told.output.splitlines()
    assert line.startswith("quotad: redis: Error ")


def test_an_address_that_is_taken_is_one_line_and_exit_1(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        text = config.read_text()
        config.write_text(text.replace(text.split('listen = "')[1].split('"')[0], listen))
        told = does("run", "--config", config)
    assert told.exit_code == 1
    assert f"quotad: http.listen: cannot bind {listen} (Address already in use" in told.output


def test_help_names_every_command() -> None:
    told = does("--help")
    assert told.exit_code == 0
    for command in ("run", "status", "check", "verify", "halt", "resume", "limit", "config"):
        assert f" {command} " in told.output


def test_the_version_is_told_without_a_command() -> None:
    told = does("--version")
    assert (told.exit_code, told.stdout) == (0, f"quotad {version('quotad')}\n")


def test_a_rehearsal_is_of_the_day_that_was_recorded(tmp_path: Path) -> None:
    asyncio.run(kept(tmp_path, [opened()]))
    told = does("replay", *files_of(tmp_path), "--at", "2026-11-24T09:30:00+08:00")
    assert (told.exit_code, told.output) == (1, "quotad: --at: must be a moment of 2026-11-23\n")
