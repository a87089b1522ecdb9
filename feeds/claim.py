"""Who holds the session: how two daemons with one client id notice each other.

MQTT 5 brokers are to tell a client that its session was taken over (reason 0x8E). Mosquitto
2.0.11 closes the connection without a word, as an accident would.
"""

from __future__ import annotations

import time
import uuid


class Claim:
    """What each connection leaves behind, retained, and reads before it leaves its own.

    A claim that we neither made nor have seen, on any connection but our first, was made since:
    another daemon runs with our client id. On the first one it is our predecessor's. A claim begins
    with the moment at which its daemon started, so both know which of them is the younger.
    """

    def __init__(self) -> None:
        self._name = f"{time.time_ns():020d}-{uuid.uuid4().hex}"
        self._count = 0
        self._last = ""
        self.contested = self.younger = False

    @property
    def follows(self) -> bool:
        """Whether we, or a daemon before us, have had the session before."""
        return bool(self._last or self._count)

    def hear(self, payload: bytes) -> None:
        """Take note of a claim."""
        claim = payload.decode(errors="replace")
        foreign = bool(claim) and not claim.startswith(self._name)
        if foreign and self._count and claim != self._last:
            self.contested, self.younger = True, claim < self._name
        self._last = claim or self._last

    def make(self) -> bytes:
        """Claim the session, once we have heard who claimed it before."""
        self._count += 1
        self.contested = self.younger = False
        return f"{self._name} {self._count}".encode()
