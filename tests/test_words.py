"""What is learnt of the values that fields have."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from sidecar.words import MAX_LESSONS, MAX_WORD_BYTES, MAX_WORDS, Words


def kinds(*lessons: dict[str, list[Any]]) -> dict[str, Any]:
    words = Words()
    for lesson in lessons:
        assert words.learn({(key,): column for key, column in lesson.items()})
    return {chain[0]: kind for chain, kind in words.kinds().items()}


def raw(*values: bytes) -> list[Any]:
    return [msgspec.Raw(value) for value in values]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (["a", "b", "a"], Literal["a", "b"]),
        (["a", None], Literal[None, "a"]),
        ([f"w{number}" for number in range(MAX_WORDS + 1)], str | None),
        (["w" * (MAX_WORD_BYTES + 1)], str | None),
        (raw(b'"a"', b"null", b""), Literal[None, "a"]),
        (raw(b"true", b"false"), bool | None),
        (raw(b"1", b"2"), int | None),
        (raw(b"1", b"null"), int | None),
    ],
)
def test_values_of_one_kind_are_decoded_as_such(column: list[Any], kind: Any) -> None:
    assert kinds({"key": column}) == {"key": kind}


@pytest.mark.parametrize(
    "column",
    [
        [None],
        [],
        raw(b"1.5"),
        raw(b"{}"),
        raw(b"[]"),
        raw(b'"a"', b"1"),
        raw(b'"\xff"'),
    ],
)
def test_of_other_values_nothing_is_learnt(column: list[Any]) -> None:
    assert kinds({"key": column}) == {}


def test_what_comes_later_is_learnt_as_well() -> None:
    assert kinds({"key": ["a"]}, {"key": ["a", "b"]}) == {"key": Literal["a", "b"]}
    assert kinds({"key": [None]}, {"key": ["a"]}) == {"key": Literal["a"]}
    assert kinds({"key": raw(b"1")}, {"key": raw(b"true")}) == {}
    assert kinds({"key": raw(b"1")}, {"key": raw(b"true")}, {"key": raw(b"1")}) == {}
    many = {"key": [f"w{number}" for number in range(MAX_WORDS + 1)]}
    assert kinds(many, {"key": ["a"]}) == {"key": str | None}


def test_there_is_an_end_of_learning() -> None:
    words = Words()
    assert all(words.learn({("key",): ["a"]}) for _ in range(MAX_LESSONS))
    assert not words.learn({("key",): ["b"]})
    assert words.kinds() == {("key",): Literal["a"]}
