"""Make the files of this folder from those of a single machine: only addresses and paths differ.

python deploy/compose/derive.py            # writes them
python deploy/compose/derive.py --check    # exits 1 and names those that differ
"""

# ruff: noqa: INP001 - a tool in a directory of files, not a package

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

SOURCES: dict[str, tuple[str, dict[str, str]]] = {
    # All of it here and nothing on the command line: a store reads its file first, and ends at a
    # "dir" that is not there.
    "redis.conf": (
        "deploy/redis.conf",
        {
            "Nobody but this machine.": "Nobody but the containers, and this machine by the published port.",
            "bind 127.0.0.1 -::1": "bind * -::*",
            "protected-mode yes": "protected-mode no",
            "dir /var/lib/redis": "dir /data",
        },
    ),
    "mosquitto.conf": (
        "deploy/mosquitto.conf",
        {
            "Nobody but this machine.": "Nobody but the containers, and this machine by the published port.",
            "listener 1883 127.0.0.1": "listener 1883",
            "/var/lib/mosquitto/": "/mosquitto/data/",
        },
    ),
    "prometheus.yml": (
        "deploy/prometheus/prometheus.yml",
        {"127.0.0.1:9464": "quotad:9464", "127.0.0.1:9093": "alertmanager:9093"},
    ),
}
"""From what each file is made, and which words of it stand for what among containers."""


def derived(name: str) -> str:
    """Write a file of this folder; raises ValueError where a word is not there exactly once."""
    source, words = SOURCES[name]
    text = (ROOT / source).read_text("utf-8")
    for word, other in words.items():
        if text.count(word) != 1:
            raise ValueError(f"{source}: {word!r} has to stand there once")
        text = text.replace(word, other)
    return f"# Made from {source} by derive.py; do not edit.\n{text}"


def main() -> int:
    """Write or compare the files."""
    parser = argparse.ArgumentParser(description="Make the files of deploy/compose.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if not parser.parse_args().check:
        for name in SOURCES:
            (HERE / name).write_text(derived(name), "utf-8")
        return 0
    stale = [
        name
        for name in SOURCES
        if not (HERE / name).is_file() or (HERE / name).read_text("utf-8") != derived(name)
    ]
    sys.stderr.writelines(f"deploy/compose/{name}: differs, run derive.py\n" for name in stale)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
