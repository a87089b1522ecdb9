"""From an order on MQTT to the call on the desk's phone: the shipped files, all programs real.

Only times are shortened and addresses replaced.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.daemons import House, house, new
from tests.deployed import DEPLOY, fetch, prometheus_command, running, series, until_page
from tests.servers import binary, free_port
from tests.tap import Tap, until, until_now
from tests.test_alerts import OPERATIONS, queries

LIMITS = 'limits_yuan = {NB-SH = "1000.00"}'
ORDERS = "connect/NB-SH/orders"


@dataclass(slots=True)
class Receiver:
    """Who is called: writes down the path and the whole of each call."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def alerts(self, path: str) -> dict[str, dict[str, Any]]:
        """The alerts that were called on a path, the last of each name."""
        calls = [call for where, call in list(self.calls) if where == path]
        return {alert["labels"]["alertname"]: alert for call in calls for alert in call["alerts"]}

    def names(self) -> set[str]:
        """All alerts that anybody was called for."""
        return {alert["labels"]["alertname"] for _, call in list(self.calls) for alert in call["alerts"]}

    @contextmanager
    def listening(self) -> Iterator[int]:
        """Listen on a port of its own."""
        calls = self.calls

        class Call(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                calls.append((self.path, json.loads(body)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        with ThreadingHTTPServer(("127.0.0.1", 0), Call) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield server.server_address[1]
            finally:
                server.shutdown()
                thread.join()


def shorter(text: str, *changes: tuple[str, str]) -> str:
    """Replace words wherever they stand; each has to stand somewhere."""
    for word, other in changes:
        assert word in text, word
        text = text.replace(word, other)
    return text


def alertmanager(directory: Path, port: int, calls: int) -> Sequence[str]:
    text = shorter(
        (DEPLOY / "alertmanager.yml").read_text("utf-8"),
        ("127.0.0.1:9095", f"127.0.0.1:{calls}"),
        ("group_wait: 2s", "group_wait: 1s"),
        ("group_wait: 5s", "group_wait: 1s"),
        ("group_interval: 15s", "group_interval: 1s"),
    )
    directory.mkdir()
    (directory / "alertmanager.yml").write_text(text)
    return [
        binary("prometheus-alertmanager"),
        f"--config.file={directory / 'alertmanager.yml'}",
        f"--storage.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]


def prometheus(directory: Path, port: int, *, daemon: int, alertmanager: int) -> Sequence[str]:
    directory.mkdir()
    changes = {
        "127.0.0.1:9464": f"127.0.0.1:{daemon}",
        "127.0.0.1:9093": f"127.0.0.1:{alertmanager}",
        "scrape_interval: 5s": "scrape_interval: 200ms",
        "evaluation_interval: 5s": "evaluation_interval: 200ms",
    }
    command = prometheus_command(directory, port, changes)
    rules = directory / "rules.yml"
    rules.write_text(shorter(rules.read_text("utf-8"), ("for: 15s", "for: 1s"), ("for: 30s", "for: 1s")))
    return command


@dataclass(slots=True)
class Line:
    """The whole line of programs from the broker to the receiver."""

    home: House
    tap: Tap
    receiver: Receiver
    prometheus: str


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    receiver, at, tells = Receiver(), free_port(), free_port()
    with ExitStack() as stack:
        home = stack.enter_context(house(tmp_path, toml=LIMITS))
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        calls = stack.enter_context(receiver.listening())
        command = alertmanager(tmp_path / "alertmanager", tells, calls)
        stack.enter_context(running(command, tells, tmp_path / "alertmanager"))
        command = prometheus(tmp_path / "prometheus", at, daemon=home.quotad.port, alertmanager=tells)
        stack.enter_context(running(command, at, tmp_path / "prometheus"))
        tap = stack.enter_context(Tap(home.broker.port))
        yield Line(home, tap, receiver, f"http://127.0.0.1:{at}/api/v1/query?query=")


async def test_an_order_on_mqtt_becomes_a_call_to_the_right_people(line: Line) -> None:
    said, called = line.tap.say, line.receiver.alerts
    used = quote('pool:quota_used:ratio{pool="NB-SH"} == 0')
    await until_page(line.prometheus + used, series)
    said(ORDERS, new("1", "buy 9.50 100"))
    await until(lambda: "QuotaUsed90" in called("/desk/northbound/chat"))
    alert = called("/desk/northbound/chat")["QuotaUsed90"]
    assert alert["status"] == "firing"
    assert alert["labels"] | {"pool": "NB-SH", "severity": "warning"} == alert["labels"]
    assert alert["annotations"]["summary"] == ("沪股通 Northbound Shanghai (NB-SH): 95% of the quota is used")
    assert alert["annotations"]["runbook_url"] == "docs/operations.md#quotaused90"
    assert "QuotaUsed70" not in line.receiver.names()

    said(ORDERS, new("2", "buy 0.60 100"))
    await until(lambda: "QuotaExhausted" in called("/desk/northbound/page"))
    assert "QuotaUsed100" not in line.receiver.names()

    for query in queries(OPERATIONS.read_text("utf-8")):
        answer = await asyncio.to_thread(fetch, line.prometheus + quote(query))
        assert json.loads(answer)["status"] == "success", query

    line.home.quotad.kill()
    await until(lambda: "QuotaNoDaemon" in called("/engineers/page"))
    assert not re.findall("southbound", str(line.receiver.calls))
    firing = await asyncio.to_thread(fetch, line.prometheus + quote('ALERTS{alertname="QuotaExhausted"}'))
    assert series(firing)
