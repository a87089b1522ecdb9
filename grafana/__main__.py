"""Write the JSON of every dashboard: ``python -m grafana``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from grafana import daemon, overview, pool

FOLDER = Path(__file__).parent / "dashboards"


def written() -> Mapping[str, str]:
    """Make each file's content."""
    boards = (overview.board(), pool.board(), daemon.board())
    return {f"{board.name}.json": board.json() for board in boards}


def main() -> None:
    """Write them."""
    for name, text in written().items():
        (FOLDER / name).write_text(text, "utf-8")
        print(f"wrote {FOLDER / name}")


if __name__ == "__main__":
    main()
