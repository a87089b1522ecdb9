"""A source that offers events at a steady pace, in a process of its own: ``port source pool events rate``.

It writes packets by hand, fifty orders in each, so that it is never what holds the others up. At the
end it says how many seconds the broker took to confirm everything.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from collections.abc import Iterator

from tests.scripted import CONNECT, DISCONNECT, PUBLISH, packet

TOGETHER = 50
WINDOW = 500
_PUBACK_SIZE = 4


def payload(source: str, first: int) -> bytes:
    """Write fifty buys of one yuan, numbered from ``first``."""
    orders = (
        f'{{"event":"new","order_id":"{source}-{number}","side":"buy","price":"1","quantity":1}}'
        for number in range(first, first + TOGETHER)
    )
    return f"[{','.join(orders)}]".encode()


def messages(source: str, pool: str, events: int) -> Iterator[bytes]:
    """Write the packets."""
    for number, first in enumerate(range(0, events, TOGETHER)):
        topic = f"connect/{pool}/orders/{source}".encode()
        head = len(topic).to_bytes(2) + topic + (number % 65_535 + 1).to_bytes(2)
        yield packet(PUBLISH | 2, head + payload(source, first))


def offer(link: socket.socket, source: str, pool: str, events: int, rate: int) -> float:
    """Send everything, never faster than the rate; return how long it took until all was confirmed."""
    began, sent, confirmed = time.monotonic(), 0, 0
    with selectors.DefaultSelector() as acks:
        acks.register(link, selectors.EVENT_READ)
        for message in messages(source, pool, events):
            due = began + sent * TOGETHER / rate
            while (wait := due - time.monotonic()) > 0 or sent - confirmed >= WINDOW:
                if acks.select(max(wait, 0.0) if sent - confirmed < WINDOW else None):
                    confirmed += taken(link)
            link.sendall(message)
            sent += 1
        while confirmed < sent:
            confirmed += taken(link)
    return time.monotonic() - began


def taken(link: socket.socket) -> int:
    """Read confirmations, whole ones; say how many there were."""
    chunk = link.recv(_PUBACK_SIZE * WINDOW)
    if not chunk:
        raise ConnectionError("the broker has gone")
    while len(chunk) % _PUBACK_SIZE:
        chunk += link.recv(1)
    return len(chunk) // _PUBACK_SIZE


def main(port: str, source: str, pool: str, events: str, rate: str) -> None:
    """Come to the broker, offer, and say how long it took."""
    with socket.create_connection(("127.0.0.1", int(port))) as link:
        name = source.encode()
        link.sendall(packet(CONNECT, b"\x00\x04MQTT\x04\x02\x00\x00" + len(name).to_bytes(2) + name))
        assert link.recv(4)[3] == 0
        print(f"{offer(link, source, pool, int(events), int(rate)):.3f}", flush=True)  # noqa: T201 - who started it reads this
        link.sendall(packet(DISCONNECT, b""))


if __name__ == "__main__":
    main(*sys.argv[1:])
