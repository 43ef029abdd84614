"""Codex's rollouts and what `codex exec --json` prints: golden lines, samples, and each trap of the format."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_samples import EXPECTED, FIGURES, SAMPLES, totals

from parsers.codex import MAX_THREADS, parse
from sidecar import ParseError, Request

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = ("codex", "codex_failed", "codex_exec", "codex_proto")
EMPTY = msgspec.structs.asdict(Request())
CHILD = "019e5c03-1e99-7000-8000-000000000001"
PARENT = "019e5b00-0000-7000-8000-000000000001"
DECIDED = {
    "codex/as_small.jsonl": "a turn's error is a failed request where no `error` event was written",
    "codex/ccusage_alpha.jsonl": "the model that the event itself names",
}
"""Samples that the survey is not sure of and we count otherwise."""


def records(case: str) -> list[dict[str, Any]]:
    lines = (GOLDEN / f"{case}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def plain(request: Request) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Decimal) else value
        for name, value in msgspec.structs.asdict(request).items()
        if value != EMPTY[name] or type(value) is not type(EMPTY[name])
    }


def outcome(case: str) -> list[list[dict[str, Any]] | None]:
    memory: dict[str, Any] = {}
    found = [parse(record, memory) for record in records(case)]
    return [None if one is None else [plain(request) for request in one] for one in found]


def line(kind: str, at: float = 0, ordinal: int | None = None, **payload: Any) -> dict[str, Any]:
    """Make a line of a rollout, `at` seconds after it was begun."""
    minutes, seconds = divmod(at, 60)
    time = f"2026-03-01T10:{int(minutes):02}:{seconds:06.3f}Z"
    told = {} if ordinal is None else {"ordinal": ordinal}
    return {"timestamp": time, **told, "type": kind, "payload": payload}


def event(kind: str, at: float = 0, ordinal: int | None = None, **payload: Any) -> dict[str, Any]:
    return line("event_msg", at, ordinal, **{"type": kind, **payload})


def usage(taken: int, given: int, cached: int = 0, thought: int = 0) -> dict[str, int]:
    return {
        "input_tokens": taken,
        "cached_input_tokens": cached,
        "output_tokens": given,
        "reasoning_output_tokens": thought,
        "total_tokens": taken + given,
    }


def count(total: tuple[int, int], last: tuple[int, int] | None, at: float = 0) -> dict[str, Any]:
    info: dict[str, Any] = {"total_token_usage": usage(*total), "model_context_window": 258400}
    if last is not None:
        info["last_token_usage"] = usage(*last)
    return event("token_count", at, info=info, rate_limits=None)


def meta(name: str = CHILD, **payload: Any) -> dict[str, Any]:
    return line("session_meta", id=name, model_provider="openai", cli_version="0.99.0", **payload)


def context(model: str = "gpt-5.2-codex", turn: str | None = None) -> dict[str, Any]:
    return line("turn_context", model=model, turn_id=turn)


def response(
    name: str, taken: int, given: int, at: float = 0, ordinal: int | None = None
) -> dict[str, Any]:
    told = {"response_id": name, "usage": usage(taken, given)}
    return line("token_usage_record", at, ordinal, **told)


def read(*lines: dict[str, Any]) -> list[Request]:
    memory: dict[str, Any] = {}
    return [request for one in lines for request in parse(one, memory) or ()]


def tokens(*lines: dict[str, Any]) -> list[tuple[int | None, int | None]]:
    return [(one.input_tokens, one.output_tokens) for one in read(*lines)]


def counted(folder: Path, *files: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Give the totals of files, as the sidecar counts them in auto mode."""
    for number, lines in enumerate(files):
        text = "".join(json.dumps(one) + "\n" for one in lines)
        (folder / f"{number}.jsonl").write_text(text, encoding="utf-8")
    return totals(folder)


@pytest.mark.parametrize("case", CASES)
def test_golden_lines_give_what_is_written_beside_them(case: str) -> None:
    expected = json.loads((GOLDEN / f"{case}.expected.json").read_text(encoding="utf-8"))

    assert outcome(case) == expected


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/samples is not there")
@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("codex/")])
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    if name in DECIDED:
        pytest.skip(DECIDED[name])
    rows = {
        "unknown" if model == "None" else model: {
            figure: row.get(figure, 0) for figure in ("errors", *FIGURES)
        }
        for model, row in EXPECTED[name]["models"].items()
    }

    assert totals(SAMPLES / name) == {
        model: row for model, row in rows.items() if any(row.values())
    }


def test_a_response_that_is_written_twice_counts_by_its_record(tmp_path: Path) -> None:
    lines = [meta(), context(), response("resp_1", 100, 10), count((100, 10), (100, 10))]

    row = counted(tmp_path, lines)["gpt-5.2-codex"]

    assert (row["requests"], row["input_total"], row["output_total"]) == (1, 100, 10)


def test_records_that_a_fork_copied_are_counted_once(tmp_path: Path) -> None:
    parent = [meta(PARENT), context(), response("resp_1", 100, 10)]
    child = [meta(forked_from_id=PARENT), *parent, response("resp_2", 7, 1)]

    row = counted(tmp_path, parent, child)["gpt-5.2-codex"]

    assert (row["requests"], row["input_total"]) == (2, 107)


def test_a_short_response_id_is_one_of_its_thread() -> None:
    lines = [meta(), response("resp_7", 1, 1), response("resp_7", 1, 1)]
    for thread, one in zip((PARENT, CHILD), lines[1:], strict=True):
        one["payload"]["thread_id"] = thread

    assert len({one.id for one in read(*lines)}) == 2


def test_a_token_count_for_a_rate_limit_alone_is_no_request() -> None:
    first = count((100, 10), (100, 10))
    limits = event("token_count", info=None, rate_limits={"primary": {"used_percent": 1.0}})

    assert tokens(first, limits, first, count((150, 15), (50, 5))) == [(100, 10), (50, 5)]


def test_a_total_set_to_a_full_context_window_is_no_request() -> None:
    full = count((100, 10), (100, 10))
    for one in full["payload"]["info"].values():
        if isinstance(one, dict):
            one.update(usage(0, 0), total_tokens=258400)

    assert tokens(count((100, 10), (100, 10)), full, count((60, 6), (60, 6))) == [
        (100, 10),
        (60, 6),
    ]


def test_without_last_token_usage_the_difference_of_the_totals_counts() -> None:
    lines = [count((100, 10), None), count((150, 15), None), count((20, 2), None)]

    assert tokens(*lines) == [(100, 10), (50, 5), (20, 2)]


def test_the_model_is_the_last_turn_contexts_unless_the_event_names_one() -> None:
    named = count((300, 30), (100, 10))
    named["payload"]["info"]["model"] = "gpt-5.3-codex"
    lines = [context("a"), count((100, 10), (100, 10)), context("b"), count((200, 20), (100, 10))]

    assert [one.model for one in read(*lines, named)] == ["a", "b", "gpt-5.3-codex"]


def test_the_provider_is_the_first_session_metas() -> None:
    other = meta(PARENT) | {"payload": {"id": PARENT, "model_provider": "ollama"}}

    assert [one.provider for one in read(count((1, 1), (1, 1)))] == ["openai"]
    assert [one.provider for one in read(other, meta(), count((1, 1), (1, 1)))] == ["ollama"]


def test_cached_and_reasoning_are_parts_of_input_and_output() -> None:
    one = response("resp_1", 0, 0)
    one["payload"]["usage"] = usage(100, 50, 80, 40) | {"cache_write_input_tokens": 15}
    (request,) = read(meta(), context(), one)

    assert plain(request) == {
        "provider": "openai",
        "model": "gpt-5.2-codex",
        "endpoint": "/responses",
        "input_tokens": 100,
        "cache_read_tokens": 80,
        "cache_write_tokens": 15,
        "output_tokens": 50,
        "reasoning_tokens": 40,
        "timestamp": 1772359200.0,
        "id": "resp_1",
    }


def test_a_turn_of_one_request_tells_its_duration(tmp_path: Path) -> None:
    done = event("task_complete", duration_ms=1200, time_to_first_token_ms=300)
    lines = [meta(), context(), event("task_started"), response("resp_1", 100, 10), done]

    found = read(*lines)

    assert [(one.final, one.duration_seconds) for one in found] == [(False, None), (True, 1.2)]
    assert found[1].time_to_first_token_seconds == 0.3
    assert counted(tmp_path, lines)["gpt-5.2-codex"]["requests"] == 1


def test_the_duration_of_a_turn_of_several_requests_is_none_of_theirs(tmp_path: Path) -> None:
    done = event("task_complete", duration_ms=90_000, time_to_first_token_ms=300)
    both = [response("resp_1", 100, 10), response("resp_2", 120, 12)]
    lines = [meta(), context(), event("task_started"), *both, done]

    assert {one.duration_seconds for one in read(*lines)} == {None}
    assert counted(tmp_path, lines)["gpt-5.2-codex"]["requests"] == 2


@pytest.mark.parametrize(
    ("info", "status", "kind"),
    [
        ("usage_limit_exceeded", "0", "rate_limit"),
        ("context_window_exceeded", "0", "context_length"),
        ("server_overloaded", "0", "overloaded"),
        ("unauthorized", "0", "authentication"),
        ("internal_server_error", "0", "server"),
        ("cyber_policy", "0", "content_filter"),
        ({"http_connection_failed": {"http_status_code": 503}}, "503", "overloaded"),
        ({"response_stream_disconnected": {"http_status_code": None}}, "0", "network"),
        ({"response_too_many_failed_attempts": {"http_status_code": 429}}, "429", "rate_limit"),
        ({"responseTooManyFailedAttempts": {"httpStatusCode": 502}}, "502", "server"),
        (None, "429", "rate_limit"),
    ],
    ids=str,
)
def test_an_error_is_a_failed_request(info: Any, status: str, kind: str) -> None:
    said = "exceeded retry limit, last status: 429 Too Many Requests" if info is None else "no"
    (request,) = read(context(), event("error", message=said, codex_error_info=info))

    assert (request.status_code, request.error_type) == (status, kind)
    assert (request.model, request.input_tokens) == ("gpt-5.2-codex", None)


@pytest.mark.parametrize("info", ["sandbox_error", {"active_turn_not_steerable": {"turn_kind": "review"}}])  # fmt: skip
def test_an_error_of_the_program_itself_is_no_request(info: Any) -> None:
    assert read(context(), event("error", message="no", codex_error_info=info)) == []


def test_an_error_that_is_told_as_an_event_and_by_its_turn_counts_once() -> None:
    error: dict[str, Any] = {"message": "no", "codex_error_info": "internal_server_error"}
    begun, done = event("task_started"), event("task_complete", error=error)

    assert len(read(begun, event("error", **error), done)) == 1
    assert len(read(begun, done)) == 1


def test_an_interrupted_turn_is_no_request() -> None:
    assert read(event("task_started"), event("turn_aborted", reason="interrupted")) == []


def test_a_failed_turn_that_is_copied_is_no_request_of_the_fork() -> None:
    failed = event("task_complete", 0.5, error={"message": "no", "codex_error_info": "other"})

    assert read(meta(forked_from_id=PARENT), failed) == []
    assert len(read(meta(), failed)) == 1


def test_history_before_the_subagents_own_ordinal_is_passed_over() -> None:
    begun = meta(subagent_history_start_ordinal=3)
    copied = [response("resp_1", 500, 50, ordinal=1), event("error", ordinal=2, message="x")]

    assert tokens(begun, *copied, response("resp_2", 7, 1, ordinal=3)) == [(7, 1)]


def test_history_that_a_subagent_replays_in_one_go_is_passed_over() -> None:
    begun = meta(source={"subagent": {"thread_spawn": {"parent_thread_id": PARENT}}})
    copied = [count((100, 10), (100, 10), 0.02), count((200, 20), (100, 10), 0.9)]
    copied.append(count((300, 30), (100, 10), 1.7))

    assert tokens(begun, *copied, count((307, 31), (7, 1), 12)) == [(7, 1)]


def test_history_with_the_times_of_the_parent_is_passed_over() -> None:
    begun = meta(forked_from_id=PARENT)
    begun["timestamp"] = "2026-03-01T11:00:00Z"

    assert tokens(begun, count((100, 10), (100, 10), 5), count((200, 20), (100, 10), 90)) == []


def test_history_of_turns_older_than_the_fork_is_passed_over() -> None:
    begun = [meta(forked_from_id=PARENT), meta(PARENT)]
    old = context(turn="019e5b00-0001-7000-8000-000000000001")
    own = context(turn="019e5c03-6425-7000-8000-000000000001")
    first, second = count((100, 10), (100, 10), 30), count((107, 11), (7, 1), 30)

    assert tokens(*begun, old, first, own, second) == [(7, 1)]


def test_a_subagent_that_copied_nothing_counts_from_its_first_request() -> None:
    begun = meta(source={"subagent": {"thread_spawn": {"parent_thread_id": PARENT}}})

    assert tokens(begun, count((100, 10), (100, 10), 9)) == [(100, 10)]


def test_two_sessions_with_the_same_figures_are_two_requests(tmp_path: Path) -> None:
    body = [context(), count((100, 10), (100, 10))]

    row = counted(tmp_path, [meta(PARENT), *body], [meta(CHILD), *body])["gpt-5.2-codex"]

    assert row["requests"] == 2


def test_the_same_rollout_in_the_archive_is_counted_once(tmp_path: Path) -> None:
    body = [meta(), context(), count((100, 10), (100, 10))]

    row = counted(tmp_path, body, [*body, count((200, 20), (100, 10))])["gpt-5.2-codex"]

    assert row["requests"] == 2


def test_old_shapes_of_token_count_and_counts_as_text_are_read() -> None:
    old = event("token_count", info={"prompt": "1420", "completion": "910"})

    assert tokens(old, event("token_count", info=None)) == [(1420, 910)]


def test_a_turn_completed_among_the_events_counts_unless_token_counts_do() -> None:
    done = event("turn.completed", usage={"input_tokens": 980, "output_tokens": 640})

    assert tokens(done, done) == [(980, 640), (980, 640)]
    assert tokens(count((980, 640), (980, 640)), done) == [(980, 640)]


def test_events_as_they_were_printed_before_0_44_are_read() -> None:
    lines = [
        {"id": "", "msg": {"type": "session_configured", "session_id": "s", "model": "o4-mini"}},
        {"id": "0", "msg": {"type": "token_count", **usage(30, 3)}},
        {"id": "0", "msg": {"type": "token_count", "info": {"total_token_usage": usage(70, 7)}}},
        {"id": "0", "msg": {"type": "agent_message", "message": "hi"}},
    ]

    assert [(one.model, one.input_tokens) for one in read(*lines)] == [
        ("o4-mini", 30),
        ("o4-mini", 70),
    ]


def started(name: str) -> dict[str, Any]:
    return {"type": "thread.started", "thread_id": name}


def completed(taken: int, given: int) -> dict[str, Any]:
    told = {"input_tokens": taken, "cached_input_tokens": 0, "output_tokens": given}
    return {"type": "turn.completed", "usage": told}


def test_the_usage_that_exec_prints_adds_up_over_a_thread_and_its_resumption() -> None:
    lines = [started("a"), completed(100, 10), started("b"), completed(5, 1), started("a")]

    assert tokens(*lines, completed(150, 15)) == [(100, 10), (5, 1), (50, 5)]


def test_threads_that_exec_printed_are_forgotten_at_last() -> None:
    memory: dict[str, Any] = {}
    for number in range(MAX_THREADS * 2):
        parse(started(str(number)), memory)
        parse(completed(1, 1), memory)

    assert len(memory["threads"]) == MAX_THREADS


def test_a_failed_turn_that_exec_prints_counts_once_and_each_attempt_before_it() -> None:
    lines = [
        started("a"),
        {"type": "error", "message": "Reconnecting... 1/2 (stream disconnected before completion)"},
        {"type": "error", "message": "exceeded retry limit, last status: 429 Too Many Requests"},
        {"type": "turn.failed", "error": {"message": "exceeded retry limit, last status: 429"}},
    ]

    assert [(one.status_code, one.error_type) for one in read(*lines)] == [
        ("0", "network"),
        ("429", "rate_limit"),
    ]


OTHERS = [
    {"type": "error", "message": "disk full"},
    {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    {"type": "event_msg", "payload": "text"},
    {"type": "payload", "payload": {"usage": {"input_tokens": 1}}, "timestamp": "2026-01-01T00:00:00Z"},
    {"type": "turn.completed", "duration": 3},
    {"type": "turn.started", "player": "x"},
    {"type": "item.completed", "item": "socks"},
    {"id": "7", "msg": "hello"},
    {"id": 7, "msg": {"type": "token_count"}},
    {"id": "7", "msg": {"type": "greeting"}},
    {"level": "info", "msg": "ok", "payload": {"type": "token_count"}},
    {"type": "response.completed", "response": {"id": "r", "usage": {"input_tokens": 1}}},
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_lines_of_others_are_left_to_them(other: dict[str, Any]) -> None:
    assert parse(other, {}) is None


ALL = [record for case in CASES for record in records(case)] + [
    meta(forked_from_id=PARENT, source={"subagent": {"thread_spawn": {}}}),
    meta(subagent_history_start_ordinal=3),
    event("task_started", turn_id=CHILD),
    count((100, 10), (100, 10)),
    count((100, 10), None),
    event("token_count", info={"prompt": 1, "completion": 2}),
    event("error", message="no", codex_error_info={"http_connection_failed": {"http_status_code": 503}}),
    event("task_complete", duration_ms=5, error={"message": "x"}),
    line("inter_agent_communication_metadata", trigger_turn=True),
    {"id": "0", "msg": {"type": "token_count", **usage(30, 3)}},
]  # fmt: skip
ODD: st.SearchStrategy[Any] = st.sampled_from(
    (None, True, 0, -1, 1.5, 2**70, 1e308, "", "x", "\x00", "99", "é" * 300, [], [[]], [None], {}, {"a": {}}, "2026-01-01T00:00:00Z")
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    record = copy.deepcopy(draw(st.sampled_from(ALL)))
    for _ in range(draw(st.integers(0, 4))):
        node: Any = record
        while isinstance(node, dict) and node:
            key = draw(st.sampled_from(list(node)))
            if isinstance(node[key], dict) and node[key] and draw(st.booleans()):
                node = node[key]
                continue
            match draw(st.sampled_from(["drop", "odd", "other", "list"])):
                case "drop":
                    del node[key]
                case "odd":
                    node[key] = copy.deepcopy(draw(ODD))
                case "other":
                    node[key] = copy.deepcopy(draw(st.sampled_from(ALL)))
                case "list":
                    node[key] = [node[key]]
            break
    return record


@given(lines=st.lists(damaged(), min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_whatever_is_damaged_only_a_parse_error_comes_out(lines: list[dict[str, Any]]) -> None:
    memory: dict[str, Any] = {}
    for one in lines:
        try:
            found = parse(one, memory) or ()
        except ParseError:
            continue
        json.dumps(memory)
        for request in found:
            msgspec.convert(msgspec.structs.asdict(request), Request)
            for name, value in msgspec.structs.asdict(request).items():
                assert not isinstance(value, (int, float)) or value >= 0, name


KEYS = ("model", "provider", "session", "first", "copied", "turn", "last", "total", "threads", "thread", "records", "counts")  # fmt: skip
STRANGE = ODD | st.lists(ODD | st.lists(ODD, max_size=5), max_size=5) | st.dictionaries(st.just("x"), ODD)  # fmt: skip


@given(memory=st.dictionaries(st.sampled_from(KEYS), STRANGE))
@settings(max_examples=200, deadline=None)
def test_a_strange_memory_hurts_nobody(memory: dict[str, Any]) -> None:
    for one in ALL:
        parse(one, copy.deepcopy(memory))


if __name__ == "__main__":
    for case in CASES:
        lines = ",\n".join("  " + json.dumps(one, ensure_ascii=False) for one in outcome(case))
        (GOLDEN / f"{case}.expected.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
