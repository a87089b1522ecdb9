"""Where the broker is, who we are to it, and what we ask of it when a connection begins."""

from __future__ import annotations

import math
import ssl
from dataclasses import dataclass, field
from typing import Final

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from quota.decision import PoolName
from quota.errors import ConfigError

PACKET_MAX: Final = 32 * 1024 * 1024
"""The largest message that we take, in bytes: a broker keeps larger ones from us."""

_WINDOW_MAX: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """Where the broker is, who we are, and how patient.

    ``window`` is how many messages may be unacknowledged. The delay before a new connection is
    drawn between 0 and a bound that doubles from ``backoff_min_s`` to ``backoff_max_s``.
    """

    host: str
    port: int = 1883
    client_id: str = "quotad"
    root: str = "connect"
    served: frozenset[PoolName] = frozenset(PoolName)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    window: int = 1_000
    keepalive_s: int = 15
    session_expiry_s: int = 14 * 24 * 3600
    connect_timeout_s: float = 5.0
    backoff_min_s: float = 0.1
    backoff_max_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.client_id or set(self.client_id) & set("/+#"):
            raise ConfigError("mqtt client_id: must not be empty or contain / + #")
        if not self.root or set(self.root) & set("+#"):
            raise ConfigError("mqtt root: must not be empty or contain + #")
        if not 0 < self.window <= _WINDOW_MAX:
            raise ConfigError(f"mqtt window: must be 1 to {_WINDOW_MAX}")

    @property
    def presence_topic(self) -> str:
        """Where we are said to be ``online`` or ``offline``."""
        return f"{self.root}/daemon/{self.client_id}"

    @property
    def mark_topic(self) -> str:
        """Where our own marks come back to us."""
        return f"{self.presence_topic}/mark"

    @property
    def claim_topic(self) -> str:
        """Where the last connection with our client id left its claim."""
        return f"{self.presence_topic}/claim"


def client_tls(ca_file: str | None, cert_file: str | None, key_file: str | None) -> ssl.SSLContext:
    """Build what verifies the broker and, where it asks, shows who we are; raises ConfigError.

    Without ``ca_file`` the system's authorities count.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if cert_file:
            context.load_cert_chain(cert_file, key_file)
    except OSError as error:
        named = ", ".join(file for file in (ca_file, cert_file, key_file) if file)
        raise ConfigError(f"mqtt tls: cannot use {named}: {error}") from error
    return context


def new_client(settings: MqttSettings) -> aiomqtt.Client:
    """Build the client of one connection: MQTT 5, a session that the broker keeps, and a will.

    The loop must run. paho is to hold no publication back: we keep the order ourselves.
    """
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho leaves it untyped
    properties.SessionExpiryInterval = settings.session_expiry_s
    properties.ReceiveMaximum = settings.window
    properties.MaximumPacketSize = PACKET_MAX
    return aiomqtt.Client(
        settings.host,
        settings.port,
        identifier=settings.client_id,
        username=settings.username,
        password=settings.password,
        tls_context=settings.tls,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        properties=properties,
        keepalive=settings.keepalive_s,
        timeout=settings.connect_timeout_s,
        max_inflight_messages=0,
        will=aiomqtt.Will(settings.presence_topic, b"offline", qos=1, retain=True),
    )


async def subscribe(client: aiomqtt.Client, settings: MqttSettings, *, kept: bool) -> None:
    """Subscribe to everything that is ours; raises MqttError where the broker refuses.

    Where it has ``kept`` a session, its word comes behind all that it holds for us, which may be the work
    of minutes: then only a broker that is silent is given up, by the keepalive.

    ``#`` below orders and fills, so that a topic that is too deep becomes a dead letter. What
    somebody retained there is sent once per session and not at every connection. Claims come with
    QoS 0, past everything that is queued.
    """
    once, always = SubscribeOptions(qos=1, retainHandling=1), SubscribeOptions(qos=1)
    wanted = [
        (settings.claim_topic, SubscribeOptions(qos=0)),
        (f"{settings.root}/+/orders/#", once),
        (f"{settings.root}/+/fills/#", once),
        (f"{settings.root}/fx", always),
        (settings.mark_topic, once),
    ]
    granted = await client.subscribe(wanted, timeout=math.inf if kept else None)
    for (topic, options), code in zip(wanted, granted, strict=True):
        if getattr(code, "value", code) != options.QoS:
            raise aiomqtt.MqttError(f"the broker does not grant {topic} with QoS {options.QoS}: {code}")


async def until_lost(client: aiomqtt.Client) -> None:
    """Wait for the end of a connection; aiomqtt's own queue stays empty."""
    async for _ in client.messages:
        raise AssertionError("aiomqtt got a message that is ours")
