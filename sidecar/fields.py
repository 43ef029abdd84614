"""What every parser needs: a safe path, a count, a time, a duration with its unit, an error class, closed names.

No function here raises for any JSON value: what cannot be read is `None`, as what is not there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import wraps
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec

MAX_COUNT = 2**53 - 1
"""The largest count believed: beyond it a JSON number is not exact in most programs."""
MAX_SECONDS = 1e9
"""The longest duration believed, thirty years: more is a time stamp in the wrong place."""
MAX_TEXT = 256
"""Characters kept of a text that may become a label."""
UNITS: dict[str, float] = {"ns": 1e9, "us": 1e6, "ms": 1e3, "s": 1.0, "min": 1 / 60, "h": 1 / 3600}
"""How many of each unit are a second (a division is exact where a multiplication by 0.001 is not)."""
ERROR_TYPES = frozenset(
    {
        "rate_limit",
        "timeout",
        "authentication",
        "permission",
        "invalid_request",
        "not_found",
        "context_length",
        "content_filter",
        "overloaded",
        "server",
        "network",
        "cancelled",
        "other",
    }
)


class Memo(dict[Any, Any]):
    """A function's answers, kept: `memo[value]` asks it once; forgets all beyond 4096, keeps no long text."""

    __slots__ = ("ask",)

    def __init__(self, ask: Callable[[Any], Any]) -> None:
        self.ask = ask

    def __missing__(self, value: Any) -> Any:
        answer = self.ask(value)
        if type(value) is not str or len(value) <= MAX_TEXT:
            if len(self) >= 4096:
                self.clear()
            self[value] = answer
        return answer


def remembered(read: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    """Keep what a function has read from texts: a log says the same few again and again."""
    memo = Memo(read)

    @wraps(read)
    def ask(value: Any) -> str | None:
        return memo[value] if type(value) is str else read(value)

    ask.memo = memo  # type: ignore[attr-defined] # a function's own attribute
    return ask


def step(container: Any, key: str) -> Any:
    """Go one key into an object, or one index into an array; `None` where there is no way."""
    if type(container) is dict:
        return container.get(key)
    if type(container) is list and key.isascii() and key.isdigit() and len(key) < 5:
        return container[int(key)] if int(key) < len(container) else None
    return None


def chains(path: str) -> Iterator[tuple[str, ...]]:
    """Tell the ways to read a dotted path: as one key with dots in it, and key by key.

    >>> list(chains("a.b.c"))
    [('a.b.c',), ('a', 'b.c'), ('a', 'b', 'c')]
    """
    keys = path.split(".")
    for depth in range(len(keys)):
        yield (*keys[:depth], ".".join(keys[depth:]))


WAYS = Memo(lambda path: tuple(chains(path)))
"""The `chains` of a path, kept."""


def get(record: Any, path: str) -> Any:
    """Take what is at `a.b.c` (`choices.0.text`: an index; `"a.b"` may be one key); `None` if it is not there."""
    for chain in WAYS[path]:
        value = record
        for key in chain:
            value = value.get(key) if type(value) is dict else step(value, key)
            if value is None:
                break
        else:
            return value
    return None


def count(value: Any) -> int | None:
    """Read a number of things: an integer, a whole float, digits as text; never a bool, never below 0."""
    if type(value) is int:
        return value if 0 <= value <= MAX_COUNT else None
    if type(value) is float:
        return int(value) if 0 <= value <= MAX_COUNT and value.is_integer() else None
    if type(value) is str and len(value) <= 20:
        digits = value.strip()
        return count(int(digits)) if digits.isascii() and digits.isdigit() else None
    return None


def number(value: Any) -> float | None:
    """Read a finite number, 0 or more, also as text."""
    if type(value) is str:
        if len(value) > 40 or not re.fullmatch(
            r"\s*\d+(\.\d*)?([eE][+-]?\d{1,3})?\s*", value, re.A
        ):
            return None
        value = float(value)
    if type(value) is int:
        return float(value) if 0 <= value <= MAX_COUNT else None
    if type(value) is float:
        return value if 0 <= value < math.inf else None
    return None


def seconds(value: Any, unit: str) -> float | None:
    """Read a duration, given in `unit` (`ns us ms s min h`), as seconds; a text may name its own unit."""
    found = number(value)
    if found is None:
        return duration(value)
    found /= UNITS[unit]
    return found if found <= MAX_SECONDS else None


_DURATION = re.compile(
    r"(\d+(?:\.\d+)?)\s?(ns|us|µs|μs|ms|sec|secs|seconds?|s|min|minutes?|m|h)", re.A
)
_DURATION_UNITS = {"µs": "us", "μs": "us", "m": "min", "h": "h"}


def duration(value: Any) -> float | None:
    """Read a duration that tells its own units (`1.5s`, `812ms`, `1m30s`: Go, nginx, headers) as seconds."""
    if type(value) is not str or len(value) > 40:
        return None
    text, total, end = value.strip(), 0.0, 0
    for part in _DURATION.finditer(text):
        if part.start() != end:
            return None
        end = part.end()
        unit = part[2]
        unit = _DURATION_UNITS.get(unit) or ("min" if unit.startswith("min") else unit)
        total += float(part[1]) / UNITS.get(unit, 1.0)
    return total if end == len(text) and text and total <= MAX_SECONDS else None


_AWARE = Annotated[datetime, msgspec.Meta(tz=True)]
FIRST_TIMESTAMP = 94694400.0
"""1973: what is told to be earlier is a zero time (Go's, the epoch's)."""


def seconds_of(moment: datetime | None) -> float | None:
    """Give a time with its zone as Unix seconds; `None` for a zero time."""
    if moment is None:
        return None
    found = moment.timestamp()
    return found if found >= FIRST_TIMESTAMP else None


def timestamp(value: Any) -> float | None:
    """Read a point in time as Unix seconds: ISO 8601 text, or an epoch number in s, ms, µs or ns.

    The magnitude tells the unit of an epoch number, without doubt from 1973 on. A text without a zone
    (Python's `asctime`) is taken as UTC, which it is in a container that nobody told otherwise.
    """
    if type(value) is str:
        try:
            # what most loggers write; more digits than microseconds are rounded
            when = msgspec.convert(value, _AWARE)
        except (msgspec.ValidationError, UnicodeEncodeError):
            if len(value) > 40:
                return None
            if value[:1].isdigit() and value.replace(".", "", 1).isdigit() and value.isascii():
                return timestamp(float(value))
            try:
                # A comma is Python's logging; the rest is space around it, or more decimals than Python takes.
                text = re.sub(r"([.,]\d{6})\d+", r"\1", value.strip()).replace(",", ".")
                when = datetime.fromisoformat(text)
            except ValueError:
                return None
        return seconds_of(when if when.tzinfo else when.replace(tzinfo=UTC))
    if type(value) is int or type(value) is float:
        for limit, divisor in ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9)):
            if 1e8 * divisor <= value < limit:
                return value / divisor
    return None


def cost(value: Any) -> Decimal | float | None:
    """Read US dollars, 0 or more: a float stays one (it stands for what was written), the rest is exact."""
    if type(value) is float:
        return value if 0 <= value < 1e12 else None
    if type(value) is int:
        return Decimal(value) if 0 <= value < 10**12 else None
    if type(value) is str and number(value.removeprefix("$")) is not None:
        found = Decimal(value.removeprefix("$").strip())
        return found if found < 10**12 and found.as_tuple().exponent > -40 else None  # type: ignore[operator] # finite
    return None


def cents(value: Any) -> Decimal | None:
    """Read US cents as dollars."""
    found = cost(value)
    return None if found is None else Decimal(str(found)) / 100


def text(value: Any) -> str | None:
    """Take a text that is not empty, without the space around it, at most `MAX_TEXT` characters."""
    return (value.strip()[:MAX_TEXT] or None) if type(value) is str else None


def label(value: Any) -> str:
    """Write a value as an extra label; objects and arrays are none."""
    if value is None or type(value) in (dict, list):
        return ""
    if value is True or value is False:
        return "true" if value else "false"
    return str(value)


def flag(value: Any) -> bool | None:
    """Read a bool; also `"true"`, `"HIT"` and their like as logs spell them."""
    if type(value) is bool:
        return value
    if type(value) is str:
        return {"true": True, "hit": True, "false": False, "miss": False}.get(value.lower())
    return None


def size(value: Any) -> int | None:
    """Tell how many elements an array has; `None` for an empty one."""
    return (len(value) or None) if type(value) is list else None


def model(value: Any) -> str | None:
    """Read a model's name: Gemini's `models/` and what precedes the name in an AWS ARN are left off."""
    name = text(value)
    if name is None:
        return None
    if name.startswith("arn:"):
        return name.rsplit("/", 1)[-1] or None
    return name.removeprefix("models/") or None


_PATH_MODEL = re.compile(
    r"/(?:models?|deployments|engines)/([^/:?#]+(?::\d+[^/:?#]*)?)(?::[A-Za-z]+)?(?:[/?#]|$)"
)


@remembered
def model_in_path(value: Any) -> str | None:
    """Read the model from a path that names it: Gemini, Vertex, Bedrock (`/model/…/converse`), an Azure deployment."""
    if type(value) is not str or len(value) > 4096:
        return None
    found = _PATH_MODEL.search(
        value if "%" not in value else value.replace("%3A", ":").replace("%3a", ":")
    )
    return model(unquote(found[1])) if found else None


_PROVIDERS = {
    "claude": "anthropic",
    "aws": "aws.bedrock",
    "amazon": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "bedrock_runtime": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "azureopenai": "azure.ai.openai",
    "azure_ai_openai": "azure.ai.openai",
    "az.ai.openai": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_ai_inference": "azure.ai.inference",
    "azure_ai_foundry": "azure.ai.inference",
    "az.ai.inference": "azure.ai.inference",
    "cohere_chat": "cohere",
    "deepseek_ai": "deepseek",
    "google": "gcp.gemini",
    "gemini": "gcp.gemini",
    "googleai": "gcp.gemini",
    "google_ai": "gcp.gemini",
    "google_ai_studio": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "google_generativeai": "gcp.gemini",
    "google_gemini": "gcp.gemini",
    "gen_ai": "gcp.gen_ai",
    "vertex": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "google_vertex": "gcp.vertex_ai",
    "google_vertexai": "gcp.vertex_ai",
    "google_vertex_ai": "gcp.vertex_ai",
    "ibm": "ibm.watsonx.ai",
    "watsonx": "ibm.watsonx.ai",
    "ibm_watsonx": "ibm.watsonx.ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "open_ai": "openai",
    "text_completion_openai": "openai",
    "perplexity_ai": "perplexity",
    "together": "together_ai",
    "togetherai": "together_ai",
    "xai": "x_ai",
    "grok": "x_ai",
}
"""Other spellings of OpenTelemetry's `gen_ai.provider.name`; `-` and space read as `_`.

https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/#gen-ai-provider-name
"""

_KNOWN_PROVIDERS = (
    frozenset(_PROVIDERS)
    | frozenset(_PROVIDERS.values())
    | {"deepseek", "groq", "openrouter", "ollama", "vllm", "cerebras", "fireworks", "huggingface"}
) - {"google", "amazon", "aws", "azure", "ibm", "gen_ai", "together", "vertex", "grok"}
# What is left off sells other things too, or is an everyday word.


@remembered
def provider(value: Any) -> str | None:
    """Read a provider's name: OpenTelemetry's value where it has one, else as logged, in lower case."""
    name = text(value)
    if name is None:
        return None
    name = name.lower()
    spelled = name.replace("-", "_").replace(" ", "_")
    return _PROVIDERS.get(spelled) or (spelled if spelled in _KNOWN_PROVIDERS else name[:64])


_SERVICE_TIERS = {
    "batch": "batch",
    "flex": "flex",
    "priority": "priority",
    "on_demand_flex": "flex",
    "on_demand_priority": "priority",
}
"""What providers call a service tier that has a price of its own; `default`, `standard`, `auto` and the like have none.

The last two are Gemini's `trafficType`.
"""


def service_tier(value: Any) -> str | None:
    """Read a service tier that has a price of its own: `batch`, `flex` or `priority`."""
    return _SERVICE_TIERS.get(value.lower()) if type(value) is str else None


@remembered
def known_provider(value: Any) -> str | None:
    """Read a provider's name if it is one that serves models (`ollama`, `cohere-v2`), so that the line is no other's."""
    name = provider(value)
    if name is None:
        return None
    words = re.split(r"[^a-z0-9]+", name)
    return name if name in _KNOWN_PROVIDERS or not _KNOWN_PROVIDERS.isdisjoint(words) else None


_HOSTS = (
    ("api.openai.com", "openai"),
    ("openai.azure.com", "azure.ai.openai"),
    ("cognitiveservices.azure.com", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("models.ai.azure.com", "azure.ai.inference"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("api.deepseek.com", "deepseek"),
    ("api.mistral.ai", "mistral_ai"),
    ("codestral.mistral.ai", "mistral_ai"),
    ("openrouter.ai", "openrouter"),
    ("api.groq.com", "groq"),
    ("api.x.ai", "x_ai"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.perplexity.ai", "perplexity"),
    ("api.together.xyz", "together_ai"),
    ("api.together.ai", "together_ai"),
    ("api.fireworks.ai", "fireworks"),
    ("api.cerebras.ai", "cerebras"),
    ("ml.cloud.ibm.com", "ibm.watsonx.ai"),
    ("router.huggingface.co", "huggingface"),
    ("api.holysheep.ai", "holysheep"),
)


@remembered
def host_provider(value: Any) -> str | None:
    """Tell whose a host (or the host of a URL) is; `None` for one that is no provider's."""
    if type(value) is not str or len(value) > 4096:
        return None
    name = value.strip().lower().split("://", 1)[-1]
    name = re.split(r"[/?#]", name, maxsplit=1)[0].rsplit("@", 1)[-1]
    name, _, port = name.partition(":")
    if port == "11434":  # Ollama's own port, wherever it runs
        return "ollama"
    if name.startswith(("bedrock-runtime.", "bedrock-runtime-fips.")) and ".amazonaws.com" in name:
        return "aws.bedrock"
    for host, found in _HOSTS:
        # Vertex: `us-central1-aiplatform.googleapis.com`; Azure: `resource.openai.azure.com`.
        if name == host or name.endswith(("." + host, "-" + host)):
            return found
    return None


_VERSION = re.compile(r"v\d+([a-z]+\d*)?", re.A)
_WORD = re.compile(r"[A-Za-z][A-Za-z_.-]{0,39}", re.A)
_OPERATION = re.compile(r"[A-Za-z][A-Za-z_.:-]{0,63}", re.A)
_VERB = re.compile(r"[^/]+:([A-Za-z]+)", re.A)
_METHODS = frozenset({"get", "post", "put", "patch", "delete", "head", "options"})


@remembered
def endpoint(value: Any) -> str | None:
    """Bring a URL, a path or an operation into its closed form: no host, query, version, model or id.

    `/v1/chat/completions` and an Azure deployment's path give `/chat/completions`, Gemini's
    `…:generateContent` gives `/generateContent`, Bedrock's `/model/…/converse` gives `/converse`; of an
    unknown path only words without digits are kept, the last four. An operation (`chat`) stays one.
    """
    path = text(value)
    if path is None:
        return None
    path = path.rsplit(" ", 1)[-1] if " /" in path else path  # `POST /v1/messages`
    is_url = "://" in path
    if is_url:
        path = "/" + path.split("://", 1)[1].partition("/")[2]
    path = re.split(r"[?#]", path, maxsplit=1)[0]
    if "/" not in path:
        return path if _OPERATION.fullmatch(path) and path.lower() not in _METHODS else None
    keys = [key for key in path.split("/") if key]
    if not keys:
        return None
    verb = _VERB.fullmatch(keys[-1])
    if verb:
        return "/" + verb[1]
    if len(keys) >= 3 and keys[-3] in (
        "model",
        "models",
    ):  # Bedrock; an ARN in it is percent-encoded
        keys = keys[-1:]
    for place in range(len(keys) - 1, -1, -1):
        if _VERSION.fullmatch(keys[place]):
            keys = keys[place + 1 :]
            break
        if keys[place] in ("deployments", "engines"):
            keys = keys[place + 2 :]
            break
    words = [key for key in keys if _WORD.fullmatch(key)][-4:]
    return "/" + "/".join(words) if words else None


_ENDPOINTS = frozenset(
    {
        "/chat/completions",
        "/responses",
        "/messages",
        "/embeddings",
        "/generateContent",
        "/streamGenerateContent",
        "/embedContent",
        "/batchEmbedContents",
        "/rawPredict",
        "/streamRawPredict",
        "/converse",
        "/converse-stream",
        "/invoke",
        "/invoke-with-response-stream",
        "/api/chat",
        "/api/generate",
        "/api/embed",
    }
)


@remembered
def model_endpoint(value: Any) -> str | None:
    """Read an endpoint if it is one that only model servers have, so that the line is no other's."""
    found = endpoint(value) if type(value) is str and "/" in value else None
    if found in (
        "/responses",
        "/messages",
        "/embeddings",
        "/invoke",
    ):  # words that others use as well
        return found if re.search(r"/v1/|/deployments/|/model/", value) else None
    return found if found in _ENDPOINTS else None


def status(value: Any) -> str | None:
    """Read an HTTP status as text, `0` for none; also `"200"` and `"429 Too Many Requests"`."""
    if type(value) is str:
        found = re.match(r"\s*(\d{3}|0)(?!\d)", value[:16], re.A)
        return (
            status(int(found[1])) if found and value[: found.end() + 1].strip().isdigit() else None
        )
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is int and (100 <= value <= 599 or value == 0):
        return str(value)
    return None


def _all(answer: Any, words: str) -> dict[str, Any]:
    return dict.fromkeys(words.split(), answer)


_OUTCOMES = {
    **_all(True, "success succeeded successful ok completed complete true done"),
    **_all(False, "error failure failed fail false exception timeout cancelled canceled"),
}


def outcome(value: Any) -> bool | None:
    """Read whether it went well, from a bool or a word (`success`, `failed`)."""
    if type(value) is bool:
        return value
    return _OUTCOMES.get(value.strip().lower()) if type(value) is str and len(value) < 16 else None


_FINISH_REASONS = {
    **_all("stop", "stop end_turn stop_sequence completed complete eos eos_token end finished 1"),
    **_all(
        "length",
        "length max_tokens max_output_tokens max_completion_tokens model_length max_length "
        "model_context_window_exceeded 2",
    ),
    **_all("tool_calls", "tool_calls tool_call tool_use tooluse function_call tools"),
    **_all(
        "content_filter",
        "content_filter content_filtered safety recitation blocklist prohibited_content spii refusal "
        "image_safety guardrail_intervened error_toxic 3 4",
    ),
    **_all("error", "error failed malformed_function_call unexpected_tool_call"),
}
"""The digits are Gemini's enum where a client writes protobuf's numbers (STOP 1, MAX_TOKENS 2, SAFETY 3)."""


@remembered
def finish_reason(value: Any) -> str | None:
    """Bring a provider's reason into the closed set `stop length tool_calls content_filter error other`."""
    if type(value) is list:
        value = value[0] if value else None
    if type(value) is int:
        value = str(value) if 0 < value < 99 else None
    name = text(value)
    if name is None or name in ("null", "None"):
        return None
    name = name.lower().removeprefix("finishreason.").replace("-", "_")
    return str(_FINISH_REASONS.get(name, "other"))


_CODES = {
    "rate_limit": "ratelimit ratelimiterror ratelimitexceeded ratelimitreached resourceexhausted "
    "throttlingexception throttled toomanyrequests toomanyrequestsexception toomanyrequestserror "
    "insufficientquota quotaexceeded servicequotaexceededexception tokens requests tokenslimitreached",
    "timeout": "timeout timeouterror apitimeouterror requesttimeout deadlineexceeded readtimeout connecttimeout "
    "writetimeout pooltimeout timeoutexception gatewaytimeout modeltimeoutexception etimedout asynciotimeouterror "
    "serverdisconnectedtimeout requesttimedout apiconnectiontimeouterror headerstimeouterror",
    "authentication": "authentication authenticationerror invalidapikey unauthenticated unauthorized "
    "unrecognizedclientexception expiredtokenexception invalidsignatureexception incorrectapikey "
    "invalidauthentication missingapikey",
    "permission": "permission permissiondenied permissiondeniederror permissionerror forbidden "
    "accessdeniedexception accessdenied billingerror paymentrequired insufficientcredits insufficientbalance "
    "unsupportedcountryregionterritory",
    "invalid_request": "invalidrequest invalidrequesterror badrequest badrequesterror invalidargument "
    "validationexception validationerror failedprecondition outofrange unprocessableentityerror requesttoolarge "
    "invalidprompt invalidparameter invalidvalue unsupportedvalue missingrequiredparameter unsupportedparameter",
    "not_found": "notfound notfounderror modelnotfound resourcenotfoundexception deploymentnotfound "
    "proxymodelnotfounderror unknownmodel modelnotfoundexception",
    "context_length": "contextlength contextlengthexceeded contextwindowexceeded contextwindowexceedederror "
    "modelcontextwindowexceeded stringabovemaxlength promptistoolong",
    "content_filter": "contentfilter contentfiltered contentpolicyviolation contentpolicyviolationerror "
    "responsibleaipolicyviolation safety moderationblocked contentfilterfinishreasonerror",
    "overloaded": "overloaded overloadederror unavailable serviceunavailable serviceunavailableerror "
    "serviceunavailableexception modelnotreadyexception engineoverloaded slowdown capacityexceeded",
    "server": "server servererror apierror internal internalerror internalserver internalservererror "
    "internalserverexception modelerrorexception modelstreamerrorexception badgateway badgatewayerror dataloss "
    "unknown unimplemented",
    "network": "network networkerror apiconnectionerror connectionerror connecterror econnreset econnrefused "
    "enotfound eaiagain epipe remoteprotocolerror readerror writeerror sslerror connectionrefused "
    "connectionreset connectionreseterror connectionrefusederror clientconnectorerror "
    "serverdisconnectederror endpointconnectionerror",
    "cancelled": "cancelled canceled cancellederror cancelederror abort aborted aborterror clientclosedrequest "
    "apiuseraborterror keyboardinterrupt clientdisconnected",
}
_BY_CODE = {code: kind for kind, codes in _CODES.items() for code in codes.split()}
_VAGUE = frozenset({"invalid_request", "server"})
"""Classes that providers use for whatever they have no better word for."""

_BY_STATUS = {
    401: "authentication",
    402: "permission",
    403: "permission",
    404: "not_found",
    408: "timeout",
    429: "rate_limit",
    499: "cancelled",
    503: "overloaded",
    504: "timeout",
    522: "timeout",
    524: "timeout",
    529: "overloaded",
}

_MESSAGES = (
    (
        "context_length",
        r"prompt is too long|input is too long|context.?(length|window)|maximum context|too many (input )?tokens",
    ),
    ("content_filter", r"content (management )?(policy|filter)|safety (system|settings)"),
    ("rate_limit", r"rate.?limit|too many requests|quota|throttl"),
    ("overloaded", r"overloaded|service unavailable|temporarily unavailable|no healthy upstream"),
    ("timeout", r"time[d-]?[ -]?out|deadline exceeded"),
    ("authentication", r"api[ _-]?key|unauthori[sz]ed|unauthenticated|authentication"),
    ("permission", r"permission|forbidden|access denied|insufficient (credits|balance|funds)"),
    (
        "network",
        r"connection|econn|network|socket|dns|name resolution|getaddrinfo|broken pipe|ssl|unreachable",
    ),
    ("cancelled", r"cancell?ed|aborted|client (closed|disconnected)"),
    ("not_found", r"not found|does not exist|no such model|unknown model"),
    ("server", r"internal server error|bad gateway|server error"),
    ("invalid_request", r"invalid|bad request|unsupported|malformed"),
)
_MESSAGE = tuple((kind, re.compile(pattern, re.A | re.I)) for kind, pattern in _MESSAGES)
_CLASS = re.compile(
    r"(?:^|[\n\s.(])([A-Z][A-Za-z]{2,60}(?:Error|Exception|Timeout|Interrupt))(?=[:\s(,.]|$)"
)
_STATUS_IN_TEXT = re.compile(
    r"(?:^|\bcode:? ?|\bstatus:? ?|\bHTTP ?|\bError:? ?)([45]\d\d)\b", re.A
)
_CODE_KEYS = (
    "code",
    "type",
    "status",
    "error_code",
    "error_type",
    "__type",
    "name",
    "class",
    "reason",
    "kind",
)
_INNER_KEYS = ("error", "innererror", "inner_error", "cause", "body", "data")


def failure(value: Any) -> Any:
    """Give back what stands for an error; `None` for what says that there is none (`null`, `""`, `"none"`, `{}`)."""
    if not value or (
        type(value) is str
        and value.strip().lower() in ("", "-", "none", "null", "nil", "false", "ok", "0")
    ):
        return None
    return value


def _codes(value: Any, depth: int = 0) -> Iterator[tuple[bool, str]]:
    """Tell the codes (True) and messages (False) in an error, the most particular first."""
    if type(value) is str:
        is_code = len(value) <= 80 and " " not in value
        yield is_code, value if is_code else value[:4096]
    elif type(value) is int:
        yield True, str(value) if abs(value) < 10**6 else ""
    elif type(value) is list:
        for element in value[:3]:
            if depth < 4:
                yield from _codes(element, depth + 1)
    elif type(value) is dict:
        for key in _CODE_KEYS:
            if type(value.get(key)) in (str, int):
                yield from _codes(value[key], depth + 1)
        for key in _INNER_KEYS:
            if value.get(key) and depth < 4:
                yield from _codes(value[key], depth + 1)
        for key in ("message", "detail", "msg", "stack"):
            if type(value.get(key)) is str:
                yield False, value[key][:4096]


def _by_status(code: int) -> str:
    if code in _BY_STATUS:
        return _BY_STATUS[code]
    if 400 <= code < 500:
        return "invalid_request"
    return "server" if 500 <= code < 600 else "other"


def _by_code(code: str) -> str | None:
    return _BY_CODE.get(
        re.sub(r"[^a-z]", "", code.rsplit(".", 1)[-1].lower().removesuffix("_error")) or "-"
    ) or (_BY_CODE.get(re.sub(r"[^a-z]", "", code.rsplit(".", 1)[-1].lower())))


def _said(message: str, kinds: tuple[tuple[str, re.Pattern[str]], ...]) -> str | None:
    return next((kind for kind, pattern in kinds if pattern.search(message)), None)


_SAID = Memo(lambda message: _said(message, _MESSAGE))
_REFINED = Memo(lambda message: _said(message, _MESSAGE[:2]))
"""What a message adds to a code or a status that says little: only what neither has a word for."""
_KINDS = Memo(lambda word: _by_code(word) if " " not in word else None)


_KNOWN_ERRORS: dict[Any, str] = {}
"""What was classed before: a failing provider says the same thing again and again."""


def error_type(status: Any, *errors: Any) -> str:
    """Class a failure (`ERROR_TYPES`): the provider's own code first, the status second, the message last.

    `errors` are codes, texts, or error objects of any provider. A code that says little
    (`invalid_request_error`) yields to a status or a message that says more.
    """
    try:
        said = (
            status,
            *[tuple(error.items()) if type(error) is dict else error for error in errors],
        )
        return _KNOWN_ERRORS[said]
    except TypeError:
        # an object in the error: too odd to be remembered
        return _error_type(status, *errors)
    except KeyError:
        kind = _error_type(status, *errors)
        if len(str(said)) <= 400:
            if len(_KNOWN_ERRORS) >= 1024:
                _KNOWN_ERRORS.clear()
            _KNOWN_ERRORS[said] = kind
        return kind


def _error_type(status: Any, *errors: Any) -> str:
    for error in errors:
        words = (
            (error,)
            if type(error) is str
            else map(error.get, _CODE_KEYS[:3])
            if type(error) is dict
            else ()
        )
        for word in words:
            if type(word) is str and len(word) <= 80:
                kind = _KINDS[word]
                if kind is not None and kind not in _VAGUE:
                    return str(kind)
    named: list[str] = []
    numbers: list[int] = []
    messages: list[str] = []
    for error in errors:
        for is_code, word in _codes(error):
            if not is_code:
                messages.append(word)
            elif word.isascii() and word.isdigit():
                numbers.append(int(word))
            elif kind := _KINDS[word]:
                named.append(kind)
            elif found := re.match(
                r"([45]\d\d)_", word, re.A
            ):  # LiteLLM's `429_RATE_LIMIT_EXCEEDED`
                numbers.append(int(found[1]))
                if kind := _KINDS[word[4:]]:
                    named.append(kind)
            else:
                messages.append(word.replace("_", " "))
    if type(status) is str and status.isascii() and status.isdigit() and len(status) < 6:
        numbers.append(int(status))
    elif type(status) is int:
        numbers.append(status)
    if not named:
        for message in messages:
            # `openai.RateLimitError: Error code: 429 - …`, the last of a traceback.
            named += [kind for name in reversed(_CLASS.findall(message)) if (kind := _KINDS[name])]
            numbers += [int(code) for code in _STATUS_IN_TEXT.findall(message)[:1]]
    by_status = next((kind for code in numbers if (kind := _by_status(code)) != "other"), None)
    for kind in (*named, by_status):
        if kind and kind not in _VAGUE:
            return kind
    said = _REFINED if named or by_status else _SAID
    for message in messages:
        if kind := said[message]:
            return str(kind)
    return named[0] if named else by_status or "other"
