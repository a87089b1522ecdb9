"""The modules that play in the simulation: copies of the product's own, made from their source.

A copy belongs to the simulation alone, so a clock, a broker or a fault can be put into it without
anybody else noticing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any
from unittest.mock import patch

from quota.config import Settings, load
from quota.rulebook import Calendar

PLAYING = (
    "quota.numbers",
    "quota.rules",
    "quota.holds",
    "quota.memory",
    "tests.folded",
    "tests.simulation.store",
    "quota.witness",
    "quota.gaps",
    "quota.days",
    "quota.watch",
    "quota.daemon",
    "quota.recorder",
    "quota.running",
    "feeds.codec",
    "feeds.session",
    "feeds.claim",
    "feeds.mqtt",
    "feeds.capture",
)
"""The modules that are copied, each after those of them that it imports: the store's, then the daemon's.

What judges a play (the model, verify, history) keeps the product's own.
"""

Cast = Mapping[str, Any]


ROOT = Path(__file__).parent.parent.parent


def _place(name: str) -> Path:
    return ROOT / f"{name.replace('.', '/')}.py"


@lru_cache(maxsize=32)
def source_of(name: str) -> str:
    """Read a module's source."""
    return _place(name).read_text("utf-8")


@lru_cache(maxsize=32)
def _compiled(name: str, source: str) -> CodeType:
    return compile(source, str(_place(name)), "exec")


def cast(changed: Mapping[str, str] | None = None) -> Cast:
    """Make fresh copies of the modules; ``changed`` gives some of them another source."""
    for name in PLAYING:
        import_module(name)  # and all that they import, which is not to know the copies
    copies = {name: ModuleType(name) for name in PLAYING}
    with patch.dict(sys.modules, copies), ExitStack() as stage:
        for name, copy in copies.items():
            package, _, word = name.rpartition(".")
            stage.enter_context(patch.object(sys.modules[package], word, copy))
            copy.__file__ = str(_place(name))
            exec(_compiled(name, (changed or {}).get(name) or source_of(name)), copy.__dict__)  # noqa: S102 - a module is made from its source
    return copies


@lru_cache(maxsize=8)
def settings(limit_yuan: str, admission: str, open_late: str) -> Settings:
    """Read settings as the daemon does."""
    chosen = {
        "hkd_cny": "0.91250",
        "open_late": open_late,
        "admission": admission,
        "limits_yuan__NB_SH": limit_yuan,
        "limits_yuan__SB_SH": limit_yuan,
    }
    return load(None, {f"QUOTA_MARKET__{name.upper()}": text for name, text in chosen.items()})


@lru_cache(maxsize=1)
def calendar() -> Calendar:
    """Read the table of trading days once."""
    return Calendar.load()
