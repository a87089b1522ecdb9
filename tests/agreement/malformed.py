"""Arguments of a reservation that the store must refuse, writing nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from quota.decision import PoolName
from quota.money import BOUND
from quota.store.record import keys
from tests.agreement.state import command, contents

GOOD = ("gw1-1", "buy", "1.00", "1", "gw1")
_NUMBERS = ("0", "01", "-1", "+1", "1e3", "0x1", "nan", "inf", "1,5", " 1", "1 ")
_HOLDS = ("", *_NUMBERS, "1.0", "86400001", "100000000", "1" * 17)
_BAD = {
    0: ("", "a" * 65, "a b", "a\n", "ä", "a/b", "a\x00"),
    1: ("", "BUY", "both", "1"),
    2: ("", *_NUMBERS, "1.", ".5", "1.0000", "00.1", "0.000"),
    3: ("", *_NUMBERS, "1.0", str(BOUND + 1), "1" * 17),
    4: ("", "a" * 65, "a b", "gw/1"),
}
_TOO_LONG = "12345678901234"


def bad_arguments() -> list[tuple[str, ...]]:
    """List the arguments, each wrong in one place; and too few, and too many."""
    wrong = [(*GOOD[:place], text, *GOOD[place + 1 :]) for place, texts in _BAD.items() for text in texts]
    holds = [(*GOOD, text) for text in _HOLDS]
    held = [(*arguments, "1000") for arguments in wrong]
    counts = [GOOD[:4], (*GOOD, "more"), (*GOOD, "1000", "more"), ()]
    return [*wrong, *holds, *held, ("gw1-1", "buy", _TOO_LONG, "1", "gw1"), *counts]


ACT = {"act": "limit", "reason": "r", "user": "u", "host": "h", "limit_fen": 2_000, "reopen": False}
_NO_LIMITS = (1.5, float("nan"), float("inf"), 0, -1, BOUND + 1, "2000", None)
_NO_WORDS = ("a\nb", "x" * 1025, 7, None)


def bad_acts() -> list[bytes]:
    """List operator's acts, packed, each wrong in one place."""
    wrong: list[tuple[str, object]] = [("limit_fen", limit) for limit in _NO_LIMITS]
    wrong += [(name, text) for name in ("reason", "user", "host") for text in _NO_WORDS]
    wrong += [("reason", ""), ("act", "open")]
    return [msgspec.msgpack.encode({**ACT, name: value}) for name, value in wrong]


def bad_releases() -> list[tuple[str, ...]]:
    """List the arguments of a release that must be refused."""
    return [*((text,) for text in _BAD[0]), ("gw1-1", "more"), ()]


async def refuses_malformed(client: Redis) -> None:
    """Try them all on a store; raises AssertionError where one is not refused."""
    names = keys(PoolName.NB_SH)
    before = await contents(client)
    for arguments in bad_arguments():
        assert (await _answer(client, names, arguments)).startswith("QUOTAINVALID "), arguments
    for arguments in bad_releases():
        assert (await _released(client, names, arguments)).startswith("QUOTAINVALID "), arguments
    for wrong_keys in (names[:5], (*names, "more"), (), (*names[:3], names[4], names[3], names[5])):
        assert (await _answer(client, wrong_keys, GOOD)).startswith("QUOTAINVALID ")
        assert (await _released(client, wrong_keys, GOOD[:1])).startswith("QUOTAINVALID ")
    for act in bad_acts():
        assert "refused" in await _said(client, "quota_operate", names, (act,)), act
    assert await contents(client) == before


async def _answer(client: Redis, names: tuple[str, ...], arguments: tuple[str, ...]) -> str:
    return await _said(client, "quota_reserve", names, arguments)


async def _released(client: Redis, names: tuple[str, ...], arguments: tuple[str, ...]) -> str:
    return await _said(client, "quota_release", names, arguments)


async def _said(
    client: Redis, function: str, names: tuple[str, ...], arguments: Sequence[str | bytes]
) -> str:
    try:
        reply = await command(client, "FCALL", function, len(names), *names, *arguments)
    except ResponseError as refusal:
        return str(refusal)
    return repr(reply)
