"""Reading values: counts, times, durations, closed names, classes of errors."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import fields

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
READERS = [
    fields.count,
    fields.number,
    fields.duration,
    fields.timestamp,
    fields.cost,
    fields.cents,
    fields.text,
    fields.flag,
    fields.size,
    fields.model,
    fields.model_in_path,
    fields.provider,
    fields.known_provider,
    fields.host_provider,
    fields.endpoint,
    fields.model_endpoint,
    fields.status,
    fields.outcome,
    fields.finish_reason,
    fields.failure,
    fields.error_type,
]


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@given(value=JSON)
def test_no_reader_raises_for_any_json_value(read: Any, value: Any) -> None:
    read(value)


@given(value=JSON, status=JSON)
def test_a_failure_is_always_of_a_known_class(value: Any, status: Any) -> None:
    assert fields.error_type(status, value) in fields.ERROR_TYPES


@given(value=JSON, path=st.text(alphabet="ab.0", max_size=6))
def test_a_path_never_raises(value: Any, path: str) -> None:
    fields.get({"a": value, "b": [value]}, path)


def test_a_path_goes_through_objects_arrays_and_keys_with_dots() -> None:
    record = {"a": {"b": [{"c": 1}, {"c": 2}]}, "gen_ai.usage.input": 3, "x": {"y.z": 4}}

    found = [
        fields.get(record, path)
        for path in ("a.b.1.c", "gen_ai.usage.input", "x.y.z", "a.b.9.c", "a.c")
    ]

    assert found == [2, 3, 4, None, None]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        (0, 0),
        (5.0, 5),
        ("42", 42),
        (True, None),
        (-1, None),
        (1.5, None),
        ("1e3", None),
        ("", None),
        (2**53, None),
        (1e300, None),
        (None, None),
        ([1], None),
    ],
)
def test_a_count_is_a_whole_number_not_below_zero(value: Any, expected: int | None) -> None:
    assert fields.count(value) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (812.4, "ms", 0.8124),
        (812, "ms", 0.812),
        ("812.4", "ms", 0.8124),
        (3, "s", 3.0),
        (3_699_126_583, "ns", 3.699126583),
        (1500, "us", 0.0015),
        ("2s", "ms", 2.0),
        (-1, "ms", None),
        (True, "ms", None),
        (1e30, "s", None),
        ("-", "s", None),
    ],
)
def test_a_duration_is_read_in_its_unit(value: Any, unit: str, expected: float | None) -> None:
    assert fields.seconds(value, unit) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1.5s", 1.5),
        ("812ms", 0.812),
        ("1m30s", 90.0),
        ("250µs", 0.00025),
        ("1h", 3600.0),
        ("3", None),
        (3, None),
    ],
)
def test_a_text_may_tell_its_own_unit_and_a_bare_number_never_does(
    value: Any, expected: float | None
) -> None:
    assert (
        fields.duration(value) == pytest.approx(expected)
        if expected
        else fields.duration(value) is None
    )


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-01T00:00:00.500Z",
        "2026-01-01T00:00:00.500000000Z",
        "2026-01-01T01:00:00.5+01:00",
        "2026-01-01 00:00:00,500",
        "2026-01-01T00:00:00.5",
        1767225600.5,
        1767225600500,
        1767225600500000,
        1767225600500000000,
        "1767225600.5",
    ],
)
def test_every_spelling_of_a_time_is_the_same_time(value: Any) -> None:
    assert fields.timestamp(value) == 1767225600.5


@pytest.mark.parametrize(
    "value",
    [
        "",
        "now",
        "2026-13-01T00:00:00Z",
        "2026-01-01T00:00:99Z",
        "0001-01-01T00:00:00Z",
        12,
        -1,
        True,
        1e30,
    ],
)
def test_what_is_no_time_is_none(value: Any) -> None:
    assert fields.timestamp(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1, 0.1),
        ("0.1", Decimal("0.1")),
        ("$0.25", Decimal("0.25")),
        (2, Decimal(2)),
        (-1.0, None),
        (float("inf"), None),
        ("nan", None),
        (True, None),
    ],
)
def test_a_cost_is_kept_as_written(value: Any, expected: Any) -> None:
    assert fields.cost(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("OpenAI", "openai"),
        ("bedrock", "aws.bedrock"),
        ("aws-bedrock", "aws.bedrock"),
        ("azure", "azure.ai.openai"),
        ("Azure OpenAI", "azure.ai.openai"),
        ("google", "gcp.gemini"),
        ("gemini", "gcp.gemini"),
        ("vertex_ai", "gcp.vertex_ai"),
        ("mistral", "mistral_ai"),
        ("xai", "x_ai"),
        ("gcp.gemini", "gcp.gemini"),
        ("My-Gateway", "my-gateway"),
        ("", None),
    ],
)
def test_a_provider_has_one_name(value: str, expected: str | None) -> None:
    assert fields.provider(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("api.openai.com", "openai"),
        ("https://res.openai.azure.com/openai/deployments/x", "azure.ai.openai"),
        ("us-central1-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("generativelanguage.googleapis.com", "gcp.gemini"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "aws.bedrock"),
        ("127.0.0.1:11434", "ollama"),
        ("openrouter.ai", "openrouter"),
        ("evil-api.openai.com.example.org", None),
        ("pod-1", None),
    ],
)
def test_a_host_tells_its_provider(value: str, expected: str | None) -> None:
    assert fields.host_provider(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/v1/chat/completions", "/chat/completions"),
        ("https://api.openai.com/v1/responses?x=1", "/responses"),
        (
            "/openai/deployments/my-gpt-4/chat/completions?api-version=2024-06-01",
            "/chat/completions",
        ),
        ("/v1beta/models/gemini-2.0-flash:generateContent", "/generateContent"),
        (
            "/v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent",
            "/streamGenerateContent",
        ),
        ("/model/amazon.nova-micro-v1%3A0/converse", "/converse"),
        ("/model/amazon.nova-micro-v1:0/invoke", "/invoke"),
        ("/api/v1/chat/completions", "/chat/completions"),
        ("/v1/threads/thread_abc123/messages", "/threads/messages"),
        ("/v1/responses/resp_0d6d73520bd9405c", "/responses"),
        ("/users/8f14e45f-ceea-467f-a0e6-1d2e3f4a5b6c/items/42", "/users/items"),
        ("POST /v1/messages", "/messages"),
        ("/api/chat", "/api/chat"),
        ("chat", "chat"),
        ("chat.completions", "chat.completions"),
        ("POST", None),
        ("/", None),
        ("free text about it", None),
        (7, None),
    ],
)
def test_an_endpoint_is_of_a_closed_form(value: Any, expected: str | None) -> None:
    assert fields.endpoint(value) == expected


@given(ids=st.lists(st.uuids() | st.integers(min_value=0), max_size=3))
def test_ids_never_come_into_an_endpoint(ids: list[Any]) -> None:
    path = "/v1/items" + "".join(f"/{one}/part" for one in ids)

    assert fields.endpoint(path) == "/items" + "/part" * len(ids)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("models/gemini-2.0-flash", "gemini-2.0-flash"),
        (
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-v2",
            "us.anthropic.claude-v2",
        ),
        ("openai/gpt-4o", "openai/gpt-4o"),
        (" ", None),
        (3, None),
        ({"name": "x"}, None),
    ],
)
def test_a_model_is_named_without_what_is_before_it(value: Any, expected: str | None) -> None:
    assert fields.model(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/model/amazon.nova-micro-v1%3A0/invoke", "amazon.nova-micro-v1:0"),
        ("/v1beta/models/gemini-2.5-pro:generateContent", "gemini-2.5-pro"),
        ("/openai/deployments/prod/chat/completions?api-version=1", "prod"),
        ("/v1/chat/completions", None),
    ],
)
def test_some_paths_name_the_model(value: str, expected: str | None) -> None:
    assert fields.model_in_path(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (200, "200"),
        ("429", "429"),
        ("429 Too Many Requests", "429"),
        ("4290", None),
        (0, "0"),
        (200.0, "200"),
        (True, None),
        (99, None),
        ("ok", None),
        (-1, None),
    ],
)
def test_a_status_is_an_http_status(value: Any, expected: str | None) -> None:
    assert fields.status(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("end_turn", "stop"),
        ("STOP", "stop"),
        ("COMPLETE", "stop"),
        (1, "stop"),
        (["length"], "length"),
        ("MAX_TOKENS", "length"),
        ("tool_use", "tool_calls"),
        ("function_call", "tool_calls"),
        ("SAFETY", "content_filter"),
        ("content_filtered", "content_filter"),
        ("something new", "other"),
        (None, None),
        ("", None),
    ],
)
def test_a_finish_reason_is_of_a_closed_set(value: Any, expected: str | None) -> None:
    assert fields.finish_reason(value) == expected


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (429, {"type": "tokens", "code": "rate_limit_exceeded", "message": "x"}, "rate_limit"),
        (429, {"code": "429", "message": "call rate limit"}, "rate_limit"),
        (429, {"code": "insufficient_quota", "type": "insufficient_quota"}, "rate_limit"),
        (401, {"type": "invalid_request_error", "code": "invalid_api_key"}, "authentication"),
        (
            400,
            {"type": "invalid_request_error", "code": "context_length_exceeded"},
            "context_length",
        ),
        (
            400,
            {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens"},
            "context_length",
        ),
        (
            400,
            {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}},
            "content_filter",
        ),
        (404, {"type": "invalid_request_error", "code": None}, "not_found"),
        (400, {"code": "model_not_found"}, "not_found"),
        (529, {"type": "overloaded_error"}, "overloaded"),
        (500, {"type": "api_error"}, "server"),
        (400, {"code": 400, "status": "INVALID_ARGUMENT"}, "invalid_request"),
        (429, {"code": 429, "status": "RESOURCE_EXHAUSTED"}, "rate_limit"),
        (None, {"__type": "com.amazon#ThrottlingException"}, "rate_limit"),
        (None, "openai.APITimeoutError: Request timed out.", "timeout"),
        (None, "Error: 429 Rate limit reached", "rate_limit"),
        (None, "APIConnectionError", "network"),
        (None, "asyncio.exceptions.CancelledError", "cancelled"),
        (None, "model 'llama9' not found", "not_found"),
        (499, None, "cancelled"),
        (504, None, "timeout"),
        (402, None, "permission"),
        (418, None, "invalid_request"),
        (0, None, "other"),
        (None, True, "other"),
    ],
)
def test_an_error_is_classed_by_its_code_then_its_status(
    status: Any, error: Any, expected: str
) -> None:
    assert fields.error_type(status, error) == expected


def test_a_memo_stays_small_whatever_it_is_asked() -> None:
    memo = fields.Memo(fields.text)

    for number in range(10_000):
        assert memo[f"text {number}"] == f"text {number}"
    assert memo["x" * 100_000] == "x" * fields.MAX_TEXT

    assert len(memo) <= 4096
    assert max(len(key) for key in memo) < 1000
