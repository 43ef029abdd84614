"""Prompts and secrets stay in the log: no word of a line is on a page or in a log line of ours."""

from __future__ import annotations

import json
from pathlib import Path

from prometheus import get, sidecar_process, wait_until

MARK = "XYZZYmarker"
GOOD = {
    "provider": "openai",
    "model": "gpt-4o",
    "status": 200,
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}

PROMPT = {"messages": [{"role": "user", "content": MARK}], "api_key": MARK, MARK: MARK}

LINES: list[str | bytes] = [
    json.dumps(
        {**GOOD, "request": PROMPT, "response": {"choices": [{"message": {"content": MARK}}]}}
    ),
    json.dumps({**GOOD, "status": 500, "error": {"message": MARK, "type": MARK, "code": MARK}}),
    json.dumps(
        {**GOOD, "status": MARK, "usage": MARK, "latency_ms": MARK, "ts": MARK, "cost_usd": MARK}
    ),
    json.dumps({**GOOD, "finish_reason": MARK, "trace_id": 7, "error": MARK}),
    json.dumps({**GOOD, "usage": {"prompt_tokens": MARK, "completion_tokens": [MARK]}}),
    json.dumps({**GOOD, "response": json.dumps({"id": MARK, "usage": {"prompt_tokens": MARK}})}),
    json.dumps(
        {
            "object": "chat.completion",
            "model": "m",
            "choices": MARK,
            "usage": {"prompt_tokens": MARK},
        }
    ),
    json.dumps(
        {
            "type": "message",
            "role": "assistant",
            "model": "m",
            "usage": {"input_tokens": MARK},
            "content": MARK,
        }
    ),
    json.dumps({"type": "error", "error": {"type": MARK, "message": MARK}}),
    json.dumps(
        {"candidates": MARK, "usageMetadata": {"promptTokenCount": MARK}, "modelVersion": "m"}
    ),
    json.dumps({"output": {"message": MARK}, "usage": {"inputTokens": MARK}}),
    json.dumps(
        {"litellm_call_id": MARK, "call_type": MARK, "status": MARK, "response": MARK, "model": "m"}
    ),
    json.dumps(
        {
            "litellm_call_id": MARK,
            "call_type": "completion",
            "startTime": MARK,
            "metadata": MARK,
            "model": "m",
        }
    ),
    json.dumps({"message": json.dumps(PROMPT)}),
    json.dumps({"log": MARK, "stream": MARK, "time": MARK}),
    json.dumps([PROMPT, MARK]),
    json.dumps(PROMPT)[:-9],
    "{",
    f'  "a": "{MARK}",',
    MARK,
    f"2026-01-01T00:00:00Z stdout P {MARK}",
    f"2026-01-01T00:00:00Z stdout F {MARK}",
    f'{{"model":"{MARK}'.encode() + b"\xff",
    '{"a":' * 2000 + f'"{MARK}"' + "}" * 2000,
    json.dumps({"text": MARK * 1000}),
    json.dumps({**GOOD, "model": "end-of-lines"}),
]


def test_no_word_of_a_line_is_shown_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(
        b"\n".join(line.encode() if isinstance(line, str) else line for line in LINES) + b"\n"
    )
    broken = tmp_path / "config.toml"
    broken.write_text(
        '[parsers.mine]\nwhen = { "api_key" = true }\nmodel = { const = "m" }\ninput_tokens = "usage"\n'
    )
    options = ("--log-level", "debug", "--max-line-bytes", "8192", "--config", str(broken))

    with sidecar_process(log, *options) as sidecar:
        wait_until(lambda: "end-of-lines" in sidecar.page(), "the last line on the page")
        pages = [
            sidecar.page(),
            sidecar.page("application/openmetrics-text"),
            *[
                get(sidecar.url + path)[1]
                for path in ("/", "/health", "/ready", f"/{MARK}", "/status.json")
            ],
        ]
        assert sidecar.stop() == 0

    assert [page for page in pages if MARK in page] == []
    assert [line for line in sidecar.lines if MARK in line] == []
    assert sum("lines_total" in page for page in pages) == 2
