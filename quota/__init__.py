"""The daily quota of Stock Connect: the rules, the ledger, the daemon."""
