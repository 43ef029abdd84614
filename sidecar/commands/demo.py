"""Show the main job at work: a simulated client writes several formats, the sidecar tails them and serves."""

from __future__ import annotations

import http.client
import json
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import click
from prometheus_client.parser import text_string_to_metric_families

Json = dict[str, Any]

DEFAULT_PORT = 9464
FIRST_LINES = 200
"""Written before the sidecar starts, so that the first figures are not those of one request."""
LINES_BEFORE_ROTATION = 120
START_SECONDS = 30.0
STOP_SECONDS = 6.0
REDRAW_SECONDS = 1.0
ANYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - compared, not bound
"""Addresses that one serves on, but cannot open."""
REPORT_SECONDS = 5.0
"""How often figures are printed where the output is no terminal."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Port to serve on; by default {DEFAULT_PORT}, or a free one where that is taken.",
)
@click.option("--seconds", type=click.FloatRange(min=0), help="End by itself; else Ctrl-C ends it.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    help="Lines the simulated client writes each second.",
)
def demo(host: str, port: int | None, seconds: float | None, rate: float) -> None:
    """Watch a simulated AI client: it writes four formats, the sidecar tails and serves them."""
    if port is None:
        port = DEFAULT_PORT if _is_free(host, DEFAULT_PORT) else 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: leaves nothing
    sys.exit(run(host=host, port=port, seconds=seconds, rate=rate, out=sys.stdout))


def run(*, host: str, port: int, seconds: float | None, rate: float, out: TextIO) -> int:
    """Write, serve and show until `seconds` have gone by or Ctrl-C; give the exit code."""
    with tempfile.TemporaryDirectory(prefix="ai-sidecar-demo-") as directory:
        client = Client(Path(directory), random.Random())  # noqa: S311 - a simulation, no secret
        for _ in range(FIRST_LINES):
            client.write_line()
        try:
            with client.writing(rate), _sidecar(Path(directory), host, port) as address:
                _show(address, Path(directory), seconds, out)
        except KeyboardInterrupt:
            out.write("\n")
        except ChildProcessError as error:
            sys.stderr.write(f"demo: the sidecar did not start: {error}\n")
            return 1
        except ConnectionError:
            sys.stderr.write("demo: the sidecar has ended\n")
            return 1
    return 0


# What the simulated client writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as the simulation knows it."""

    provider: str
    name: str
    endpoint: str
    tokens_per_second: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that the simulation made up."""

    model: Model
    ended: float
    duration_seconds: float
    first_token_seconds: float
    status: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    number: int


Writer = Callable[[Call], Json]


def _generic(call: Call) -> Json:
    """What a program logs that takes a line's fields from its own code."""
    line: Json = {
        "ts": _rfc3339(call.ended),
        "level": "info" if call.status == 200 else "error",
        "msg": "model answered",
        "provider": call.model.provider,
        "model": call.model.name,
        "endpoint": call.model.endpoint,
        "status_code": call.status,
        "latency_ms": round(call.duration_seconds * 1000),
    }
    if call.status == 200:
        line["ttft_ms"] = round(call.first_token_seconds * 1000)
        line["usage"] = {"input_tokens": call.input_tokens, "output_tokens": call.output_tokens}
    else:
        line["error"] = {"type": ERROR_NAMES.get(call.status)}
    return line


def _openai_body(call: Call) -> Json:
    """A program's line round the body that OpenAI's chat completions answered."""
    body: Json = {
        "error": {"message": "", "type": "requests", "code": ERROR_NAMES.get(call.status)}
    }
    if call.status == 200:
        body = {
            "id": f"chatcmpl-{call.number}",
            "object": "chat.completion",
            "created": int(call.ended),
            "model": call.model.name,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "An answer nobody needs to see."},
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": call.input_tokens,
                "completion_tokens": call.output_tokens,
                "total_tokens": call.input_tokens + call.output_tokens,
                "prompt_tokens_details": {"cached_tokens": call.cached_tokens},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
        }
    return _app_line(call, "openai", body)


def _anthropic_body(call: Call) -> Json:
    """A program's line round the body that Anthropic's messages answered."""
    body: Json = {"type": "error", "error": {"type": ERROR_NAMES.get(call.status), "message": ""}}
    if call.status == 200:
        body = {
            "id": f"msg_{call.number}",
            "type": "message",
            "role": "assistant",
            "model": call.model.name,
            "content": [{"type": "text", "text": "An answer nobody needs to see."}],
            "stop_reason": "end_turn",
            "usage": {
                "input_tokens": call.input_tokens - call.cached_tokens,
                "cache_read_input_tokens": call.cached_tokens,
                "cache_creation_input_tokens": 0,
                "output_tokens": call.output_tokens,
            },
        }
    return _app_line(call, "anthropic", body)


def _app_line(call: Call, provider: str, body: Json) -> Json:
    return {
        "ts": _rfc3339(call.ended),
        "msg": "llm_request",
        "provider": provider,
        "model": call.model.name,
        "path": call.model.endpoint,
        "status": call.status,
        "latency_ms": round(call.duration_seconds * 1000),
        "response": body,
    }


def _litellm(call: Call) -> Json:
    """The payload that LiteLLM hands to its loggers."""
    started = call.ended - call.duration_seconds
    is_good = call.status == 200
    used = {
        "prompt_tokens": call.input_tokens,
        "completion_tokens": call.output_tokens,
        "total_tokens": call.input_tokens + call.output_tokens,
        "prompt_tokens_details": {"cached_tokens": call.cached_tokens},
    }
    return {
        "id": f"litellm-{call.number}",
        "litellm_call_id": f"call-{call.number}",
        "trace_id": f"{call.number:032x}",
        "call_type": "acompletion",
        "status": "success" if is_good else "failure",
        "stream": True,
        "cache_hit": None,
        "custom_llm_provider": call.model.provider,
        "model": call.model.name,
        "startTime": started,
        "endTime": call.ended,
        "completionStartTime": started + call.first_token_seconds,
        "prompt_tokens": call.input_tokens if is_good else 0,
        "completion_tokens": call.output_tokens if is_good else 0,
        "response_cost": 0.0,
        "metadata": {"usage_object": used if is_good else {}},
        "response": {"model": call.model.name} if is_good else {},
        "error_information": {} if is_good else {"error_code": str(call.status)},
    }


ERROR_NAMES = {
    429: "rate_limit_exceeded",
    500: "server_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One file of the simulation: who writes what to it, and whether a container runtime wraps it."""

    name: str
    file_name: str
    write: Writer
    models: tuple[Model, ...]
    is_cri: bool = False


def _model(provider: str, name: str, endpoint: str, speed: float, used: tuple[int, int]) -> Model:
    return Model(
        provider=provider,
        name=name,
        endpoint=endpoint,
        tokens_per_second=speed,
        input_tokens=used[0],
        output_tokens=used[1],
    )


FORMATS = (
    Format(
        name="a program's own line",
        file_name="shop.jsonl",
        write=_generic,
        models=(
            _model("gemini", "gemini-2.5-flash", "/v1beta/generateContent", 180, (3000, 350)),
            _model("deepseek", "deepseek-chat", "/v1/chat/completions", 45, (1200, 300)),
        ),
    ),
    Format(
        name="OpenAI body, in CRI",
        file_name="search.log",
        write=_openai_body,
        models=(
            _model("openai", "gpt-4.1", "/v1/chat/completions", 70, (2500, 400)),
            _model("openai", "gpt-4o-mini", "/v1/chat/completions", 90, (900, 150)),
        ),
        is_cri=True,
    ),
    Format(
        name="Anthropic body",
        file_name="support.jsonl",
        write=_anthropic_body,
        models=(
            _model("anthropic", "claude-sonnet-4-20250514", "/v1/messages", 60, (6000, 700)),
            _model("anthropic", "claude-3-5-haiku-20241022", "/v1/messages", 80, (1500, 200)),
        ),
    ),
    Format(
        name="LiteLLM payload",
        file_name="gateway.ndjson",
        write=_litellm,
        models=(_model("openai", "gpt-4o", "/chat/completions", 75, (1800, 300)),),
    ),
)
"""The four formats; each has models of its own, so that the figures tell the formats apart."""

FORMAT_NAMES = {model.name: format_.name for format_ in FORMATS for model in format_.models}
"""From a model to the format that tells of it."""


@dataclass(slots=True)
class Client:
    """Writes made-up requests into the files of `directory`, and rotates one when it has grown."""

    directory: Path
    dice: random.Random
    lines: Counter[str] = field(default_factory=Counter)

    def write_line(self) -> None:
        """Append one line to one of the files."""
        format_ = self.dice.choice(FORMATS)
        call = self._call(self.dice.choice(format_.models))
        text = json.dumps(format_.write(call))
        if format_.is_cri:
            text = f"{_rfc3339(call.ended)} stdout F {text}"
        path = self.directory / format_.file_name
        if self.lines[path.name] and self.lines[path.name] % LINES_BEFORE_ROTATION == 0:
            path.rename(path.with_name(path.name + ".1"))
        with path.open("a", encoding="utf-8") as log:
            log.write(text + "\n")
        self.lines[path.name] += 1

    @contextmanager
    def writing(self, lines_per_second: float) -> Iterator[None]:
        """Go on writing in a thread while the block lasts."""
        stop = threading.Event()

        def write() -> None:
            while not stop.wait(self.dice.expovariate(lines_per_second)):
                self.write_line()

        thread = threading.Thread(target=write, name="demo-client", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _call(self, model: Model) -> Call:
        dice = self.dice
        status = dice.choices((200, 429, 500, 529), (96, 2, 1, 1))[0]
        input_tokens = max(1, round(model.input_tokens * dice.lognormvariate(0, 0.6)))
        output_tokens = max(1, round(model.output_tokens * dice.lognormvariate(0, 0.5)))
        first_token_seconds = 0.35 * dice.lognormvariate(0, 0.4)
        answering = output_tokens / (model.tokens_per_second * dice.lognormvariate(0, 0.2))
        return Call(
            model=model,
            ended=time.time(),
            duration_seconds=first_token_seconds + (answering if status == 200 else 0),
            first_token_seconds=first_token_seconds,
            status=status,
            input_tokens=input_tokens,
            cached_tokens=input_tokens * 3 // 4 if dice.random() < 0.4 else 0,
            output_tokens=output_tokens,
            number=self.lines.total(),
        )


def _rfc3339(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat().replace("+00:00", "Z")


# The sidecar that watches it


@contextmanager
def _sidecar(log_directory: Path, host: str, port: int) -> Iterator[tuple[str, int]]:
    """Run the main command as a process of its own; give where it serves.

    Raises ChildProcessError with its last words when it ends, or says nothing for `START_SECONDS`.
    """
    command = [sys.executable, "-m", "sidecar", "--log-path", str(log_directory)]
    command += ["--host", host, "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own
    last_words: deque[str] = deque(maxlen=5)
    where: list[tuple[str, int]] = []
    is_known = threading.Event()

    def listen() -> None:
        assert process.stderr is not None  # noqa: S101 - told to mypy: it is a pipe
        for line in process.stderr:
            last_words.append(line.strip())
            if not where and (found := re.search(r"serving on https?://(\S+):(\d+)", line)):
                where.append((found[1], int(found[2])))
                is_known.set()
        is_known.set()

    listener = threading.Thread(target=listen, name="demo-sidecar-log", daemon=True)
    listener.start()
    try:
        is_known.wait(START_SECONDS)
        if not where:
            raise ChildProcessError(" ".join(last_words) or "it said nothing")
        yield where[0]
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        listener.join(STOP_SECONDS)


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


# What is shown of it


@dataclass(slots=True)
class Row:
    """The figures of one model, as the page tells them."""

    requests: float = 0
    errors: float = 0
    input_tokens: float = 0
    cache_read_tokens: float = 0
    output_tokens: float = 0
    cost_usd_cents: float = 0
    duration_milliseconds: float = 0


SHOWN = {
    "ai_api_requests_total": "requests",
    "ai_api_errors_total": "errors",
    "ai_api_input_tokens_total": "input_tokens",
    "ai_api_cache_read_tokens_total": "cache_read_tokens",
    "ai_api_output_tokens_total": "output_tokens",
    "ai_api_cost_usd_cents_total": "cost_usd_cents",
    "ai_api_request_duration_milliseconds_sum": "duration_milliseconds",
}
"""From a sample's name to the figure that it adds to."""


def _show(
    address: tuple[str, int], log_directory: Path, seconds: float | None, out: TextIO
) -> None:
    end = None if seconds is None else time.monotonic() + seconds
    every = REDRAW_SECONDS if out.isatty() else REPORT_SECONDS
    host = ANYWHERE.get(address[0], address[0])
    url = f"http://{host}:{address[1]}"
    head = (
        f"A simulated client writes {len(FORMATS)} formats into {log_directory}\n"
        f"ai-sidecar serves it; open {url}/ or {url}/metrics (Ctrl-C ends)\n"
    )
    if not out.isatty():
        out.write(head)
        out.flush()
    pause = threading.Event()  # nobody sets it: a wait that Ctrl-C ends at once
    while end is None or time.monotonic() < end:
        pause.wait(every if end is None else max(0.0, min(every, end - time.monotonic())))
        table = render(read_page(fetch(host, address[1])))
        out.write("\x1b[H\x1b[J" + head + "\n" + table if out.isatty() else "\n" + table)
        out.flush()


def fetch(host: str, port: int) -> str:
    """Get the metrics page as text."""
    connection = http.client.HTTPConnection(host.strip("[]"), port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def read_page(page: str) -> tuple[dict[str, Row], dict[str, float]]:
    """Sum a metrics page up: figures by model, and requests by the parser that understood them."""
    rows: dict[str, Row] = {}
    parsers: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if figure := SHOWN.get(sample.name):
                row = rows.setdefault(sample.labels["model"], Row())
                setattr(row, figure, getattr(row, figure) + sample.value)
            elif sample.name == "ai_sidecar_requests_total":
                parsers[sample.labels["parser"]] = sample.value
    return rows, parsers


def render(figures: tuple[dict[str, Row], dict[str, float]]) -> str:
    """Draw the figures as a table of plain text, models in the order of their cost, with a total."""
    rows, parsers = figures
    total = Row(
        *(sum(getattr(row, name) for row in rows.values()) for name in Row.__dataclass_fields__)
    )
    by_cost = sorted(rows.items(), key=lambda item: (-item[1].cost_usd_cents, item[0]))
    head = f"{'model':27}{'written as':21}{'requests':>9}{'errors':>7}{'input':>11}{'cached':>10}"
    lines = [head + f"{'output':>10}{'cost USD':>10}{'mean ms':>8}"]
    for name, row in [*by_cost, ("total", total)]:
        mean = row.duration_milliseconds / row.requests if row.requests else 0
        lines.append(
            f"{name[:26]:27}{FORMAT_NAMES.get(name, ''):21}{row.requests:>9,.0f}{row.errors:>7,.0f}"
            f"{row.input_tokens:>11,.0f}{row.cache_read_tokens:>10,.0f}{row.output_tokens:>10,.0f}"
            f"{row.cost_usd_cents / 100:>10,.4f}{mean:>8,.0f}"
        )
    understood = ", ".join(f"{name} {count:,.0f}" for name, count in sorted(parsers.items()))
    return "\n".join([*lines, f"understood by: {understood}"]) + "\n"
