"""Log one JSON line for each HTTP attempt of an `openai` client; no prompt, answer or key is in it."""

import json
import re
import time
from contextlib import suppress
from pathlib import Path

from openai import DefaultAsyncHttpxClient, DefaultHttpxClient

LOG = Path("/var/log/app/openai.jsonl")


class Line(dict):
    """One attempt, written when its block ends: answered in full, read as far as wanted, or failed."""

    def __init__(self, request):
        self.start, self.body = time.monotonic(), bytearray()
        self.update(provider="openai", endpoint=request.url.path, status_code=0)
        with suppress(Exception):  # an upload has no JSON
            self["model"] = json.loads(request.content)["model"]

    def answered(self, response):
        self["status_code"] = response.status_code
        for what in ("requests", "tokens"):
            left = response.headers.get(f"x-ratelimit-remaining-{what}")
            self[f"rate_limit_remaining_{what}"] = left
        return response

    def fed(self, chunk):
        if b'delta"' in chunk:
            self.setdefault("ttft_ms", (time.monotonic() - self.start) * 1000)
        self["latency_ms"] = (time.monotonic() - self.start) * 1000
        self.body += chunk
        return chunk

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        with suppress(Exception):  # a proxy's page, or half an answer
            for text in re.findall(rb"^data: ?(\{.*)", self.body, re.M) or [self.body]:
                self.learn(json.loads(text))
        if kind and kind is not GeneratorExit:
            self["latency_ms"] = (time.monotonic() - self.start) * 1000
            self["error"] = {"type": kind.__name__}
        self["ts"] = time.time()
        with LOG.open("a") as log:
            log.write(json.dumps(self) + "\n")

    def learn(self, event):
        answer = event.get("response") or event
        error = answer.get("error") or (event if event.get("type") == "error" else None)
        choice = next(iter(answer.get("choices") or []), {})
        ended = (answer.get("incomplete_details") or {}).get("reason") or answer.get("status")
        self["model"] = answer.get("model") or self.get("model")
        self["usage"] = answer.get("usage") or self.get("usage")
        self["finish_reason"] = choice.get("finish_reason") or self.get("finish_reason")
        if self["usage"] and ended:  # the responses API
            self["finish_reason"] = ended
        if error:
            self["error"] = {"type": error.get("type"), "code": error.get("code")}


class LoggedClient(DefaultHttpxClient):
    def send(self, request, *, stream=False, **options):
        attempt = self.attempt(request, options)
        response = next(attempt)
        response.iter_bytes = lambda *_: vars(response).pop("iter_bytes") and attempt
        if not stream or response.is_error:
            response.read()
        return response

    def attempt(self, request, options):
        with Line(request) as line:
            response = super().send(request, stream=True, **options)
            chunks = response.iter_bytes()
            yield line.answered(response)
            for chunk in chunks:
                yield line.fed(chunk)


class LoggedAsyncClient(DefaultAsyncHttpxClient):
    async def send(self, request, *, stream=False, **options):
        attempt = self.attempt(request, options)
        response = await anext(attempt)
        response.aiter_bytes = lambda *_: vars(response).pop("aiter_bytes") and attempt
        if not stream or response.is_error:
            await response.aread()
        return response

    async def attempt(self, request, options):
        with Line(request) as line:
            response = await super().send(request, stream=True, **options)
            chunks = response.aiter_bytes()
            yield line.answered(response)
            async for chunk in chunks:
                yield line.fed(chunk)
