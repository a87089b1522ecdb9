"""The cases of the engineers' alerts, written like those of the desk."""

from __future__ import annotations

from tests.alert_cases import NB, READ, Row, phase, seen_by_one
from tests.promtool import Changes

EVERYWHERE = 'job="quotad"'
APPLIED = f'quota_events_total{{{NB},event="new",outcome="applied"}}'
DEAD = f'quota_events_total{{{NB},event="new",outcome="dead"}}'
GAP, OLDEST = f"quota_gap_events{{{NB}}}", f"quota_gap_oldest_seconds{{{NB}}}"
MISSING = {GAP: "0 12 0"}
LAG = "quota_event_lag_seconds_bucket"
BUILD = "quota_build_info"
DAY = "quota_trading_day_timestamp_seconds"
RETURNS = "time stopped time"
LOST_STORE = {"quota_redis_connected": "1 0 1"}
LOST_BROKER = {"quota_feed_connected": "1 0 1"}
BOTH = ("a:9464", "b:9464")


def lagging(*slow: str) -> Changes:
    """Have all events come later than these bounds."""
    return {f'quota_event_lag_seconds_bucket{{le="{bound}"}}': "time stopped time" for bound in slow}


ENGINEERS = (
    Row(
        "QuotaDeadLetters",
        {DEAD: "0 time 900"},
        ["QuotaDeadLetters NB-SH"],
        {
            "as many as before": ({DEAD: "7"}, ()),
            "a refused rate": ({'quota_events_total{event="fx",outcome="dead"}': "0 time 900"}, ()),
            "another, of no pool": (
                {'quota_events_total{pool="-",outcome="dead"}': "0 time 900"},
                ["QuotaDeadLetters -"],
            ),
        },
        at_once=True,
    ),
    Row(
        "QuotaEventsMissing",
        MISSING | {OLDEST: "0 60 0"},
        ["QuotaEventsMissing NB-SH"],
        {
            "events in another order": (MISSING | {OLDEST: "0 3 0"}, ()),
            "not known": ({GAP: "0 NaN 0", OLDEST: "0 NaN 0"}, ()),
            "only a daemon that lost the store shows it": (
                seen_by_one(MISSING | {OLDEST: "0 60 0", READ: "time stopped time"}),
                (),
            ),
            "after the close, for a day is not over before it is told": (
                MISSING | {OLDEST: "0 60 0"} | phase("closed"),
                ["QuotaEventsMissing NB-SH"],
            ),
        },
    ),
    Row(
        "QuotaSourcesUnwatched",
        {f"quota_gap_unwatched_events{{{NB}}}": "0 7 0"},
        ["QuotaSourcesUnwatched NB-SH"],
        {
            "after the close": ({f"quota_gap_unwatched_events{{{NB}}}": "0 7 0"} | phase("closed"), ()),
            "not known": ({f"quota_gap_unwatched_events{{{NB}}}": "0 NaN 0"}, ()),
        },
    ),
    Row(
        "QuotaRateRefused",
        {"quota_rate_refused_total": "0 1 1"},
        ["QuotaRateRefused"],
        {
            "as many as before": ({"quota_rate_refused_total": "2"}, ()),
            "the daemon started again": ({"quota_rate_refused_total": "2 0 0"}, ()),
        },
        at_once=True,
    ),
    Row(
        "QuotaFeedDisconnected",
        seen_by_one({"quota_feed_connected": "1 0 1"}),
        ["QuotaFeedDisconnected a:9464"],
        {"the daemon is gone": (seen_by_one({"quota_feed_connected": "1 gone 1"}), ())},
    ),
    Row(
        "QuotaStoreDisconnected",
        seen_by_one({"quota_redis_connected": "1 0 1"}),
        ["QuotaStoreDisconnected a:9464"],
        {"the daemon is gone": (seen_by_one({"quota_redis_connected": "1 gone 1"}), ())},
    ),
    Row(
        "QuotaCaptureUnwritable",
        seen_by_one({"quota_capture_writable": "1 0 1"}),
        ["QuotaCaptureUnwritable a:9464"],
        {
            "the daemon is gone": (seen_by_one({"quota_capture_writable": "1 gone 1"}), ()),
            "no record is kept": (seen_by_one({"quota_capture_writable": "NaN"}), ()),
        },
    ),
    Row(
        "QuotaCaptureBehind",
        seen_by_one({f"quota_capture_entries_behind{{{NB}}}": "0 1001 0"}),
        ["QuotaCaptureBehind NB-SH,instance=a:9464"],
        {"a page": ({"quota_capture_entries_behind": "0 1000 0"}, ())},
    ),
    Row(
        "QuotaPoolStale",
        {f"{READ}{{{NB}}}": RETURNS},
        ["QuotaPoolStale NB-SH"],
        {
            "the other daemon reads it": (seen_by_one({READ: RETURNS}), ()),
            "one has lost the store, and the other reads it": (
                seen_by_one({READ: RETURNS} | LOST_STORE),
                ["QuotaStoreDisconnected a:9464"],
            ),
            "no daemon": ({READ: "time gone time"}, ()),
        },
    ),
    Row(
        "QuotaDayNotOpen",
        {f"quota_day_due{{{NB}}}": "0 1 0"},
        ["QuotaDayNotOpen NB-SH"],
        {
            "one daemon alone sees it, and it is so": (
                {f'quota_day_due{{{NB},instance="a:9464"}}': "1"},
                ["QuotaDayNotOpen NB-SH"],
            ),
            "no daemon": ({f"quota_day_due{{{NB}}}": "0 gone 0"}, ()),
        },
    ),
    Row(
        "QuotaNoEvents",
        {APPLIED: RETURNS},
        ["QuotaNoEvents NB-SH"],
        {
            "in the break": ({APPLIED: RETURNS} | phase("break"), ()),
            "after the close": ({APPLIED: RETURNS} | phase("closed"), ()),
            "the other daemon has some": (seen_by_one({APPLIED: RETURNS}), ()),
            "all have lost the broker": (
                {APPLIED: RETURNS} | LOST_BROKER,
                [f"QuotaFeedDisconnected {each}" for each in BOTH],
            ),
            "another, while one has lost the broker": (
                {f"{APPLIED.replace('NB-SH', 'SB-SZ')}": RETURNS} | seen_by_one(LOST_BROKER),
                ["QuotaFeedDisconnected a:9464", "QuotaNoEvents SB-SZ"],
            ),
        },
    ),
    Row(
        "QuotaEventLag",
        lagging("0.005", "5.0"),
        ["QuotaEventLag a:9464", "QuotaEventLag b:9464"],
        {
            "a little": (lagging("0.005"), ()),
            "late facts in the break": (lagging("0.005", "5.0") | phase("break", of=EVERYWHERE), ()),
            "no events": (lagging("0.005", "5.0", "10.0", "30.0", "+Inf"), ()),
        },
    ),
    Row(
        "QuotaClocksApart",
        seen_by_one({"quota_clock_skew_seconds": "0 -0.6 0"}),
        ["QuotaClocksApart a:9464"],
        {
            "a little": ({"quota_clock_skew_seconds": "0 0.5 0"}, ()),
            "not known": ({"quota_clock_skew_seconds": "0 NaN 0"}, ()),
        },
    ),
    Row(
        "QuotaCalendarEnds",
        {"quota_calendar_left_seconds": "3456000 2591999 31536000"},
        ["QuotaCalendarEnds"],
        {
            "in 30 days": ({"quota_calendar_left_seconds": "2592000"}, ()),
            "not known": ({"quota_calendar_left_seconds": "NaN"}, ()),
        },
    ),
    Row(
        "QuotaVerifyFailed",
        {f"quota_verify_differences{{{NB}}}": "NaN 3 0"},
        ["QuotaVerifyFailed NB-SH"],
        {
            "none found": ({"quota_verify_differences": "NaN 0 NaN"}, ()),
            "not verified": ({"quota_verify_differences": "NaN"}, ()),
            "it did, and the next day has opened": (
                {"quota_verify_differences": "3 NaN NaN", DAY: "86400 172800 172800"},
                (),
            ),
        },
        at_once=True,
    ),
    Row(
        "QuotaDaemonDown",
        seen_by_one({"up": "1 0 1"}),
        ["QuotaDaemonDown a:9464"],
        {"taken out of service": (seen_by_one({"up": "1 gone 1"}), ())},
    ),
    Row(
        "QuotaNoDaemon",
        {"up": "1 0 1"},
        ["QuotaNoDaemon", "QuotaDaemonDown a:9464", "QuotaDaemonDown b:9464"],
        {
            "one of two is down": (seen_by_one({"up": "1 0 1"}), ["QuotaDaemonDown a:9464"]),
            "not even a target": ({"up": "1 gone 1", BUILD: "1 gone 1"}, ["QuotaNoDaemon"]),
            "another, where something else answers": ({BUILD: "1 gone 1"}, ["QuotaNoDaemon"]),
            "another, of which Prometheus remembers the figures": ({"up": "1 gone 1"}, ["QuotaNoDaemon"]),
        },
    ),
    Row(
        "QuotaDaemonsDisagree",
        seen_by_one({f"quota_seq{{{NB}}}": RETURNS}),
        ["QuotaDaemonsDisagree NB-SH,figure=seq"],
        {
            "a new day": ({"quota_seq": "time 0 0", DAY: "86400 172800 172800"}, ()),
            "one has not read yet": (
                seen_by_one({"quota_seq": "NaN", "quota_limit_yuan": "NaN", DAY: "NaN", "quota_status": "0"}),
                (),
            ),
            "one has lost the store and says so": (
                seen_by_one({"quota_seq": RETURNS, DAY: "86400 0 86400"} | LOST_STORE),
                ["QuotaStoreDisconnected a:9464"],
            ),
            "one has lost the store over the end of the day": (
                {"quota_seq": "time 0 0", DAY: "86400 172800 172800"}
                | seen_by_one({"quota_seq": "time stopped 0", DAY: "86400 86400 172800"} | LOST_STORE),
                ["QuotaStoreDisconnected a:9464"],
            ),
            "another, by its limit": (
                seen_by_one({f"quota_limit_yuan{{{NB}}}": "1e9"}),
                ["QuotaDaemonsDisagree NB-SH,figure=limit"],
            ),
            "another, by its day": (
                seen_by_one({f"{DAY}{{{NB}}}": "0"}),
                ["QuotaDaemonsDisagree NB-SH,figure=trading day"],
            ),
        },
    ),
)
