"""Rules of the pages, asked over a real connection."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest
from starlette.applications import Starlette

from quota.decision import Phase, PoolName, Status
from quota.errors import ConfigError
from quota.feed import StatusReport
from quota.http import app, serving
from quota.metrics import Metrics

REPORT = StatusReport(
    pool=PoolName.NB_SH,
    trading_day="2026-11-23",
    phase=Phase.CONTINUOUS,
    status=Status.OPEN,
    limit_fen=5_200_000_000_000,
    balance_fen=-1,
    used_ratio=0.5,
    level=50,
    rate="1.00000",
    seq=3,
    time="2026-11-23T09:31:00.123+08:00",
)


@dataclass(slots=True)
class Site:
    """A served daemon without the daemon: what it would tell can be set."""

    reasons: list[str] = field(default_factory=list)
    reports: list[StatusReport] = field(default_factory=list)
    address: str = ""

    def app(self) -> Starlette:
        registry = Metrics(tuple(PoolName), "1").registry
        return app(registry, pools=lambda: self.reports, ready=lambda: self.reasons)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    async with serving(site.app(), "127.0.0.1", 0) as site.address:
        yield site


async def get(address: str, path: str, *headers: str) -> tuple[int, str, str]:
    """Ask for a page; return its status, its headers and its text."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    lines = (f"GET {path} HTTP/1.1", f"Host: {address}", "Connection: close", *headers, "", "")
    writer.write("\r\n".join(lines).encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), head.lower(), body


async def test_who_answers_is_healthy(site: Site) -> None:
    site.reasons = ["store: away"]
    status, _, _ = await get(site.address, "/-/healthy")
    assert status == 200


async def test_ready_without_reasons_is_ready(site: Site) -> None:
    status, head, body = await get(site.address, "/-/ready")
    assert (status, msgspec.json.decode(body)) == (200, {"ready": True, "reasons": [], "warnings": []})
    assert "content-type: application/json" in head


async def test_not_ready_says_why(site: Site) -> None:
    site.reasons = ["the broker is not reached", "NB-SH: no trading day is open"]
    status, _, body = await get(site.address, "/-/ready")
    assert (status, msgspec.json.decode(body)) == (
        503,
        {"ready": False, "reasons": site.reasons, "warnings": []},
    )


async def test_pools_are_an_array_of_status_reports(site: Site) -> None:
    site.reports = [REPORT]
    status, head, body = await get(site.address, "/api/pools")
    assert status == 200
    assert msgspec.json.decode(body, type=list[StatusReport]) == [REPORT]
    assert "cache-control: no-store" in head


async def test_pools_without_a_daemon_yet_are_an_empty_array(site: Site) -> None:
    assert (await get(site.address, "/api/pools"))[2] == "[]"


async def test_metrics_are_in_the_text_format(site: Site) -> None:
    status, head, body = await get(site.address, "/metrics")
    assert status == 200
    assert "content-type: text/plain; version=0.0.4" in head
    assert "\nquota_balance_yuan{" in body


async def test_metrics_are_in_openmetrics_for_who_asks(site: Site) -> None:
    accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    _, head, body = await get(site.address, "/metrics", accept)
    assert "content-type: application/openmetrics-text; version=1.0.0" in head
    assert body.endswith("# EOF\n")


async def test_the_index_links_to_every_page_and_says_whose_balance_it_is(site: Site) -> None:
    _, head, body = await get(site.address, "/")
    assert "content-type: text/html" in head
    assert "the events that quotad is fed" in body
    for path in ("/api/pools", "/metrics", "/-/healthy", "/-/ready"):
        assert f'href="{path}"' in body
        assert (await get(site.address, path))[0] == 200


async def test_an_unknown_page_is_not_found(site: Site) -> None:
    assert (await get(site.address, "/nothing"))[0] == 404


async def test_a_page_that_fails_is_the_servers_error_and_logged(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.reports = [object()]  # type: ignore[list-item] # no report: the page must fail
    assert (await get(site.address, "/api/pools"))[0] == 500
    assert "Exception in ASGI application" in caplog.text


async def test_port_0_gives_the_address_really_bound(site: Site) -> None:
    host, _, port = site.address.partition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0


async def test_a_taken_port_is_the_operators_mistake(site: Site) -> None:
    host, _, port = site.address.partition(":")
    with pytest.raises(ConfigError, match=rf"^http\.listen: cannot bind 127\.0\.0\.1:{port} \(.+\)$"):
        async with serving(site.app(), host, int(port)):
            pass


async def test_a_host_that_is_not_ours_is_the_operators_mistake() -> None:
    with pytest.raises(ConfigError, match=r"cannot bind 192\.0\.2\.1:0"):
        async with serving(Site().app(), "192.0.2.1", 0):
            pass


async def test_ipv6_is_written_in_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    async with serving(Site().app(), "::1", 0) as address:
        assert address.startswith("[::1]:")
        assert (await get(address, "/-/healthy"))[0] == 200


async def test_the_port_is_free_again_afterwards_though_a_client_holds_on() -> None:
    async with serving(Site().app(), "127.0.0.1", 0) as address:
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(2):
        assert await reader.read() == b""
    writer.close()
    async with serving(Site().app(), host, int(port)) as again:
        assert again == address


async def test_it_ends_before_it_has_begun() -> None:
    async with asyncio.timeout(2), serving(Site().app(), "127.0.0.1", 0):
        pass


async def test_signals_are_the_daemons() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with serving(Site().app(), "127.0.0.1", 0) as address:
        await get(address, "/-/healthy")
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


async def test_it_logs_nothing_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(Site().app(), "127.0.0.1", 0) as address:
        await get(address, "/metrics")
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
