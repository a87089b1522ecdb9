"""Who may see the pages: the token, in each form that it comes in, and over TLS."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from quota.config import load
from quota.door import tls_of
from quota.errors import ConfigError
from quota.http import serving
from tests.certificates import certify
from tests.sites import Site, get

TOKEN = "a token of 24 letters, no"[:24].replace(" ", "-")
RATE = {"QUOTA_MARKET__HKD_CNY": "0.91250"}
PATHS = ("/", "/page/page.js", "/metrics", "/api/pools", "/api/live", "/api/day", "/nothing")


def basic(user: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site(token=TOKEN)
    async with serving(site.app(), "127.0.0.1", 0) as site.address:
        yield site


@pytest.mark.parametrize("path", PATHS)
async def test_without_the_token_nothing_is_shown(site: Site, path: str) -> None:
    status, head, body = await get(site.address, path)
    assert (status, body) == (401, "the token is missing or wrong\n")
    assert 'www-authenticate: basic realm="quotad"' in head
    assert "content-security-policy" in head


@pytest.mark.parametrize(
    "header",
    [
        "Authorization: Bearer wrong",
        "Authorization: Bearer",
        "Authorization:",
        f"Authorization: {TOKEN}",
        f"Authorization: Digest {TOKEN}",
        f"Authorization: Bearer {TOKEN}x",
        f"Authorization: Bearer {TOKEN[:-1]}",
        "Authorization: Basic !",
        "Authorization: Basic /w==",
        basic("", ""),
        basic(TOKEN, ""),
        basic("desk", TOKEN[:-1]),
        f"Cookie: token={TOKEN}",
    ],
)
async def test_what_is_not_the_token_opens_nothing(site: Site, header: str) -> None:
    assert (await get(site.address, "/api/pools", header))[0] == 401


async def test_a_token_in_the_address_opens_nothing(site: Site) -> None:
    assert (await get(site.address, f"/api/pools?token={TOKEN}"))[0] == 401


@pytest.mark.parametrize(
    "header",
    [f"Authorization: Bearer {TOKEN}", f"authorization: bearer {TOKEN}", basic("x", TOKEN), basic("", TOKEN)],
)
async def test_the_token_opens_everything(site: Site, header: str) -> None:
    for path in ("/", "/page/page.js", "/metrics", "/api/pools", "/api/day"):
        assert (await get(site.address, path, header))[0] == 200, path


async def test_probes_need_no_token_and_learn_no_reasons(site: Site) -> None:
    assert (await get(site.address, "/-/healthy"))[0] == 200
    assert (await get(site.address, "/-/ready"))[::2] == (200, '{"ready":true}')
    site.reasons = ["store: 10.0.0.1 is away"]
    assert (await get(site.address, "/-/ready"))[::2] == (503, '{"ready":false}')
    status, _, body = await get(site.address, "/-/ready", f"Authorization: Bearer {TOKEN}")
    assert (status, "10.0.0.1" in body) == (503, True)


async def test_the_pages_are_served_with_tls_and_no_less(tmp_path: Path) -> None:
    ca, host = certify(tmp_path, "localhost"), tmp_path / "localhost"
    tls = tls_of(host.with_suffix(".pem"), host.with_suffix(".key"))
    async with serving(Site().app(), "127.0.0.1", 0, tls=tls) as address:
        port = int(address.rpartition(":")[2])
        trusting = ssl.create_default_context(cafile=ca)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting, server_hostname="localhost"
        )
        writer.write(b"GET /-/healthy HTTP/1.0\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /-/healthy HTTP/1.0\r\n\r\n")
        assert b"200" not in await reader.read()
        writer.close()


def test_a_certificate_that_is_none_is_the_operators_mistake(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(ConfigError, match=r"http\.cert_file: cannot use"):
        tls_of(tmp_path / "empty.pem", tmp_path / "empty.pem")


# The name that they are asked for by. ----------------------------------------------------------

STRANGERS = (
    *("evil.example", "evil.example:9464", "127.0.0.1.evil.example", "localhost.evil.example:{port}"),
    *("127.0.0.2", "10.0.0.1:{port}", "[::2]:{port}", "us", "", ":{port}", "user@127.0.0.1", "127.0.0.1/x"),
    *("localhost:x", "[::1", "::1", "127.0.0.1:{port}:1", "127.0.0.1 evil.example"),
)
NEIGHBOURS = (
    *("localhost", "LocalHost:{port}", "127.0.0.1", "127.0.0.1:{port}", "127.0.0.1:1", "[::1]", "[::1]:80"),
)


async def named(address: str, path: str, host: str) -> tuple[int, str]:
    """Ask for a page as a browser does that believes to be elsewhere."""
    own, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(own.strip("[]"), int(port))
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {host.format(port=port)}\r\nConnection: close\r\n\r\n".encode()
    )
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body


@pytest.mark.parametrize("host", STRANGERS)
async def test_without_a_token_who_asks_for_a_strangers_page_gets_none_of_ours(host: str) -> None:
    """A page whose name was made to point to loopback is for the browser that one's own."""
    site = Site(reasons=["store: 10.0.0.1 is away"])
    async with serving(site.app(), "127.0.0.1", 0) as address:
        for path in PATHS:
            status, body = await named(address, path, host)
            assert status in {400, 421}, path
            assert "quota" not in body.replace("unless quotad has a token", "")
        status, body = await named(address, "/-/ready", host)
        assert (status, "10.0.0.1" in body) in {(503, False), (400, False)}


@pytest.mark.parametrize("host", NEIGHBOURS)
async def test_without_a_token_this_machine_is_asked_by_any_of_its_names(host: str) -> None:
    async with serving(Site().app(), "127.0.0.1", 0) as address:
        for path in ("/", "/metrics", "/api/pools", "/-/ready"):
            assert (await named(address, path, host))[0] == 200, path


@pytest.mark.parametrize("listen", ["127.8.8.8", "::1"])
async def test_the_address_that_is_listened_to_is_a_name_too(listen: str) -> None:
    async with serving(Site().app(), listen, 0) as address:
        assert (await named(address, "/api/pools", address))[0] == 200
        assert (await named(address, "/api/pools", "evil.example"))[0] == 421


async def test_with_a_token_the_name_is_free(site: Site) -> None:
    """What a browser keeps for our own name it sends to no other one."""
    assert (await named(site.address, "/api/pools", "quota.example"))[0] == 401
    shown = f"quota.example\r\nAuthorization: Bearer {TOKEN}"
    assert (await named(site.address, "/api/pools", shown))[0] == 200


# The settings. --------------------------------------------------------------------------------


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "quotad:1", "[2001:db8::1]:1"])
def test_beyond_loopback_a_token_is_required(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"^http\.token: required beyond loopback: give token_file"):
        load(None, RATE | {"QUOTA_HTTP__LISTEN": listen})
    assert load(None, RATE | {"QUOTA_HTTP__LISTEN": listen, "QUOTA_HTTP__TOKEN": TOKEN}).http.token


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1"])
def test_on_loopback_a_token_is_not_required(listen: str) -> None:
    assert load(None, RATE | {"QUOTA_HTTP__LISTEN": listen}).http.token is None


@pytest.mark.parametrize("token", ["short", "with a space in it, alas", "ünïcode-ünïcode-ünïcode", "x" * 257])
def test_a_token_is_long_and_plain_and_never_repeated(token: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(None, RATE | {"QUOTA_HTTP__TOKEN": token})
    assert str(error.value) == "http.token: must be 16 to 256 printable ASCII characters without spaces"


def test_a_token_comes_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    settings = load(None, RATE | {"QUOTA_HTTP__TOKEN_FILE": str(tmp_path / "token")})
    assert settings.http.token is not None
    assert settings.http.token.get_secret_value() == TOKEN
    assert TOKEN not in repr(settings)
    with pytest.raises(ConfigError, match=r"http\.token_file: cannot be read"):
        load(None, RATE | {"QUOTA_HTTP__TOKEN_FILE": str(tmp_path / "none")})


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("")
    with pytest.raises(ConfigError, match=r"http\.key_file: cert_file and key_file go together"):
        load(None, RATE | {"QUOTA_HTTP__CERT_FILE": str(tmp_path / "x.pem")})
