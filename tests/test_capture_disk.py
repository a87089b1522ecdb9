"""The record of the day on a disk that is full, fails or hangs, and in a process that is killed."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from feeds import capture as capture_module
from quota.errors import CaptureUnavailable
from tests.captures import capturing, delivered, fill, kept, only, read, small_disk
from tests.rigs import until
from tests.scale import cases

KILLED = """
import asyncio, sys
from pathlib import Path
from tests.captures import capturing, delivered

async def main():
    async with capturing(Path(sys.argv[1]), rotate_bytes=20_000) as capture:
        number = 0
        while True:
            await asyncio.gather(*(capture.keep([delivered(number + more)]) for more in range(7)))
            number += 7
            print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.soak
def test_killed_in_the_middle_it_has_all_that_it_confirmed(
    tmp_path: Path, counted: Callable[[str], None]
) -> None:
    confirmed, lives = 0, cases(3, 100)
    for life in range(lives):
        folder = tmp_path / "capture"
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process.stdout:
            for _ in range(20 + life % 30):
                confirmed = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            confirmed = max([confirmed, *map(int, process.stdout.read().split("\n")[:-1])])
        process.wait(10)
        asyncio.run(kept(folder, [delivered(-1)]))
        found = read(folder)
        last = len(found) - found[::-1].index(delivered(0)) - 1
        assert found[last:-1][:confirmed] == [delivered(number) for number in range(confirmed)]
    counted(f"a record killed in the middle of a write: {lives} times")


@pytest.fixture(params=["tmpfs", "limit"])
def narrow(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder in which files cannot grow for ever; ``widen`` makes room."""
    if request.param == "tmpfs":
        with small_disk(tmp_path / "disk", 64) as disk:
            yield disk
        return
    yield tmp_path / "limit"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def narrowed(folder: Path) -> None:
    """Leave a few bytes only."""
    if folder.name == "disk":
        fill(folder)
        return
    size = only(folder).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))


def widened(folder: Path) -> None:
    """Make room again."""
    (folder / "filler").unlink(missing_ok=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def noise(number: int) -> bytes:
    return os.urandom(6_000) + b"%d" % number


async def test_on_a_full_disk_it_refuses_and_goes_on_when_there_is_room(narrow: Path) -> None:
    large = delivered(2, noise(2))
    async with capturing(narrow) as capture:
        await capture.keep([delivered(1)])
        narrowed(narrow)
        with capture_logs() as logs:
            for _ in range(3):
                with pytest.raises(CaptureUnavailable, match=str(narrow)):
                    await capture.keep([large])
            assert capture.trouble
            assert read(narrow) == [delivered(1)]
            widened(narrow)
            await capture.keep([large])
        assert capture.trouble == ""
        assert [log["event"] for log in logs] == ["capture.failed", "capture.writes_again"]
    assert read(narrow) == [delivered(1), large]


async def test_room_for_a_little_is_no_room(narrow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with capturing(narrow) as capture:
        await capture.keep([delivered(0)])
        narrowed(narrow)
        with pytest.raises(CaptureUnavailable):
            await capture.keep([delivered(1, noise(1))])
        widened(narrow)
        await capture.keep([delivered(2)])
        assert capture.trouble
        monkeypatch.setattr("feeds.capture._PROVEN_S", 0.0)
        await capture.keep([delivered(3)])
        await until(lambda: not capture.trouble)


@pytest.mark.parametrize("failing", [("fsync",), ("fsync", "ftruncate")], ids=["fsync", "cutting off too"])
async def test_a_disk_that_cannot_confirm_has_not_kept_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: tuple[str, ...]
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(5, "Input/output error")

    async with capturing(tmp_path) as capture:
        await capture.keep([delivered(1)])
        with monkeypatch.context() as patch:
            for call in failing:
                patch.setattr(f"os.{call}", refuse)
            with pytest.raises(CaptureUnavailable, match="Input/output error"):
                await capture.keep([delivered(2, bytes(range(256)))])
        await capture.keep([delivered(3)])
    assert read(tmp_path) == [delivered(1), delivered(3)]


async def test_a_write_that_hangs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, fsync = threading.Event(), os.fsync
    monkeypatch.setattr(capture_module, "SLOW_S", 0.0)
    async with capturing(tmp_path) as capture:
        await capture.keep([delivered(1)])
        monkeypatch.setattr("os.fsync", lambda file: (gate.wait(10), fsync(file)))
        waiting = asyncio.create_task(capture.keep([delivered(2)]))
        await until(lambda: "has been under way" in capture.trouble)
        gate.set()
        await waiting
        assert capture.trouble == ""
