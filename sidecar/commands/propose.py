"""Guesses a `[parsers.NAME]` table for lines that nobody claims, from the names, nesting and values of their keys.

What it promises: the table is good TOML that `Table.from_toml` takes, it reads every line it was guessed from, and
it claims none of the other lines of the same log. What it had to guess without a sign is said in a comment.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import fields
from ..request import Record, Request
from ..table import Table, unit_in_name

MAX_RECORDS = 400
"""Records kept of each kind: those to read, and those to leave alone."""
_MAX_LEAVES = 400
_MAX_DEPTH = 7
_MAX_VALUE_CHARACTERS = 128


@dataclass(frozen=True, slots=True)
class Proposal:
    """A table to paste, and what it makes of the lines it was guessed from."""

    name: str
    toml: str
    records: tuple[Record, ...]
    requests: tuple[Request, ...]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOKEN = _words("token tokens tok toks tk tkn tkns tks")
_USAGE = _TOKEN | _words("usage used consumption counts metering meter units billing llm")
_INPUT = _words(
    "in input inputs inp i pt prompt prompts prefill evaluated question query context ctx request req sent ingested fed uncached fresh"
)
_OUTPUT = _words(
    "out output outputs outp o ct completion completions compl generated generation gen response resp answer reply "
    "produced emitted sampled candidates candidate predicted decode decoded received visible"
)
_PLAIN_DIRECTION = _words(
    "in input inputs inp i pt prompt out output outputs o ct completion completions"
)
_CACHE = _words("cache cached caching")
_WRITE = _words("write written writes creation create created store stored fill")
_UNCACHED = _words("uncached fresh noncached non miss misses new other")
_REASONING = _words("reasoning reason thinking thought thoughts think cot deliberation scratchpad")
_VISIBLE = _words("visible answer final text")
_AUDIO = _words("audio speech voice")
_TOTAL = _words("total sum all overall")
_BARE = (
    _PLAIN_DIRECTION
    | _CACHE
    | _WRITE
    | _REASONING
    | _words("total read hit hits t n num nb h hour")
)
"""What stands alone for a number of tokens where an `in` and an `out` are beside it."""
_NO_COUNT = _words(
    "max min limit budget remaining left quota price cost usd cents rate per ms msec millis sec secs s seconds us ns "
    "latency duration elapsed time bytes chars characters version id port pid window threshold temperature seed avg "
    "mean cumulative running lifetime session est estimate estimated expected planned speed tps ts at status code hash"
)
_UNITS = {
    **dict.fromkeys(_words("ms msec msecs milli millis millisecond milliseconds"), "ms"),
    **dict.fromkeys(_words("us usec usecs micros microsecond microseconds"), "us"),
    **dict.fromkeys(_words("ns nsec nsecs nanos nanosecond nanoseconds"), "ns"),
    **dict.fromkeys(_words("s sec secs second seconds"), "s"),
    **dict.fromkeys(_words("min mins minute minutes"), "min"),
}
_DURATION = _words(
    "duration dur latency lat elapsed took taken lasted runtime walltime wall rtt rt roundtrip time timing timings"
)
_PART_OF_DURATION = _words(
    "queue queued wait waiting connect dns tls network overhead guardrail prefill decode retry retries backoff timeout "
    "limit deadline max per avg age ttl expires reset tool tools db cache upload download stamp created at zone idle"
)
_FIRST = _words("ttft ttfb ttfc ttf")
_FIRST_OF = _words("token tokens tok chunk byte delta output response word")
_START = _words(
    "start started begin began begun requested sent submitted issued opened t0 since enqueued"
)
_END = _words(
    "end ended finish finished complete completed done stop stopped closed responded answered t1 until"
)
_WHEN = _words("ts t time timestamp date datetime at when logged emitted stamp created")
_MODEL = _words("model mdl models modelname modelid llm engine deployment")
_NO_MODEL = _words(
    "family type version provider vendor size tier hash owner class group host dir path file url region call calls "
    "kind event msg message text prompt input output user key session trace status error finish stop reason"
)
_ANSWERED = _words(
    "response responded answered actual resolved served used effective final returned real"
)
_ASKED = _words("requested request req asked wanted desired alias")
_MODEL_NAME = re.compile(
    r"(?:^|[/.:@])(?:gpt|chatgpt|claude|gemini|gemma|llama|mi[sx]tral|codestral|deepseek|qwen|grok|"
    r"text-embedding|sonar|kimi|glm|jamba|dbrx)(?:[-\d.:]|[a-z]+-)|(?:^|/)o[1345](?:-|$)",
    re.I,
)
_PROVIDER = _words("provider vendor supplier")
_VAGUE_PROVIDER = _words(
    "engine backend upstream platform gateway service svc source api host hostname router via by"
)
_STATUS = _words("status code http statuscode httpstatus rc sc st")
_OUTCOME = _words("status outcome result ok success successful succeeded state verdict disposition")
_ERROR = _words("error err errors exception exc failure fault failed problem errored")
_CODE = _words("code type kind class name category")
_COST = _words(
    "cost costs usd dollars dollar cents cent spend spent charge charged billed fee price amount"
)
_NO_COST = _words(
    "per rate million budget limit saved saving savings input output in out prompt completion tokens max micro micros "
    "microusd nano credits eur gbp cny rmb cumulative running lifetime session center"
)
_FINISH = _words(
    "finish finished stop stopped end ended termination terminated halt completion done"
)
_REASON = _words("reason cause why because")
_ENDPOINT = _words("endpoint url uri path route operation op api action task")
_OPERATIONS = _words(
    "chat completion completions embedding embeddings responses messages generate generate_content text_completion rerank"
)
_STRONG_KIND = _words(
    "kind type event evt ev schema record rec action activity entry format logtype"
)
_WEAK_KIND = _words(
    "op operation category tag topic class name stage phase step logger component module service svc app source src "
    "channel subsystem what log"
)
_AI_WORDS = _words(
    "llm ai call calls completion completions chat inference infer model request requests gen generate generation prompt "
    "response resp reply answer done finish finished end result embedding embeddings complete completed invoke invocation usage"
)
_SUMMARY = _words("summary aggregate totals daily hourly rollup heartbeat cumulative")
_ID = _words("id uid uuid guid rid")
_NO_ID = _words(
    "session conversation conv trace user thread parent span run tenant org team key model deployment batch prompt "
    "project workspace account host pod container agent tool customer correlation"
)

_VOCABULARY = frozenset().union(
    *[value for value in list(globals().values()) if isinstance(value, frozenset)],
    _UNITS,
    ("num", "nb"),
)
_PIECES = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


def _split(key: str) -> tuple[str, ...]:
    """Tell the words of a key: `promptTokens`, `prompt_tokens` and `prompttokens` alike."""
    found: list[str] = []
    for piece in _PIECES.findall(key):
        word = piece.lower()
        found += _known_words(word) or [word]
    return tuple(found)


def _known_words(word: str) -> list[str] | None:
    """Take a word apart into known ones, the fewest; `None` where it cannot be."""
    best: list[list[str] | None] = [[]]
    for end in range(1, min(len(word), 40) + 1):
        ways = [
            [*before, word[start:end]]
            for start in range(end)
            if (before := best[start]) is not None
            and end - start > 1
            and word[start:end] in _VOCABULARY
        ]
        best.append(min(ways, key=len, default=None))
    return best[-1] if len(word) <= 40 else None


_SPLIT = fields.Memo(_split)


def split(key: str) -> tuple[str, ...]:
    """Tell the words of a key, kept."""
    words: tuple[str, ...] = _SPLIT[key]
    return words


@dataclass(frozen=True, slots=True)
class Leaf:
    """One path of a record: the words of its last key, those of the keys above, and the value."""

    path: str
    last: frozenset[str]
    above: tuple[frozenset[str], ...]
    value: Any

    @property
    def parent(self) -> frozenset[str]:
        return self.above[-1] if self.above else frozenset()

    @property
    def all_above(self) -> frozenset[str]:
        return frozenset().union(*self.above)


def leaf_at(chain: Sequence[str], value: Any) -> Leaf:
    """Make a leaf; a dot in a key (`gen_ai.usage.input_tokens`) parts its words as nesting would."""
    path = ".".join(chain)
    words = [frozenset(split(key)) for key in path.split(".")]
    return Leaf(path, words[-1], tuple(words[:-1]), value)


def _leaves(record: Record) -> Iterator[Leaf]:
    """Tell every path of a record that a table can name: values, and the objects that hold them."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), record)]
    count = 0
    while waiting:
        chain, value = waiting.pop()
        if chain:
            count += 1
            yield leaf_at(chain, value)
        if count > _MAX_LEAVES or len(chain) >= _MAX_DEPTH:
            continue
        if type(value) is dict:
            waiting += [
                ((*chain, key), inner)
                for key, inner in reversed([*value.items()][:_MAX_LEAVES])
                if key and len(key) <= 64 and key.isprintable() and "" not in key.split(".")
            ]
        elif type(value) is list and value and type(value[0]) is dict and chain:
            waiting.append(((*chain, "0"), value[0]))


def _is_plain(value: Any) -> bool:
    return type(value) is str and 0 < len(value) <= _MAX_VALUE_CHARACTERS


# What a path may be


def _count_role(leaf: Leaf) -> tuple[str, float] | None:
    """Tell which number of tokens a path is."""
    if fields.count(leaf.value) is None or leaf.last & _NO_COUNT:
        return None
    if leaf.all_above & (_UNITS.keys() | _DURATION):
        return None
    near = leaf.last | leaf.parent
    is_tokens = bool(near & _TOKEN)
    in_usage = bool(leaf.all_above & _USAGE or leaf.last & {"unit", "units", "usage"})
    sure = 3.0 if is_tokens else 2.0 if in_usage else 1.0 if leaf.last <= _BARE else 0.0
    if not sure or near & _words("remaining left limit max budget quota"):
        return None
    is_uncached = bool(leaf.last & _UNCACHED)
    if ("cache" in near or leaf.last & _CACHE) and not is_uncached:
        if leaf.last & _WRITE:
            is_hour = bool(leaf.last & {"h", "hour"})
            return ("cache_write_1h_tokens" if is_hour else "cache_write_tokens"), sure
        return "cache_read_tokens", sure
    if leaf.last & _REASONING:
        return "reasoning_tokens", sure
    if leaf.last & _AUDIO:
        is_out = bool((leaf.last | leaf.all_above) & _OUTPUT)
        return ("audio_output_tokens" if is_out else "audio_input_tokens"), sure
    if leaf.last & _TOTAL:
        if leaf.parent & _PLAIN_DIRECTION:
            return ("input_tokens" if leaf.parent & _INPUT else "output_tokens"), sure
        if not leaf.last & _PLAIN_DIRECTION:
            return "total_tokens", sure
    direction = leaf.last & (_INPUT | _OUTPUT) or leaf.parent & (_INPUT | _OUTPUT)
    if is_uncached and not direction:
        return "input_tokens", sure - 0.5
    if not direction:
        is_sum = is_tokens and leaf.last <= _TOKEN | {"count", "n"}
        return ("total_tokens", sure - 1) if is_sum else None
    if not (is_tokens or direction & _PLAIN_DIRECTION or leaf.last <= _INPUT | _OUTPUT):
        return None  # `usage.request_count`
    return (
        "input_tokens" if direction & _INPUT and not direction & _OUTPUT else "output_tokens"
    ), sure + (0.5 if leaf.last & _PLAIN_DIRECTION else 0.0)


def _model_role(leaf: Leaf) -> float:
    if (
        not _is_plain(leaf.value)
        or re.search(r"\s", leaf.value)
        or fields.model(leaf.value) is None
    ):
        return 0.0
    named = bool(leaf.last & _MODEL) or (
        bool(leaf.parent & _MODEL) and leaf.last <= _words("name id slug used")
    )
    score = 3.0 if named and not (leaf.last - _MODEL) & _NO_MODEL else 0.0
    if (
        _MODEL_NAME.search(leaf.value)
        and "://" not in leaf.value
        and not leaf.last & (_ENDPOINT - {"api"} | _words("agent client sdk ua user id version"))
    ):
        score += 3.0
    is_provider = fields.known_provider(leaf.value) and not _MODEL_NAME.search(leaf.value)
    if is_provider and leaf.last & _words("engine deployment llm"):
        score -= 3.0
    if score > 0:
        around = leaf.last | leaf.parent
        score += (
            0.5 * bool(around & _ANSWERED)
            - 0.5 * bool(around & _ASKED)
            + 0.25 * bool(leaf.last & {"model"})
        )
    return score


def _provider_role(leaf: Leaf) -> tuple[str, float] | None:
    if not _is_plain(leaf.value) or re.search(r"\s", leaf.value):
        return None
    known = fields.known_provider(leaf.value) is not None and not _MODEL_NAME.search(leaf.value)
    if leaf.last & _PROVIDER or (leaf.parent & _PROVIDER and leaf.last & {"name", "id"}):
        return "provider", 3.0 + known
    if known and leaf.last & _VAGUE_PROVIDER:
        return "provider", 2.0
    if leaf.last & _words("host hostname url uri base server upstream") and fields.host_provider(
        leaf.value
    ):
        return "host_provider", 1.0
    return None


def _is_first_token(leaf: Leaf) -> bool:
    near = leaf.last | leaf.parent
    return bool(near & _FIRST) or ("first" in near and bool(near & _FIRST_OF))


def _unit(leaf: Leaf) -> str | None:
    if type(leaf.value) is str and fields.number(leaf.value) is None:
        return "text"
    for words in (leaf.last, *reversed(leaf.above)):
        for word in words:
            if word in _UNITS:
                return _UNITS[word]
    return unit_in_name(leaf.path)


def _duration_role(leaf: Leaf) -> tuple[str, float] | None:
    if type(leaf.value) is bool or leaf.value is None:
        return None
    unit = _unit(leaf)
    near, named = leaf.last | leaf.parent, (leaf.last | leaf.all_above) & _DURATION
    if unit == "text":
        if fields.duration(leaf.value) is None:
            return None
    else:
        value = fields.number(leaf.value)
        # an epoch number, unless something says that it is none
        is_long = value is not None and value >= 1e8
        if value is None or (is_long and unit not in ("us", "ns") and not named - {"time"}):
            return None
    if _is_first_token(leaf):
        return "time_to_first_token", 3.0 + (unit is not None)
    if near & (_PART_OF_DURATION | _START | _END) - {"at"} or leaf.last & _words("at zone first"):
        return None
    if leaf.last & _TOKEN or leaf.last & _WHEN - {"time", "t"}:
        return None
    is_whole = 0.5 * bool(near & _words("total overall wall e2e"))
    if named:
        return "duration", 2.0 + (unit is not None) + is_whole
    has_unit = bool(leaf.last & _UNITS.keys())
    if has_unit and leaf.last <= _UNITS.keys() | _TOTAL | _AI_WORDS | {"api", "e", "server", "end"}:
        return "duration", 1.5 + is_whole
    return None


def _time_role(leaf: Leaf) -> tuple[str, float] | None:
    if type(leaf.value) is bool or fields.timestamp(leaf.value) is None:
        return None
    is_text = type(leaf.value) is str and not leaf.value.replace(".", "", 1).isdigit()
    near = leaf.last | leaf.parent
    if not is_text and not near & (_WHEN | _START | _END):
        return None
    if near & _words("deadline expires reset expiry birth cutoff"):
        return None
    if _is_first_token(leaf) or "first" in leaf.last:
        return "first_token", 2.0
    if leaf.last & _START:
        return "started", 2.0
    if leaf.last & _END:
        return "ended", 2.0
    return (
        ("timestamp", 1.0 + bool(leaf.last & _WHEN) + (not leaf.above) / 2)
        if leaf.last & _WHEN or is_text
        else None
    )


def _other_roles(leaf: Leaf) -> Iterator[tuple[str, float]]:
    """Tell what else a path may be."""
    value, last, near = leaf.value, leaf.last, leaf.last | leaf.parent
    is_error = bool(last & _ERROR) or bool(leaf.parent & _ERROR and last & _CODE)
    if (
        type(value) is not bool
        and fields.status(value) is not None
        and (last & _STATUS)
        and "exit" not in last
    ):
        yield "status", 1.0 + bool(near & _words("http status")) + bool(type(value) is int)
    elif last & _OUTCOME and type(value) in (str, bool) and _is_plain(str(value)):
        if fields.outcome(value) is not None and not (type(value) is bool and last & _ERROR):
            yield "outcome", 2.0
        elif type(value) is str and re.fullmatch(r"[\w.:-]{1,32}", value):
            yield "outcome_word", 1.0
    if (
        is_error
        and not last & _words("count counts total rate budget")
        and not (type(value) in (int, float) and leaf.parent & _ERROR)
    ):
        yield (
            "error",
            2.0 + bool(leaf.parent & _ERROR and last & _CODE) - bool(type(value) is dict) / 2,
        )
    if (
        last & _COST
        and not near & _NO_COST
        and type(value) is not bool
        and fields.cost(value) is not None
    ):
        yield (
            "cost",
            1.0 + bool(near & _words("usd cents total dollars")) + bool(last & _words("cost")),
        )
    if last & _FINISH and (last & _REASON or leaf.parent & _REASON) and _is_plain(value):
        yield "finish_reason", 3.0
    elif (
        near & (_FINISH | _REASON)
        and _is_plain(value)
        and fields.finish_reason(value) not in (None, "other", "error")
    ):
        yield "finish_reason", 1.0
    is_endpoint = last & _ENDPOINT and _is_plain(value) and fields.endpoint(value) is not None
    if is_endpoint and ("/" in value or value.lower() in _OPERATIONS):
        yield "endpoint", 1.0 + ("/" in value)
    if last & _CACHE and fields.flag(value) is not None and not near & _words("prompt enabled"):
        yield "cache_hit", 1.0
    if (
        "batch" in near
        and last & _words("size count n batch items")
        and fields.count(value) is not None
    ):
        yield "batch_size", 1.0
    if near & _words("remaining left") and fields.count(value) is not None:
        if near & _TOKEN:
            yield "rate_limit_remaining_tokens", 1.0
        elif near & _words("request requests req reqs calls rpm"):
            yield "rate_limit_remaining_requests", 1.0
    if _is_plain(value) and (
        ("trace" in last and (last & _ID or last == {"trace"})) or last == {"traceid"}
    ):
        yield "trace_id", 1.0


def roles_of(leaf: Leaf) -> Iterator[tuple[str, float]]:
    """Tell which fields a path may hold, by its words and its value, and how sure that is."""
    if leaf.value is None or type(leaf.value) is list:
        return
    if type(leaf.value) is not dict:
        if (counted := _count_role(leaf)) is not None:
            yield counted
            return
        if (score := _model_role(leaf)) > 0:
            yield "model", score
        for found in (_provider_role(leaf), _duration_role(leaf), _time_role(leaf)):
            if found is not None:
                yield found
    yield from _other_roles(leaf)


# What a record is


@dataclass(frozen=True, slots=True)
class _Seen:
    """A record with what each of its paths may be."""

    record: Record
    leaves: dict[str, Leaf]
    roles: dict[str, dict[str, float]]
    """Role → path → how sure."""

    @property
    def is_call(self) -> bool:
        """Tell whether it seems to tell of a finished request to a model."""
        kinds = [
            leaf.value
            for leaf in self.leaves.values()
            if leaf.last & _STRONG_KIND and _is_plain(leaf.value)
        ]
        if any(_SUMMARY & set(_SPLIT[kind]) for kind in kinds):
            return False
        has_tokens = not self.roles.keys().isdisjoint(
            ("input_tokens", "output_tokens", "total_tokens")
        )
        if "model" in self.roles:
            return (
                has_tokens
                or not self.roles.keys().isdisjoint(("duration", "cost", "error", "status"))
                or (self.has_failed)
            )
        return (
            has_tokens
            and max(
                [
                    max(self.roles.get(name, {"": 0.0}).values())
                    for name in ("input_tokens", "output_tokens", "total_tokens")
                ]
            )
            > 2
        )

    @property
    def is_telling(self) -> bool:
        """Tell whether it has figures that make its format worth a table: a model and a duration are too little."""
        named = {"input_tokens", "output_tokens", "total_tokens", "cost"} & self.roles.keys()
        return bool(named) or {"model", "status", "duration"} <= self.roles.keys()

    @property
    def has_failed(self) -> bool:
        """Tell whether it seems to tell of a failure."""
        return any(
            fields.failure(self.leaves[path].value) is not None
            for path in self.roles.get("error", {})
        ) or any(
            fields.outcome(self.leaves[path].value) is False
            for path in self.roles.get("outcome", {})
        )

    @property
    def figures(self) -> set[str]:
        """The paths by which records of one format are known to each other."""
        return {
            path
            for name in ("model", "input_tokens", "output_tokens")
            for path in self.roles.get(name, {})
        }

    @property
    def kinds(self) -> set[str]:
        """The paths at the top that name the kind of a line."""
        return {
            path
            for path, leaf in self.leaves.items()
            if leaf.last & _STRONG_KIND and not leaf.above and _is_plain(leaf.value)
        }


def _see(record: Record) -> _Seen:
    leaves = {leaf.path: leaf for leaf in _leaves(record)}
    roles: dict[str, dict[str, float]] = {}
    for leaf in leaves.values():
        for role, score in roles_of(leaf):
            roles.setdefault(role, {})[leaf.path] = score
    _without_lonely_words(roles)
    return _Seen(record, leaves, roles)


def _without_lonely_words(roles: dict[str, dict[str, float]]) -> None:
    """Drop bare words (`in`, `cached`) that have no input and output beside them: these make them tokens."""
    inputs, outputs = (
        {path.rpartition(".")[0] for path in roles.get(name, {})}
        for name in ("input_tokens", "output_tokens")
    )
    for name in [
        name for name in roles if name.endswith("_tokens") and not name.startswith("rate")
    ]:
        for path, score in list(roles[name].items()):
            if score < 2 and path.rpartition(".")[0] not in inputs & outputs:
                del roles[name][path]
        if not roles[name]:
            del roles[name]


@dataclass(slots=True)
class _Format:
    """Records that seem to be of one format."""

    seen: list[_Seen] = field(default_factory=list)
    figures: set[str] = field(default_factory=set)
    kinds: set[str] = field(default_factory=set)

    def holds(self, seen: _Seen) -> bool:
        """Tell whether a record has figures in the same places, and its kind if it has one."""
        shared = self.figures & seen.figures
        return bool(shared) and bool(not self.kinds or not seen.kinds or self.kinds & seen.kinds)


def propose(
    records: Sequence[Record], others: Sequence[Record], taken: Sequence[str] = ()
) -> list[Proposal]:
    """Guess tables for records that nobody understands; none of them claims one of the others.

    `taken` are names of parsers that there are. Records that tell of no model are left alone.
    """
    formats: list[_Format] = []
    left: list[Record] = list(others)
    for seen in map(_see, records):
        if not seen.is_call:
            left.append(seen.record)
            continue
        home = next((one for one in formats if one.holds(seen)), None)
        if home is None:
            home = _Format()
            formats.append(home)
        home.seen.append(seen)
        home.figures |= seen.figures
        home.kinds |= seen.kinds
    proposals: list[Proposal] = []
    for number, home in enumerate(formats):
        strangers = [
            *left,
            *[seen.record for other in formats if other is not home for seen in other.seen],
        ]
        names = {*taken, *[one.name for one in proposals]}
        if not any(one.is_telling for one in home.seen):
            continue
        guess = _Guess(home.seen, strangers)
        made = guess.proposal(_name(home.seen, names, number))
        if made is not None:
            proposals.append(made)
    return proposals


def _name(seen: Sequence[_Seen], taken: set[str], number: int) -> str:
    """Find a name: what the log calls its writer, else its kind."""
    wanted = "mine"
    for words in (_words("app application service svc logger source src"), _STRONG_KIND):
        values = Counter(
            leaf.value
            for one in seen
            for leaf in one.leaves.values()
            if leaf.last & words
            and len(leaf.above) < 2
            and not leaf.parent & _ERROR
            and _is_plain(leaf.value)
        )
        found = values.most_common(1)
        if found and re.fullmatch(r"[A-Za-z][\w.:/@-]{1,31}", found[0][0]):
            wanted = re.sub(r"[^a-z0-9]+", "_", found[0][0].lower()).strip("_")
            break
    if wanted in taken or wanted == "auto":
        wanted += "_log"
    return wanted if wanted not in taken else f"{wanted}_{number + 1}"


# What a format is


class _Guess:
    """Guesses the table of one format."""

    def __init__(self, seen: list[_Seen], strangers: list[Record]) -> None:
        self.seen = seen
        self.strangers = strangers
        self.rows: dict[str, Any] = {}
        self.comments: dict[str, str] = {}

    def proposal(self, name: str) -> Proposal | None:
        """Give the table, or `None` where it cannot be one that reads its own records and no others."""
        self.fill()
        for when, needs in self.signs():
            rows = {"when": when, **({"needs": needs} if needs else {}), **self.rows}
            toml = _toml(name, rows, self.comments)
            try:
                table = Table.from_toml(name, tomllib.loads(toml)["parsers"][name])
            except (ValueError, KeyError):
                continue
            requests = [table.parse(one.record) for one in self.seen]
            if all(requests) and not any(table.parse(one) for one in self.strangers):
                records = tuple([one.record for one in self.seen])
                return Proposal(name, toml, records, tuple([made[0] for made in requests if made]))
        return None

    def paths(self, role: str, *, at_most: int = 3, least: float = 1.0) -> list[str]:
        """Give the places of a field: the surest, then those that are there where it is not."""
        scores: dict[str, float] = {}
        counts: Counter[str] = Counter()
        for one in self.seen:
            for path, score in one.roles.get(role, {}).items():
                scores[path] = max(score, scores.get(path, 0.0))
                counts[path] += 1
        order = sorted(scores, key=lambda path: (-scores[path], -counts[path], len(path), path))
        chosen: list[str] = []
        missing = list(self.seen)
        for path in order:
            found = [one for one in missing if path in one.roles.get(role, {})]
            if found and scores[path] >= least and len(chosen) < at_most:
                chosen.append(path)
                missing = [one for one in missing if path not in one.roles.get(role, {})]
        return chosen

    def values(self, path: str) -> list[Any]:
        return [
            one.leaves[path].value
            for one in self.seen
            if path in one.leaves and one.leaves[path].value is not None
        ]

    def put(self, name: str, sources: list[Any], comment: str = "") -> None:
        if sources:
            self.rows[name] = sources[0] if len(sources) == 1 else sources
            if comment:
                self.comments[name] = comment

    def fill(self) -> None:
        """Guess the field of each path."""
        self.put("provider", self.provider())
        model = self.paths("model")
        if model:
            self.put("model", model)
        else:
            self.put(
                "model",
                [{"const": "unknown"}],
                "no field names it: put the name here if it is always one",
            )
        self.put("endpoint", self.paths("endpoint", at_most=2))
        self.failures()
        self.times()
        self.tokens()
        self.cost()
        self.put("finish_reason", self.paths("finish_reason", at_most=2))
        for name in (
            "rate_limit_remaining_requests",
            "rate_limit_remaining_tokens",
            "batch_size",
            "trace_id",
        ):
            self.put(name, self.paths(name, at_most=1))
        self.put("cache_hit", self.paths("cache_hit", at_most=1))
        self.ids()
        if "provider" not in self.rows and model:
            self.comments["model"] = 'no field names the provider; provider = { const = "…" } would'

    def provider(self) -> list[Any]:
        named = [
            path for path in self.paths("provider", at_most=2) if path not in self.paths("model")
        ]
        return named or [
            {"path": path, "as": "host_provider"} for path in self.paths("host_provider", at_most=1)
        ]

    def failures(self) -> None:
        self.put("status", self.paths("status", at_most=2))
        outcome: list[Any] = list(self.paths("outcome", at_most=1))
        if not outcome and (words := self.paths("outcome_word", at_most=1)):
            outcome = self.mapped_outcome(words[0])
        if outcome and outcome[0] not in self.paths("status"):
            path = outcome[0] if isinstance(outcome[0], str) else ""
            unread = (
                [value for value in self.values(path) if fields.outcome(value) is None]
                if path
                else []
            )
            self.put("outcome", self.mapped_outcome(path) or outcome if unread else outcome)
        errors = sorted(self.paths("error", at_most=4), key=lambda path: -path.count("."))
        self.put("error", errors)

    def mapped_outcome(self, path: str) -> list[Any]:
        """Say which of its words are failures, by what else is on the line."""
        failed: dict[str, bool] = {}
        for one in self.seen:
            leaf = one.leaves.get(path)
            if leaf is None or type(leaf.value) is not str:
                continue
            told = fields.outcome(leaf.value)
            is_bad = told is False or (
                told is None
                and (one.has_failed or "output_tokens" not in one.roles)
                and len(self.seen) > 1
            )
            failed[leaf.value] = failed.get(leaf.value, True) and is_bad
        if not any(failed.values()) or len(failed) > 8:
            return []
        return [{"path": path, "map": {word: not is_bad for word, is_bad in failed.items()}}]

    def times(self) -> None:
        started, ended = self.paths("started", at_most=1), self.paths("ended", at_most=1)
        stamped = self.paths("timestamp", at_most=1)
        end = ended or stamped
        unsure: list[str] = []
        for name, role in (
            ("duration", "duration"),
            ("time_to_first_token", "time_to_first_token"),
        ):
            sources: list[Any] = []
            for path in self.paths(role, at_most=2):
                unit, is_sure = self.unit(path, started, end)
                if unit == "text":
                    sources.append({"path": path, "as": "duration"})
                elif unit_in_name(path) == unit:
                    sources.append(path)
                else:
                    sources.append({"path": path, "unit": unit})
                if not is_sure:
                    unsure.append(name)
            self.put(
                name,
                sources,
                "its unit stands nowhere: a guess from its size, please check"
                if name in unsure
                else "",
            )
        if started and ("duration" not in self.rows or not end):
            self.put("started", list(started))
        self.put("timestamp", list(end))
        if "started" in self.rows:
            self.put("first_token", self.paths("first_token", at_most=1))

    def unit(self, path: str, started: list[str], ended: list[str]) -> tuple[str, bool]:
        """Tell the unit of a duration: by its name, by the times beside it, else by how fast tokens would come."""
        leaves = [one.leaves[path] for one in self.seen if path in one.leaves]
        named = next((unit for leaf in leaves if (unit := _unit(leaf)) is not None), None)
        if named is not None:
            return named, True
        speeds: list[tuple[float, float]] = []
        for one in self.seen:
            value = fields.number(one.leaves[path].value) if path in one.leaves else None
            if not value:
                continue
            if started and ended and started[0] in one.leaves and ended[0] in one.leaves:
                begin, end = (fields.timestamp(one.leaves[at[0]].value) for at in (started, ended))
                if begin is not None and end is not None and end > begin:
                    for unit, size in fields.UNITS.items():
                        if abs(value / size - (end - begin)) <= max(0.02 * (end - begin), 0.002):
                            return unit, True
            out = [
                fields.count(one.leaves[at].value) or 0 for at in one.roles.get("output_tokens", {})
            ]
            speeds.append((value, float(max(out, default=0) or 60)))
        if not speeds:
            return "ms", False
        distance = {
            unit: statistics.median(
                abs(math.log((tokens * fields.UNITS[unit] / value) / 60))
                for value, tokens in speeds
            )
            for unit in ("s", "ms", "us", "ns")
        }
        return min(distance, key=distance.__getitem__), False

    def tokens(self) -> None:
        names = (
            "input_tokens",
            "output_tokens",
            "cache_read_tokens",
            "cache_write_tokens",
            "cache_write_1h_tokens",
        )
        for name in (*names, "reasoning_tokens", "audio_input_tokens", "audio_output_tokens"):
            self.put(name, self.paths(name, at_most=2))
        cached: list[str] = [
            name for name in ("cache_read_tokens", "cache_write_tokens") if name in self.rows
        ]
        if cached:
            excludes, is_sure = self.excludes("input_tokens", cached)
            if excludes:
                self.rows["input_excludes_cache"] = True
            elif not is_sure:
                self.comments[cached[0]] = (
                    "taken as a part of input_tokens; if not: input_excludes_cache = true"
                )
        if "reasoning_tokens" in self.rows:
            excludes, is_sure = self.excludes("output_tokens", ["reasoning_tokens"])
            if excludes:
                self.rows["output_excludes_reasoning"] = True
            elif not is_sure:
                self.comments["reasoning_tokens"] = (
                    "taken as a part of output_tokens; if not: output_excludes_reasoning = true"
                )
        if not {"input_tokens", "output_tokens"} & set(self.rows) and self.paths("total_tokens"):
            total = self.paths("total_tokens", at_most=1)
            if any(
                "embed" in str(value).lower()
                for path in self.paths("model")
                for value in self.values(path)
            ):
                self.put("input_tokens", list(total))
                return
            self.put(
                "total_tokens",
                self.paths("total_tokens", at_most=1),
                "a sum alone: it cannot be priced, nor split",
            )

    def figure(self, one: _Seen, name: str) -> int | None:
        for path in self.paths(name):
            if path in one.leaves and (found := fields.count(one.leaves[path].value)) is not None:
                return found
        return None

    def excludes(self, whole: str, parts: list[str]) -> tuple[bool, bool]:
        """Tell whether parts are counted beside their whole, and whether anything says so: totals, sizes, words."""
        votes: Counter[bool] = Counter()
        for one in self.seen:
            base, part = (
                self.figure(one, whole),
                sum([self.figure(one, name) or 0 for name in parts]),
            )
            if not part:
                continue
            if base is None or part > base:
                return True, True
            sums = {
                is_out: self.totals(one, whole, parts if is_out else []) for is_out in (True, False)
            }
            total = self.figure(one, "total_tokens")
            if total is not None and (total in sums[True]) != (total in sums[False]):
                votes[total in sums[True]] += 1
        if votes:
            return votes[True] > votes[False], True
        words = frozenset().union(*[_SPLIT[path.rpartition(".")[2]] for path in self.paths(whole)])
        if words & (_UNCACHED if whole == "input_tokens" else _VISIBLE):
            return True, True
        # Anthropic's words: `input_tokens` beside `cache_read_input_tokens`
        siblings = [_SPLIT[path.rpartition(".")[2]] for name in parts for path in self.paths(name)]
        is_anthropic = whole == "input_tokens" and any(
            {"input"} <= set(one) and ({"read"} <= set(one) or _WRITE & set(one))
            for one in siblings
        )
        return is_anthropic and "input" in words, is_anthropic

    def totals(self, one: _Seen, whole: str, parts: list[str]) -> set[int]:
        """Tell what the total can be if these parts are counted beside the whole, whatever holds for the others."""
        both = (self.figure(one, "input_tokens") or 0) + (self.figure(one, "output_tokens") or 0)
        other = (
            ["reasoning_tokens"]
            if whole == "input_tokens"
            else ["cache_read_tokens", "cache_write_tokens"]
        )
        mine = sum([self.figure(one, name) or 0 for name in parts])
        return {both + mine, both + mine + sum([self.figure(one, name) or 0 for name in other])}

    def cost(self) -> None:
        sources: list[Any] = []
        for path in self.paths("cost", at_most=1):
            is_cents = bool(set(_SPLIT[path.rpartition(".")[2]]) & {"cents", "cent"})
            sources.append({"path": path, "unit": "cents"} if is_cents else path)
        self.put("cost", sources)

    def ids(self) -> None:
        """Where several lines tell one request (snapshots of a stream), find by which field, and which is the last."""
        best: tuple[int, str] | None = None
        for path, leaf in self.seen[0].leaves.items():
            words = leaf.last | (leaf.parent if leaf.last <= _ID else frozenset())
            if not leaf.last & _ID or words & _NO_ID or type(leaf.value) is not str:
                continue
            values = [one.leaves[path].value if path in one.leaves else None for one in self.seen]
            known = Counter([value for value in values if value is not None])
            if len(known) > 1 and max(known.values()) > 1 and None not in values:
                score = len(known) + 100 * bool(
                    words & _words("request req call message msg response completion")
                )
                best = max(best, (score, path)) if best else (score, path)
        if best is None:
            return
        path = best[1]
        groups: dict[Any, list[_Seen]] = {}
        for one in self.seen:
            groups.setdefault(one.leaves[path].value, []).append(one)
        self.put("id", [path], "several lines tell of one request: the last one counts")
        # every one may be followed by a better one, unless a field says that it is the last
        self.rows["final"] = self.final([*groups.values()]) or {"const": False}

    def final(self, groups: list[list[_Seen]]) -> Any:
        for path, leaf in self.seen[-1].leaves.items():
            flags = [
                [
                    fields.flag(one.leaves[path].value) if path in one.leaves else None
                    for one in group
                ]
                for group in groups
            ]
            if type(leaf.value) in (bool, str) and all(
                group[-1] is True and not any(group[:-1]) for group in flags
            ):
                return path
        for path in self.paths("finish_reason", at_most=1):
            there = [
                [path in one.roles.get("finish_reason", {}) for one in group] for group in groups
            ]
            if all(group[-1] and not any(group[:-1]) for group in there):
                return [{"path": path, "as": "yes"}, {"const": False}]
        return None

    # How its lines are known

    def signs(self) -> Iterator[tuple[dict[str, Any], list[str]]]:
        """Give ways to tell its lines from others, the best first; each is tried on all that is there."""
        evidence = [
            name
            for name in (
                "input_tokens",
                "output_tokens",
                "total_tokens",
                "error",
                "status",
                "duration",
                "cost",
            )
            if name in self.rows
        ]
        narrow = [
            name
            for name in evidence
            if name in ("input_tokens", "output_tokens", "total_tokens", "error")
        ]
        ways = [["|".join(names)] if names else [] for names in ([], narrow, evidence)]
        kinds = list(self.kinds())
        there = self.there()
        for when in kinds:
            for needs in ways:
                yield when, needs
        for when in kinds:
            for needs in ways:
                yield {**when, **there}, needs
        if there:
            for needs in ways[1:]:
                yield there, needs
            for needs in ways[1:]:
                yield {**there, **self.common()}, needs

    def kinds(self) -> Iterator[dict[str, Any]]:
        scored: list[tuple[float, str, list[str]]] = []
        in_use = {
            path
            for name in ("model", "provider", "finish_reason", "trace_id")
            for path in self.paths(name)
        }
        for path, leaf in self.seen[0].leaves.items():
            if (
                path in in_use
                or leaf.path.count(".") > 2
                or not leaf.last & (_STRONG_KIND | _WEAK_KIND)
            ):
                continue
            if leaf.all_above & (_ERROR | _words("content messages message prompt choices user")):
                continue
            values = [str(one.leaves[path].value) for one in self.seen if path in one.leaves]
            is_word = all(re.fullmatch(r"[\w.:/@+-]{1,64}", value) for value in values)
            if not is_word or type(leaf.value) is not str or len(values) < len(self.seen):
                continue
            distinct = sorted(set(values))
            about_ai = all(set(_SPLIT[value]) & _AI_WORDS for value in distinct)
            is_strong = bool(leaf.last & _STRONG_KIND)
            if len(distinct) > 4 or not (is_strong or about_ai):
                continue
            score = 2.0 * is_strong + about_ai - 0.3 * len(distinct) - 0.5 * leaf.path.count(".")
            scored.append((score, path, distinct))
        for _, path, distinct in sorted(scored, key=lambda one: (-one[0], one[1])):
            yield {path: distinct[0] if len(distinct) == 1 else distinct}

    def there(self) -> dict[str, Any]:
        """Give the paths that every one of its lines has: the model's, and one of a figure."""
        chosen: list[str] = []
        for names in (
            ("model",),
            ("input_tokens", "output_tokens", "duration", "cost", "total_tokens"),
        ):
            for name in names:
                always = [
                    path
                    for path in self.paths(name)
                    if all(
                        path in one.leaves and one.leaves[path].value is not None
                        for one in self.seen
                    )
                ]
                if always:
                    chosen.append(always[0])
                    break
        return dict.fromkeys(chosen, True)

    def common(self) -> dict[str, Any]:
        """Give a few more paths that all its lines have, and that the others have not."""
        shared = set.intersection(
            *[
                {path for path, leaf in one.leaves.items() if leaf.value is not None}
                for one in self.seen
            ]
        )
        unlike = [
            path
            for path in sorted(shared, key=lambda path: (path.count("."), path))
            if not any(fields.get(one, path) is not None for one in self.strangers)
        ]
        return dict.fromkeys(unlike[:2], True)


# How it is written


_ORDER = (
    "when needs provider model endpoint status outcome error duration time_to_first_token started first_token timestamp "
    "input_excludes_cache input_tokens cache_read_tokens cache_write_tokens cache_write_1h_tokens "
    "output_excludes_reasoning output_tokens reasoning_tokens"
)


def _toml(name: str, rows: dict[str, Any], comments: dict[str, str]) -> str:
    lines = [f"[parsers.{name}]"]
    first = [key for key in _ORDER.split() if key in rows]
    order = [*first, *[key for key in rows if key not in first]]
    for key in order:
        comment = f"  # {comments[key]}" if key in comments else ""
        lines.append(f"{key} = {_value(rows[key])}{comment}")
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        pairs = [f"{_key(key)} = {_value(inner)}" for key, inner in value.items()]
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list):
        return f"[{', '.join([_value(one) for one in value])}]"
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    return (
        key
        if key in ("path", "const", "unit", "map", "as", "sum")
        else json.dumps(key, ensure_ascii=False)
    )
