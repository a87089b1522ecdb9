"""The copy of the store's file when something goes wrong with it. That it can be read, test_running holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.machine import Machine, blocks, machine

(BACKUP,) = (text for _, name, text in blocks() if name == "backup")
COPY = "var/backups/quotad/2026-11-23"
REWRITE = "auto-aof-rewrite-percentage"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as host:
        yield host


def rewrite(host: Machine) -> object:
    settings: dict[str, object] = host.home.redis.config_get(REWRITE)  # type: ignore[assignment]  # it may be awaitable
    return settings[REWRITE]


def stand_in(host: Machine, program: str, line: str) -> None:
    path = host.root / "bin" / program
    path.write_text(f"#!/usr/bin/env bash\n{line}\n")
    path.chmod(0o755)


def files(room: Path) -> set[str]:
    return {str(path.relative_to(room)) for path in room.rglob("*")}


def test_a_copy_that_fails_leaves_rewrites_on_and_can_be_made_again(host: Machine) -> None:
    stand_in(host, "cp", 'mkdir "${@: -1}"; echo "no space left" >&2; exit 1')
    with pytest.raises(AssertionError, match="no space left"):
        host.run(BACKUP)
    assert rewrite(host) == "100"
    assert not (host.root / COPY).exists()
    (host.root / "bin" / "cp").unlink()
    host.run(BACKUP)
    assert files(host.root / COPY) == files(host.root / "var/lib/redis/appendonlydir")


def test_rewrites_are_off_while_the_file_is_copied(host: Machine) -> None:
    stand_in(host, "cp", f'redis-cli CONFIG GET {REWRITE} | tail -1 >&2; mkdir "${{@: -1}}"; exit 1')
    with pytest.raises(AssertionError, match=r"(?m)^0$"):
        host.run(BACKUP)
    assert rewrite(host) == "100"


def test_a_copy_that_is_there_is_never_touched(host: Machine) -> None:
    host.run(BACKUP)
    before = files(host.root / COPY)
    assert before
    with pytest.raises(AssertionError, match="is there already"):
        host.run(BACKUP)
    assert files(host.root / COPY) == before
    assert rewrite(host) == "100"


def test_a_store_that_refuses_is_not_waited_for(host: Machine) -> None:
    with redis.Redis(port=host.home.store.port) as other:
        other.execute_command("ACL", "SETUSER", "default", "-config", "-info")
    with pytest.raises(AssertionError, match="NOPERM"):
        host.run(BACKUP)
    assert not (host.root / COPY).exists()
