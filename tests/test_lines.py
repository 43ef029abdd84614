"""Bytes in, whole lines out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.lines import LineSplitter

LIMIT = 64


def fed(chunks: list[bytes]) -> tuple[list[bytes], LineSplitter]:
    splitter = LineSplitter(LIMIT)
    return [line for chunk in chunks for line in splitter.feed(chunk)], splitter


def test_a_half_line_is_kept_until_its_newline_comes() -> None:
    lines, splitter = fed([b"on", b"e\ntw", b"o"])

    assert lines == [b"one"]
    assert splitter.pending_bytes == 3


def test_the_line_at_the_end_of_a_finished_file_is_given_once() -> None:
    _, splitter = fed([b"one\ntwo"])

    assert splitter.finish() == b"two"
    assert splitter.finish() is None


def test_a_line_that_is_too_long_is_passed_over_and_counted_whatever_its_pieces() -> None:
    for size in (1, 7, 63, 64, 65, 1000):
        data = b"a\n" + b"x" * 200 + b"\nb\n"
        lines, splitter = fed([data[at : at + size] for at in range(0, len(data), size)])

        assert (lines, splitter.too_long) == ([b"a", b"b"], 1), size


def test_what_is_kept_stays_bounded_while_a_line_does_not_end() -> None:
    splitter = LineSplitter(LIMIT)

    for _ in range(1000):
        splitter.feed(b"x" * 50)
        assert splitter.pending_bytes <= LIMIT


def test_a_run_of_nuls_in_front_of_a_line_is_no_part_of_it() -> None:
    lines, _ = fed([b"a\n\0\0\0", b"\0b\n", b"\0" * 100 + b"c\n"])

    assert lines == [b"a", b"b", b"c"]


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=40))
def test_the_lines_are_the_same_however_the_bytes_are_cut(data: bytes, sizes: list[int]) -> None:
    data = data.replace(b"\0", b"")
    chunks, at = [], 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    chunks.append(data[at:])

    whole, whole_splitter = fed([data])
    cut, cut_splitter = fed(chunks)

    assert (cut, cut_splitter.too_long, cut_splitter.pending_bytes, cut_splitter.dropping) == (
        whole,
        whole_splitter.too_long,
        whole_splitter.pending_bytes,
        whole_splitter.dropping,
    )
