"""A method written anew for what is known of its request does what the method does."""

from __future__ import annotations

import textwrap
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.fold import inlined


class Adder:
    """Something to fold."""

    is_loud = True

    def add(self, request: Any, out: list[Any]) -> None:
        out.append("ignored: before the first statement that is taken")
        size = request.size
        weight, height = request.weight, request.height
        if size is not None and size > 2:
            out.append(("big", size))
            return
        if weight is None or not weight:
            out.append("light")
        else:
            out.append(("heavy", weight, height or 0))
        if self.is_loud and request.voice:
            out.append(request.voice if request.voice is not None else "never")
        if not request.voice:
            out.append("silent")


def folded(known: dict[str, str], record: dict[str, Any]) -> tuple[str, list[Any]]:
    lines = inlined(Adder.add, "size = request.size", known, {"is_loud": True})
    source = "def run(record, out):\n    for _ in (1,):\n" + textwrap.indent(
        "\n".join([*(f"{name} = record[{name!r}]" for name in known), *lines]), "        "
    )
    names: dict[str, Any] = {"self": Adder()}
    exec(source, names)
    out: list[Any] = []
    names["run"](record, out)
    return source, out


@pytest.mark.parametrize("size", [None, 1, 3])
@pytest.mark.parametrize("weight", [None, 0, 7])
@pytest.mark.parametrize("voice", [None, "hey"])
def test_it_does_what_the_method_does(
    size: int | None, weight: int | None, voice: str | None
) -> None:
    record = {"size": size, "weight": weight, "voice": voice}
    expected: list[Any] = []
    Adder().add(SimpleNamespace(**record, height=None), expected)

    source, out = folded(
        {name: name for name, value in record.items() if value is not None}, record
    )

    assert out == expected[1:]
    assert "height" not in source
    assert "is_loud" not in source
