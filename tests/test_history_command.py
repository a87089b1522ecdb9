"""`quotad verify --history`: what it takes, what it says, and what its page promises."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from quota.decision import PoolName, Side
from quota.gate.answers import Result
from quota.ledger import RedisLedger
from quota.proof.flaws import Flaw
from quota.proof.history import Call, read_history
from quota.store.record import keys
from tests.agreement.state import command
from tests.agreement.trading import POOL, opening
from tests.daemons import QUOTAD
from tests.servers import Store

PAGE = Path(__file__).parent.parent / "docs" / "history.md"


async def asked(client: Redis, number: int, quantity: int) -> Call:
    """Reserve as a gateway does, and write it down."""
    order_id = f"gw-{number}"
    reply: Any = await command(
        client, "FCALL", "quota_reserve", 6, *keys(POOL), order_id, "buy", "1.00", quantity, "gw"
    )
    verdict, balance_fen, seq, replayed, _ = reply
    return Call(
        pool=POOL,
        order_id=order_id,
        side=Side.BUY,
        price="1.00",
        quantity=quantity,
        clock="desk",
        called_ns=10 * number,
        answered_ns=10 * number + 9,
        outcome=Result.ACCEPTED if verdict == b"accepted" else Result.REFUSED,
        verdict=verdict.decode(),
        seq=seq,
        balance_fen=balance_fen,
        replayed=bool(replayed),
    )


def written(path: Path, calls: Sequence[Call]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(call) + b"\n" for call in calls))
    return path


def verify(store: Store, directory: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    config = directory / "quotad.toml"
    config.write_text(f'[redis]\nurl = "{store.url}"\n[market]\npools = ["NB-SH"]\n')
    line = [QUOTAD, "verify", "--config", str(config), *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.fixture
async def calls(client: Redis, ledger: RedisLedger) -> list[Call]:
    """Five orders, of which the last two come too late."""
    await ledger.open_day(POOL, await opening(client))
    return [await asked(client, number, quantity) for number, quantity in enumerate((1, 2, 20_000, 3, 4))]


def test_the_command_proves_a_fair_day_from_several_files(
    store: Store, calls: list[Call], tmp_path: Path
) -> None:
    files = [written(tmp_path / f"{place}.jsonl", calls[place::2]) for place in (0, 1)]
    ways: tuple[tuple[str | Path, ...], ...] = (
        ("--history", *files),
        ("--history", files[0], "--history", files[1]),
    )
    for words in ways:
        told = verify(store, tmp_path, *words)
        assert (told.returncode, told.stderr) == (0, "")
        assert told.stdout.splitlines()[-1] == "NB-SH history: 5 calls, 5 entries: first come, first served"


def test_the_command_names_what_is_wrong_and_exits_1(store: Store, calls: list[Call], tmp_path: Path) -> None:
    calls[1] = msgspec.structs.replace(calls[1], balance_fen=1)
    calls[4] = msgspec.structs.replace(calls[4], called_ns=1, answered_ns=2)
    told = verify(store, tmp_path, "--history", written(tmp_path / "gw.jsonl", calls))
    assert told.returncode == 1
    assert told.stdout.splitlines()[1:] == [
        "NB-SH history: 5 calls, 5 entries: 2 flaws",
        "  seq 2: another balance: gw-1 was told 1, the journal has 999700",
        "  seq 5: against real time: was seen 28 ns before seq 4 was asked for",
    ]


def test_the_command_says_what_the_store_has_lost(store: Store, calls: list[Call], tmp_path: Path) -> None:
    more = msgspec.structs.replace(calls[4], order_id="gw-9", seq=9)
    told = verify(store, tmp_path, "--history", written(tmp_path / "gw.jsonl", [*calls, more]))
    assert told.returncode == 1
    assert "  seq 9: answer without entry: gw-9 was answered exhausted, " in told.stdout


def test_a_long_list_of_flaws_is_cut(store: Store, calls: list[Call], tmp_path: Path) -> None:
    many = [msgspec.structs.replace(calls[0], seq=number) for number in range(100, 250)]
    told = verify(store, tmp_path, "--history", written(tmp_path / "gw.jsonl", many))
    assert told.stdout.splitlines()[-1] == "  and 50 more"


def test_a_file_that_is_no_history_is_named(store: Store, calls: list[Call], tmp_path: Path) -> None:
    other = msgspec.structs.replace(calls[0], pool=PoolName.SB_SZ)
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{}\n")
    for file, text in (
        (bad, "bad.jsonl:1: Object missing required field"),
        (written(tmp_path / "other.jsonl", [other]), "SB-SZ is not one of market.pools"),
        (tmp_path / "none.jsonl", "No such file"),
    ):
        told = verify(store, tmp_path, "--history", file)
        assert (told.returncode, text in told.stderr) == (1, True), told
    assert verify(store, tmp_path, bad).returncode == 2


def test_the_page_shows_histories_that_read(tmp_path: Path) -> None:
    block = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    path = tmp_path / "page.jsonl"
    path.write_text(block)
    assert [call.contradiction for call in read_history(path)] == ["", ""]


def test_the_page_lists_every_field_and_every_flaw() -> None:
    words = set(re.findall(r"`([^`\n]+)`", PAGE.read_text()))
    assert set(Flaw) <= words
    assert {field.name for field in msgspec.structs.fields(Call)} <= words
