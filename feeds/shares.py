"""The shares of the simulated market: codes, lots, ticks, and prices that wander.

Pure: the time comes as an argument and chance from the caller's generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from quota.decision import PoolName

DAY_S = 25_800
"""From 09:00 to 16:10, the time in which a drift is meant."""

_NOISE = 0.02
_REACH = 0.095
_DRIFTING = 0.35
_MEDIAN_MILLI = 130_000_000
_SIGMA = 1.25
_AGGRESSION = (0, 0, 1, 1, 2, 3, 5)

MEAN_MILLI = 284_000_000
"""The mean value of an order before it is scaled, in thousandths of the pool's currency."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share as listed: ``price_milli`` is where its day begins, in thousandths."""

    symbol: str
    price_milli: int
    lot: int = 100


@dataclass(frozen=True, slots=True)
class Quote:
    """What an order would say: a share, a limit in thousandths and whole units."""

    symbol: str
    price_milli: int
    quantity: int


SHANGHAI = (
    Share("600519", 1_446_500), Share("601318", 58_720), Share("600036", 42_350), Share("600900", 27_910),
    Share("601899", 29_480), Share("600276", 64_130), Share("601012", 19_860), Share("600887", 28_740),
    Share("603259", 98_450), Share("601166", 20_970), Share("600030", 28_660), Share("510300", 4_680),
)  # fmt: skip
SHENZHEN = (
    Share("300750", 382_160), Share("002594", 96_540), Share("000858", 117_230), Share("000333", 76_890),
    Share("002475", 58_210), Share("300059", 23_740), Share("000651", 40_120), Share("002415", 31_580),
    Share("300760", 214_900), Share("000001", 11_640), Share("002714", 49_370), Share("300124", 68_050),
)  # fmt: skip
HONG_KONG = (
    Share("00700", 628_500), Share("09988", 158_300), Share("03690", 99_850), Share("01810", 43_260, 200),
    Share("00941", 86_400, 500), Share("00005", 110_700, 400), Share("00388", 421_200),
    Share("02318", 57_650, 500), Share("01299", 78_950, 200), Share("00883", 21_180, 500),
    Share("09618", 119_600, 150), Share("02015", 74_300),
)  # fmt: skip

_HK_TICKS = (
    (500, 5), (20_000, 10), (50_000, 20), (100_000, 50), (200_000, 100), (500_000, 200), (1_000_000, 500),
)  # fmt: skip
"""Below which price which tick, in thousandths: HKEX's spread table since August 2025."""


def shares_of(pool: PoolName) -> tuple[Share, ...]:
    """What is bought and sold through a pool."""
    if not pool.northbound:
        return HONG_KONG
    return SHANGHAI if pool is PoolName.NB_SH else SHENZHEN


def tick_milli(pool: PoolName, price_milli: int) -> int:
    """The smallest step of a price there, in thousandths: 0.01 on the mainland (funds too)."""
    if pool.northbound:
        return 10
    return next((tick for below, tick in _HK_TICKS if price_milli < below), 1_000)


def on_tick(pool: PoolName, price_milli: int) -> int:
    """The price at or below it that may be quoted, in thousandths; at least one tick."""
    tick = tick_milli(pool, price_milli)
    return max(tick, price_milli // tick * tick)


def price_text(price_milli: int) -> str:
    """Write a price as a ticker does: two decimals, three where they are needed."""
    text = f"{price_milli // 1000}.{price_milli % 1000:03d}"
    return text.removesuffix("0")


class Tape:
    """The prices of one pool's shares over a day. Some drift, all wander, none leaves its band."""

    def __init__(self, pool: PoolName, chance: Random) -> None:
        self._pool = pool
        self._chance = chance
        self._shares = shares_of(pool)
        self._price = [float(share.price_milli) for share in self._shares]
        self._seen_s = [0.0 for _ in self._shares]
        self._drift = [
            chance.uniform(-0.05, 0.05) if chance.random() < _DRIFTING else 0.0 for _ in self._shares
        ]

    def quote(self, at_s: float, *, buying: bool, scale: float, most_milli: float) -> Quote:
        """Draw an order: a log-normal value times ``scale``, at most ``most_milli``."""
        index = self._chance.randrange(len(self._shares))
        price = self._limit(self._wander(index, at_s), buying=buying)
        value = min(most_milli, _MEDIAN_MILLI * scale * self._chance.lognormvariate(0.0, _SIGMA))
        lot = self._shares[index].lot
        return Quote(self._shares[index].symbol, price, lot * max(1, round(value / (price * lot))))

    def _wander(self, index: int, at_s: float) -> float:
        passed = min(1.0, max(0.0, at_s - self._seen_s[index]) / DAY_S) if self._seen_s[index] else 0.0
        self._seen_s[index] = at_s
        first = self._shares[index].price_milli
        moved = self._drift[index] * passed + _NOISE * passed**0.5 * self._chance.gauss(0.0, 1.0)
        price = self._price[index] * (1.0 + moved)
        self._price[index] = min(first * (1 + _REACH), max(first * (1 - _REACH), price))
        return self._price[index]

    def _limit(self, price: float, *, buying: bool) -> int:
        """A limit that is ready to cross the spread by some ticks."""
        ticks = self._chance.choice(_AGGRESSION) * tick_milli(self._pool, int(price))
        return on_tick(self._pool, round(price) + (ticks if buying else -ticks))
