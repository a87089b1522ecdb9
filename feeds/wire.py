"""The bytes between the broker's socket and paho, moved by our own loop in large pieces.

paho reads a packet with three calls to recv and writes each packet with a send of its own;
aiomqtt turns the event loop once for every one of them. Here paho reads from and writes to
memory, and the socket is touched once per turn. Only this file knows that paho's socket is ours.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import aiomqtt
import paho.mqtt.client as mqtt

_CHUNK: Final = 64 * 1024
_NOT_NOW: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Wire:
    """A socket as paho wants one, that reads and writes memory. ``ended`` is for good."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._in = b""
        self._at = 0
        self._out = bytearray()
        self.ended = False
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        """Return the descriptor, -1 after close."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the socket's own signature
        """Pass it on."""
        self._sock.setblocking(flag)

    def recv(self, size: int) -> bytes:
        """Take up to ``size`` of the bytes that ``fill`` has brought."""
        taken = self._in[self._at : self._at + size]
        if not taken and not self.ended:
            raise BlockingIOError
        self._at += len(taken)
        return taken

    def send(self, packet: bytes | bytearray) -> int:
        """Keep a packet for the next ``drain``."""
        self._out += packet
        return len(packet)

    @property
    def unread(self) -> bool:
        """Whether ``recv`` has something to say: bytes, or the end."""
        return self._at < len(self._in) or self.ended

    def fill(self) -> None:
        """Read what the socket holds. A broken connection reads as its end."""
        self._in, self._at = b"", 0
        try:
            self._in = self._sock.recv(_CHUNK)
            while isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
                self._in += self._sock.recv(_CHUNK)
        except _NOT_NOW:
            return
        except OSError:
            self.ended = True
        self.ended |= not self._in

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


class Pump:
    """Moves bytes between one client's socket and paho, and keeps the connection alive.

    Takes over the four socket callbacks of the paho client inside an aiomqtt client, which calls
    two of them from a thread while it connects.
    """

    def __init__(self, client: aiomqtt.Client, keepalive_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._paho: mqtt.Client = client._client  # noqa: SLF001 - aiomqtt has no door to it
        self._keepalive_s = keepalive_s
        self._wire: Wire | None = None
        self._beating: asyncio.Task[None] | None = None
        self._writing = False
        self._rested = False
        self._over = False
        self.paused = False
        self._paho.on_socket_open = self._on_open
        self._paho.on_socket_close = self._on_close
        self._paho.on_socket_register_write = self._on_packets
        self._paho.on_socket_unregister_write = None

    def pause(self) -> None:
        """Read no more, so that the broker's messages stay with the broker."""
        self.paused = self._rested = True
        if self._wire is not None:
            self._loop.remove_reader(self._wire.fileno())

    def resume(self) -> None:
        """Read on, first what was left over."""
        self.paused = False
        if self._wire is not None:
            self._loop.add_reader(self._wire.fileno(), self._read)
            self._loop.call_soon(self._read)

    def cut(self) -> None:
        """Break the connection, as a dead broker would."""
        if self._wire is not None:
            self._wire.ended = True
            self.resume()

    def close(self) -> None:
        """Let go of the socket, whatever state it is in."""
        self._over = True
        wire = self._wire
        self._detach()
        if wire is not None:
            wire.close()

    def _on_open(self, _client: mqtt.Client, _userdata: Any, sock: Any) -> None:  # noqa: ANN401 - paho's signature
        if self._over:
            sock.close()
            raise ConnectionAbortedError("closed while connecting")
        self._wire = Wire(sock)
        self._paho._sock = self._wire  # noqa: SLF001 - the one place where paho's socket becomes ours
        self._loop.call_soon_threadsafe(self._attach)

    def _attach(self) -> None:
        if self._wire is not None and not self._over:
            self._loop.add_reader(self._wire.fileno(), self._read)
            self._beating = self._loop.create_task(self._beat())

    def _on_close(self, _client: mqtt.Client, _userdata: Any, _sock: Any) -> None:  # noqa: ANN401 - paho's signature
        self._detach()

    def _detach(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None and wire.fileno() >= 0:
            self._loop.remove_reader(wire.fileno())
            self._loop.remove_writer(wire.fileno())
        if self._beating is not None:
            self._beating.cancel()

    def _on_packets(self, _client: mqtt.Client, _userdata: Any, _sock: Any) -> None:  # noqa: ANN401 - paho's signature
        if not self._writing:
            self._writing = True
            self._loop.call_soon_threadsafe(self._write)

    def _read(self) -> None:
        if self._wire is None or self.paused:
            return
        if not self._wire.unread:
            self._wire.fill()
        self._guarded(self._read_packets)

    def _read_packets(self) -> None:
        self._paho.loop_read()
        while self._wire is not None and self._wire.unread and not self.paused:
            self._paho.loop_read()

    def _write(self) -> None:
        self._writing = False
        if self._wire is None:
            return
        self._guarded(self._paho.loop_write)
        self._drain()

    def _drain(self) -> None:
        if self._wire is None:
            return
        if not self._wire.drain():
            self._loop.add_writer(self._wire.fileno(), self._drain)
            return
        self._loop.remove_writer(self._wire.fileno())
        if self._wire.ended:
            self.cut()

    def _guarded(self, step: Callable[[], object]) -> None:
        """Let an exception end the connection, as aiomqtt does: paho's state is then unknown."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - paho raises what its parser trips over
            self._detach()
            lost = self._client._disconnected  # noqa: SLF001 - aiomqtt has no door to it
            if not lost.done():
                lost.set_exception(error)

    async def _beat(self) -> None:
        """Ping, and end a connection whose broker does not answer.

        While reading is paused the answers lie unread in the socket, so only we ping then, and
        nobody waits for the answer; the first beat after a pause waits for nothing either.
        """
        for beat in range(1, 1 << 62):
            await asyncio.sleep(1)
            if self.paused:
                if beat % max(1, int(self._keepalive_s / 2)) == 0:
                    self._paho._send_pingreq()  # noqa: SLF001 - loop_misc would end the connection
            elif self._rested:
                self._rested = False
            else:
                with suppress(OSError):
                    self._paho.loop_misc()
