"""PARSERS.md says what the code does, and each parser says all that a user needs."""

from __future__ import annotations

import pytest
from make_parsers_md import PARTS, TARGET, make, read

from sidecar import Request
from sidecar.commands.parsers import Row, rows

OURS = [row for row in rows() if row.package.startswith("ai-sidecar ")]


@pytest.mark.parametrize("row", OURS, ids=[row.name for row in OURS])
def test_a_parser_says_how_it_is_turned_on_and_what_it_cannot_tell(row: Row) -> None:
    assert row.is_loaded, row.reads
    doc = read(row.doc)

    assert sorted(doc.parts) == sorted(PARTS)
    assert doc.first.endswith(".")
    assert all(doc.parts.values())
    assert "http" in doc.parts["Sources"]


@pytest.mark.parametrize("row", OURS, ids=[row.name for row in OURS])
def test_the_fields_of_a_parser_are_fields_of_a_request(row: Row) -> None:
    assert row.fields
    assert set(row.fields) <= set(Request.__struct_fields__)


def test_parsers_md_is_made_of_the_code() -> None:
    expected = make()

    assert TARGET.read_text(encoding="utf-8") == expected, "run python tests/make_parsers_md.py"


def test_a_docstring_is_taken_apart() -> None:
    doc = read("Acme's log.\n\nA trap.\n\nTurn it on: `acme --log`\nfile.\n\nSources: http://x\n")

    assert (doc.first, doc.rest) == ("Acme's log.", ["A trap."])
    assert doc.parts == {"Turn it on": "`acme --log`\nfile.", "Sources": "http://x"}
