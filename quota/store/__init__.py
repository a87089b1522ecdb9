"""The way to the store: its addresses and nodes, what it keeps, how its records read."""
