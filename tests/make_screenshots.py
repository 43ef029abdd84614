"""Write docs/page-light.png and docs/page-dark.png: the real page, on an hour of a made-up log.

    python tests/make_screenshots.py

Needs Debian's chromium. The hour is read in a second: its clock is given.
"""

from __future__ import annotations

import io
import json
import math
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from browser import chromium

from sidecar import page
from sidecar.config import Config
from sidecar.daemon import Sidecar
from sidecar.server import Server

DOCS = Path(__file__).parent.parent / "docs"
SIZE = (1120, 925)
SECONDS = 3600

# provider, model, seconds, input tokens, output tokens, how often
MODELS = (
    ("openai", "gpt-4.1-mini", 1.1, 900, 120, 10),
    ("anthropic", "claude-sonnet-4-5", 3.2, 4200, 420, 6),
    ("gcp.gemini", "gemini-2.5-flash", 0.8, 2100, 160, 8),
    ("mistral_ai", "mistral-small-latest", 0.9, 700, 140, 3),
    ("acme", "acme-large", 1.9, 1500, 240, 1),
)


def line(dice: random.Random, now: float) -> str:
    """Make up one line that was written at this moment."""
    provider, model, seconds, tokens_in, tokens_out, _ = dice.choices(
        MODELS, [model[-1] for model in MODELS]
    )[0]
    took_ms = seconds * 1000 * dice.lognormvariate(0, 0.45)
    document: dict[str, object] = {
        "ts": now,
        "provider": provider,
        "model": model,
        "endpoint": "/v1/chat/completions",
        "status_code": 200,
        "latency_ms": round(took_ms),
    }
    if dice.random() < 0.02:
        document |= {"status_code": 429, "error": {"type": "rate_limit_error"}, "latency_ms": 80}
    else:
        document["ttft_ms"] = round(min(took_ms, 320 * dice.lognormvariate(0, 0.35)))
        document["usage"] = {
            "prompt_tokens": round(tokens_in * dice.lognormvariate(0, 0.4)),
            "completion_tokens": round(tokens_out * dice.lognormvariate(0, 0.4)),
        }
    return json.dumps(document)


def live_an_hour(sidecar: Sidecar, end: float) -> bytes:
    """Write and read an hour of requests; give what the page draws at its end."""
    dice = random.Random(7)
    start = end - SECONDS
    logs = {"shop.jsonl": io.StringIO(), "search.jsonl": io.StringIO()}
    sidecar.history.begin(start)
    sidecar.follower.look(0.0)
    for second in range(SECONDS):
        sidecar.history.tick(start + second)
        # busier in the middle of the hour, and a deployment in which nothing happens
        busy = 0.25 + 0.2 * math.sin(second / 500) + 0.12 * math.sin(second / 67)
        while dice.random() < max(0.0, busy) and not 2500 < second < 2590:
            name = dice.choice(list(logs))
            logs[name].write(line(dice, start + second) + "\n")
        if second % 25 == 0:
            logs["shop.jsonl"].write('{"level": "info", "msg": "cart saved"}\n')
        for name, lines in logs.items():
            with Path("logs", name).open("a") as log:
                log.write(lines.getvalue())
            lines.seek(0)
            lines.truncate()
        sidecar.follower.look(float(second))
        while sidecar.step():
            pass
    return sidecar.status(float(SECONDS), start - 15 * 3600)


@contextmanager
def serving(status: bytes) -> Iterator[str]:
    """Serve the page with these figures; give where."""
    woken = threading.Event()
    is_over = False

    def fine() -> tuple[int, bytes]:
        return 200, b"{}"

    server = Server(
        "127.0.0.1", 0, wake=woken.set, health=fine, ready=fine, still={"/": page.load()}
    )

    def answer() -> None:
        while not is_over:
            woken.wait()
            woken.clear()
            server.answer(server.take_asks(), 200, status, "application/json")

    server.bind()
    server.start()
    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}/"
    finally:
        is_over = True
        woken.set()
        thread.join()
        server.stop(1.0)


def main() -> None:
    DOCS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, chdir(directory):
        Path("logs").mkdir()
        status = live_an_hour(Sidecar(Config(log_paths=("logs",)), version="0.1.0"), time.time())
    with serving(status) as url, chromium() as browser:
        for scheme in ("light", "dark"):
            tab = browser.new_page(
                color_scheme=scheme,
                viewport={"width": SIZE[0], "height": SIZE[1]},
            )
            tab.goto(url)
            tab.wait_for_selector("body[data-state=live]")
            path = DOCS / f"page-{scheme}.png"
            tab.screenshot(path=path)
            print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
