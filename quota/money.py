"""Money in whole fen, prices in thousandths, rates in hundred-thousandths: integers only.

Every total stays within ``BOUND``, so that the sum of any two is still exact in the doubles
that Lua counts with. Nothing here rounds unless its name says so.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache

BOUND = 4_500_000_000_000_000
"""The largest total, in thousandths or in fen, that an order or a pool may reach."""

RATE_ONE = 100_000
"""A conversion rate of 1, in hundred-thousandths: what northbound pools use."""

_PRICE = re.compile(r"(0|[1-9][0-9]{0,12})(?:\.([0-9]{1,3}))?")
_RATE = re.compile(r"([0-9])(?:\.([0-9]{1,5}))?")
_YUAN = re.compile(r"(0|[1-9][0-9]{0,13})(?:\.([0-9]{1,2}))?")


@lru_cache(maxsize=65_536)
def price_milli(text: str) -> int:
    """Read a price as thousandths of its currency.

    Raises ValueError unless it is a decimal number above zero of at most 13 digits before
    the point and 3 after it.
    """
    match = _PRICE.fullmatch(text)
    if match is None:
        raise ValueError(
            "price: must be a decimal string with at most 13 digits before the point and 3 after it"
        )
    milli = int(match[1]) * 1000 + int((match[2] or "").ljust(3, "0"))
    if milli == 0:
        raise ValueError("price: must be above zero")
    return milli


def price_text(milli: int) -> str:
    """Write thousandths as the shortest price that reads back the same: 1500 is ``1.5``."""
    whole, rest = divmod(milli, 1000)
    return f"{whole}.{rest:03d}".rstrip("0").rstrip(".") if rest else str(whole)


def rate_e5(text: str) -> int:
    """Read a conversion rate (RMB for one HKD) in hundred-thousandths.

    Raises ValueError unless it is above 0, below 10 and has at most five decimals.
    """
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError("rate: must be a decimal string below 10 with at most 5 decimals")
    rate = int(match[1]) * RATE_ONE + int((match[2] or "").ljust(5, "0"))
    if rate == 0:
        raise ValueError("rate: must be above zero")
    return rate


def rate_text(rate: int) -> str:
    """Write a rate with its five decimals: 91250 is ``0.91250``."""
    return f"{rate // RATE_ONE}.{rate % RATE_ONE:05d}"


def yuan_to_fen(text: str) -> int:
    """Read an amount of yuan with at most two decimals as fen.

    Raises ValueError unless it is above zero and within ``BOUND``.
    """
    match = _YUAN.fullmatch(text)
    if match is None:
        raise ValueError("must be an amount in yuan: digits, with at most two decimals")
    fen = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))
    if not 0 < fen <= BOUND:
        raise ValueError(f"must be above zero and at most {fen_to_yuan(BOUND)} yuan")
    return fen


def fen_to_yuan(fen: int) -> str:
    """Write fen as yuan with two decimals, exactly."""
    return str(Decimal(fen).scaleb(-2).quantize(Decimal("0.01")))


def fen_down(milli: int, rate: int) -> int:
    """Convert a total in thousandths to fen at a rate in hundred-thousandths, rounded down."""
    return milli * rate // 1_000_000


def fen_up(milli: int, rate: int) -> int:
    """Convert a total in thousandths to fen at a rate in hundred-thousandths, rounded up."""
    return -(-milli * rate // 1_000_000)
