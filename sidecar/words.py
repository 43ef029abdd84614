"""Learns the values that a log's fields have: a few words, or values of one kind; and as what they are decoded faster.

A word that is one of few is not made anew for each line: the decoder gives the same text each time, whose hash is
known. What nobody looks at is passed over as what it is. Whatever is no such value is read as before, and learnt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

MAX_WORDS = 32
"""Values of one field; with more of them each would be looked for as long as it takes to make it."""
MAX_WORD_BYTES = 64
MAX_LESSONS = 64
"""How often new values are taken in: in a log where they never end it is of no use."""

Chain = tuple[str, ...]

_PLAIN: tuple[type, ...] = (bool, int, str)


class Words:
    """What has been seen of each field; only what nobody has looked at yet may be of any kind."""

    def __init__(self) -> None:
        self._words: dict[Chain, set[Any]] = {}
        self._kinds: dict[Chain, Any] = {}
        """As what a field is decoded whose values are many; `None` where nothing is faster."""
        self._lessons = 0

    def learn(self, columns: Mapping[Chain, Iterable[Any]]) -> bool:
        """Take in the values of fields, as they were decoded: text, or a `Raw` of anything; False where it is enough.

        They are those of records that do not fit what was known, if anything was.
        """
        self._lessons += 1
        if self._lessons > MAX_LESSONS:
            return False
        for chain, column in columns.items():
            kind = self._kinds.get(chain, ...)
            if kind is None:
                continue
            try:
                values = {_value(one) for one in column}
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                # an object, a list, a fraction, no UTF-8
                self._forget(chain, None)
                continue
            types = {type(value) for value in values} - {type(None)}
            if len(types) != 1 or (own := types.pop()) not in _PLAIN:
                # of several kinds, or never there
                if types or kind is not ...:
                    self._forget(chain, None)
            elif own is str and kind is ...:
                words = self._words.setdefault(chain, set())
                words |= values
                if len(words) > MAX_WORDS or any(
                    len(word or "") > MAX_WORD_BYTES for word in words
                ):
                    self._forget(chain, str | None)
            elif kind is ...:
                self._forget(chain, own | None)
            elif kind != own | None:
                self._forget(chain, None)
        return True

    def kinds(self) -> dict[Chain, Any]:
        """Give as what each field is to be decoded."""
        found: dict[Chain, Any] = {
            chain: Literal[tuple(sorted(words, key=str))] for chain, words in self._words.items()
        }
        found.update((chain, kind) for chain, kind in self._kinds.items() if kind is not None)
        return found

    def _forget(self, chain: Chain, kind: Any) -> None:
        self._words.pop(chain, None)
        self._kinds[chain] = kind


_decode = msgspec.json.Decoder(bool | int | str | None).decode


def _value(one: Any) -> bool | int | str | None:
    if type(one) is not msgspec.Raw:
        return one  # type: ignore[no-any-return] # it was decoded as such
    return _decode(one) if bytes(one) else None
