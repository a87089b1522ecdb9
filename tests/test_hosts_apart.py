"""The daemon on one host, its store and its broker on another: the network between them fails one way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
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
from tests.traffic import TOML, Traffic

EVENTS = 4_000


def ready(home: House, cable: Cable) -> bool:
    with cable.near.entered():
        return home.quotad.ready


@pytest.mark.soak
@pytest.mark.parametrize("cut", ["towards the servers", "from the servers"])
async def test_a_network_cut_in_one_direction_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, cut: str, counted: Callable[[str], None]
) -> None:
    cuts = cases(1, 20)
    day = traffic.made(11, cuts * EVENTS)
    with cabled() as cable, cable.far.entered():
        sender = cable.near if cut.startswith("towards") else cable.far
        settings: dict[str, Any] = {"servers": cable.far.address, "within": cable.near.command, "toml": TOML}
        with house(tmp_path, **settings) as home, Tap(home.broker.port, ANSWERS) as tap:
            home.quotad.start()
            await until(lambda: ready(home, cable))
            for number, part in enumerate(parts(day, cuts), 1):
                begun = home.seqs()
                speaking = asyncio.create_task(asyncio.to_thread(speak, tap, part))
                await until(partial(reached, home, begun + 500))
                with cable.cut(sender):
                    await until(partial(lost, home, number))
                    assert not through(tap)
                await until(lambda: ready(home, cable))
                await speaking
            await until(lambda: through(tap), 60)
            await judge(home, tap, day)
    counted(f"the network cut {cut}: {cuts} times")


def parts(day: Traffic, count: int) -> Iterator[Traffic]:
    """Divide the messages of a day; each part is cut in two."""
    size = -(-len(day.messages) // count)
    for first in range(0, len(day.messages), size):
        yield replace(day, messages=day.messages[first : first + size])


def reached(home: House, moment: int) -> bool:
    return home.seqs() >= moment


def lost(home: House, times: int) -> bool:
    return home.quotad.log.count("store.lost") >= times
