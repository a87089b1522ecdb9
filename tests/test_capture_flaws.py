"""What is wrong with a file of the record is found and named; what is merely unfinished is no flaw."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from feeds.capture_format import HEAD_BYTES, Line, UnitHead, lines_of, units
from feeds.capture_reading import Flaw, files_of, records
from quota.captured import Captured
from quota.errors import CaptureCorrupt
from tests.captures import become, changed, content, delivered, journalled, kept, only, opened, read, writes
from tests.scale import cases, first_seed

BATCHES: list[list[Captured]] = [
    [delivered(1), delivered(2)],
    [opened(), journalled(1)],
    [journalled(2), changed(1), delivered(3)],
    [delivered(4, bytes(range(256)))],
]
ALL = [record for batch in BATCHES for record in batch]


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    await kept(tmp_path, *BATCHES)
    return only(tmp_path)


def found(*paths: Path) -> tuple[list[Captured], list[Flaw]]:
    """What is readable, and the flaws; the strict reading has to refuse where there is one."""
    flaws: list[Flaw] = []
    readable = [record for _, record in records(paths, flaws)]
    if flaws:
        with pytest.raises(CaptureCorrupt, match=re.escape(str(flaws[0]))):
            list(records(paths))
    return readable, flaws


async def test_a_tail_torn_at_any_byte_is_no_flaw_and_is_cut_off_with_a_warning(path: Path) -> None:
    whole, last = content(path), len(writes(path)[-1])
    for cut in range(len(whole) - last + 1, len(whole)):
        become(path, whole[:cut])
        assert found(path) == (ALL[:-1], [])
        with capture_logs() as logs:
            await kept(path.parent, [delivered(9)])
        assert [(log["event"], log["log_level"]) for log in logs] == [("capture.tail_cut", "warning")]
        assert logs[0]["bytes"] == cut - (len(whole) - last)
        assert read(path.parent) == [*ALL[:-1], delivered(9)]
        assert only(path.parent) == path


async def test_room_that_was_made_and_never_written_is_a_torn_tail(path: Path) -> None:
    become(path, content(path) + bytes(5000))
    assert found(path) == (ALL, [])
    await kept(path.parent, [delivered(9)])
    assert read(path.parent) == [*ALL, delivered(9)]


@pytest.mark.soak
def test_a_bit_flipped_anywhere_is_found_and_its_record_named(
    path: Path, counted: Callable[[str], None]
) -> None:
    whole, chosen = content(path), random.Random(first_seed())
    starts = [0, *accumulated(len(write) for write in writes(path))]
    firsts = [0, 3, 6, 10]
    flips = cases(400, 20_000)
    for _ in range(flips):
        byte = chosen.randrange(len(whole))
        spoilt = bytearray(whole)
        spoilt[byte] ^= 1 << chosen.randrange(8)
        become(path, spoilt)
        struck = max(place for place, start in enumerate(starts) if start <= byte)
        readable, flaws = found(path)
        assert [(flaw.file, flaw.number) for flaw in flaws] == [(path.name, firsts[struck])], byte
        assert "is damaged" in flaws[0].what
        assert readable == [
            record for place, batch in enumerate(BATCHES) if place != struck for record in batch
        ]
    counted(f"flipped bits of a record: {flips}")


def accumulated(sizes: object) -> list[int]:
    total, sums = 0, []
    for size in sizes:  # type: ignore[attr-defined]  # a generator of sizes
        total += size
        sums.append(total)
    return sums[:-1]


@pytest.mark.parametrize("struck", range(4))
async def test_a_damaged_file_is_named_and_left_alone_and_another_goes_on(path: Path, struck: int) -> None:
    whole = bytearray(content(path))
    offset = sum(len(write) for write in writes(path)[:struck])
    whole[offset + HEAD_BYTES + 20] ^= 4
    become(path, whole)
    with capture_logs() as logs:
        await kept(path.parent, [delivered(9)])
    (log,) = logs
    assert (log["event"], log["log_level"], log["file"]) == ("capture.damaged", "error", path.name)
    assert log["number"] == [0, 3, 6, 10][struck]
    assert content(path) == whole
    readable, flaws = found(*files_of(path.parent))
    assert readable[-1] == delivered(9)
    assert {flaw.file for flaw in flaws} == {path.name}


async def test_after_damage_the_pools_are_followed_again_from_before_it(path: Path) -> None:
    whole = bytearray(content(path))
    whole[sum(map(len, writes(path)[:2])) + HEAD_BYTES + 20] ^= 4
    become(path, whole)
    await kept(path.parent, [journalled(2)])
    assert [record for record in found(*files_of(path.parent))[0] if record == journalled(2)] == [
        journalled(2)
    ]


@pytest.mark.parametrize(
    ("order", "number", "what"),
    [
        ([0, 2, 3], 3, "is missing or out of its place: 6 stands here"),
        ([0, 2, 1, 3], 3, "is missing or out of its place: 6 stands here"),
        ([1, 2, 3], 0, "is missing or out of its place: 3 stands here"),
        ([0, 1, 1, 2, 3], 6, "is missing or out of its place: 3 stands here"),
    ],
    ids=["a write is missing", "two are exchanged", "the first is missing", "one is there twice"],
)
def test_missing_and_reordered_writes_are_named(path: Path, order: list[int], number: int, what: str) -> None:
    parts = writes(path)
    become(path, b"".join(parts[place] for place in order))
    assert found(path)[1][0] == Flaw(path.name, number, what)


def test_a_record_that_somebody_has_edited_with_all_checksums_is_named(path: Path) -> None:
    parts = writes(path)
    lines = [Line.read(text) for text in lines_of(parts[2][HEAD_BYTES:])]
    forged = lines[0]._replace(kept=lines[0].kept.replace(b"999998", b"999997"))
    assert forged != lines[0]
    become(path, b"".join([*parts[:2], *units([forged, *lines[1:]]), parts[3]]))
    assert found(path)[1][0] == Flaw(path.name, lines[0].number, "does not follow from the records before it")


async def test_a_missing_file_and_an_exchanged_one_are_named(tmp_path: Path) -> None:
    for number in range(3):
        await kept(tmp_path, [delivered(number)], rotate_bytes=1)
    first, second, third = files_of(tmp_path)
    assert found(first, second, third)[1] == []
    assert found(second)[1] == []
    assert found(first, third)[1] == [Flaw(third.name, 0, f"follows {second.name}, which is not here")]
    become(third, content(second))
    assert found(first, second, third)[1][0] == Flaw(third.name, 0, f"was written as {second.name}")


async def test_a_file_that_lost_its_last_writes_is_known_by_the_next_one(tmp_path: Path) -> None:
    await kept(tmp_path, [delivered(1)], [delivered(2)])
    await kept(tmp_path, [delivered(3)], rotate_bytes=1)
    first, second = files_of(tmp_path)
    become(first, writes(first)[0])
    assert found(first, second)[1] == [Flaw(second.name, 0, f"does not follow from the end of {first.name}")]


async def test_an_empty_file_that_a_crash_has_left_is_no_flaw(tmp_path: Path) -> None:
    await kept(tmp_path, [delivered(1)])
    (tmp_path / "2026-11-23_quotad_000002.jsonl.zst").touch()
    assert found(*files_of(tmp_path)) == ([delivered(1)], [])
    await kept(tmp_path, [delivered(2)])
    assert read(tmp_path) == [delivered(1), delivered(2)]


def test_no_head_of_a_write_is_taken_for_another() -> None:
    head = UnitHead(10, 2, 7, bytes(16))
    assert UnitHead.read(head.text()) == head
    for byte in range(HEAD_BYTES):
        for bit in range(8):
            spoilt = bytearray(head.text())
            spoilt[byte] ^= 1 << bit
            assert UnitHead.read(bytes(spoilt)) is None
