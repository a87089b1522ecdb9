"""The conformance file, run from Python and from Node.js against stores prepared as it asks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from quota.decision import PoolName, Verdict
from quota.gate.wire import KEY_PARTS, keys
from tests.rigs import SOON_S
from tests.servers import Store, missing

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "deploy" / "examples"
LINES: list[dict[str, Any]] = [
    json.loads(line) for line in (EXAMPLES / "conformance.jsonl").read_text().splitlines()
]


@pytest.fixture
def prepared(store: Store) -> Store:
    """A store as the conformance file asks for."""
    done = prepare(store)
    assert done.returncode == 0, done.stderr
    return store


def prepare(store: Store) -> subprocess.CompletedProcess[str]:
    """Run the script that a developer runs."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "prepare.py"), store.url],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def got(client: Redis, line: dict[str, Any]) -> Any:  # noqa: ANN401 - as the function replies
    """Send a line's call; an error is returned as its text."""
    reads = line["function"] == "quota_check"
    names = line.get("keys") or list(keys(PoolName(line["pool"])))[: 1 if reads else len(KEY_PARTS)]
    words = ["FCALL_RO" if reads else "FCALL", line["function"], len(names), *names, *line["args"]]
    try:
        return client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    except ResponseError as error:
        return str(error)


def fits(line: dict[str, Any], reply: Any) -> bool:  # noqa: ANN401 - as the function replies
    """Whether the reply is the one in the file."""
    if "error" in line:
        return isinstance(reply, str) and reply.startswith(line["error"])
    return bool(reply == line["reply"])


def test_the_file_runs_from_python(prepared: Store) -> None:
    with Redis(port=prepared.port, protocol=2, decode_responses=True) as client:
        for line in LINES:
            ends = time.monotonic() + SOON_S
            reply = got(client, line)
            while line.get("until") and not fits(line, reply) and time.monotonic() < ends:
                reply = got(client, line)
            assert fits(line, reply), (line, reply)


def test_the_file_runs_from_a_node_gateway(prepared: Store) -> None:
    """`make test` installs the client into node_modules; a test itself never reaches for the internet."""
    node = shutil.which("node")
    if node is None:
        missing("node")
    if not (EXAMPLES / "node" / "node_modules" / "redis").is_dir():
        missing("the redis client of npm (make node)")
    done = subprocess.run(
        [str(node), "conformance.js", prepared.url],
        cwd=EXAMPLES / "node",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\nok ") + 1 == len(LINES)


def test_a_store_in_use_is_not_prepared(prepared: Store) -> None:
    again = prepare(prepared)
    assert again.returncode == 1
    assert "not empty" in again.stderr


def test_the_file_has_every_verdict_and_every_outcome_of_a_release() -> None:
    replies = [line["reply"][0] for line in LINES if "reply" in line]
    assert {*Verdict, "released", "unknown", "settled"} == set(replies)
    assert {line["function"] for line in LINES} == {"quota_reserve", "quota_check", "quota_release"}


def test_the_node_client_has_an_exact_version() -> None:
    package = json.loads((EXAMPLES / "node" / "package.json").read_text())
    assert all(version[0].isdigit() for version in package["dependencies"].values())
    assert not (EXAMPLES / "node" / "package-lock.json").exists()
