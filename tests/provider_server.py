"""An HTTP server that answers as OpenAI and Anthropic do, what the test scripted, and keeps a ledger of it.

Shapes: platform.openai.com/docs/api-reference (chat, responses, embeddings, their streams, error bodies, rate-limit
headers) and docs.anthropic.com/en/api (messages, streaming, errors, rate limits).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Json = dict[str, Any]

ANSWER_TEXT = "an answer that must stay out of every log line"
FIRST_TOKEN_SECONDS = 0.03
"""How long a stream is silent before its first token, so that a test can see it told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to answer to one request; token figures are the *inclusive* ones, whatever the provider's body says."""

    status: int = 200
    model: str | None = None
    """The model that the answer names; by default the one asked for."""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    finish_reason: str | None = None
    """In the provider's words; by default that of an answer that is complete."""
    error: tuple[str, str | None] | None = None
    """The `type` and `code` of an error body, or of an error event in a stream where the status is 200."""
    remaining: tuple[int, int] | None = None
    """Requests and tokens left, told in the provider's headers."""
    is_silent: bool = False
    """Say nothing until the client has given up."""
    is_cut: bool = False
    """Break the connection off in the middle of the body."""
    error_type: str | None = None
    """What the sidecar must call it (`rate_limit`, …): only kept in the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One line of the ledger: what was asked, and what was answered to it."""

    provider: str
    path: str
    model: str
    """As the answer names it, else as asked."""
    is_stream: bool
    answer: Answer


@dataclass(slots=True)
class ProviderServer:
    """Serve on a free port of 127.0.0.1 while the `with` block lasts."""

    script: deque[Answer] = field(default_factory=deque)
    ledger: list[Sent] = field(default_factory=list)
    _http: ThreadingHTTPServer | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where it serves, without a path."""
        assert self._http is not None
        return f"http://127.0.0.1:{self._http.server_port}"

    def will_answer(self, *answers: Answer) -> None:
        """Add answers, each for one request, in order."""
        self.script.extend(answers)

    def __enter__(self) -> Self:
        self._http = _Http(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._http is not None
        self._stop.set()
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a client has gone; that is what time-outs are."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(server: ProviderServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            asked: Json = json.loads(self.rfile.read(int(self.headers["content-length"])))
            answer = server.script.popleft()
            path = self.path.partition("?")[0]
            shape = SHAPES[path.removeprefix("/v1")]
            is_stream = bool(asked.get("stream"))
            model = answer.model or str(asked["model"])
            server.ledger.append(
                Sent(
                    provider=shape.provider,
                    path=path,
                    model=model,
                    is_stream=is_stream,
                    answer=answer,
                )
            )
            if answer.is_silent:
                self.close_connection = True
                self._wait_until_given_up()
            elif answer.status != 200:
                self._send_json(answer, shape, shape.error(answer))
            elif is_stream:
                self._send_events(answer, shape, shape.events(answer, model, asked))
            else:
                self._send_json(answer, shape, shape.body(answer, model))

        def _wait_until_given_up(self) -> None:
            self.connection.settimeout(0.05)
            while not server._stop.is_set():
                try:
                    if self.connection.recv(1) == b"":
                        return
                except TimeoutError:
                    continue
                except OSError:
                    return

        def _send_head(self, answer: Answer, shape: Shape, content_type: str) -> None:
            self.send_response(answer.status)
            self.send_header("content-type", content_type)
            for name, value in zip(shape.remaining_headers, answer.remaining or (), strict=False):
                self.send_header(name, str(value))
            if answer.status != 200:
                self.send_header("retry-after-ms", "1")  # the SDKs' own, finer than retry-after

        def _send_json(self, answer: Answer, shape: Shape, body: Json) -> None:
            text = json.dumps(body, indent=2).encode()  # OpenAI prints its bodies over lines
            self._send_head(answer, shape, "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            if answer.is_cut:
                self.close_connection = True
                text = text[: len(text) // 2]
            self.wfile.write(text)

        def _send_events(self, answer: Answer, shape: Shape, events: Iterator[Json | str]) -> None:
            self._send_head(answer, shape, "text/event-stream; charset=utf-8")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            tokens = 0
            for event in events:
                data = event if isinstance(event, str) else json.dumps(event)
                name = event.get("type") if isinstance(event, dict) else None
                text = (f"event: {name}\n" if name else "") + f"data: {data}\n\n"
                if 'delta"' in data:
                    tokens += 1
                    if tokens == 1:
                        server._stop.wait(FIRST_TOKEN_SECONDS)
                    if tokens == 3 and answer.is_cut:
                        self.close_connection = True
                        return
                self._send_chunk(text.encode())
            self._send_chunk(b"")

        def _send_chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
            """Say nothing on standard error."""

    return Handler


@dataclass(frozen=True, slots=True)
class Shape:
    """How one endpoint of one provider answers."""

    provider: str
    remaining_headers: tuple[str, str]
    body: Callable[[Answer, str], Json]
    events: Callable[[Answer, str, Json], Iterator[Json | str]]
    error: Callable[[Answer], Json]


def _openai_error(answer: Answer) -> Json:
    kind, code = answer.error or ("server_error", None)
    return {"error": {"message": ANSWER_TEXT, "type": kind, "param": None, "code": code}}


def _anthropic_error(answer: Answer) -> Json:
    kind, _ = answer.error or ("api_error", None)
    return {"type": "error", "error": {"type": kind, "message": ANSWER_TEXT}, "request_id": "req_1"}


def _chat_usage(answer: Answer) -> Json:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cache_read_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": answer.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _chat(answer: Answer, model: str) -> Json:
    message = {"role": "assistant", "content": ANSWER_TEXT, "refusal": None}
    finish_reason = answer.finish_reason or "stop"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": _chat_usage(answer),
        "system_fingerprint": "fp_1",
    }


def _chat_events(answer: Answer, model: str, asked: Json) -> Iterator[Json | str]:
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
    }
    with_usage = (asked.get("stream_options") or {}).get("include_usage")
    none: Json = {"usage": None} if with_usage else {}

    def chunk(delta: Json, finish_reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {**head, "choices": [choice], **none}

    yield chunk({"role": "assistant", "content": ""})
    for word in ANSWER_TEXT.split():
        yield chunk({"content": word + " "})
    if answer.error:
        yield _openai_error(answer)
        return
    yield chunk({}, answer.finish_reason or "stop")
    if with_usage:
        yield {**head, "choices": [], "usage": _chat_usage(answer)}
    yield "[DONE]"


def _response(answer: Answer, model: str, status: str = "completed") -> Json:
    content = [{"type": "output_text", "text": ANSWER_TEXT, "annotations": []}]
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [{**message, "content": content}] if status == "completed" else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": answer.input_tokens,
            "input_tokens_details": {"cached_tokens": answer.cache_read_tokens},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }
        if status == "completed"
        else None,
    }


def _response_events(answer: Answer, model: str, asked: Json) -> Iterator[Json | str]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    events: list[Json] = [
        {"type": "response.created", "response": _response(answer, model, "in_progress")},
        *(
            {"type": "response.output_text.delta", **place, "delta": word + " "}
            for word in ANSWER_TEXT.split()
        ),
        {"type": "response.completed", "response": _response(answer, model)},
    ]
    for number, event in enumerate(events):
        yield {**event, "sequence_number": number}


def _embeddings(answer: Answer, model: str) -> Json:
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}],
        "model": model,
        "usage": {"prompt_tokens": answer.input_tokens, "total_tokens": answer.input_tokens},
    }


def _no_events(answer: Answer, model: str, asked: Json) -> Iterator[Json | str]:
    raise AssertionError("this endpoint has no stream")


def _message_usage(answer: Answer) -> Json:
    cached = answer.cache_read_tokens + answer.cache_write_tokens
    return {
        "input_tokens": answer.input_tokens - cached,  # Anthropic counts those of the cache apart
        "cache_read_input_tokens": answer.cache_read_tokens,
        "cache_creation_input_tokens": answer.cache_write_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": answer.cache_write_tokens,
            "ephemeral_1h_input_tokens": 0,
        },
        "output_tokens": answer.output_tokens,
        "service_tier": "standard",
    }


def _message(answer: Answer, model: str) -> Json:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": ANSWER_TEXT}],
        "stop_reason": answer.finish_reason or "end_turn",
        "stop_sequence": None,
        "usage": _message_usage(answer),
    }


def _message_events(answer: Answer, model: str, asked: Json) -> Iterator[Json | str]:
    start = _message(answer, model) | {"content": [], "stop_reason": None}
    start["usage"] = _message_usage(answer) | {"output_tokens": 1}
    yield {"type": "message_start", "message": start}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield {"type": "ping"}
    for word in ANSWER_TEXT.split():
        delta = {"type": "text_delta", "text": word + " "}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    if answer.error:
        yield _anthropic_error(answer)
        return
    yield {"type": "content_block_stop", "index": 0}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": answer.finish_reason or "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": answer.output_tokens},
    }
    yield {"type": "message_stop"}


_OPENAI_REMAINING = ("x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens")
_ANTHROPIC_REMAINING = (
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-tokens-remaining",
)

SHAPES = {
    "/chat/completions": Shape("openai", _OPENAI_REMAINING, _chat, _chat_events, _openai_error),
    "/responses": Shape("openai", _OPENAI_REMAINING, _response, _response_events, _openai_error),
    "/embeddings": Shape("openai", _OPENAI_REMAINING, _embeddings, _no_events, _openai_error),
    "/messages": Shape(
        "anthropic", _ANTHROPIC_REMAINING, _message, _message_events, _anthropic_error
    ),
}
"""By the path without its version."""
