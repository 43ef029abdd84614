"""Stands for your program: writes a line for each call to a model, as its logger would.

It rotates its log by itself, since the volume is bounded and nobody else does.
"""

import json
import logging
import logging.handlers
import sys
import time
from datetime import UTC, datetime
from random import Random

MODELS = ("gpt-4.1", "claude-sonnet-4.5", "gemini-2.5-flash", "deepseek-v3.2")
PAUSE_SECONDS = 0.5


def call(random: Random) -> dict[str, object]:
    """Give what a logger would write about one call."""
    has_failed = random.random() < 0.05
    return {
        "ts": datetime.now(UTC).isoformat(),
        "provider": "holysheep",
        "model": random.choice(MODELS),
        "endpoint": "/v1/chat/completions",
        "status_code": 429 if has_failed else 200,
        "latency_ms": 30 if has_failed else round(random.lognormvariate(6.5, 0.6)),
        "usage": {
            "prompt_tokens": 0 if has_failed else random.randint(50, 2000),
            "completion_tokens": 0 if has_failed else random.randint(10, 500),
        },
    }


def main(path: str) -> None:
    """Write to `path` for ever."""
    # three files of 8 MiB at the most: well below the volume's sizeLimit
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=8 << 20, backupCount=2)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("calls")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    random = Random()  # noqa: S311 - made-up calls need no secret dice
    while True:
        log.info(json.dumps(call(random)))
        time.sleep(PAUSE_SECONDS)


main(sys.argv[1])
