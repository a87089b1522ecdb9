"""A gateway of a test, as a process of its own: several connections that reserve as fast as they can.

``python -m tests.gates PORT ORDERS LINES NAME FILE`` waits for a line on standard input, reserves,
and leaves its history in a file. Now and then a line gives up on an answer and asks again on a new
connection, asks for an order twice, asks for what every other gateway asks for too, or takes an id
of its own for another order. It imports little, for eight of them start at once.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Sequence
from random import Random
from threading import Thread
from typing import Any

import hiredis

POOL = "NB-SH"
KEYS = tuple(
    f"quota:{{{POOL}}}:{part}" for part in ("pool", "orders", "execs", "holds", "changes", "journal")
)
DEADLINE_S = 30.0
HOLD_MS = "20"

Order = tuple[str, str, str, str]
"""Order id, side, price and quantity."""


def encoded(*words: str) -> bytes:
    """Write a command."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words)


HEAD = encoded("FCALL", "quota_reserve", "6", *KEYS).partition(b"\r\n")[2]
"""A reservation's first nine words, without their count."""


def reservation(order: Order, source: str, hold_ms: str | None) -> bytes:
    """Write a reservation."""
    words = (*order, source, *((hold_ms,) if hold_ms else ()))
    return b"*%d\r\n" % (9 + len(words)) + HEAD + encoded(*words).partition(b"\r\n")[2]


class Line:
    """One connection, one call at a time, and what was heard."""

    def __init__(self, port: int, name: str, rng: Random) -> None:
        self.calls: list[dict[str, Any]] = []
        self._port, self._name, self._rng = port, name, rng
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=DEADLINE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader(encoding="ascii")

    def work(self, orders: int) -> None:
        """Reserve so many orders of our own, and what else comes to mind on the way."""
        mine: list[tuple[Order, str | None]] = []
        for number in range(orders):
            draw = self._rng.random()
            order = self._order(f"{self._name}-{number}")
            mine.append((order, HOLD_MS if draw < 0.3 else None))
            self._ask_until_answered(*mine[-1])
            if draw > 0.9:
                self._ask_until_answered(*self._rng.choice(mine))
            elif draw > 0.88:
                self._ask_until_answered(_everybodys(number), None)
            elif draw > 0.87:
                self._ask_until_answered((order[0], order[1], order[2], order[3] + "0"), None)
        self._socket.close()

    def _order(self, order_id: str) -> Order:
        side = "sell" if self._rng.random() < 0.1 else "buy"
        return order_id, side, self._rng.choice(("1.00", "2.5", "0.013")), str(self._rng.randint(1, 40))

    def _ask_until_answered(self, order: Order, hold_ms: str | None) -> None:
        """Ask; where we give up on the answer, ask again."""
        while not self._ask(order, hold_ms, give_up=self._rng.random() < 0.03):
            self._socket.close()
            self._connect()

    def _ask(self, order: Order, hold_ms: str | None, *, give_up: bool) -> bool:
        called_ns = time.monotonic_ns()
        self._socket.sendall(reservation(order, self._name, hold_ms))
        reply = None if give_up else self._reply()
        self.calls.append(_call(order, called_ns, reply))
        return reply is not None

    def _reply(self) -> Sequence[Any]:
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(4096))
        if isinstance(reply, Exception):
            raise reply
        return list(reply)


def _everybodys(number: int) -> Order:
    return f"all-{number}", "buy", "1.00", "3"


def _call(order: Order, called_ns: int, reply: Sequence[Any] | None) -> dict[str, Any]:
    """Write a call as a history has it."""
    order_id, side, price, quantity = order
    call = {"pool": POOL, "order_id": order_id, "side": side, "price": price, "quantity": int(quantity)}
    call |= {"clock": "here", "called_ns": called_ns, "answered_ns": time.monotonic_ns()}
    if reply is None:
        return call | {"outcome": "unknown"}
    verdict, balance_fen, seq, replayed, _ = reply
    call |= {"outcome": "accepted" if verdict == "accepted" else "refused", "verdict": verdict}
    return call | {"balance_fen": balance_fen, "seq": seq, "replayed": bool(replayed)}


def main(port: str, orders: str, lines: str, name: str, path: str) -> None:
    """Work as told on the command line."""
    gates = [Line(int(port), f"{name}.{number}", Random(f"{name}.{number}")) for number in range(int(lines))]
    threads = [Thread(target=gate.work, args=(int(orders) // int(lines),)) for gate in gates]
    sys.stdin.readline()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open(path, "w") as file:  # noqa: PTH123 - pathlib is a slow import
        for gate in gates:
            file.writelines(json.dumps(call) + "\n" for call in gate.calls)


if __name__ == "__main__":
    main(*sys.argv[1:])
