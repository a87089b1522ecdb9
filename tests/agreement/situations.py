"""What must have been seen at least once, or the search has not been where it should have gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.agreement.small import Trait

Seen = Callable[[Trait], bool]


def _same_order(trait: Trait, *words: str) -> bool:
    return set(words) <= set(trait.order)


def _applied(trait: Trait) -> bool:
    return trait.said is not None and trait.said[0] == "applied"


def _from_to(trait: Trait, was: tuple[str, str], now: tuple[str, str]) -> bool:
    return trait.was[:2] == was and trait.now[:2] == now


_OPENING, _TRADING = "opening", "continuous"

SITUATIONS: dict[str, Seen] = {
    "a resume in the auction": lambda it: _from_to(it, (_OPENING, "suspended"), (_OPENING, "open")),
    "a suspension that lasts to 09:30": lambda it: (
        _from_to(it, (_OPENING, "suspended"), (_TRADING, "open")) and it.was[2]
    ),
    "a suspension that stays though there is room": lambda it: it.now == (_OPENING, "suspended", True),
    "a suspension that ends the day at 09:30": lambda it: _from_to(
        it, (_OPENING, "suspended"), (_TRADING, "exhausted")
    ),
    "an exhaustion that stays though there is room": lambda it: it.now == (_TRADING, "exhausted", True),
    "a day exhausted that nobody looked at": lambda it: _from_to(
        it, (_OPENING, "suspended"), ("closed", "exhausted")
    ),
    "a duplicate after a refusal": lambda it: (
        it.said is not None and it.said[0] == "duplicate" and it.said[1] in {"exhausted", "suspended"}
    ),
    "a refusal in the break": lambda it: it.said == ("applied", "closed") and it.was[0] == "break",
    "an order that does not fit": lambda it: it.said == ("applied", "insufficient"),
    "an id with other content": lambda it: it.said == ("id_reused", "id_reused"),
    "a late fill after a cancel": lambda it: (
        it.step == "Fill" and _applied(it) and _same_order(it, "off_book")
    ),
    "a fill before its order": lambda it: it.step == "Fill" and _applied(it) and not it.order,
    "a refused order that trades": lambda it: "refused_traded" in it.violations,
    "a lapse, then a late new": lambda it: it.step == "NewOrder" and "spent_order" in it.violations,
    "a spent order that trades": lambda it: it.step == "Fill" and "spent_order" in it.violations,
    "a bust": lambda it: it.step == "Bust" and _applied(it) and _same_order(it, "traded"),
    "a total past the bound": lambda it: "out_of_range" in it.violations,
    "a side that is another": lambda it: "side_conflict" in it.violations,
    "an execution with other content": lambda it: "exec_reused" in it.violations,
    "a fill above the limit": lambda it: "above_limit" in it.violations,
    "more filled than ordered": lambda it: "overfilled" in it.violations,
    "a halt that hides an exhaustion": lambda it: _from_to(it, (_TRADING, "exhausted"), (_TRADING, "halted")),
    "a limit that reopens": lambda it: (
        it.step == "Acted" and _from_to(it, (_TRADING, "exhausted"), (_TRADING, "open"))
    ),
    "a clock set back": lambda it: it.was[0] == _TRADING and it.now[0] == _OPENING,
}
"""Each by its name, and by what it looks like."""

IN: dict[str, tuple[str, ...]] = {
    "a whole day, NB-SH": (
        *("a resume in the auction", "a refusal in the break", "a duplicate after a refusal"),
        *("an exhaustion that stays though there is room", "a halt that hides an exhaustion"),
        "a limit that reopens",
    ),
    "a whole day, SB-SZ": ("a suspension that stays though there is room",),
    "a half day, the clock set back": ("a clock set back", "a day exhausted that nobody looked at"),
    "the facts of a buy, NB-SH": (
        *("an id with other content", "a late fill after a cancel", "a fill before its order", "a bust"),
        *("a side that is another", "an execution with other content", "a fill above the limit"),
        "more filled than ordered",
    ),
    "holds, NB-SH": ("a lapse, then a late new", "a spent order that trades", "a refused order that trades"),
    "holds, SB-SZ": ("a suspension that ends the day at 09:30", "a suspension that lasts to 09:30"),
    "orders that must fit, SB-SZ": ("an order that does not fit",),
    "totals at the bound": ("a total past the bound",),
}
"""Where each must have been seen, in the short form too."""


def never_seen(world: str, traits: Iterable[Trait]) -> list[str]:
    """Name what a world should have shown and did not."""
    shown = list(traits)
    return [name for name in IN.get(world, ()) if not any(map(SITUATIONS[name], shown))]
