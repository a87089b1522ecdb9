"""The sessions in docs/gateways.md, executed line by line against a store prepared as it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from quota.gate.answers import Answer
from quota.gate.wire import HOLD_MAX_MS, keys
from quota.gateway import PreTrade
from tests.servers import Store, binary

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "gateways.md").read_text()
SESSIONS = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)


def test_every_session_prints_what_the_document_says(store: Store) -> None:
    binary("redis-cli")
    prepare = [sys.executable, str(ROOT / "deploy" / "examples" / "prepare.py"), store.url]
    subprocess.run(prepare, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT)
    told = steps_of(SESSIONS)
    assert len(told) > 10
    script = "\n".join(f"{command}\necho '--8<--'" for command, _ in told)
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PORT": str(store.port)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    printed = done.stdout.split("--8<--\n")
    for (command, expected), output in zip(told, printed, strict=False):
        assert output.strip() == expected.strip(), command


def steps_of(sessions: list[str]) -> list[tuple[str, str]]:
    """Take the sessions apart: a command begins with a dollar at the beginning of its line."""
    told: list[tuple[str, str]] = []
    for line in "".join(sessions).splitlines():
        if line.startswith("$ "):
            told.append((line[2:], ""))
        else:
            command, output = told[-1]
            told[-1] = (command, f"{output}{line}\n")
    return told


def test_the_document_names_the_keys_and_bounds_of_the_code() -> None:
    assert " ".join(keys("NB-SH")) in TEXT  # type: ignore[arg-type]  # its text is all that counts
    assert f"1 to {HOLD_MAX_MS}" in TEXT


def test_the_document_names_every_call_and_field_of_the_client() -> None:
    calls = [name for name in vars(PreTrade) if not name.startswith("_") and f"`{name}(" in TEXT]
    assert sorted(calls) == ["check", "release", "reserve", "status"]
    for field in Answer.__struct_fields__:
        assert f"`{field}`" in TEXT
