"""A day of made-up traffic: as OpenMetrics text with timestamps, and as the plain events that it was made of.

The page is written from running counts, as a sidecar would have shown them. What a test expects is computed from
the events, by other means: it never reads the text.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

START = 1_767_225_600
"""2026-01-01T00:00:00Z."""
STEP_SECONDS = 120
HOURS = 27
"""A day, and three hours for what compares with a day ago."""
END = START + HOURS * 3600
DAY = 86_400

DURATION_MS = (10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 120000, 300000)
FIRST_TOKEN_MS = (50, 100, 250, 500, 750, 1000, 2500, 5000, 10000, 30000, 60000)
PER_TOKEN_MS = (1, 2.5, 5, 10, 25, 50, 75, 100, 150, 250, 500, 1000)
BATCH_SIZES = (1, 5, 10, 25, 50, 100, 500, 1000)
SECONDS = tuple(0.01 * 2**n for n in range(16))
TOKENS = tuple(float(4**n) for n in range(14))

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who asks which model, and what a million tokens of it cost in US dollars."""

    pod: str
    provider: str
    model: str
    input_usd: Fraction | None
    """`None`: no price is known."""
    output_usd: Fraction = Fraction(0)
    cache_read_usd: Fraction = Fraction(0)
    cache_write_usd: Fraction = Fraction(0)


CLIENTS = (
    Client(
        pod="app-a",
        provider="openai",
        model="gpt-4.1",
        input_usd=Fraction(2),
        output_usd=Fraction(8),
        cache_read_usd=Fraction(1, 2),
    ),
    Client(
        pod="app-a",
        provider="anthropic",
        model="claude-sonnet-4.5",
        input_usd=Fraction(3),
        output_usd=Fraction(15),
        cache_read_usd=Fraction(3, 10),
        cache_write_usd=Fraction(15, 4),
    ),
    Client(
        pod="app-b",
        provider="holysheep",
        model="deepseek-v3.2",
        input_usd=Fraction(42, 100),
        output_usd=Fraction(42, 100),
    ),
    Client(pod="app-b", provider="acme", model="mystery", input_usd=None),
)
PODS = ("app-a", "app-b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One request that ended."""

    client: Client
    at: int
    status: int
    error_type: str | None
    duration_ms: int
    first_token_ms: int | None
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    finish_reason: str | None
    batch_size: int | None
    is_client_cache_hit: bool

    @property
    def per_token_ms(self) -> Fraction | None:
        """The time for each output token after the first."""
        if self.first_token_ms is None or self.output_tokens < 2:
            return None
        return Fraction(self.duration_ms - self.first_token_ms, self.output_tokens - 1)

    @property
    def costs_usd(self) -> dict[str, Fraction]:
        """By kind of token, what is known of it."""
        client = self.client
        if client.input_usd is None:
            return {}
        uncached = self.input_tokens - self.cache_read_tokens - self.cache_write_tokens
        by_kind = {
            "input": uncached * client.input_usd,
            "output": self.output_tokens * client.output_usd,
            "cache_read": self.cache_read_tokens * client.cache_read_usd,
            "cache_write": self.cache_write_tokens * client.cache_write_usd,
        }
        return {kind: usd / 1_000_000 for kind, usd in by_kind.items() if usd}


def is_within(at: int, begin_hour: float, end_hour: float) -> bool:
    """Tell whether a moment is in the given hours of the day."""
    return START + begin_hour * 3600 < at <= START + end_hour * 3600


def events(seed: int = 6) -> list[Event]:
    """Make every request of the day in the order of time, with a misfortune for each alert."""
    chosen = random.Random(seed)
    made = []
    for at in range(START + STEP_SECONDS, END + 1, STEP_SECONDS):
        for client in CLIENTS:
            made += [_event(chosen, client, at) for _ in range(chosen.randint(4, 8))]
    return made


def _event(chosen: random.Random, client: Client, at: int) -> Event:
    fails = chosen.random() < 0.002
    error_type: str | None = chosen.choice(["rate_limit", "invalid_request"])
    if client.provider == "anthropic" and is_within(at, 10, 12):  # an outage
        fails, error_type = chosen.random() < 0.5, "server"
    if fails:
        return Event(
            client=client,
            at=at,
            status={"rate_limit": 429, "invalid_request": 400}.get(error_type or "", 500),
            error_type=error_type,
            duration_ms=chosen.randint(15, 300),
            first_token_ms=None,
            input_tokens=0,
            cache_read_tokens=0,
            cache_write_tokens=0,
            output_tokens=0,
            reasoning_tokens=0,
            finish_reason=None,
            batch_size=None,
            is_client_cache_hit=False,
        )
    output = chosen.randint(2, 900)
    duration_ms = chosen.randint(300, 9_000)
    if client.provider == "openai" and is_within(at, 14, 16.5) and chosen.random() < 0.9:  # slow
        duration_ms = chosen.randint(31_000, 90_000)
    prompt = chosen.randint(200, 4_000)
    if client.provider == "anthropic" and is_within(at, 25, 27):  # a loop
        prompt *= 40
    is_hit = client.provider == "holysheep" and chosen.random() < 0.05
    if is_hit:
        prompt = output = 0
    read = prompt * chosen.randint(0, 7) // 10 if client.cache_read_usd else 0
    written = (prompt - read) * chosen.randint(0, 3) // 10 if client.cache_write_usd else 0
    is_cut = client.provider == "openai" and is_within(at, 20, 21.5) and chosen.random() < 0.4
    return Event(
        client=client,
        at=at,
        status=200,
        error_type=None,
        duration_ms=duration_ms,
        first_token_ms=chosen.randint(40, duration_ms) if client.pod == "app-a" else None,
        input_tokens=prompt,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=output * chosen.randint(0, 5) // 10 if client.pod == "app-a" else 0,
        finish_reason="length" if is_cut else "stop",
        batch_size=chosen.choice([1, 8, 40]) if client.provider == "holysheep" else None,
        is_client_cache_hit=is_hit,
    )


@dataclass(slots=True)
class Counts:
    """What a process shows: running sums of counters, and buckets of histograms."""

    exact: dict[tuple[str, Labels], Fraction] = field(default_factory=dict)
    histograms: dict[tuple[str, Labels], tuple[Sequence[float], list[int]]] = field(
        default_factory=dict
    )

    def add(self, name: str, labels: Mapping[str, str], amount: int | Fraction = 1) -> None:
        """Add to a counter; 0 makes it appear."""
        key = (name, tuple(labels.items()))
        self.exact[key] = self.exact.get(key, Fraction(0)) + amount

    def observe(
        self, name: str, bounds: Sequence[float], labels: Mapping[str, str], value: float | Fraction
    ) -> None:
        """Add an observation to a histogram."""
        key = (name, tuple(labels.items()))
        _, buckets = self.histograms.setdefault(key, (bounds, [0] * (len(bounds) + 1)))
        buckets[bisect_left(bounds, value)] += 1
        self.add(f"{name}_sum", labels, Fraction(value))

    def samples(self) -> Iterator[tuple[str, Labels, float]]:
        """Give every sample of a page."""
        for (name, labels), amount in self.exact.items():
            yield name, labels, float(amount)
        for (name, labels), (bounds, buckets) in self.histograms.items():
            running = 0
            for bound, count in zip((*map(float, bounds), "+Inf"), buckets, strict=True):
                running += count
                yield f"{name}_bucket", (*labels, ("le", str(bound))), running
            yield f"{name}_count", labels, running


def _count(counts: Counts, event: Event) -> None:
    client = event.client
    pm = {"provider": client.provider, "model": client.model}
    pme = {**pm, "endpoint": "/chat/completions"}
    counts.add("ai_api_requests_total", {**pme, "status_code": str(event.status)})
    counts.observe("ai_api_request_duration_milliseconds", DURATION_MS, pme, event.duration_ms)
    if event.first_token_ms is not None:
        counts.observe(
            "ai_api_time_to_first_token_milliseconds", FIRST_TOKEN_MS, pme, event.first_token_ms
        )
    if (per_token := event.per_token_ms) is not None:
        counts.observe("ai_api_time_per_output_token_milliseconds", PER_TOKEN_MS, pm, per_token)
    for kind in ("input", "output", "cache_read", "cache_write", "reasoning"):
        counts.add(f"ai_api_{kind}_tokens_total", pm, getattr(event, f"{kind}_tokens"))
    for kind, usd in event.costs_usd.items():
        counts.add("ai_api_cost_usd_cents_total", {**pm, "cost_type": kind}, usd * 100)
    if event.error_type is not None:
        counts.add("ai_api_errors_total", {**pm, "error_type": event.error_type})
    if event.finish_reason is not None:
        counts.add("ai_api_finish_reasons_total", {**pm, "finish_reason": event.finish_reason})
    if client.input_usd is None and event.input_tokens:
        counts.add("ai_api_unpriced_requests_total", pm)
    if event.is_client_cache_hit:
        counts.add("ai_api_client_cache_hits_total", pm)
    if event.batch_size is not None:
        counts.observe("ai_api_batch_size", BATCH_SIZES, pm, event.batch_size)
    counts.add("ai_sidecar_lines_total", {"result": "request"})
    counts.add("ai_sidecar_requests_total", {"parser": "generic"})
    counts.add("ai_sidecar_read_bytes_total", {}, 400)
    if client.provider == "openai":
        _count_gen_ai(counts, event)


def _count_gen_ai(counts: Counts, event: Event) -> None:
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": event.client.provider,
        "gen_ai_request_model": event.client.model,
        "gen_ai_response_model": event.client.model,
    }
    of_error = {"error_type": event.error_type} if event.error_type else {}
    counts.observe(
        "gen_ai_client_operation_duration_seconds",
        SECONDS,
        labels | of_error,
        event.duration_ms / 1000,
    )
    if event.first_token_ms is not None:
        counts.observe(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            SECONDS,
            labels,
            event.first_token_ms / 1000,
        )
    for kind in ("input", "output"):
        if tokens := getattr(event, f"{kind}_tokens"):
            counts.observe(
                "gen_ai_client_token_usage", TOKENS, {**labels, "gen_ai_token_type": kind}, tokens
            )
    if usd := sum(event.costs_usd.values()):
        counts.add("gen_ai_client_cost_usd_total", labels, usd)


def _gauges(pod: str, at: int, models: Iterable[Client]) -> Iterator[tuple[str, Labels, float]]:
    """Give what a page shows beside its counters, with the misfortunes of the day."""
    is_a = pod == "app-a"
    for client in models:
        pm = (("provider", client.provider), ("model", client.model))
        yield "ai_api_last_request_timestamp_seconds", pm, at
        yield "ai_api_rate_limit_remaining", pm, 10 if is_a and is_within(at, 18, 19) else 400
        left = 900 if is_a and is_within(at, 18, 19) else 90_000
        yield "ai_api_rate_limit_remaining_tokens", pm, left
    yield "ai_sidecar_build_info", (("version", "0.1.0"),), 1
    yield "ai_sidecar_lag_bytes", (), 50e6 if is_a and is_within(at, 7, 8) else 120
    yield "ai_sidecar_files", (), 3
    yield "ai_sidecar_held_files", (), 1
    yield "ai_sidecar_unreadable_files", (), 1 if is_a and is_within(at, 9, 9.5) else 0
    yield "ai_sidecar_series", (), 12
    yield "ai_sidecar_state_last_save_timestamp_seconds", (), at - 3
    yield "ai_sidecar_prices_timestamp_seconds", (), START - (30 if is_a else 100) * DAY
    yield (
        "process_start_time_seconds",
        (),
        RESTART - 20 if at >= RESTART and not is_a else START - 7,
    )
    yield "process_resident_memory_bytes", (), 45e6
    yield "process_virtual_memory_bytes", (), 200e6
    yield "process_open_fds", (), 17
    yield "process_max_fds", (), 1024


def _of_itself(counts: Counts, pod: str, at: int) -> None:
    """Count what a sidecar does beside requests."""
    is_a = pod == "app-a"
    counts.add("process_cpu_seconds_total", {}, Fraction(1, 2))
    for result in ("malformed", "ignored", "not_json"):
        is_broken = result == "malformed" and not is_a and is_within(at, 9, 10)
        counts.add("ai_sidecar_lines_total", {"result": result}, 5 if is_broken else 0)
    fails = not is_a and is_within(at, 8, 8.5)
    counts.add("ai_sidecar_state_saves_total", {"result": "failure"}, 4 if fails else 0)
    counts.add("ai_sidecar_state_saves_total", {"result": "success"}, 0 if fails else 24)
    for result in ("success", "failure"):
        counts.add("ai_sidecar_pushes_total", {"result": result}, 0)
    for kind in ("rename", "truncate", "missed"):
        counts.add("ai_sidecar_rotations_total", {"kind": kind}, int(at % 3600 == 0))
    overflows = is_a and is_within(at, 12, 13)
    counts.add("ai_sidecar_series_overflow_total", {}, 2 if overflows else 0)


RESTART = START + int(6.5 * 3600)
"""When the sidecar of app-b starts again without its state: its counters begin at 0."""


def is_scraped(pod: str, at: int) -> bool:
    """Tell whether Prometheus got a page: app-b is down for a while, later the network is."""
    return not is_within(at, 22, 22.5) and not (pod == "app-b" and is_within(at, 5, 5.5))


def _zero_first(
    samples: Iterable[tuple[str, Labels, float]], shown: set[tuple[str, Labels]], is_first: bool
) -> Iterator[tuple[str, Labels, float]]:
    """Show what is new as 0 once, as a sidecar does from its second page on."""
    for name, labels, value in samples:
        is_new = (name, labels) not in shown
        shown.add((name, labels))
        yield name, labels, 0.0 if is_new and not is_first else value


def _line(name: str, labels: Labels, pod: str, value: float, at: int) -> str:
    target = (
        ("job", "ai-sidecar"),
        ("instance", f"{pod}:9464"),
        ("namespace", "prod"),
        ("pod", pod),
    )
    inside = ",".join(f'{label}="{text}"' for label, text in (*target, *labels))
    return f"{name}{{{inside}}} {value!r} {at}\n"


def openmetrics(happened: Sequence[Event], emit: Callable[[str], object]) -> None:
    """Write what was scraped in the day, a step at a time, for `promtool tsdb create-blocks-from openmetrics`."""
    counts = {pod: Counts() for pod in PODS}
    shown: dict[str, set[tuple[str, Labels]]] = {pod: set() for pod in PODS}
    models = {pod: [client for client in CLIENTS if client.pod == pod] for pod in PODS}
    place = 0
    for at in range(START, END + 1, STEP_SECONDS):
        if at == RESTART:
            counts["app-b"], shown["app-b"] = Counts(), set()
        while place < len(happened) and happened[place].at <= at:
            _count(counts[happened[place].client.pod], happened[place])
            place += 1
        for pod in PODS:
            _of_itself(counts[pod], pod, at)
            emit(_line("up", (), pod, int(is_scraped(pod, at)), at))
            if is_scraped(pod, at):
                page = _zero_first(counts[pod].samples(), shown[pod], not shown[pod])
                for name, labels, value in page:
                    emit(_line(name, labels, pod, value, at))
                for name, labels, value in _gauges(pod, at, models[pod]):
                    emit(_line(name, labels, pod, value, at))
    emit("# EOF\n")


def bucket_quantile(q: float, bounds: Sequence[float], values: Iterable[float | Fraction]) -> float:
    """Give the quantile that is left of values when only their buckets are known, interpolated in a straight line."""
    places = Counter(sum(bound < value for bound in bounds) for value in values)
    rank = Fraction(q).limit_denominator(100) * places.total()
    below = 0
    for place in range(len(bounds)):
        if below + places[place] >= rank:
            lower = bounds[place - 1] if place else 0
            return float(lower + Fraction(bounds[place] - lower) * (rank - below) / places[place])
        below += places[place]
    return bounds[-1]
