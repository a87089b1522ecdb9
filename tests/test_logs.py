"""Every event that is logged stands in docs/logs.md, under its name, its level and its keys."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog

from quota.logs import configure

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "docs" / "logs.md"
SOURCES = sorted([*ROOT.glob("quota/**/*.py"), *ROOT.glob("feeds/*.py")])
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
BY_STRUCTLOG = {"event", "level", "timestamp"}


@dataclass(slots=True)
class Fact:
    """What is known of one event: its levels and its keys, from everywhere it is logged."""

    levels: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)


def logged() -> dict[str, Fact]:
    """Read what the code logs."""
    facts: dict[str, Fact] = defaultdict(Fact)
    for path in SOURCES:
        tree = ast.parse(path.read_text("utf-8"))
        for call in calls(tree):
            place = f"{path.name}:{call.lineno}"
            assert isinstance(call.func, ast.Attribute)
            assert len(call.args) == 1, f"{place}: an event has a name and keys, nothing else"
            name = call.args[0]
            assert isinstance(name, ast.Constant), f"{place}: the event's name has to stand there"
            fact = facts[str(name.value)]
            fact.levels.add(call.func.attr)
            for keyword in call.keywords:
                fact.keys |= {keyword.arg} if keyword.arg else returned(tree, keyword.value, place)
    return facts


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Find the calls of a module's ``log``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            holder = node.func.value
            if isinstance(holder, ast.Name) and holder.id == "log" and node.func.attr in LEVELS:
                yield node


def returned(tree: ast.AST, value: ast.expr, place: str) -> set[str]:
    """Find the keys of ``**name(…)``: those of the dictionary that the function of the file returns."""
    assert isinstance(value, ast.Call), f"{place}: keys that no test can find"
    assert isinstance(value.func, ast.Name), f"{place}: keys that no test can find"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == value.func.id:
            (told,) = (part for part in ast.walk(node) if isinstance(part, ast.Return))
            assert isinstance(told.value, ast.Dict), f"{place}: {node.name} has to return a dictionary"
            return {str(ast.literal_eval(key)) for key in told.value.keys if key is not None}
    raise AssertionError(f"{place}: no function {value.func.id} in this file")


def documented() -> dict[str, Fact]:
    """Read the table."""
    facts: dict[str, Fact] = {}
    for line in TABLE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"`[a-z_]+\.[a-z_]+`", cells[0]):
            event, level, keys, meaning, deed = cells
            assert meaning, event
            assert deed, event
            assert event.strip("`") not in facts, f"{event} stands in the table twice"
            facts[event.strip("`")] = Fact({level}, set(re.findall(r"`([a-z_]+)`", keys)))
    return facts


def test_every_event_has_its_row_and_every_row_its_event() -> None:
    code, table = logged(), documented()
    missing = [f"| `{name}` | {fact.levels} | {sorted(fact.keys)} |" for name, fact in code.items()]
    assert set(code) <= set(table), (
        f"add to docs/logs.md: {[m for m in missing if m.split('`')[1] not in table]}"
    )
    assert set(table) <= set(code), f"take out of docs/logs.md: {sorted(set(table) - set(code))}"


def test_levels_and_keys_are_as_the_table_says() -> None:
    code, table = logged(), documented()
    for name in code.keys() & table.keys():
        assert len(code[name].levels) == 1, f"{name}: one fact has one level, not {code[name].levels}"
        assert table[name] == code[name], f"docs/logs.md, {name}: the code has {code[name]}"


def test_an_event_is_a_noun_and_what_happened_to_it() -> None:
    assert all(re.fullmatch(r"[a-z_]+\.[a-z_]+", name) for name in logged())


def test_the_code_logs_through_structlog_alone() -> None:
    for path in SOURCES:
        text = path.read_text("utf-8")
        assert "logging.getLogger" not in text, path.name
        assert not re.search(r"^\s*print\(", text, re.MULTILINE), path.name


def test_off_a_terminal_a_line_is_json_with_these_keys(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    try:
        configure()
        structlog.get_logger("quotad").info("store.reached", reason="行情")
    finally:
        structlog.configure(**before)
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert set(told) == {*BY_STRUCTLOG, "reason"}
    assert (told["event"], told["level"], told["reason"]) == ("store.reached", "info", "行情")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", told["timestamp"])
    text = TABLE.read_text("utf-8")
    assert all(f"`{key}`" in text for key in BY_STRUCTLOG)
