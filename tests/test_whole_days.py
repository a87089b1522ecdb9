"""Who reads a whole day waits long enough, and nothing searches it for cycles: that takes seconds."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from feeds.archive import Archive
from quota.book import Book
from quota.config import Settings, load
from quota.desk import audit, operator, replaying
from quota.endpoints import Redis
from quota.errors import ConfigError
from quota.proof.verify import verify
from quota.uncollected import uncollected
from tests.agreement.trading import buy
from tests.folded import OPENING, POOL, Record
from tests.recovering import morning, sited
from tests.rigs import NB_SH


@pytest.fixture(autouse=True)
def searching() -> Iterator[None]:
    """The search is on before, and on again after."""
    assert gc.isenabled()
    yield
    assert gc.isenabled()


def test_it_is_held_off_until_the_last_is_done() -> None:
    with uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_goes_on_after_a_failure() -> None:
    with pytest.raises(ConfigError), uncollected():
        raise ConfigError("mistaken")
    assert gc.isenabled()


def test_where_somebody_has_it_off_it_stays_off() -> None:
    gc.disable()
    try:
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


async def test_verify_holds_it_off() -> None:
    record, seen = Record(), list[bool]()
    await record.open_day(POOL, OPENING)
    await record.apply(POOL, [buy("a")])
    record.meanwhile = lambda: seen.append(gc.isenabled())
    assert (await verify(record, POOL)).differences == ()
    assert seen == [False]


async def test_the_recovery_holds_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sited(monkeypatch) as site:
        await morning(site)
        seen = _looked(monkeypatch, site.rig.store, "replay")
        site.changes_to(Book())
        await site.looks()
        assert site.rig.store.books[NB_SH].journal
        assert seen
        assert not any(seen)


async def test_putting_a_day_back_holds_it_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = _looked(monkeypatch, replaying, "read")
    with pytest.raises(ConfigError):
        await replaying.restore(_settings(), Archive(tmp_path, "quotad", "connect"), [tmp_path / "none"], "")
    assert seen == [False]


WAITING: dict[str, Callable[[Settings], Awaitable[object]]] = {
    "verify": lambda settings: audit.verify_pools(settings, ()),
    "replay": lambda settings: replaying.restore(settings, Archive(Path(), "quotad", "connect"), (), ""),
}


@pytest.mark.parametrize("command", WAITING)
@pytest.mark.parametrize(("set_ms", "waits_ms"), [(50, operator.PATIENT_MS), (60_000, 60_000)])
async def test_an_answer_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, command: str, set_ms: int, waits_ms: int
) -> None:
    def reached(settings: Redis) -> None:
        raise ConfigError(str(settings.deadline_ms))

    monkeypatch.setattr(operator, "connected", reached)
    monkeypatch.setattr(replaying, "read", lambda *_: ("", {}))
    with pytest.raises(ConfigError, match=rf"\A{waits_ms}\Z"):
        await WAITING[command](_settings(QUOTA_REDIS__DEADLINE_MS=str(set_ms)))


def _settings(**environ: str) -> Settings:
    return load(None, {"QUOTA_MARKET__HKD_CNY": "0.9", **environ})


def _looked(monkeypatch: pytest.MonkeyPatch, where: object, name: str) -> Sequence[bool]:
    """Note at every call of a function whether the search is on."""
    real, seen = getattr(where, name), list[bool]()

    def call(*args: object) -> object:
        seen.append(gc.isenabled())
        return real(*args)

    monkeypatch.setattr(where, name, call)
    return seen
