"""A daemon whose store loses what it had, with a record of the day in files; and what stands afterwards."""

from __future__ import annotations

import asyncio
import json
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quota.captured import Journalled
from quota.decision import PoolName, Side, Verdict
from quota.proof.history import Call
from quota.store.record import keys
from tests.captures import read
from tests.daemons import AT, DAY, House, Quotad, house, new
from tests.shift import CHARGE_FEN, Shift
from tests.tap import Tap, until, until_now

POOL = PoolName.NB_SH
DECISIONS = ("connect/+/decisions/#",)
_TOPIC = f"connect/{POOL}"


def toml(folder: Path, resume: str = "auto", pools: str = f'"{POOL}"') -> str:
    """Settings for a daemon with a record of the day."""
    return f'pools = [{pools}]\n[capture]\nfolder = "{folder}"\n[recovery]\nresume = "{resume}"\n'


@contextmanager
def recorded(directory: Path, resume: str = "auto", at: str = AT) -> Iterator[House]:
    """A house whose daemon serves one pool and writes its day down."""
    with house(directory, toml=toml(directory / "capture", resume), at=at) as home:
        started(home.quotad)
        yield home


def started(*daemons: Quotad) -> None:
    """Start daemons and wait until all are ready."""
    for daemon in daemons:
        daemon.start()
    for daemon in daemons:
        until_now(lambda daemon=daemon: daemon.ready)  # type: ignore[misc]  # mypy cannot infer a bound default


def warned(daemon: Quotad) -> list[str]:
    """What a daemon says that needs a person; nothing where it does not answer."""
    found: list[str] = json.loads(daemon.get("/-/ready")[1] or "{}").get("warnings", [])
    return found


def emptied(home: House) -> None:
    """Let the store die and come back with nothing."""
    home.store.stop()
    shutil.rmtree(home.store.directory / "appendonlydir")
    home.store.start()


def copied(home: House) -> Path:
    """Keep a copy of the store's files as they are now; it goes on meanwhile."""
    return shutil.copytree(home.store.directory / "appendonlydir", home.store.directory / "older")


def put_back(home: House, copy: Path) -> None:
    """Put a copy in place of the files of a store that is down."""
    files = home.store.directory / "appendonlydir"
    shutil.rmtree(files)
    shutil.copytree(copy, files)


def shown(daemon: Quotad) -> str:
    """What the page is shown first."""
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}/api/live", timeout=5) as live:
        parts = (line for line in live if b"notices" in line)
        return str(next(parts).decode())


def events(daemon: Quotad, name: str) -> list[dict[str, Any]]:
    """What a daemon said under this name; a line that is just being written does not count yet."""
    found: list[dict[str, Any]] = []
    for line in daemon.log.splitlines():
        with suppress(json.JSONDecodeError):
            found += [json.loads(line)] if line.startswith("{") else []
    return [one for one in found if one["event"] == name]


def ended(daemon: Quotad) -> bool:
    """Whether a daemon has seen a recovery to its end."""
    return bool(events(daemon, "recovery.ended"))


def entries_found(daemon: Quotad) -> int:
    """How many entries the last rebuilding began with."""
    return int(events(daemon, "recovery.began")[-1]["entries"])


def entries_kept(folder: Path, **chosen: str) -> int:
    """The last number of today in the files, which may be written to meanwhile."""
    kept = [it for it in read(folder, **chosen) if isinstance(it, Journalled)]
    found = [it.entry.seq for it in kept if it.trading_day == DAY]
    return max(found, default=0)


def journal(redis: Any, ending: str = "") -> dict[str, tuple[str, int]]:  # noqa: ANN401 - any client
    """How each order was decided and under which number, as the store's journal says."""
    found: dict[str, tuple[str, int]] = {}
    for id_, fields in redis.xrange(keys(POOL)[5] + ending):
        words = fields["event"].split()
        if words[0] == "new":
            found.setdefault(words[1], (fields["verdict"], int(id_.split("-")[0])))
    return found


@dataclass(slots=True)
class Told:
    """What sources and gateways had been told when the store was lost."""

    replies: dict[str, tuple[str, int]]
    calls: list[Call]
    lost_answers: list[str] = field(default_factory=list)

    @classmethod
    def by(cls, tap: Tap, shift: Shift | None = None) -> Told:
        replies = [reply for reply in tap.replies() if not reply["replayed"]]
        told = {it["order_id"]: (it["verdict"], it["seq"]) for it in replies}
        return cls(told, list(shift.calls) if shift else [])

    def stands(self, redis: Any, captured: int) -> None:  # noqa: ANN401 - any client
        """Hold the journal against it.

        Up to the last number that was written down everything stands; behind it all that went over the
        daemon stands too, while the last answers of gateways may be missing: these are noted.
        """
        now = journal(redis)
        for order_id, (verdict, seq) in self.replies.items():
            assert now[order_id][0] == verdict, (order_id, verdict, now[order_id])
            assert seq > captured or now[order_id][1] == seq, (order_id, seq, now[order_id], captured)
        for call in self.calls:
            if call.verdict is None or call.seq is None:
                continue
            if call.seq <= captured:
                assert now[call.order_id] == (call.verdict, call.seq), (call, now[call.order_id])
            elif now.get(call.order_id) != (call.verdict, call.seq):
                self.lost_answers.append(call.order_id)

    def history(self, shift: Shift, directory: Path) -> Path:
        """Write what gateways heard, without what may be missing and what a store in doubt said."""
        gone = set(self.lost_answers)
        before = len(self.calls)
        shift.calls = [
            call
            for place, call in enumerate(shift.calls)
            if call.order_id not in gone and (place < before or not _in_doubt(call))
        ]
        return shift.history(directory)


def bought_nothing_meanwhile(redis: Any) -> None:  # noqa: ANN401 - any client
    """See that the only accepted buys of the store that had lost entries are those that it had kept."""
    now, lost = journal(redis), journal(redis, f":{DAY}.lost")
    for order_id, (verdict, seq) in lost.items():
        assert verdict != "accepted" or "sell" in order_id or now[order_id] == (verdict, seq), order_id


def balances(redis: Any) -> None:  # noqa: ANN401 - any client
    """See that what is used is what the accepted buys take, but for what was filled or cancelled since."""
    bought = [
        fields["event"].split()[1]
        for _, fields in redis.xrange(keys(POOL)[5])
        if fields["event"].startswith("new ")
        and " buy " in fields["event"]
        and fields["verdict"] == "accepted"
    ]
    limit, balance = redis.hmget(keys(POOL)[0], "limit_fen", "balance_fen")
    assert int(limit) - int(balance) == CHARGE_FEN * len(bought)
    assert len(bought) == len(set(bought))


async def ask(shift: Shift, order_id: str, side: Side = Side.BUY) -> Verdict:
    """Ask until there is an answer."""
    found: list[Verdict] = []
    while not found:
        answer = await shift.ask(POOL, order_id, side)
        found = [answer.verdict] if answer.verdict is not None else []
    return found[0]


async def opens_again(shift: Shift, name: str) -> None:
    """Ask with new ids until a buy gets in; none before it does but as halted, or closed without a day."""
    number = 0
    while (verdict := await ask(shift, f"{name}-{number}")) is not Verdict.ACCEPTED:
        assert verdict in {Verdict.HALTED, Verdict.CLOSED}
        number += 1
        await asyncio.sleep(0.01)


async def orders(tap: Tap, name: str, count: int) -> None:
    """Send orders, wait for the answers, and have those filled that were accepted."""
    for number in range(count):
        tap.say(f"{_TOPIC}/orders/src", new(f"{name}-{number}"))
    await until(lambda: sum(it["order_id"].startswith(f"{name}-") for it in tap.replies()) >= count)
    for it in tap.replies():
        if it["order_id"].startswith(f"{name}-") and it["verdict"] == "accepted":
            fill = {"event": "fill", "order_id": it["order_id"], "exec_id": it["order_id"], "side": "buy"}
            tap.say(f"{_TOPIC}/fills", fill | {"price": "10.00", "quantity": 100})


def _in_doubt(call: Call) -> bool:
    """Whether a call may have been answered by the store that had lost entries: its number is another now."""
    return call.side is Side.SELL or call.verdict in {Verdict.HALTED, Verdict.CLOSED}
