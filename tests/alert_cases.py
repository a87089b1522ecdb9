"""The alerts' cases: for each alert what raises it, and what comes close and does not.

Three words are the values before, during and after; ``tests/promtool.py`` tells the quiet world
that they change. An expected alert is written as ``Name pool,label=value``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.promtool import AFTER_S, BEFORE_S, DURING_S, STAGES_S, Case, Changes

SOON_S = STAGES_S[0] + 30
"""Just after the trouble began."""

NB = 'pool="NB-SH"'
USED = f"quota_used_ratio{{{NB}}}"
ETA = f"quota_exhaustion_eta_seconds{{{NB}}}"
READ = "quota_pool_read_timestamp_seconds"


def status(word: str, *, of: str = NB) -> Changes:
    """Be in that status for a while, and open before and after."""
    return {f'quota_status{{{of},status="{word}"}}': "0 1 0", f'quota_status{{{of},status="open"}}': "1 0 1"}


def phase(word: str, *, of: str = NB) -> Changes:
    """Be in that phase for a while, and in continuous trading before and after."""
    return {
        f'quota_phase{{{of},phase="{word}"}}': "0 1 0",
        f'quota_phase{{{of},phase="continuous"}}': "1 0 1",
    }


def seen_by_one(changes: Changes) -> Changes:
    """Let only the first daemon show it."""
    first = 'instance="a:9464"'
    return {
        f"{name}{{{first}{',' if labels else ''}{labels}": words
        for selector, words in changes.items()
        for name, _, labels in [(selector if "{" in selector else selector + "{}").partition("{")]
    }


@dataclass(frozen=True, slots=True)
class Row:
    """One alert: ``trouble`` raises ``fires``, and each near miss raises only what stands beside it.

    Unless it fires ``at_once``, the first sample of the trouble does not raise it yet.
    """

    alert: str
    trouble: Changes
    fires: Sequence[str]
    near: Mapping[str, tuple[Changes, Sequence[str]]]
    before: Sequence[str] = ()
    fires_at_s: int = DURING_S
    at_once: bool = False

    def cases(self) -> Sequence[Case]:
        """Write the cases: it fires and resolves, and each near miss."""
        fires = {BEFORE_S: self.before, self.fires_at_s: self.fires, AFTER_S: ()}
        if not self.at_once:
            fires[STAGES_S[0]] = self.before
        return [
            Case(f"{self.alert} fires and resolves", self.trouble, fires),
            *(
                Case(f"{self.alert} does not: {why}", changes, {self.fires_at_s: expected})
                for why, (changes, expected) in self.near.items()
            ),
        ]


DESK = (
    Row(
        "QuotaUsed70",
        {USED: "0.5 0.7 0.65"},
        ["QuotaUsed70 NB-SH"],
        {
            "just below": ({USED: "0.5 0.6999 0.5"}, ()),
            "after the close": ({USED: "0.5 0.75 0.5"} | phase("closed"), ()),
            "not known": ({USED: "0.5 NaN 0.5"}, ()),
            "only a daemon that lost the store shows it": (
                seen_by_one({USED: "0.5 0.95 0.5", READ: "time stopped time"}) | phase("opening"),
                (),
            ),
        },
    ),
    Row(
        "QuotaUsed90",
        {USED: "0.5 0.9 0.5"},
        ["QuotaUsed70 NB-SH", "QuotaUsed90 NB-SH"],
        {
            "just below": ({USED: "0.5 0.8999 0.5"}, ["QuotaUsed70 NB-SH"]),
            "after the close": ({USED: "0.5 0.95 0.5"} | phase("closed"), ()),
        },
    ),
    Row(
        "QuotaUsed100",
        {USED: "0.5 1 0.5"},
        ["QuotaUsed70 NB-SH", "QuotaUsed90 NB-SH", "QuotaUsed100 NB-SH"],
        {
            "just below": ({USED: "0.5 0.9999 0.5"}, ["QuotaUsed70 NB-SH", "QuotaUsed90 NB-SH"]),
            "after the close": ({USED: "0.5 1.01 0.5"} | phase("closed"), ()),
        },
    ),
    Row(
        "QuotaExhaustionIn30Minutes",
        {ETA: "Inf 1800 Inf", USED: "0.5"},
        ["QuotaExhaustionIn30Minutes NB-SH"],
        {
            "later": ({ETA: "Inf 1801 Inf", USED: "0.5"}, ()),
            "too little is used": ({ETA: "Inf 900 Inf", USED: "0.49"}, ()),
            "in the break": ({ETA: "Inf 900 Inf", USED: "0.6"} | phase("break"), ()),
            "no day is open": ({ETA: "Inf NaN Inf", USED: "0.6"}, ()),
        },
    ),
    Row(
        "QuotaExhaustionIn10Minutes",
        {ETA: "Inf 600 Inf", USED: "0.5 0.72 0.5"},
        ["QuotaExhaustionIn10Minutes NB-SH", "QuotaExhaustionIn30Minutes NB-SH", "QuotaUsed70 NB-SH"],
        {
            "later": (
                {ETA: "Inf 601 Inf", USED: "0.5 0.72 0.5"},
                ["QuotaExhaustionIn30Minutes NB-SH", "QuotaUsed70 NB-SH"],
            ),
            "too little is used": (
                {ETA: "Inf 300 Inf", USED: "0.5 0.69 0.5"},
                ["QuotaExhaustionIn30Minutes NB-SH"],
            ),
            "in the break": (
                {ETA: "Inf 300 Inf", USED: "0.5 0.72 0.5"} | phase("break"),
                ["QuotaUsed70 NB-SH"],
            ),
            "used up already": ({ETA: "Inf 0 Inf", USED: "0.5 0.72 0.5"}, ["QuotaUsed70 NB-SH"]),
        },
    ),
    Row(
        "QuotaSuspended",
        status("suspended") | phase("opening"),
        ["QuotaSuspended NB-SH"],
        {"open": (phase("opening"), ())},
        at_once=True,
    ),
    Row(
        "QuotaExhausted",
        status("exhausted"),
        ["QuotaExhausted NB-SH"],
        {
            "after the close": (status("exhausted") | phase("closed"), ()),
            "only a daemon that lost the store shows it": (
                seen_by_one({**status("exhausted"), READ: "time stopped time"}),
                ["QuotaDaemonsDisagree NB-SH,figure=status"],
            ),
        },
        at_once=True,
    ),
    Row(
        "QuotaHalted",
        status("halted"),
        ["QuotaHalted NB-SH"],
        {"after the close": (status("halted") | phase("closed"), ())},
        at_once=True,
    ),
    Row(
        "QuotaResumed",
        {f'quota_status{{{NB},status="suspended"}}': "1 0 0", f'quota_status{{{NB},status="open"}}': "0 1 1"},
        ["QuotaResumed NB-SH"],
        {
            "open all the time": ({}, ()),
            "the daemons differ yet": (seen_by_one(status("halted")), ["QuotaHalted NB-SH"]),
            "the next day began": (
                {
                    f'quota_status{{{NB},status="exhausted"}}': "1 0 0",
                    f'quota_status{{{NB},status="open"}}': "0 1 1",
                    f"quota_trading_day_timestamp_seconds{{{NB}}}": "86400 172800 172800",
                },
                (),
            ),
        },
        before=["QuotaSuspended NB-SH"],
        fires_at_s=SOON_S,
        at_once=True,
    ),
    Row(
        "QuotaBuysRefused",
        {f'quota_decisions_total{{{NB},verdict="insufficient"}}': "0 time 900"},
        ["QuotaBuysRefused NB-SH,verdict=insufficient"],
        {
            "accepted": ({f'quota_decisions_total{{{NB},verdict="accepted"}}': "0 time 900"}, ()),
            "a sell": ({f'quota_decisions_total{{{NB},side="sell"}}': "0 time 900"}, ()),
            "the daemons have just read for the first time": (
                {f'quota_decisions_total{{{NB},verdict="insufficient"}}': "0 7 7", READ: "0 time time"},
                (),
            ),
            "refused some time ago": (
                {f'quota_decisions_total{{{NB},verdict="insufficient"}}': "7 7 7"},
                (),
            ),
            "a new day counts from zero": (
                {f'quota_decisions_total{{{NB},verdict="insufficient"}}': "7 0 0"},
                (),
            ),
            "a daemon starts again and has not read yet": (
                seen_by_one(
                    {
                        f'quota_decisions_total{{{NB},verdict="insufficient"}}': "7 0 7",
                        READ: "time 0 time",
                    }
                )
                | {f'quota_decisions_total{{{NB},verdict="insufficient",instance="b:9464"}}': "7"},
                (),
            ),
        },
        fires_at_s=SOON_S,
        at_once=True,
    ),
    Row(
        "QuotaViolations",
        {f'quota_violations_total{{{NB},kind="overfilled"}}': "0 1 1"},
        ["QuotaViolations NB-SH,kind=overfilled"],
        {
            "as many as before": ({f'quota_violations_total{{{NB},kind="overfilled"}}': "1 1 1"}, ()),
            "a new day counts from zero": (
                {f'quota_violations_total{{{NB},kind="overfilled"}}': "3 0 0"},
                (),
            ),
        },
        at_once=True,
    ),
)
