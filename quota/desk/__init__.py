"""The operations desk: operators' acts, the console, audits."""
