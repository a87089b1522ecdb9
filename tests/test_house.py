"""The rules of the house: its tree, who may import whom, how long things may be."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("quota/**/*.py"), *ROOT.glob("feeds/*.py")])
PYTHON = sorted(
    path
    for room in ("quota", "feeds", "tests", "bench", "grafana", "deploy")
    for path in ROOT.glob(f"{room}/**/*.py")
)

FLOORS = (
    {"decision", "errors", "money", "section", "proof.flaws", "uncollected"},
    {"events", "gate.answers", "store.routes", "store.durability"},
    {"clock", "pool", "endpoints", "gate.wire"},
    {"day", "rulebook", "journal", "charge", "gate.line", "store.nodes"},
    {"rules", "config", "doubt", "feed", "library", "captured", "forecast", "proof.traces", "gate.trunk"},
    {"proof.report", "proof.open_days"},
    {"numbers", "rows", "book"},
    {
        "store.record",
        "store.sources",
        "course",
        "holds",
        "page.standing",
        "proof.retrace",
        "proof.tally",
        "page.drawn",
        "gate.latch",
    },
    {"page.printed", "proof.dayend"},
    {"ledger", "proof.verify", "page.tape", "page.sentences", "proof.history", "gateway"},
    {"rebuild"},
    {"memory", "page.shown", "figures", "witness", "embedded", "logs", "notify"},
    {"days", "accounts"},
    {"proof.replay"},
    {"metrics"},
    {"gaps", "reinstate"},
    {"daemon", "watch", "follow", "recorder", "recovery"},
    {"running", "desk.console"},
    {"desk.operator"},
    {"desk.audit", "desk.absent", "desk.reporting"},
    {"desk.replaying"},
    {"desk.screen", "page.live", "page.broadcast", "door", "lock"},
    {"http"},
    {"assembly"},
    {"cli"},
)
"""The floors of quota, from the ground up: a module may import from those below it only."""

FEEDS_MAY_USE = {"accounts", "captured", "clock", "decision", "errors", "events", "feed", "money"}
"""What feeds may know of quota: its words and records."""


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (package, module) for each import of ours in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            deep = (
                node.module not in {"quota", "feeds"} and not (ROOT / node.module.replace(".", "/")).is_dir()
            )
            names = [node.module] if deep else [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, module = name.partition(".")
            if package in {"quota", "feeds"}:
                yield package, module


def floor_of(module: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if module in floor)


def name_of(path: Path) -> str:
    """Name a module of quota as the floors do: ``ledger``, ``gate.line``."""
    return ".".join(path.relative_to(ROOT / "quota").with_suffix("").parts)


ROOMS = [path for path in SOURCES if path.is_relative_to(ROOT / "quota")]
MODULES = [path for path in ROOMS if path.stem != "__init__"]


def test_every_module_of_quota_has_a_floor() -> None:
    assert {name_of(path) for path in MODULES} == set().union(*FLOORS)


@pytest.mark.parametrize("path", sorted(set(ROOMS) - set(MODULES)), ids=name_of)
def test_a_room_says_what_it_holds_and_brings_nothing_along(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert not list(imports(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    for package, module in imports(path):
        assert package == "quota" or name_of(path) == "assembly", f"{path.name} imports {package}.{module}"
        if package == "quota":
            assert floor_of(module) < floor_of(name_of(path)), f"{path.name} imports {module}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("feeds/*.py")), ids=lambda path: path.stem)
def test_feeds_know_only_words_and_records(path: Path) -> None:
    assert {module for package, module in imports(path) if package == "quota"} <= FEEDS_MAY_USE


TABLES_OF_RULES = {"test_codec.py", "test_config.py"}
"""Rule tests: a row for each rule, and so as long as there are rules."""


@pytest.mark.parametrize(
    "path",
    [path for path in PYTHON if path.name not in TABLES_OF_RULES],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_python_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_the_functions_of_the_store_stay_short() -> None:
    for path in ROOT.glob("quota/lua/*.lua"):
        assert len(path.read_text().splitlines()) <= 700, path.name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_stay_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 40, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_are_exchange_words(path: Path) -> None:
    vague = re.compile(r"manager|handler|service|processor|util|helper|common")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            assert not vague.search(node.name.lower()), node.name
    assert not vague.search(path.stem)


def test_the_tree_is_the_one_that_was_asked_for() -> None:
    for name in (
        "pyproject.toml",
        "quota",
        "feeds",
        "deploy",
        "grafana",
        "tests",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
    ):
        assert (ROOT / name).exists(), name


def test_every_silenced_check_has_its_reason() -> None:
    bare = re.compile(r"#\s*(noqa(?!: [A-Z0-9, ]+ - \S)|type: ignore(?!\[[a-z, -]+\]\s+# ?\S))")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in PYTHON
        if path.name != "test_house.py"
        for number, text in enumerate(path.read_text().splitlines(), 1)
        if bare.search(text)
    ]
    assert not found


def test_no_document_or_source_names_a_machine() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    forbidden = re.compile(r"/wor[k]/|/roo[t]/|\.\./share[d]|pypi\.or[g]|registry\.npmj[s]")
    for name in filter(None, tracked):
        path = ROOT / name
        if path.suffix in {".png", ".svg"} or not path.is_file():
            continue
        assert not forbidden.search(path.read_text(errors="ignore")), name
