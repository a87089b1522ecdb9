"""How much a test does: its short form in ``make test``, its long one in ``make soak``.

A test with a long form is marked ``soak``; ``QUOTA_SOAK=1`` chooses the long forms, ``QUOTA_SEED``
repeats a run that a seed has found.
"""

from __future__ import annotations

import os
import random

SOAK = os.environ.get("QUOTA_SOAK") == "1"


def cases(short: int, long: int) -> int:
    """Choose how many cases a test plays."""
    return long if SOAK else short


def first_seed(short: int = 1) -> int:
    """Choose the first seed: a fixed one in ``make test``, another every time in ``make soak``."""
    given = os.environ.get("QUOTA_SEED")
    if given is not None:
        return int(given)
    return random.SystemRandom().randrange(1 << 32) if SOAK else short
