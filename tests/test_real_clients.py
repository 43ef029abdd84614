"""The real clients, with the README's hooks, against a server that answers as their providers do: PromQL is exact."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import subprocess
import sys
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prometheus import Prometheus, needs_prometheus, sidecar_process
from provider_server import ANSWER_TEXT, Answer, ProviderServer, Sent

from sidecar.commands.demo import read_page

ROOT = Path(__file__).parent.parent
HOOKS = Path(__file__).parent / "hooks"
LITELLM_PYTHON = ROOT / ".venv-litellm" / "bin" / "python"
SECRET = "sk-a-key-that-must-stay-out"
PROMPT = "a prompt that must stay out"

PRICES = {
    # USD for a million tokens, from the providers' price lists: input, output, cache read, cache write
    "gpt-4o-mini": ("0.15", "0.60", "0.075", "0"),
    "gpt-4o": ("2.50", "10", "1.25", "0"),
    "text-embedding-3-small": ("0.02", "0", "0", "0"),
    "claude-sonnet-4-20250514": ("3", "15", "0.30", "3.75"),
    "claude-3-5-haiku-20241022": ("0.80", "4", "0.08", "1"),
}


def hook(name: str, log: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_hook", HOOKS / f"{name}_hook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.LOG = log  # type: ignore[attr-defined] # the one line that a reader edits
    return module


def arrived(sent: Sent) -> Answer:
    """What the client has heard of an answer's tokens before it failed."""
    answer = sent.answer
    if answer.status == 200 and answer.error_type is None:
        return answer
    if sent.provider == "anthropic" and sent.is_stream and answer.status == 200:
        return replace(answer, output_tokens=1)  # its first event tells the input, and one token
    return Answer(status=answer.status)


def cents(sent: Sent) -> Decimal:
    """What a request costs, computed apart from the sidecar."""
    answer = arrived(sent)
    per_input, per_output, per_read, per_write = map(Decimal, PRICES[sent.model])
    uncached = answer.input_tokens - answer.cache_read_tokens - answer.cache_write_tokens
    micro = (
        uncached * per_input
        + answer.output_tokens * per_output
        + answer.cache_read_tokens * per_read
        + answer.cache_write_tokens * per_write
    )
    return micro / 10_000


def expected(ledger: list[Sent]) -> dict[str, dict[str, Decimal]]:
    """Add up, for each model, what was sent."""
    found: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for sent in ledger:
        model, answer = found[sent.model], arrived(sent)
        model["requests"] += 1
        model["errors"] += sent.answer.error_type is not None
        model["input"] += answer.input_tokens
        model["output"] += answer.output_tokens
        model["cache_read"] += answer.cache_read_tokens
        model["cache_write"] += answer.cache_write_tokens
        model["reasoning"] += answer.reasoning_tokens
        model["first_tokens"] += sent.is_stream and answer.status == 200
        model["cents"] += cents(sent)
    return {
        model: {name: value for name, value in row.items() if value} for model, row in found.items()
    }


QUERIES = {
    "requests": "sum by (model) (ai_api_requests_total)",
    "errors": "sum by (model) (ai_api_errors_total)",
    "input": "sum by (model) (ai_api_input_tokens_total)",
    "output": "sum by (model) (ai_api_output_tokens_total)",
    "cache_read": "sum by (model) (ai_api_cache_read_tokens_total)",
    "cache_write": "sum by (model) (ai_api_cache_write_tokens_total)",
    "reasoning": "sum by (model) (ai_api_reasoning_tokens_total)",
    "first_tokens": "sum by (model) (ai_api_time_to_first_token_milliseconds_count)",
    "cents": "sum by (model) (ai_api_cost_usd_cents_total)",
}


def asked_of(prometheus: Prometheus) -> dict[str, dict[str, Decimal]]:
    """Ask Prometheus for what `expected` computes."""
    found: dict[str, dict[str, Decimal]] = defaultdict(dict)
    for name, query in QUERIES.items():
        for sample in prometheus.query(query):
            if sample.value:
                found[sample.labels["model"]][name] = Decimal(repr(sample.value)).quantize(
                    Decimal("1e-10")
                )
    return dict(found)


def rounded(rows: dict[str, dict[str, Decimal]]) -> dict[str, dict[str, Decimal]]:
    return {
        model: {name: value.quantize(Decimal("1e-10")) for name, value in row.items()}
        for model, row in rows.items()
    }


OK = Answer(input_tokens=120, output_tokens=30, cache_read_tokens=64, remaining=(99, 9000))
FAILURES = (
    Answer(status=429, error=("requests", "rate_limit_exceeded"), error_type="rate_limit"),
    Answer(status=500, error=("server_error", None), error_type="server"),
    Answer(is_silent=True, error_type="timeout"),
)


def call_openai(server: ProviderServer, log: Path) -> None:
    openai = pytest.importorskip("openai", reason="the openai package is not installed")
    client = openai.OpenAI(
        api_key=SECRET,
        base_url=server.url + "/v1",
        max_retries=0,
        timeout=2.0,
        http_client=hook("openai", log).LoggedClient(timeout=2.0),
    )
    retrying = client.with_options(max_retries=1)
    messages = [{"role": "user", "content": PROMPT}]

    server.will_answer(OK, Answer(input_tokens=300, output_tokens=80, reasoning_tokens=50))
    client.chat.completions.create(model="gpt-4o-mini", messages=messages)
    client.chat.completions.create(model="gpt-4o", messages=messages)
    server.will_answer(Answer(input_tokens=77, output_tokens=21, cache_read_tokens=32))
    stream = client.chat.completions.create(
        model="gpt-4o-mini", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    assert ANSWER_TEXT.split()[0] in "".join(
        chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices
    )
    server.will_answer(Answer(input_tokens=500, output_tokens=60, cache_read_tokens=256))
    client.responses.create(model="gpt-4o", input=PROMPT)
    server.will_answer(Answer(input_tokens=8))
    client.embeddings.create(model="text-embedding-3-small", input=PROMPT)
    for failure in FAILURES:
        server.will_answer(failure)
        with suppress(openai.OpenAIError):
            client.chat.completions.create(model="gpt-4o", messages=messages)
    server.will_answer(FAILURES[0], OK)
    retrying.chat.completions.create(model="gpt-4o-mini", messages=messages)


def call_anthropic(server: ProviderServer, log: Path) -> None:
    anthropic = pytest.importorskip("anthropic", reason="the anthropic package is not installed")
    client = anthropic.Anthropic(
        api_key=SECRET,
        base_url=server.url,
        max_retries=0,
        timeout=2.0,
        http_client=hook("anthropic", log).LoggedClient(timeout=2.0),
    )
    asked: dict[str, Any] = {"max_tokens": 100, "messages": [{"role": "user", "content": PROMPT}]}

    server.will_answer(
        Answer(
            input_tokens=1000,
            output_tokens=50,
            cache_read_tokens=600,
            cache_write_tokens=200,
            remaining=(49, 7000),
        )
    )
    client.messages.create(model="claude-sonnet-4-20250514", **asked)
    server.will_answer(Answer(input_tokens=400, output_tokens=90, cache_read_tokens=100))
    with client.messages.stream(model="claude-3-5-haiku-20241022", **asked) as stream:
        stream.get_final_message()
    for failure in (
        Answer(status=429, error=("rate_limit_error", None), error_type="rate_limit"),
        Answer(status=529, error=("overloaded_error", None), error_type="overloaded"),
        Answer(status=500, error=("api_error", None), error_type="server"),
        Answer(is_silent=True, error_type="timeout"),
    ):
        server.will_answer(failure)
        with suppress(anthropic.AnthropicError):
            client.messages.create(model="claude-sonnet-4-20250514", **asked)


BROKEN_STREAMS = (
    Answer(is_cut=True, error_type="network"),
    Answer(error=("server_error", None), error_type="server"),
)


def call_openai_async(server: ProviderServer, log: Path) -> None:
    openai = pytest.importorskip("openai", reason="the openai package is not installed")
    asked: dict[str, Any] = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": PROMPT}],
    }
    streamed = {**asked, "stream": True, "stream_options": {"include_usage": True}}

    async def calls() -> None:
        client = openai.AsyncOpenAI(
            api_key=SECRET,
            base_url=server.url + "/v1",
            max_retries=1,
            http_client=hook("openai", log).LoggedAsyncClient(timeout=2.0),
        )
        server.will_answer(OK)
        await client.chat.completions.create(**asked)
        server.will_answer(FAILURES[0], Answer(input_tokens=77, output_tokens=21))
        async for _ in await client.chat.completions.create(**streamed):
            pass
        server.will_answer(Answer(input_tokens=40, output_tokens=30, reasoning_tokens=20))
        async for _ in await client.responses.create(model="gpt-4o", input=PROMPT, stream=True):
            pass
        for broken in BROKEN_STREAMS:
            server.will_answer(broken)
            with suppress(openai.OpenAIError):
                async for _ in await client.chat.completions.create(**streamed):
                    pass
        server.will_answer(Answer(is_silent=True, error_type="cancelled"))
        with suppress(TimeoutError):
            await asyncio.wait_for(client.chat.completions.create(**asked), 0.5)
        await client.close()

    asyncio.run(calls())


def call_anthropic_async(server: ProviderServer, log: Path) -> None:
    anthropic = pytest.importorskip("anthropic", reason="the anthropic package is not installed")
    asked: dict[str, Any] = {
        "model": "claude-3-5-haiku-20241022",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": PROMPT}],
    }

    async def calls() -> None:
        client = anthropic.AsyncAnthropic(
            api_key=SECRET,
            base_url=server.url,
            max_retries=1,
            http_client=hook("anthropic", log).LoggedAsyncClient(timeout=2.0),
        )
        server.will_answer(Answer(input_tokens=90, output_tokens=12, cache_write_tokens=50))
        await client.messages.create(**asked)
        overloaded = Answer(status=529, error=("overloaded_error", None), error_type="overloaded")
        server.will_answer(overloaded, Answer(input_tokens=400, output_tokens=90))
        async with client.messages.stream(**asked) as stream:
            await stream.get_final_message()
        for broken in (
            Answer(is_cut=True, input_tokens=70, cache_read_tokens=30, error_type="network"),
            Answer(error=("overloaded_error", None), input_tokens=70, error_type="overloaded"),
        ):
            server.will_answer(broken)
            with suppress(Exception):  # a broken connection comes through as httpx's own error
                async with client.messages.stream(**asked) as stream:
                    await stream.get_final_message()
        server.will_answer(Answer(is_silent=True, error_type="cancelled"))
        with suppress(TimeoutError):
            await asyncio.wait_for(client.messages.create(**asked), 0.5)
        await client.close()

    asyncio.run(calls())


OLDER_OPENAI_CALLS = """
import sys
from contextlib import suppress
from pathlib import Path
import openai
sys.path.insert(0, {hooks!r})
import openai_hook
openai_hook.LOG = Path({log!r})
client = openai.OpenAI(
    api_key={secret!r}, base_url={url!r} + "/v1", max_retries=1, timeout=1, http_client=openai_hook.LoggedClient()
)
asked = dict(model="gpt-4o-mini", messages=[{{"role": "user", "content": {prompt!r}}}])
client.chat.completions.create(**asked)
for _ in client.chat.completions.create(stream=True, stream_options={{"include_usage": True}}, **asked):
    pass
with suppress(openai.APITimeoutError):
    client.with_options(max_retries=0).chat.completions.create(**asked)
"""


def call_older_openai(server: ProviderServer, log: Path) -> None:
    """The release that litellm pins speaks through httpx, newer ones through httpx2: one hook serves both."""
    server.will_answer(OK, FAILURES[1], Answer(input_tokens=77, output_tokens=21), FAILURES[2])
    run_beside_litellm(OLDER_OPENAI_CALLS, server, log)


LITELLM_CALLS = """
import sys
from contextlib import suppress
import litellm
sys.path.insert(0, {hooks!r})
from pathlib import Path
import litellm_hook
litellm_hook.LOG = Path({log!r})
litellm.callbacks = [litellm_hook.line_logger]
litellm.suppress_debug_info = True
asked = dict(messages=[{{"role": "user", "content": {prompt!r}}}], api_key={secret!r}, num_retries=0, max_retries=0, timeout=2)
litellm.completion(model="openai/gpt-4o-mini", api_base={url!r} + "/v1", **asked)
for _ in litellm.completion(
    model="openai/gpt-4o", api_base={url!r} + "/v1", stream=True, stream_options={{"include_usage": True}}, **asked
):
    pass
litellm.completion(model="anthropic/claude-3-5-haiku-20241022", api_base={url!r}, max_tokens=50, **asked)
for _ in range(3):
    with suppress(Exception):
        litellm.completion(model="openai/gpt-4o", api_base={url!r} + "/v1", **asked)
from litellm.litellm_core_utils.thread_pool_executor import executor
executor.shutdown(wait=True)
"""


def call_litellm(server: ProviderServer, log: Path) -> None:
    server.will_answer(
        OK,
        Answer(input_tokens=77, output_tokens=21, cache_read_tokens=32),
        Answer(input_tokens=400, output_tokens=90, cache_read_tokens=100),
        *FAILURES,
    )
    run_beside_litellm(LITELLM_CALLS, server, log)


def run_beside_litellm(calls: str, server: ProviderServer, log: Path) -> None:
    program = calls.format(
        hooks=str(HOOKS), log=str(log), url=server.url, prompt=PROMPT, secret=SECRET
    )
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PATH": "/usr/bin:/bin",
        "HOME": str(log.parent),
    }
    result = subprocess.run(
        [LITELLM_PYTHON, "-c", program],
        capture_output=True,
        text=True,
        timeout=180,
        env=environment,
    )
    assert result.returncode == 0, result.stderr[-2000:]


needs_litellm = pytest.mark.skipif(
    subprocess.run([LITELLM_PYTHON, "-c", "import litellm"], capture_output=True).returncode != 0
    if LITELLM_PYTHON.exists()
    else True,
    reason="litellm is not installed in .venv-litellm (make .venv-litellm/.done)",
)


@needs_prometheus
@pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")  # what it cost is known for good
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(call_openai, id="openai"),
        pytest.param(call_openai_async, id="openai, async"),
        pytest.param(call_older_openai, id="openai, older", marks=needs_litellm),
        pytest.param(call_anthropic, id="anthropic"),
        pytest.param(call_anthropic_async, id="anthropic, async"),
        pytest.param(call_litellm, id="litellm", marks=needs_litellm),
    ],
)
def test_prometheus_tells_exactly_what_a_real_client_sent(call: Any, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "calls.jsonl"
    log.parent.mkdir()
    with (
        ProviderServer() as server,
        sidecar_process(log.parent, "--poll-interval", "0.1") as sidecar,
        Prometheus(tmp_path, [sidecar.target]) as prometheus,
    ):
        call(server, log)
        due = expected(server.ledger)
        prometheus.wait_for_scrapes(3)

        assert asked_of(prometheus) == rounded(due)
        assert {
            sample.labels["error_type"] for sample in prometheus.query("ai_api_errors_total > 0")
        } == {sent.answer.error_type for sent in server.ledger if sent.answer.error_type}

    written = log.read_text()
    assert [word for word in (SECRET, PROMPT, ANSWER_TEXT) if word in written] == []
    assert written.count("\n") == len(server.ledger)


def test_the_fifteen_lines_of_the_readme_log_what_real_clients_sent(tmp_path: Path) -> None:
    openai = pytest.importorskip("openai", reason="the openai package is not installed")
    anthropic = pytest.importorskip("anthropic", reason="the anthropic package is not installed")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    [program] = [block for block in blocks if "def log_call(" in block]
    names: dict[str, Any] = {}
    exec(program, names)  # what a reader would paste
    log_call, log = names["log_call"], tmp_path / "calls.jsonl"
    messages = [{"role": "user", "content": PROMPT}]

    with ProviderServer() as server:
        server.will_answer(OK, FAILURES[0], Answer(input_tokens=90, cache_read_tokens=40))
        with openai.OpenAI(api_key=SECRET, base_url=server.url + "/v1", max_retries=0) as client:
            create = client.chat.completions.create
            log_call(log, "openai", create, model="gpt-4o", messages=messages)
            with pytest.raises(openai.RateLimitError):
                log_call(log, "openai", create, model="gpt-4o", messages=messages)
        with anthropic.Anthropic(api_key=SECRET, base_url=server.url, max_retries=0) as client:
            asked = {"model": "claude-3-5-haiku-20241022", "messages": messages, "max_tokens": 9}
            log_call(log, "anthropic", client.messages.create, **asked)
        due = expected(server.ledger)
    result = subprocess.run(
        [sys.executable, "-m", "sidecar", "--log-path", log, "--once"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    rows, _ = read_page(result.stdout)

    for model, figures in due.items():
        assert rows[model].requests == figures["requests"]
        assert rows[model].errors == figures.get("errors", 0)
        assert rows[model].input_tokens == figures["input"]
        assert rows[model].output_tokens == figures.get("output", 0)
        assert rows[model].cost_usd_cents == pytest.approx(float(figures["cents"]), rel=1e-12)
    assert PROMPT not in log.read_text()
