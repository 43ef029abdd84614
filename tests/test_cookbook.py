"""What the how-tos show is run: each block of code by itself, each table compiled."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import parsers
from sidecar import Table

ROOT = Path(__file__).parent.parent


def indented(text: str) -> list[str]:
    """Give the blocks of a docstring that stand four spaces in."""
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", text, re.MULTILINE)
    return [dedent(block).strip("\n") + "\n" for block in blocks if block.strip()]


def fenced(text: str, language: str) -> list[str]:
    """Give the blocks of a Markdown text in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


HOW_TO = indented(parsers.__doc__ or "")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PROGRAMS = [
    *[block for block in HOW_TO if not block.startswith("[")],
    *fenced(CONTRIBUTING, "python"),
]
TOML = [*[block for block in HOW_TO if block.startswith("[")], *fenced(CONTRIBUTING, "toml")]


def test_the_cookbook_has_a_recipe_for_each_way_to_write_a_parser() -> None:
    text = parsers.__doc__ or ""
    titles = re.findall(r"^([A-Z][\w, ]+): ", text.split("A cookbook", 1)[1], re.MULTILINE)

    assert titles == [
        "Rename",
        "Units, and parts",
        "JSON in a string",
        "Memory over lines",
        "Snapshots of a stream",
        "Variants",
        "Order",
    ]
    assert len(PROGRAMS) == 11


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_block_of_code_runs_and_makes_a_parser(program: str) -> None:
    names: dict[str, Any] = {"__name__": "example"}

    exec(compile(program, "example", "exec"), names)  # what a reader would paste

    assert names["parse"]({"some": "other line"}, {}) is None


@pytest.mark.parametrize("text", TOML)
def test_each_table_is_good(text: str) -> None:
    document = tomllib.loads(text)
    tables = document.get("parsers", {})

    assert tables or document["project"]["entry-points"]["ai_sidecar.parsers"]
    for name, table in tables.items():
        Table.from_toml(name, table)
