"""How much a test does: its short form in ``make test``, its long one in ``make soak``.

A test with a long form is marked ``soak``; ``QUOTA_SOAK=1`` chooses the long forms, which begin at another
seed in every run. ``QUOTA_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random

SOAK = os.environ.get("QUOTA_SOAK") == "1"

if SOAK:  # one seed for the whole run: pytest's workers inherit it, and have to collect the same tests
    os.environ.setdefault("QUOTA_SEED", str(random.SystemRandom().randrange(1 << 32)))


def cases(short: int, long: int) -> int:
    """Choose how many cases a test plays."""
    return long if SOAK else short


def first_seed(short: int = 1) -> int:
    """Choose the first seed: that of the run, or a fixed one in ``make test``."""
    return int(os.environ.get("QUOTA_SEED", short))


def seeds(short: int, long: int) -> range:
    """Choose the seeds that a test plays, one for each case."""
    begin = first_seed()
    return range(begin, begin + cases(short, long))
