"""The parsers of the house: golden lines, real samples, and whatever else may come.

A golden case is `tests/golden/<parser>/<case>.jsonl`; beside it, for each line, who claims it and the
requests it gives, without the fields that are as in an empty `Request`. After a wanted change,
`python tests/test_parsers.py` writes what comes out now; read the difference.
"""

import copy
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers import anthropic, bedrock, gemini, generic, litellm, openai
from sidecar import ParseError, Parser, Request

GOLDEN = Path(__file__).parent / "golden"
SAMPLES = Path(__file__).parents[2] / "shared" / "samples"
# In the order in which `auto` asks: the most particular first, `generic` last.
PARSERS: dict[str, Parser] = {
    "litellm": litellm.parse,
    "bedrock": bedrock.parse,
    "gemini": gemini.parse,
    "anthropic": anthropic.parse,
    "openai": openai.parse,
    "generic": generic.parse,
}
CASES = sorted(
    path.relative_to(GOLDEN).with_suffix("").as_posix() for path in GOLDEN.glob("*/*.jsonl")
)
EMPTY = msgspec.structs.asdict(Request())


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Give the objects of a log, those of its arrays too; what is no JSON is passed over."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        yield from value if isinstance(value, list) else [value]


class Reader:
    """Asks the parsers in turn, each with a memory of its own, as the sidecar does for one file."""

    def __init__(self, parsers: dict[str, Parser] = PARSERS) -> None:
        self.parsers = parsers
        self.memory: dict[str, dict[str, Any]] = {name: {} for name in parsers}

    def read(self, record: dict[str, Any]) -> tuple[str | None, list[Request]]:
        for name, parse in self.parsers.items():
            requests = parse(record, self.memory[name])
            if requests is not None:
                return name, list(requests)
        return None, []


def plain(request: Request) -> dict[str, Any]:
    fields = msgspec.structs.asdict(request)
    return {
        name: str(value) if isinstance(value, Decimal) else value
        for name, value in fields.items()
        if value != EMPTY[name] or type(value) is not type(EMPTY[name])
    }


def outcome(case: str) -> list[dict[str, Any]]:
    reader = Reader()
    found = [reader.read(record) for record in records(GOLDEN / f"{case}.jsonl")]
    return [
        {"parser": name, "requests": [plain(request) for request in requests]}
        for name, requests in found
    ]


@pytest.mark.parametrize("case", CASES)
def test_golden_lines_give_what_is_written_beside_them(case: str) -> None:
    expected = json.loads((GOLDEN / f"{case}.expected.json").read_text(encoding="utf-8"))

    assert outcome(case) == expected


@pytest.mark.parametrize("case", CASES)
def test_golden_lines_give_the_same_when_their_shapes_are_compiled(case: str) -> None:
    expected = json.loads((GOLDEN / f"{case}.expected.json").read_text(encoding="utf-8"))

    for _ in range(30):
        assert outcome(case) == expected


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("generic/")])
def test_generic_claims_no_line_of_the_others(case: str) -> None:
    for record in records(GOLDEN / f"{case}.jsonl"):
        assert generic.parse(record, {}) is None


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("generic/")])
def test_the_others_claim_no_line_of_generic(case: str) -> None:
    reader = Reader({name: parse for name, parse in PARSERS.items() if name != "generic"})

    for record in records(GOLDEN / f"{case}.jsonl"):
        assert reader.read(record) == (None, [])


ALL = [record for case in CASES for record in records(GOLDEN / f"{case}.jsonl")]
ODD: st.SearchStrategy[Any] = st.sampled_from(
    (
        *(
            None,
            True,
            False,
            0,
            -1,
            1.5,
            2**70,
            1e308,
            "",
            "x",
            "\x00",
            "99",
            "{",
            '{"a":1}',
            "é" * 300,
        ),
        *([], [[]], [None], {}, {"a": {}}, [{"usage": []}], "2026-01-01T00:00:00Z"),
    )
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """Take a golden record and drop, exchange, wrap or rename some of what is in it."""
    record = copy.deepcopy(draw(st.sampled_from(ALL)))
    for _ in range(draw(st.integers(1, 5))):
        node: Any = record
        while isinstance(node, (dict, list)) and node:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = draw(st.sampled_from(keys))
            if isinstance(node[key], (dict, list)) and node[key] and draw(st.booleans()):
                node = node[key]
                continue
            match draw(st.sampled_from(["drop", "odd", "nest", "list", "text", "other"])):
                case "drop":
                    del node[key]
                case "odd":
                    node[key] = copy.deepcopy(draw(ODD))
                case "nest":
                    node[key] = {"usage": node[key], "error": copy.deepcopy(node[key])}
                case "list":
                    node[key] = [copy.deepcopy(node[key]), node[key]]
                case "text":
                    node[key] = json.dumps(node[key])
                case "other":
                    node[key] = copy.deepcopy(draw(st.sampled_from(ALL)))
            break
    return record


@given(record=damaged())
@settings(max_examples=800, deadline=None)
def test_whatever_is_damaged_no_parser_raises_and_figures_stay_possible(
    record: dict[str, Any],
) -> None:
    for parse in PARSERS.values():
        memory: dict[str, Any] = {}
        try:
            requests = parse(record, memory) or ()
        except ParseError:
            continue
        json.dumps(memory)  # it is saved with the position
        for request in requests:
            msgspec.convert(msgspec.structs.asdict(request), Request)
            for name, value in msgspec.structs.asdict(request).items():
                assert not isinstance(value, (int, float)) or value >= 0, name


@given(
    memory=st.dictionaries(
        st.sampled_from(["model", "usage"]),
        ODD | st.dictionaries(st.sampled_from(["input_tokens"]), ODD),
    )
)
def test_a_strange_memory_hurts_no_parser(memory: dict[str, Any]) -> None:
    for record in records(GOLDEN / "anthropic/stream.jsonl"):
        for parse in PARSERS.values():
            parse(record, dict(memory))


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_is_introduced_by_one_line(name: str) -> None:
    module = {"litellm": litellm, "bedrock": bedrock, "gemini": gemini, "anthropic": anthropic}.get(
        name, openai if name == "openai" else generic
    )

    assert module.__doc__
    assert len(module.__doc__.splitlines()[0]) < 120


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside this checkout")
@pytest.mark.parametrize(
    ("path", "nested"),
    [
        ("provider-bodies/app_log.jsonl", 0),
        ("provider-bodies/handwritten_other_providers.jsonl", 0),
        ("litellm/slp_sdk.jsonl", 0),
        ("litellm/generic_api_json_array.jsonl", 0),
        ("litellm/proxy_stdout_json_logs.jsonl", 0),
        ("app-loggers/env_pino.jsonl", 0),
        ("app-loggers/env_structlog.jsonl", 0),
        (
            "app-loggers/env_pyjsonlogger.jsonl",
            1,
        ),  # one record is JSON text in `message`: the envelopes' work
    ],
)
def test_real_samples_give_the_totals_expected_of_them(path: str, nested: int) -> None:
    expected = json.loads((SAMPLES / "EXPECTED.json").read_text(encoding="utf-8"))["files"][path]
    reader, hits = Reader(), 0
    rows: dict[str, Counter[str]] = {}
    for record in records(SAMPLES / path):
        for request in reader.read(record)[1]:
            row = rows.setdefault(
                "None" if request.model == "unknown" else request.model, Counter()
            )
            row.update(
                requests=1,
                errors=int(request.error_type is not None),
                input_total=request.input_tokens or 0,
                cached_read=request.cache_read_tokens or 0,
                cache_write=request.cache_write_tokens or 0,
                output_total=request.output_tokens or 0,
                reasoning=request.reasoning_tokens or 0,
            )
            hits += request.served_from_cache

    if nested:
        part = (expected["requests"] - nested) / expected["requests"]
        expected["models"] = {
            model: {name: figure * part for name, figure in row.items()}
            for model, row in expected["models"].items()
        }
    assert rows == expected["models"]
    assert hits == expected.get("cache_hits", 0)


if __name__ == "__main__":
    for case in CASES:
        lines = ",\n".join("  " + json.dumps(line, ensure_ascii=False) for line in outcome(case))
        (GOLDEN / f"{case}.expected.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
