"""Tells the C library's allocator what to keep: what each read needs again, and nothing of a page or a state."""

from __future__ import annotations

LARGE_BYTES = 1 << 20
"""From here on memory is had from the system and given back at once; reads are smaller."""
KEPT_BYTES = 2 << 20
"""How much of what is freed is kept: with less, each read gives its memory back, and is given it page by page again."""

# of glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def settle() -> None:
    """Tell malloc how much to keep; to be called before there is a second thread.

    By itself glibc raises its thresholds to the largest block that was ever freed: after a page of 10 MB it keeps
    20 MB for the next one, and as much again in an arena of its own for each thread. Elsewhere it does nothing.
    """
    try:
        # events need it too
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
    except (ImportError, OSError, AttributeError):
        return
    mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(_ARENA_MAX, 1)
