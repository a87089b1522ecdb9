"""The daemon on one host, its store and its broker on another: the network between them fails one way."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import traffic
from tests.daemons import House, house
from tests.hosts import Cable, cabled
from tests.judged import ANSWERS, judge, speak, through
from tests.scale import cases
from tests.tap import Tap, until
from tests.traffic import TOML

EVENTS = 4_000


def ready(home: House, cable: Cable) -> bool:
    with cable.near.entered():
        return home.quotad.ready


@pytest.mark.soak
@pytest.mark.parametrize("cut", ["towards the servers", "from the servers"])
async def test_a_network_cut_in_one_direction_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, cut: str
) -> None:
    day = traffic.made(11, cases(EVENTS, 20 * EVENTS))
    with cabled() as cable, cable.far.entered():
        sender = cable.near if cut.startswith("towards") else cable.far
        settings: dict[str, Any] = {"servers": cable.far.address, "within": cable.near.command, "toml": TOML}
        with house(tmp_path, **settings) as home, Tap(home.broker.port, ANSWERS) as tap:
            home.quotad.start()
            await until(lambda: ready(home, cable))
            speaking = asyncio.create_task(asyncio.to_thread(speak, tap, day))
            for moment in range(1, cases(1, 10) + 1):
                await until(partial(reached, home, 500 * moment))
                with cable.cut(sender):
                    await until(partial(lost, home, moment))
                    assert not through(tap)
                await until(lambda: ready(home, cable))
            await speaking
            await until(lambda: through(tap), 60)
            await judge(home, tap, day)


def reached(home: House, moment: int) -> bool:
    return home.seqs() >= moment


def lost(home: House, times: int) -> bool:
    return home.quotad.log.count("store.lost") >= times
