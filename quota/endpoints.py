"""Where quotad connects and listens: the sections ``redis``, ``mqtt`` and ``http`` of the settings.

A secret comes from the environment or from a file of its own (``password_file``). A URL carries
none, so that it can be logged.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, ClassVar
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from quota.errors import ConfigError
from quota.events import checked_id
from quota.section import Section, Whole, between
from quota.store.durability import Durability
from quota.store.routes import route_to

_TOKEN = re.compile(r"[!-~]{16,256}")


def _base(url: str) -> str:
    """The scheme of a URL without what it says of several servers."""
    return url.partition("://")[0].partition("+")[0]


def _split(url: str) -> SplitResult:
    """Split a URL that names a host; raise ValueError where it names none, or no legal port."""
    parts = urlsplit(url)
    if not parts.hostname or parts.port == -1:  # reading the port is what checks it
        raise ValueError("no host")
    return parts


def _listen(text: str) -> str:
    try:
        parts = _split(f"//{text}")
    except ValueError:
        parts = urlsplit("")
    if parts.port is None or parts.netloc != text or "@" in text:
        raise ValueError("must be host:port, like 127.0.0.1:9464")
    return text


def _loopback(listen: str) -> bool:
    """Whether nobody but this machine can come to an address."""
    host = urlsplit(f"//{listen}").hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _root(text: str) -> str:
    if not text or text.startswith(("/", "$")) or text.endswith("/") or set(text) & set("+#\0"):
        raise ValueError("must be a topic without + and #, without / at either end and without $ in front")
    return text


def _client_id(text: str) -> str:
    try:
        return checked_id("client_id", text)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("client_id: ")) from None


def read_secret(path: Path) -> str:
    """Read the only line of a file; raise ValueError where there is none."""
    try:
        secret = path.read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError("cannot be read (it is not UTF-8)") from None
    if not secret:
        raise ValueError("names an empty file")
    return secret


def _secret_file(path: Path) -> Path:
    read_secret(path)
    return path


_SecretFile = Annotated[Path, AfterValidator(_secret_file)]


def _beside_its_certificate(path: Path | None, info: ValidationInfo) -> Path | None:
    if "cert_file" in info.data and (info.data["cert_file"] is None) is not (path is None):
        raise ValueError("cert_file and key_file go together")
    return path


class _Server(Section):
    """A server that we connect to: where it is, who we are, and TLS if its URL says so.

    ``password`` comes from the environment, else from ``password_file``; an empty one is none.
    """

    schemes: ClassVar[tuple[str, str]]
    path_of: ClassVar[str]

    url: str
    username: str | None = None
    password_file: _SecretFile | None = None
    password: SecretStr | None = Field(default=None, validate_default=True)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = Field(default=None, validate_default=True)

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return _base(self.url) == self.schemes[1]

    @property
    def host(self) -> str:
        """The host of the URL."""
        return urlsplit(self.url).hostname or ""

    @field_validator("url")
    @classmethod
    def _names_a_server(cls, url: str) -> str:
        plain, encrypted = cls.schemes
        rule = ValueError(f"must be {plain}://host:port{cls.path_of} or {encrypted}://host:port{cls.path_of}")
        try:
            parts = _split(url)
        except ValueError:
            raise rule from None
        if "@" in parts.netloc:
            raise ValueError("must not carry a user or a password, use username and password_file")
        path_fits = parts.path in ("", "/") or (cls.path_of and re.fullmatch(r"/[0-9]+", parts.path))
        if parts.scheme not in cls.schemes or parts.query or parts.fragment or not path_fits:
            raise rule
        return url

    @field_validator("password")
    @classmethod
    def _comes_from_its_file(cls, password: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if password is not None and password.get_secret_value():
            return password
        path = info.data.get("password_file")
        return SecretStr(read_secret(path)) if path is not None else None

    @field_validator("ca_file", "cert_file", "key_file")
    @classmethod
    def _is_a_file_for_tls(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError("names no file")
        if path is not None and _base(info.data.get("url", cls.schemes[1])) != cls.schemes[1]:
            raise ValueError(f"needs a {cls.schemes[1]}:// URL")
        return path

    @field_validator("key_file")
    @classmethod
    def _belongs_to_a_certificate(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        return _beside_its_certificate(path, info)


class Redis(_Server):
    """The store: one server, what a Sentinel watches, or a cluster.

    ``deadline_ms`` bounds every answer we wait for, ``durability`` says what an acknowledgement outlives.
    """

    schemes = ("redis", "rediss")
    path_of = "/number"

    url: str = "redis://127.0.0.1:6379/0"
    deadline_ms: Annotated[Whole, between(50, 60_000)] = 2_000
    durability: Durability = Durability.MEMORY
    sentinel_username: str | None = None
    sentinel_password_file: _SecretFile | None = None

    @field_validator("sentinel_username", "sentinel_password_file")
    @classmethod
    def _is_for_sentinels(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and "+sentinel:" not in info.data.get("url", "+sentinel:"):
            raise ValueError("needs a redis+sentinel:// URL")
        return value

    @field_validator("url")
    @classmethod
    def _names_a_server(cls, url: str) -> str:
        rule = ValueError(
            "must be redis://host:port/number, rediss://…, unix:///path, "
            "redis+sentinel://host:port,host:port/name/number or redis+cluster://host:port,host:port"
        )
        if "@" in url:
            raise ValueError("must not carry a user or a password, use username and password_file")
        try:
            route_to(url)
            several = "+" in url.partition("://")[0] or urlsplit(url).scheme == "unix"
            named = several or _split(url).hostname
        except (ConfigError, ValueError):
            raise rule from None
        if not named or "?" in url or "#" in url:
            raise rule
        return url


class Mqtt(_Server):
    """The broker. ``window`` is how many deliveries may be unacknowledged at a time."""

    schemes = ("mqtt", "mqtts")
    path_of = ""

    url: str = "mqtt://127.0.0.1:1883"
    root: Annotated[str, AfterValidator(_root)] = "connect"
    client_id: Annotated[str, AfterValidator(_client_id)] = "quotad"
    window: Annotated[Whole, between(1, 20_000)] = 1_000

    @property
    def port(self) -> int:
        """The port of the URL, or the protocol's own."""
        return urlsplit(self.url).port or (8883 if self.tls else 1883)


class Http(Section):
    """Where ``/metrics`` and its neighbours are served, with TLS where there is a certificate.

    ``token`` comes from the environment, else from ``token_file``; beyond loopback it is required.
    """

    listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:9464"
    cert_file: Path | None = None
    key_file: Path | None = Field(default=None, validate_default=True)
    token_file: _SecretFile | None = None
    token: SecretStr | None = Field(default=None, validate_default=True)

    @field_validator("cert_file", "key_file")
    @classmethod
    def _is_a_file(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError("names no file")
        return path

    @field_validator("key_file")
    @classmethod
    def _belongs_to_a_certificate(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        return _beside_its_certificate(path, info)

    @field_validator("token")
    @classmethod
    def _is_there_where_others_come(cls, token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        path = info.data.get("token_file")
        secret = token.get_secret_value() if token is not None else ""
        secret = secret or (read_secret(path) if path is not None else "")
        if secret and not _TOKEN.fullmatch(secret):
            raise ValueError("must be 16 to 256 printable ASCII characters without spaces")
        listen = info.data.get("listen")
        if not secret and listen is not None and "token_file" in info.data and not _loopback(listen):
            raise ValueError(f"required beyond loopback: give token_file ({listen})")
        return SecretStr(secret) if secret else None

    @property
    def host(self) -> str:
        """The address to bind."""
        return urlsplit(f"//{self.listen}").hostname or ""

    @property
    def port(self) -> int:
        """The port to bind; 0 lets the system choose."""
        return urlsplit(f"//{self.listen}").port or 0
