"""Rules of the pages, asked over a real connection."""

from __future__ import annotations

import asyncio
import gzip
import logging
import signal
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest

from quota.decision import Phase, PoolName, Status
from quota.errors import ConfigError
from quota.feed import StatusReport
from quota.http import serving
from tests.sites import Site, get

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


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    async with serving(site.app(), "127.0.0.1", 0) as site.address:
        yield site


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


async def test_metrics_are_compressed_for_who_takes_it(site: Site) -> None:
    host, _, port = site.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b"content-encoding: gzip" in head.lower()
    assert b"quota_balance_yuan" in gzip.decompress(body)


async def test_metrics_can_be_asked_for_by_name(site: Site) -> None:
    _, _, body = await get(site.address, "/metrics?name[]=quota_seq")
    assert "quota_seq" in body
    assert "quota_balance_yuan" not in body


async def test_the_charts_are_json_of_now(site: Site) -> None:
    status, head, body = await get(site.address, "/api/day")
    assert (status, body) == (200, '["chart"]')
    assert "cache-control: no-store" in head


async def test_every_answer_tells_the_browser_to_run_our_own_files_only(site: Site) -> None:
    for path in ("/", "/page/page.js", "/page/page.css", "/metrics", "/api/pools", "/nothing"):
        _, head, _ = await get(site.address, path)
        assert "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'" in head, (
            path
        )
        assert "x-content-type-options: nosniff" in head, path
        assert "unsafe" not in head, path


async def test_the_pages_files_are_asked_for_again_after_an_upgrade(site: Site) -> None:
    _, head, _ = await get(site.address, "/page/page.js")
    assert "cache-control: no-cache" in head
    tag = next(line for line in head.split("\r\n") if line.startswith("etag: ")).removeprefix("etag: ")
    assert (await get(site.address, "/page/page.js", f"If-None-Match: {tag}"))[0] == 304


async def test_nothing_outside_the_page_is_served(site: Site) -> None:
    for path in ("/page/", "/page/../http.py", "/page/%2e%2e/http.py", "/page//etc/passwd"):
        assert (await get(site.address, path))[0] == 404, path


async def test_the_index_is_the_live_page_and_links_to_the_others(site: Site) -> None:
    _, head, body = await get(site.address, "/")
    assert "content-type: text/html" in head
    assert "Whose balance" in body
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
