"""The gateways' calls as bytes, and their replies as answers; the rules of the arguments.

Arguments are checked here by the rules of the contract, so that a mistake is told before
anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import hiredis

from quota.decision import PoolName, Side, Status, Verdict
from quota.errors import BadArgument
from quota.events import checked_id
from quota.gate.answers import Answer, Released, Result, unknown
from quota.money import BOUND, price_milli

KEY_PARTS = ("pool", "orders", "execs", "holds", "changes", "journal")
HOLD_MAX_MS = 86_400_000

_SIDES: Mapping[str, Side] = {side: side for side in Side}
_POOLS: Mapping[str, PoolName] = {pool: pool for pool in PoolName}
_VERDICTS = {verdict.encode(): verdict for verdict in Verdict}
_STATUSES = {status.encode(): status for status in Status}
_RELEASED = {word.encode(): word for word in Released}


class Complaint(Exception):
    """An error reply, with the store's text."""

    @property
    def text(self) -> str:
        """What the store said."""
        return str(self.args[0])


def keys(pool: PoolName) -> tuple[str, ...]:
    """Name the six keys of a pool in the order of the functions."""
    return tuple(f"quota:{{{pool}}}:{part}" for part in KEY_PARTS)


def packed(*words: Any) -> bytes:  # noqa: ANN401 - words and numbers
    """Pack any command."""
    return bytes(hiredis.pack_command(words))


def _bulk(text: str) -> str:
    """Pack one word, which has to be a plain str: a subclass may be written as another text than it is."""
    return f"${len(text)}\r\n{text}\r\n"


def _words(*words: str | int) -> str:
    return "".join(_bulk(str(word)) for word in words)


def _reserve_heads(pool: PoolName) -> tuple[str, str]:
    body = _words("FCALL", "quota_reserve", 6, *keys(pool))
    return f"*14\r\n{body}", f"*15\r\n{body}"


_RESERVE = {pool: _reserve_heads(pool) for pool in PoolName}
_RELEASE = {pool: ("*10\r\n" + _words("FCALL", "quota_release", 6, *keys(pool))) for pool in PoolName}
_CHECK = {
    (pool, side): packed("FCALL_RO", "quota_check", 1, keys(pool)[0], side)
    for pool in PoolName
    for side in Side
}


def pool_named(pool: str) -> PoolName:
    """Read a pool's name; raises BadArgument."""
    try:
        return _POOLS[pool]
    except (KeyError, TypeError):
        raise BadArgument("pool: must be one of " + ", ".join(PoolName)) from None


def side_named(side: str) -> Side:
    """Read a side; raises BadArgument."""
    try:
        return _SIDES[side]
    except (KeyError, TypeError):
        raise BadArgument("side: must be buy or sell") from None


def checked(field: str, text: object) -> str:
    """Return an id as a plain str; raises BadArgument naming its field."""
    try:
        return checked_id(field, str.__str__(text))  # what is no text is a TypeError
    except (ValueError, TypeError):
        raise BadArgument(f"{field}: must be 1 to 64 characters of A-Z a-z 0-9 . _ : -") from None


def checked_source(source: object) -> str:
    """Return the name of a gateway as functions take it: ``-`` for none."""
    return checked("source", source) if source != "" else "-"


def _packed_amount(side: str, price: object, quantity: object) -> str:
    if not isinstance(price, str):
        raise BadArgument("price: must be a decimal string, not a number")
    plain = str.__str__(price)
    try:
        milli = price_milli(plain)
    except ValueError as error:
        raise BadArgument(str(error)) from None
    if not isinstance(quantity, int) or isinstance(quantity, bool) or not 0 < quantity <= BOUND:
        raise BadArgument(f"quantity: must be a positive integer of at most {BOUND}")
    if milli * quantity > BOUND:
        raise BadArgument(f"quantity: price × quantity must be at most {BOUND} thousandths")
    return _bulk(str(side_named(side))) + _bulk(plain) + _bulk(str(int(quantity)))


def reservation(
    pool: PoolName, order_id: str, amount: tuple[str, str, int], hold_ms: int | None, tail: str
) -> bytes:
    """Pack a reservation of an ``amount`` (side, price, quantity); ``tail`` is the packed source."""
    body = _bulk(checked("order_id", order_id)) + _packed_amount(*amount) + tail
    plain, held = _RESERVE[pool]
    if hold_ms is None:
        return (plain + body).encode()
    if not isinstance(hold_ms, int) or isinstance(hold_ms, bool) or not 0 < hold_ms <= HOLD_MAX_MS:
        raise BadArgument(f"hold_ms: must be a whole number of milliseconds from 1 to {HOLD_MAX_MS}")
    return (held + body + _bulk(str(int(hold_ms)))).encode()


def source_tail(source: object) -> str:
    """Pack a gateway's name once for all its orders."""
    return _bulk(checked_source(source))


def release(pool: PoolName, order_id: str) -> bytes:
    """Pack a release."""
    return (_RELEASE[pool] + _bulk(checked("order_id", order_id))).encode()


def look(pool: PoolName, side: Side) -> bytes:
    """Pack a look at what an order would get."""
    return _CHECK[pool, side]


def _complained(reply: Complaint, *, reservation: bool = False) -> Answer:
    """The store refused to carry the call out: a mistake in it is the caller's, all else is unknown."""
    if reply.text.startswith("QUOTAINVALID "):
        raise BadArgument(reply.text.removeprefix("QUOTAINVALID "))
    return unknown(reply.text, reservation=reservation)


def reserved(reply: Any) -> Answer:  # noqa: ANN401 - a reply off the wire
    """Read the reply of ``quota_reserve``."""
    if isinstance(reply, Complaint):
        return _complained(reply, reservation=True)
    verdict = _VERDICTS[reply[0]]
    outcome = Result.ACCEPTED if verdict is Verdict.ACCEPTED else Result.REFUSED
    status, replayed = _STATUSES[reply[4]], reply[3] == 1
    return Answer(outcome, verdict, reply[1], reply[2], status, replayed, reservation=True)


def looked(reply: Any) -> Answer:  # noqa: ANN401 - a reply off the wire
    """Read the reply of ``quota_check``."""
    if isinstance(reply, Complaint):
        return _complained(reply)
    verdict = _VERDICTS[reply[0]]
    outcome = Result.ACCEPTED if verdict is Verdict.ACCEPTED else Result.REFUSED
    return Answer(outcome, verdict, reply[1], reply[2], _STATUSES[reply[3]])


def released(reply: Any) -> Answer:  # noqa: ANN401 - a reply off the wire
    """Read the reply of ``quota_release``."""
    if isinstance(reply, Complaint):
        return _complained(reply)
    word = _RELEASED[reply[0]]
    outcome = Result.REFUSED if word is Released.SETTLED else Result.ACCEPTED
    return Answer(outcome, None, reply[1], reply[2], released=word)


def changes_after(pool: PoolName, after: str, block_ms: int) -> bytes:
    """Pack the wait for a pool's next changes."""
    return packed("XREAD", "BLOCK", block_ms, "STREAMS", keys(pool)[4], after)


def last_change(pool: PoolName) -> bytes:
    """Pack the question for a pool's last change."""
    return packed("XREVRANGE", keys(pool)[4], "+", "-", "COUNT", 1)


def page_of(reply: Any) -> Sequence[tuple[str, Mapping[bytes, bytes]]]:  # noqa: ANN401 - a reply off the wire
    """Read the entries of a stream."""
    return [
        (entry_id.decode(), dict(zip(flat[::2], flat[1::2], strict=True))) for entry_id, flat in reply or ()
    ]
