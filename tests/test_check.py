"""`ai-sidecar check`: what becomes of each line, why, and what to paste where nobody understands it."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from parsers import anthropic, bedrock, gemini, generic, openai
from sidecar import Record, Table, fields
from sidecar.commands.propose import propose
from sidecar.config import Config
from sidecar.daemon import Sidecar

ROOT = Path(__file__).parent.parent
GOLDEN = sorted((ROOT / "tests" / "golden").glob("**/*.jsonl"))


def run(
    *arguments: str | Path, stdin: str = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sidecar", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **(environment or {})},
    )


def check(*records: Any, options: tuple[str | Path, ...] = ()) -> str:
    """Give what is printed of lines on standard input."""
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    result = run(*options, "check", "-", stdin="\n".join(lines) + "\n")
    assert result.returncode == 0, result.stderr
    return result.stdout


def as_json(*records: Any, options: tuple[str | Path, ...] = ()) -> Any:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    result = run(*options, "check", "--format", "json", "-", stdin="\n".join(lines) + "\n")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


LINE: Record = {
    "provider": "openai",
    "model": "gpt-4o",
    "status": 200,
    "latency_ms": 5,
    "usage": {
        "prompt_tokens": 1000,
        "completion_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 400},
    },
}
CHUNK: Record = {
    "responseId": "r1",
    "modelVersion": "gemini-2.5-flash",
    "candidates": [{}],
    "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 1},
}
LAST_CHUNK: Record = {**CHUNK, "candidates": [{"finishReason": "STOP"}]}


# Where fields come from


TABLES = (
    *openai.BODIES,
    *anthropic.BODIES,
    *bedrock.BODIES,
    *gemini.BODIES,
    generic.LINE,
    Table.of(
        "inside",
        {
            "when": {"kind": "call"},
            "model": ["ai.model", "model"],
            "needs": ["input_tokens"],
            "input_excludes_cache": True,
            "input_tokens": {"sum": ["in", "tools"]},
            "cache_read_tokens": "cached",
            "started": "start",
            "timestamp": "end",
            "cache_hit": "hit",
        },
    ),
)


def golden_records() -> list[Record]:
    lines = [line for path in GOLDEN for line in path.read_text().splitlines()]
    return [
        record
        for line in lines
        if line.startswith("{") and isinstance(record := json.loads(line), dict)
    ]


def test_what_a_table_explains_is_what_it_parses() -> None:
    explained = 0
    for record in golden_records():
        for table in TABLES:
            origins, requests = table.explain(record), table.parse(record)
            assert bool(origins) == bool(requests)
            if origins is None or not requests:
                continue
            explained += 1
            for name in requests[0].__struct_fields__:
                value = getattr(requests[0], name)
                if value is not None and name not in ("final", "served_from_cache"):
                    assert origins[name].value == value
                for path in origins[name].paths if name in origins else ():
                    assert_is_there(record, path)
    assert explained > 50


def assert_is_there(record: Record, path: str) -> None:
    """Go a path of a record, through JSON text where a body is one, and the last of an array."""
    value: Any = record
    keys = path.split(".")
    while keys:
        if isinstance(value, str):
            value = json.loads(value)
        if isinstance(value, list) and not keys[0].isdigit():
            value = value[-1]
        for depth in range(len(keys), 0, -1):
            found = fields.step(value, ".".join(keys[:depth]))
            if found is not None:
                value, keys = found, keys[depth:]
                break
        else:
            raise AssertionError(f"{path} leads nowhere")


def test_a_field_is_explained_by_its_place_its_reading_and_its_parts() -> None:
    table = TABLES[-1]
    record = {
        "kind": "call",
        "ai": {"model": "m"},
        "in": 5,
        "tools": 2,
        "cached": 90,
        "start": "2026-01-01T00:00:00Z",
        "end": "2026-01-01T00:00:02Z",
    }

    told = {name: (one.value, one.paths) for name, one in (table.explain(record) or {}).items()}

    assert told["model"] == ("m", ("ai.model",))
    assert told["input_tokens"] == (97, ("in", "tools", "cached"))
    assert told["duration_seconds"] == (2.0, ("start", "end"))
    assert told["status_code"] == ("200", ())


def test_a_line_inside_a_record_is_explained_by_its_whole_path() -> None:
    table = generic.LINE
    record = {"time": 1767225600, "llm": {**LINE, "response": {}}, "msg": "call"}

    told = table.explain(record) or {}

    assert told["input_tokens"].paths == ("llm.usage.prompt_tokens",)
    assert told["timestamp"].paths == ("time",)


# What is said of a line


def test_a_request_is_told_with_its_parser_its_places_its_value_and_its_price() -> None:
    [line] = as_json(LINE)["lines"]

    assert (line["line"], line["result"]) == (1, "request")
    [claim] = line["claims"]
    assert (claim["parser"], claim["kind"]) == ("generic", "table")
    assert "model at model" in claim["because"]
    [request] = claim["requests"]
    told = {name: (one["value"], *one["from"]) for name, one in request["fields"].items()}
    assert told["model"] == ("gpt-4o", "model")
    assert told["duration_seconds"] == (0.005, "latency_ms")
    assert told["cache_read_tokens"] == (400, "usage.prompt_tokens_details.cached_tokens")
    assert request["cost"]["usd"] == 0.0021
    assert request["cost"]["rates"] == {"input": 2.5, "output": 10.0, "cache_read": 1.25}
    assert request["cost"]["rule"] == "bundled table, openai gpt-4o"


def test_the_text_says_the_same() -> None:
    text = check(LINE)

    assert "standard input:1  request" in text
    assert "claimed by generic (table of ai-sidecar" in text
    assert re.search(r"duration_seconds +0\.005 +latency_ms, in ms", text)
    assert re.search(r"cost +0\.0021 USD by the price table \(input 0\.0015, ", text)
    assert "standard input: 1 request" in text


def test_a_claim_by_a_users_table_is_told_by_its_when(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        '[parsers.acme]\nwhen = { kind = "call", v = true }\nneeds = ["output_tokens"]\n'
        'model = "m"\noutput_tokens = "out"\n[prices.models."acme-*"]\noutput = 4\n'
    )
    done, begun = {"kind": "call", "v": 2, "m": "acme-1", "out": 5}, {"kind": "call", "v": 2}

    counted, ignored = as_json(done, begun, options=("--config", config))["lines"]

    [claim] = counted["claims"]
    assert (claim["package"], claim["because"]) == (
        "your configuration",
        'kind is "call", v is there',
    )
    assert claim["requests"][0]["cost"]["usd"] == 0.00002
    assert claim["requests"][0]["cost"]["rule"] == "your prices, models.'acme-*'"
    assert ignored["result"] == "ignored"
    assert ignored["why"].endswith("it has no output_tokens")


def test_a_functions_fields_are_looked_for_and_said_to_be_probable() -> None:
    start = {
        "type": "message_start",
        "message": {
            "model": "claude-3-5-haiku-20241022",
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 5},
        },
    }
    end = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 7},
    }

    first, second = as_json(start, end)["lines"]

    assert first["why"] == "anthropic knows the format; here it tells of no finished request"
    [claim] = second["claims"]
    assert claim["because"].startswith("Anthropic's response bodies")
    told = claim["requests"][0]["fields"]
    assert told["output_tokens"]["from"] == ["usage.output_tokens"]
    assert told["output_tokens"]["is_sure"] is False
    assert told["model"]["from"] == ["model of a line before"]
    assert told["input_tokens"]["from"] == [
        "usage.input_tokens of a line before",
        "usage.cache_read_input_tokens of a line before",
    ]


REASONS = {
    "not JSON": ("Traceback (most recent call last):", "not_json", "no JSON"),
    "half a line": ('{"model": "gpt-4o", "sta', "not_json", "ends too soon"),
    "broken in the middle": ('{"model": gpt-4o}', "not_json", "breaks at character 11"),
    "an empty line": ("", "ignored", "an empty line"),
    "a number": ("17", "ignored", "JSON, but no object"),
    "somebody's log": ('{"msg": "hello"}', "ignored", "no finished request that any parser knows"),
    "too long": ('{"a": "' + "x" * 2000 + '"}', "too_long", "2,009 bytes, longer than"),
}


@pytest.mark.parametrize(("line", "result", "why"), REASONS.values(), ids=REASONS)
def test_a_line_that_does_not_count_is_told_why(line: str, result: str, why: str) -> None:
    [told] = as_json(line, options=("--max-line-bytes", "1024"))["lines"]

    assert told["result"] == result
    assert why in told["why"]


def test_snapshots_copies_and_what_is_held_are_told_apart() -> None:
    other = {**CHUNK, "responseId": "r2"}

    document = as_json(CHUNK, LAST_CHUNK, LAST_CHUNK, other)

    results = [line["result"] for line in document["lines"]]
    assert results == ["held", "request", "repeat", "held", "end"]
    assert document["lines"][1]["supersedes"] == 1
    assert document["lines"][4]["counted_now"] == [4]
    assert document["summaries"][0]["lines"] == {"request": 2, "superseded": 1, "repeat": 1}


def test_a_line_is_understood_through_its_wrapper(tmp_path: Path) -> None:
    wrapped = "2026-01-01T00:00:00.1Z stdout F " + json.dumps({"message": json.dumps(LINE)})
    pretty = json.dumps(LINE, indent=2)

    result = run("check", "--format", "json", "--line", wrapped, "--line", pretty, json.dumps(LINE))

    lines = json.loads(result.stdout)["lines"]
    assert [one["result"] for one in lines if one["claims"]] == ["request"] * 3
    [last] = [one for one in lines if one["source"] == "line" and one["line"] > 1 and one["claims"]]
    assert last["claims"][0]["requests"][0]["fields"]["model"]["value"] == "gpt-4o"


def test_a_whole_file_is_summed_up(tmp_path: Path) -> None:
    unpriced = {**LINE, "provider": "acme", "model": "nobody-knows"}
    text = "".join([json.dumps(one) + "\n" for one in (LINE, LINE, unpriced, {"msg": "x"})])
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / "deep").mkdir()
    with gzip.open(tmp_path / "deep" / "b.jsonl", "wt") as file:
        file.write(text)

    document = json.loads(run("check", "--format", "json", tmp_path).stdout)

    assert [Path(one["source"]).name for one in document["summaries"]] == ["a.jsonl", "b.jsonl"]
    for summary in document["summaries"]:
        assert summary["lines"] == {"request": 3, "ignored": 1}
        assert summary["requests"] == {"generic": 3}
        assert "time_to_first_token_seconds" in summary["never_found"]["generic"]
        assert "input_tokens" not in summary["never_found"]["generic"]
        assert (summary["cost_usd"], summary["requests_with_cost"]) == (0.0042, 2)
        assert summary["without_price"] == [
            {"provider": "acme", "model": "nobody-knows", "requests": 1}
        ]


def test_of_a_long_file_only_the_first_lines_and_a_few_of_each_kind_are_told() -> None:
    text = check(*[LINE] * 150, *["x"] * 10)

    assert text.count("  request\n") == 100
    assert text.count("  not_json:") == 3
    assert "standard input: 150 request, 10 not_json" in text


# How it is shown


def on_a_terminal(environment: dict[str, str]) -> bytes:
    """Run it with a terminal for its output, and give what came there."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "sidecar", "check", json.dumps(LINE)],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, **environment},
    ):
        os.close(theirs)
        seen = b""
        try:
            while data := os.read(ours, 4096):
                seen += data
        except OSError:  # Linux says so that the other end is closed
            pass
    os.close(ours)
    return seen


def test_it_is_coloured_on_a_terminal_only_and_not_where_nobody_wants_it() -> None:
    assert b"\x1b[" in on_a_terminal({})
    assert b"\x1b[" not in on_a_terminal({"NO_COLOR": "1"})
    assert "\x1b[" not in check(LINE)


def test_a_value_cannot_steer_the_terminal() -> None:
    text = check({**LINE, "model": "gpt\x1b[2J\x07"})

    assert "\x1b" not in text
    assert r"gpt\x1b[2J\x07" in text


CANARY = "CANARY-my-medical-history"
WITH_CONTENT: list[Any] = [
    {
        **LINE,
        "prompt": CANARY,
        "messages": [{"role": "user", "content": CANARY}],
        "message": CANARY,
    },
    {**LINE, "status": 400, "error": {"type": "invalid_request_error", "message": CANARY}},
    {
        **LAST_CHUNK,
        "candidates": [{"finishReason": "STOP", "content": {"parts": [{"text": CANARY}]}}],
    },
    {"kind": "chat", "mdl": "m-1", "tok": {"in": 5, "out": 6}, "message": CANARY, "text": CANARY},
    {"kind": "chat", "mdl": "m-1", "tok": {"in": 5, "out": 6}, "message": CANARY, "name": CANARY},
    {"type": "message_start", "message": {"model": "m", "usage": {}, "content": [CANARY]}},
    {"type": "message_delta", "delta": {"text": CANARY}, "usage": {"output_tokens": 7}},
    '{"prompt": "' + CANARY,
    CANARY,
]


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_content_of_the_log_is_shown(form: str) -> None:
    lines = [line if isinstance(line, str) else json.dumps(line) for line in WITH_CONTENT]
    result = run("check", "--format", form, "-", stdin="\n".join(lines * 3) + "\n")

    assert result.returncode == 0
    assert CANARY not in result.stdout + result.stderr


# What is proposed

GATEWAY: list[Record] = [
    {"kind": "boot", "svc": "edge-gw", "version": "3.1", "ms": 12},
    {"kind": "llm_start", "svc": "edge-gw", "req": {"model": "acme-large", "max_tokens": 512}},
    {
        "kind": "llm_call",
        "svc": "edge-gw",
        "at": "2026-01-01T00:00:01Z",
        "req": {"model": "acme-large", "max_tokens": 512},
        "vendor": "acme",
        "took_ms": 1250,
        "tok": {"in": 100, "out": 20, "cached": 40, "total": 120},
        "why": {"stop_reason": "max_tokens"},
        "price_cents": 1.25,
    },
    {
        "kind": "llm_call",
        "svc": "edge-gw",
        "at": "2026-01-01T00:00:02Z",
        "req": {"model": "acme-small"},
        "vendor": "acme",
        "took_ms": 250,
        "tok": {"in": 7, "out": 3, "cached": 0, "total": 10},
        "why": {"stop_reason": "end_turn"},
        "price_cents": 0.5,
    },
    {
        "kind": "llm_error",
        "svc": "edge-gw",
        "at": "2026-01-01T00:00:03Z",
        "req": {"model": "acme-small"},
        "vendor": "acme",
        "took_ms": 25,
        "err": {"code": "rate_limited", "http": 429, "text": "slow down"},
    },
]
"""Nested, with other lines beside it; failures are of another kind."""

ROBOT: list[Record] = [
    {
        "EVT": "inference.done",
        "engineName": "claude-x-5",
        "Vendor": "anthropic",
        "freshInputToks": 10,
        "cacheReadToks": 1000,
        "cacheWriteToks": 90,
        "outputToks": 30,
        "thinkingToks": 12,
        "sumToks": 1130,
        "wallSeconds": 2.5,
        "firstTokenSeconds": 0.5,
        "ok": True,
    },
    {
        "EVT": "inference.done",
        "engineName": "claude-x-5",
        "Vendor": "anthropic",
        "freshInputToks": 5,
        "outputToks": 0,
        "wallSeconds": 0.5,
        "ok": False,
        "failure": "overloaded",
    },
    {"EVT": "tool.done", "wallSeconds": 9.5, "ok": True},
]
"""Flat and in camel case; the cache is counted beside the input; it went well or not, by a bool."""

STREAM: list[Record] = [
    {"src": "bot", "call_id": "a", "mdl": "m-1", "n_in": 5, "n_out": 1, "elapsed": "0.2s"},
    {"src": "bot", "call_id": "a", "mdl": "m-1", "n_in": 5, "n_out": 9, "elapsed": "1.5s"},
    {"src": "bot", "call_id": "b", "mdl": "m-1", "n_in": 6, "n_out": 2, "elapsed": "250ms"},
    {"src": "bot", "note": "idle", "elapsed": "30s"},
]
"""Snapshots of a stream, without a kind or a word that says which is the last; the text tells the unit."""

UNKNOWN: dict[str, tuple[list[Record], dict[str, float]]] = {
    "gateway": (
        GATEWAY,
        {
            "ai_api_requests_total": 3,
            'ai_api_requests_total{endpoint="unknown",model="acme-small",provider="acme",status_code="429"': 1,
            "ai_api_input_tokens_total": 107,
            "ai_api_output_tokens_total": 23,
            "ai_api_cache_read_tokens_total": 40,
            "ai_api_request_duration_milliseconds_sum": 1525,
            'ai_api_cost_usd_cents_total{cost_type="total"': 1.75,
            'ai_api_errors_total{error_type="rate_limit"': 1,
            'ai_api_finish_reasons_total{finish_reason="length"': 1,
            "ai_api_last_request_timestamp_seconds": 1767225602 + 1767225603 - 1,
        },
    ),
    "robot": (
        ROBOT,
        {
            "ai_api_requests_total": 2,
            'ai_api_input_tokens_total{model="claude-x-5",provider="anthropic"}': 1105,
            "ai_api_cache_read_tokens_total": 1000,
            "ai_api_cache_write_tokens_total": 90,
            "ai_api_output_tokens_total": 30,
            "ai_api_reasoning_tokens_total": 12,
            "ai_api_request_duration_milliseconds_sum": 3000,
            "ai_api_time_to_first_token_milliseconds_sum": 500,
            'ai_api_errors_total{error_type="overloaded"': 1,
        },
    ),
    "stream": (
        STREAM,
        {
            "ai_api_requests_total": 2,
            'ai_api_input_tokens_total{model="m-1"': 11,
            "ai_api_output_tokens_total": 11,
            "ai_api_request_duration_milliseconds_sum": 1750,
            'ai_sidecar_lines_total{result="superseded"}': 1,
        },
    ),
}


def sample(page: str, start: str) -> float:
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in page.splitlines()
        if line.startswith(start if "{" in start else (start + "{", start + " "))
    )


def pasted(text: str) -> str:
    """Take from what was printed all from the first proposed table on, as a user would."""
    return text[text.index("[parsers.") :]


@pytest.mark.parametrize(("records", "figures"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_proposed_table_counts_its_lines_right(
    tmp_path: Path, records: list[Record], figures: dict[str, float]
) -> None:
    log, config = tmp_path / "app.jsonl", tmp_path / "sidecar.toml"
    log.write_text("".join([json.dumps(record) + "\n" for record in records]))

    config.write_text(pasted(run("check", log).stdout))
    page = run("--config", config, "--log-path", log, "--once").stdout

    assert {name: sample(page, name) for name in figures} == figures


def test_all_unknown_formats_in_one_log_get_a_table_each(tmp_path: Path) -> None:
    log, config = tmp_path / "app.jsonl", tmp_path / "sidecar.toml"
    records = [record for records, _ in UNKNOWN.values() for record in records]
    log.write_text("".join([json.dumps(record) + "\n" for record in [*records, LINE]]))

    config.write_text(pasted(run("check", log).stdout))
    page = run("--config", config, "--log-path", log, "--once").stdout

    assert len(tomllib.loads(config.read_text())["parsers"]) == 3
    assert sample(page, 'ai_sidecar_requests_total{parser="generic"}') == 1
    for name in ("requests", "input_tokens", "output_tokens"):
        total = sum([figures[key] for _, figures in UNKNOWN.values() for key in figures if key.startswith(f"ai_api_{name}_total") and "status_code" not in key])  # fmt: skip
        of_the_known_line = {"requests": 1, "input_tokens": 1000, "output_tokens": 10}[name]
        assert sample(page, f"ai_api_{name}_total") == total + of_the_known_line


def test_one_line_is_enough_for_a_proposal() -> None:
    text = check(GATEWAY[2])

    table = Table.from_toml("x", tomllib.loads(pasted(text))["parsers"]["edge_gw"])
    [request] = table.parse(GATEWAY[2]) or ()
    assert (request.model, request.provider) == ("acme-large", "acme")
    assert (request.input_tokens, request.output_tokens) == (100, 20)
    assert request.duration_seconds == 1.25


ORDINARY: list[Record] = [
    {"level": 30, "time": 1767225600000, "pid": 7, "msg": "GET /", "res": {"statusCode": 200}},
    {"level": "info", "event": "loaded", "model": "T-1000", "timestamp": "2026-01-01T00:00:00Z"},
    {"time": "2026-01-01T00:00:00Z", "level": "INFO", "msg": "batch", "count": 5, "total": 9},
    {"ts": 1767225600.1, "logger": "db", "msg": "query", "rows": 5, "duration_ms": 7, "in": 3},
    {"request": "GET / HTTP/1.1", "status": "200", "request_time": "0.012", "bytes_sent": "17"},
    {"kind": "order", "price": 12.5, "input": "x", "output": "y", "user": "me"},
]


def test_an_ordinary_log_gets_no_proposal() -> None:
    assert "[parsers." not in check(*ORDINARY)


def test_a_proposed_table_claims_nothing_that_another_understands() -> None:
    mine = [
        {"model": "m", "tokens": {"sent": 1, "received": 2}},
        {"model": "n", "tokens": {"sent": 3, "received": 4}},
    ]
    others: list[Record] = [LINE, {"model": "m", "tokens": {"note": 1}}, LAST_CHUNK]

    [proposal] = propose(mine, others)

    table = Table.from_toml("x", tomllib.loads(proposal.toml)["parsers"][proposal.name])
    assert not any(table.parse(other) for other in others)
    assert all(table.parse(one) for one in mine)


def test_every_proposal_over_golden_logs_is_a_good_table() -> None:
    records = golden_records()
    for size in (1, 3, 20):
        for start in range(0, len(records), size):
            for proposal in propose(records[start : start + size], records[:start]):
                table = tomllib.loads(proposal.toml)["parsers"][proposal.name]
                Table.from_toml(proposal.name, table)


UNITS = {
    "its name": ({"llm_ms": 1500}, 1.5),
    "its name in camel case": ({"latencyMillis": 1500}, 1.5),
    "its parent": ({"timing": {"ms": {"total": 1500}}}, 1.5),
    "its text": ({"took": "1.5s"}, 1.5),
    "microseconds": ({"dur_us": 1_500_000}, 1.5),
    "nanoseconds by size": ({"elapsed": 1_500_000_000}, 1.5),
    "milliseconds by size": ({"latency": 1500}, 1.5),
    "seconds by size": ({"latency": 1.5}, 1.5),
    "the times beside it": (
        {"lat": 15, "start": 1767225600.0, "end": 1767225600.015},
        0.015,
    ),
}


@pytest.mark.parametrize(("record", "seconds"), UNITS.values(), ids=UNITS)
def test_a_unit_is_guessed_from(record: Record, seconds: float) -> None:
    [proposal] = propose([{"evt": "gen", "mdl": "m", "tok_in": 9, "tok_out": 90, **record}], [])

    assert proposal.requests[0].duration_seconds == pytest.approx(seconds)
    is_guess = "its unit stands nowhere" in proposal.toml
    assert is_guess == (set(record) <= {"latency", "elapsed"})


def test_results_of_check_are_those_of_the_main_job(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"".join([path.read_bytes() for path in GOLDEN]))

    page = run("--log-path", log, "--once").stdout
    [summary] = json.loads(run("check", "--format", "json", log).stdout)["summaries"]

    counted = Counter(
        {
            result: int(sample(page, f'ai_sidecar_lines_total{{result="{result}"}}'))
            for result in summary["lines"]
        }
    )
    assert summary["lines"] == counted
    assert sum(counted.values()) == sample(page, "ai_sidecar_lines_total")


@pytest.mark.parametrize("tier", ["default", "flex", "priority"])
def test_a_line_of_another_service_tier_costs_what_the_sidecar_counts(
    tier: str, tmp_path: Path
) -> None:
    record = {"object": "chat.completion", "model": "gpt-4o", "service_tier": tier}
    log = tmp_path / "a.log"
    log.write_text(json.dumps({**record, "usage": {"prompt_tokens": 1000}}) + "\n")
    sidecar = Sidecar(Config(log_paths=(str(log),)), version="test")
    sidecar.read_all()
    (series,) = sidecar.store.series

    (line,) = json.loads(run("check", log, "--format", "json").stdout)["lines"]
    cost = line["claims"][0]["requests"][0]["cost"]

    assert cost["is_unpriced"] == bool(series.unpriced)
    assert (cost["usd"] or 0) == float(Decimal(series.cost_input).scaleb(-30))
