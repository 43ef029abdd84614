"""One finished request to a model, and what a parser is: the values everything revolves around."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import cache
from typing import Any, Protocol

import msgspec

Record = dict[str, Any]
"""One decoded JSON object of a log."""

Memory = dict[str, Any]
"""What a parser remembers between the records of one file: JSON values, small, saved with the position."""


class ParseError(ValueError):
    """Raise from a parser: the record is in my format, but broken. The message never quotes the record."""


class Request(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """One finished request to a model, in OpenTelemetry's words; `None` is not known, 0 is known to be zero.

    A msgspec Struct, since one is made for each line: it costs a twentieth of a frozen dataclass.
    """

    provider: str = "unknown"
    """Lower case; OpenTelemetry's value where it has one (`openai`, `aws.bedrock`, `gcp.gemini`), else as logged."""
    model: str = "unknown"
    """The model that answered, else the one asked for."""
    request_model: str | None = None
    """The model asked for, where the log tells it beside another one that answered."""
    endpoint: str = "unknown"
    """The API path in a closed form (`/chat/completions`), or the operation (`chat`) where the log has only that."""
    status_code: str = "200"
    """The HTTP status as text; `200` for a success without one, `0` for a failure without an answer."""
    error_type: str | None = None
    """`None` on success; on a failure one of `fields.ERROR_TYPES`."""
    duration_seconds: float | None = None
    time_to_first_token_seconds: float | None = None
    input_tokens: int | None = None
    """All input tokens, those read from and written to a cache among them."""
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    """All tokens written to a cache, those kept for an hour among them."""
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    """All output tokens, reasoning among them."""
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    cost_usd: Decimal | float | None = None
    """As the log tells it; a float stands for the decimal that it is written as (`0.1` is a tenth)."""
    finish_reason: str | None = None
    """`stop`, `length`, `tool_calls`, `content_filter`, `error` or `other`."""
    rate_limit_remaining_requests: int | None = None
    rate_limit_remaining_tokens: int | None = None
    service_tier: str | None = None
    """`batch`, `flex` or `priority`, where that has a price of its own; `None` for the usual one."""
    batch_size: int | None = None
    """Requests (or inputs) sent as one batch."""
    timestamp: float | None = None
    """When it ended, Unix seconds."""
    trace_id: str | None = None
    served_from_cache: bool = False
    """The client answered from its own response cache: a request, but no tokens and no cost of the provider."""
    id: str | None = None
    """Set where a format tells one request on several lines or copies it to another file."""
    final: bool = True
    """False where a later line with this id may still correct it; the last one wins."""


_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("provider", "model", "endpoint", "status_code"), (str,)),
    **dict.fromkeys(
        ("request_model", "error_type", "finish_reason", "service_tier", "trace_id", "id"),
        (str, type(None)),
    ),
    **dict.fromkeys(
        ("duration_seconds", "time_to_first_token_seconds", "timestamp"), (float, int, type(None))
    ),
    "cost_usd": (Decimal, float, int, type(None)),
    **dict.fromkeys(("served_from_cache", "final"), (bool,)),
}


_NUMBERS = (int, float)


def checked(requests: Sequence[Request]) -> Sequence[Request]:
    """Give the requests of a parser that is not ours; TypeError names the field that is not what it should be."""
    is_sound = _sound_test()
    for request in requests:
        if type(request) is not Request:
            raise TypeError(f"expected a Request, got {type(request).__name__}")
        if is_sound(request):
            continue
        for name in Request.__struct_fields__:
            value, allowed = getattr(request, name), _allowed(name)
            if type(value) not in allowed:
                raise TypeError(
                    f"{name}: expected {' or '.join([one.__name__ for one in allowed])}, "
                    f"got {type(value).__name__}"
                )
            if type(value) in _NUMBERS and not 0 <= value < 2**63:
                raise TypeError(f"{name}: expected a number that is not negative and under 2**63")
    return requests


def _allowed(name: str) -> tuple[type, ...]:
    return _TYPES.get(name, (int, type(None)))


@cache
def _sound_test() -> Callable[[Request], bool]:
    """Write what tells, in half the time that a loop over the fields takes, whether all are what they should be."""
    lines = ["def is_sound(request):"]
    for name in Request.__struct_fields__:
        allowed = _allowed(name)
        tests = [f"type(v) is {kind.__name__}" for kind in (str, bool, Decimal) if kind in allowed]
        numbers = [f"type(v) is {kind.__name__}" for kind in _NUMBERS if kind in allowed]
        if numbers:
            tests.append(f"({' or '.join(numbers)}) and 0 <= v < {2**63}")
        # most are not told
        lines += [
            f"  if request.{name} is not None:" if type(None) in allowed else "  if True:",
            f"    v = request.{name}",
            f"    if not ({' or '.join(tests)}): return False",
        ]
    names: dict[str, Any] = {"Decimal": Decimal}
    exec("\n".join([*lines, "  return True"]), names)  # noqa: S102 - our own words
    found: Callable[[Request], bool] = names["is_sound"]
    return found


class Parser(Protocol):
    """A function from a record to the requests that finished in it.

    `None`: not my format, ask the next. A sequence, an empty one too: mine. `ParseError`: mine, but broken.
    """

    def __call__(self, record: Record, memory: Memory, /) -> Sequence[Request] | None: ...
