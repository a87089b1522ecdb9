"""Moves bytes between the broker and paho on our own loop, and keeps the connection alive.

aiomqtt turns the event loop once for each packet; here one turn reads and writes all there is.
Only this file knows how to put a socket of ours into paho.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiomqtt
import paho.mqtt.client as mqtt

from feeds.wire import Publication, Wire


class Pump:
    """Moves bytes between one client's socket and paho, and keeps the connection alive.

    ``arrived`` is called with each message. Takes over the four socket callbacks of the paho
    client inside an aiomqtt client, which calls two of them from a thread while it connects.
    """

    def __init__(self, client: aiomqtt.Client, keepalive_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._paho: mqtt.Client = client._client  # noqa: SLF001 - aiomqtt has no door to it
        self._keepalive_s = keepalive_s
        self._wire: Wire | None = None
        self._beating: asyncio.Task[None] | None = None
        self._writing = False
        self._heard = False
        self._over = False
        self.paused = False
        self.arrived: Callable[[Publication], None] | None = None
        self._paho.on_socket_open = self._on_open
        self._paho.on_socket_close = self._on_close
        self._paho.on_socket_register_write = self._on_packets
        self._paho.on_socket_unregister_write = None

    def pause(self) -> None:
        """Read no more, so that the broker's messages stay with the broker."""
        self.paused = self._heard = True
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
        if not self._wire.frame():
            self._wire.fill()
        self._guarded(self._read_packets)

    def _read_packets(self) -> None:
        while self._wire is not None and not self.paused and self._wire.frame():
            publication = self._wire.take_publication()
            if publication is None:
                self._paho.loop_read()
            elif self.arrived is not None:
                self._heard = True
                self.arrived(publication)

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

        While reading is paused the answers lie unread in the socket, so only we ping then, and nobody
        waits for the answer. Of messages paho knows nothing: whoever sends them is not silent.
        """
        for beat in range(1, 1 << 62):
            await asyncio.sleep(1)
            if self.paused:
                if beat % max(1, int(self._keepalive_s / 2)) == 0:
                    self._paho._send_pingreq()  # noqa: SLF001 - loop_misc would end the connection
                continue
            if self._heard:
                self._heard = False
                self._paho._last_bytes_received = time.monotonic()  # noqa: SLF001 - what it would note itself
            with suppress(OSError):
                self._paho.loop_misc()
