"""Why a message is a mistake: which field breaks which rule, in our words and never in a library's."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from quota.money import BOUND

_QUOTED: Final = 40
"""How much of a sender's word a reason repeats."""

_HOMES: Final = {
    "new": "orders",
    "cancelled": "orders",
    "rejected": "orders",
    "fill": "fills",
    "bust": "fills",
}
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_MISFIT: Final = re.compile(r"(?P<what>.*) - at `\$\.(?P<field>\w+)`", re.DOTALL)
_NO_OBJECT: Final = re.compile(r"Expected `object`, got `(\w+)`")
_NO_WORD: Final = re.compile(r"Invalid value '(.*)'", re.DOTALL)


def reason_of(error: Exception, payload: bytes) -> str:
    """Say in our words which field breaks which rule."""
    match error:
        case UnicodeDecodeError():
            return "payload: is not UTF-8"
        case RecursionError():
            return "payload: is nested too deeply"
        case msgspec.ValidationError():
            return _misfit(str(error))
        case msgspec.DecodeError() if not is_utf8(payload):
            return "payload: is not UTF-8"
        case msgspec.DecodeError():
            return f"payload: is not JSON ({str(error).removeprefix('JSON is malformed: ')})"
        case _:
            return str(error)


def _misfit(message: str) -> str:
    if missing := _MISSING.fullmatch(message):
        return f"{missing[1]}: is missing"
    if no_object := _NO_OBJECT.fullmatch(message):
        return f"payload: must be a JSON object, not {no_object[1]}"
    if misfit := _MISFIT.fullmatch(message):
        return f"{misfit['field']}: {_rule(misfit['field'], misfit['what'])}"
    return message


def _rule(field: str, what: str) -> str:
    """Name the rule of a field that has the wrong type or an unknown word."""
    if field in {"quantity", "sequence"}:
        return f"must be a positive integer of at most {BOUND}"
    if what.startswith("Expected `str`"):
        return "must be a JSON string"
    if field == "side":
        return "must be 'buy' or 'sell'"
    if word := _NO_WORD.fullmatch(what):
        home = _HOMES.get(word[1])
        return f"{quoted(word[1])} belongs on {home}" if home else f"unknown event {quoted(word[1])}"
    return what


def quoted(word: str) -> str:
    """Repeat a sender's word, its beginning where it is long."""
    return f"'{word if len(word) <= _QUOTED else word[:_QUOTED] + '…'}'"


def is_utf8(payload: bytes) -> bool:
    """Whether these bytes are text."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
