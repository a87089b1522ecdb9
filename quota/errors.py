"""The errors, divided by whose fault they are.

A refusal is a verdict, never an error; a sender's mistake is a record that goes to the dead letters.
"""

from __future__ import annotations


class QuotaError(Exception):
    """The root of everything that quotad raises on purpose."""


class ConfigError(QuotaError):
    """The operator's mistake: a setting, a file, a server that cannot serve us."""


class LedgerUnavailable(QuotaError):
    """The store is away or cannot write now. Wait; acknowledge nothing."""


class LedgerCorrupt(QuotaError):
    """The store holds what cannot be ours. Stop; a person has to look."""


class FeedUnavailable(QuotaError):
    """The broker is away. The feed reconnects by itself."""


class CaptureUnavailable(QuotaError):
    """The record of the day cannot be written now. Wait; acknowledge nothing."""


class CaptureCorrupt(QuotaError):
    """The record of a day has a flaw: file, record and what it is. What is behind it may be readable."""


class FeedTaken(QuotaError):
    """Another daemon uses our client id. The younger one stops."""


class BadArgument(QuotaError, ValueError):
    """A caller's mistake: an argument against the contract's rules. Nothing was asked or written."""
