"""The bytes of one connection: a socket as paho wants one, that reads and writes memory.

paho reads a packet with three calls to recv and writes each packet with a send of its own; here
the socket is touched once per turn of the loop. Messages are read here and never become paho's,
which takes 30 µs for each, most of them for a table of MQTT 5 properties that nobody reads.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final, NamedTuple

_CHUNK: Final = 64 * 1024
_NOT_NOW: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Publication(NamedTuple):
    """A PUBLISH as it came; ``id`` is 0 with QoS 0."""

    topic: str
    id: int
    payload: bytes


class Wire:
    """A socket as paho wants one, that gives out one whole packet at a time.

    ``ended`` is for good: the broker, the network or we have ended the connection.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._in = bytearray()
        self._at = self._body = self._end = 0
        self._out = bytearray()
        self.ended = False
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        """Return the descriptor, -1 after close."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the socket's own signature
        """Pass it on."""
        self._sock.setblocking(flag)

    def fill(self) -> None:
        """Read what the socket holds. A broken connection reads as its end."""
        del self._in[: self._at]
        self._at = self._end = 0
        try:
            self._fill_once()
            while isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
                self._fill_once()
        except _NOT_NOW:
            return
        except OSError:
            self.ended = True

    def _fill_once(self) -> None:
        chunk = self._sock.recv(_CHUNK)
        self._in += chunk
        self.ended |= not chunk

    def frame(self) -> bool:
        """Find the next packet; whether ``recv`` has something to say: a whole one, or the end."""
        length = _variable(self._in, self._at + 1)
        if length is None or sum(length) > len(self._in):
            return self.ended
        self._body, self._end = length[0], sum(length)
        return True

    def take_publication(self) -> Publication | None:
        """Take the framed packet if it is a PUBLISH with QoS 0 or 1; the others are paho's."""
        if self._at == self._end or (kind := self._in[self._at] & 0xF6) not in {0x30, 0x32}:
            return None
        body = bytes(self._in[self._body : self._end])
        topic_end = id_end = 2 + int.from_bytes(body[:2])
        if kind == 0x32:  # noqa: PLR2004 - the QoS is in the packet's kind
            id_end += 2
        properties = _variable(body, id_end)
        if properties is None:
            raise ConnectionError("the broker sent half a PUBLISH")
        self._at = self._end
        topic = body[2:topic_end].decode(errors="replace")
        return Publication(topic, int.from_bytes(body[topic_end:id_end]), body[sum(properties) :])

    def recv(self, size: int) -> bytes:
        """Take up to ``size`` bytes of the framed packet."""
        taken = bytes(self._in[self._at : min(self._at + size, self._end)])
        if not taken and not self.ended:
            raise BlockingIOError
        self._at += len(taken)
        return taken

    def send(self, packet: bytes | bytearray) -> int:
        """Keep a packet for the next ``drain``."""
        self._out += packet
        return len(packet)

    def drain(self) -> bool:
        """Write what is kept; False where the socket does not take all of it now."""
        while self._out:
            try:
                del self._out[: self._sock.send(self._out)]
            except _NOT_NOW:
                return False
            except OSError:
                self.ended = True
                self._out.clear()
        return True

    def close(self) -> None:
        """Write what can still be written, and close."""
        if self._sock.fileno() >= 0:
            self.drain()
        self.ended = True
        self._sock.close()


def _variable(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """Read MQTT's length of variable length: where it ends, and its value; None where it is cut off."""
    value = 0
    for index, byte in enumerate(data[at : at + 4]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:  # noqa: PLR2004 - the bit that says: more follow
            return at + index + 1, value
    return None
