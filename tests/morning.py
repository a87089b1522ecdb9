"""A morning to live through: what comes to a daemon in a day in small."""

from __future__ import annotations

from quota.feed import Delivery
from tests.rigs import MONDAY, NB_SH, SB_SH, Desk


def order(order_id: str, amount: str) -> str:
    side, price, quantity = amount.split()
    return (
        f'{{"event": "new", "order_id": "{order_id}", "side": "{side}", "price": "{price}", '
        f'"quantity": {quantity}}}'
    )


def fill(order_id: str, amount: str) -> str:
    return order(order_id, amount).replace('"new"', f'"fill", "exec_id": "{order_id}-1"')


def numbered(source: str, sequence: int, event: str) -> str:
    return event.replace("}", f', "source": "{source}", "epoch": "m", "sequence": {sequence}}}')


def morning(desk: Desk) -> list[Delivery]:
    """A day in small: a limit that is used up, facts before their order, duplicates, mistakes, a rate.

    Two sources number some of it: one number comes late, one never, and of one only a heartbeat tells.
    """
    a, b = order("a", "buy 10.00 400"), numbered("gw1", 1, order("b", "buy 10.00 500"))
    e = numbered("gw2", 1, order("e", "buy 1.00 1"))
    return [
        desk.rate(MONDAY, "0.91000"),
        desk.orders(f"[{a}, {b}]"),
        desk.orders(order("s", "buy 100.00 10"), SB_SH),
        desk.orders(a),
        desk.fills(f"[{fill('a', 'buy 9.99 100')}, {fill('late', 'sell 5.00 10')}]"),
        desk.orders(numbered("gw2", 2, order("c", "buy 10.00 600"))),
        Delivery("mark", b"mark", lambda: None, mark="mark"),
        desk.orders(numbered("gw1", 4, order("d", "buy 10.00 1"))),
        desk.orders("not JSON"),
        desk.orders(numbered("gw1", 2, '{"event": "cancelled", "order_id": "b"}')),
        desk.fills(f"[{fill('late', 'sell 5.00 10')}, {fill('a', 'sell 9.99 100')}]"),
        desk.orders(f"[{e}, {order('a', 'buy 10.00 401')}]"),
        desk.orders(order("late", "sell 5.00 10")),
        desk.fills(fill("s", "buy 99.00 10"), SB_SH),
        desk.orders(numbered("gw1", 5, '{"event": "heartbeat"}')),
        desk.orders(numbered("gw1", 1, order("f", "sell 1.00 1")), SB_SH),
    ]  # fmt: skip


MISTAKES = 2
NEWS = {"a", "b", "c", "d", "e", "f", "s", "late"}
NUMBERS = {NB_SH: {"gw1": (5, [3, 5]), "gw2": (2, [])}, SB_SH: {"gw1": (1, [])}}
"""How far each source has counted in the end, and which of its numbers no event brought."""
