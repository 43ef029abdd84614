"""LiteLLM's `model_prices_and_context_window.json` as a table of prices, as it is.

Its figures are USD for one token; its names are `gpt-4o`, `azure/gpt-4o`, `us.anthropic.…-v1:0`, and each entry says
whose it is (`litellm_provider`). What an entry tells beyond the kinds of token that a `Request` has (images, seconds,
searches, prices by the hour of the day) is passed over.

Source: https://github.com/BerriAI/litellm/blob/main/model_prices_and_context_window.json, and its
`litellm_core_utils/llm_cost_calc/utils.py` for what the names mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from . import fields

KEYS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "audio_input": "input_cost_per_audio_token",
    "audio_output": "output_cost_per_audio_token",
    "reasoning": "output_cost_per_reasoning_token",
    "thousand_requests": "input_cost_per_request",
}
"""Our name → theirs. A price for a token is told for one, ours for a million; one for a request likewise."""

_SUFFIXES = {"batch": "_batches", "flex": "_flex", "priority": "_priority"}
"""Service tier → what stands behind the name of a price."""

_ABOVE = re.compile(r"_above_(\d+)(k?)_tokens")
_PROVIDERS = {
    "azure_text": "azure.ai.openai",
    "bedrock_converse": "aws.bedrock",
    "cohere_chat": "cohere",
    "text-completion-openai": "openai",
    "text-completion-codestral": "codestral",
}
_INCLUSIVE = frozenset({"x_ai"})
"""Who asks for the higher price from so many input tokens on, not from one more."""

Amount = Decimal | list[Any]
"""USD for a million tokens, or [base, [from more than so many input tokens, USD], …]."""


def is_one(document: Any) -> bool:
    """Tell whether a decoded JSON document is such a file."""
    return isinstance(document, dict) and any(
        isinstance(entry, dict) and "litellm_provider" in entry for entry in document.values()
    )


class LiteLLMPrices:
    """The entries of the file that have a price for tokens."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._entries: dict[str, dict[str, Any]] = {}
        self._keys: dict[tuple[str, str], str] = {}
        """(provider, name in lower case) → the name of the entry."""
        self._whole: dict[str, str] = {}
        """The name of an entry in lower case → as it is."""
        for key, entry in document.items():
            if key == "sample_spec" or not isinstance(entry, dict):
                continue
            kept = {
                name: value
                for name, value in entry.items()
                if "cost_per" in name or "_token_cost" in name
            }
            if isinstance(entry.get("tiered_pricing"), list):
                kept["tiered_pricing"] = entry["tiered_pricing"]
            owner = entry.get("litellm_provider")
            if not isinstance(owner, str) or not kept.keys() & {*_NEEDED, "tiered_pricing"}:
                continue
            self._entries[key] = {**kept, "litellm_provider": owner}
            name = key.lower()
            self._whole.setdefault(name, key)
            provider = provider_of(owner)
            head, slash, rest = name.partition("/")
            if slash and provider_of(head) == provider:
                # LiteLLM asks for this name first
                self._keys[provider, rest] = key
            else:
                self._keys.setdefault((provider, name), key)
        self.providers = frozenset([provider for provider, _ in self._keys])

    def __len__(self) -> int:
        return len(self._entries)

    def models(self) -> Iterator[tuple[str, str]]:
        """Give each (provider, model) that has a price, by the names that a log would have."""
        yield from self._keys

    def key(self, provider: str, names: Sequence[str], *, may_guess: bool) -> str | None:
        """Find the entry of a model under the first of some names, in lower case, that it has.

        `may_guess`: of a provider that the file does not know, the model's own vendor's entry will do.
        """
        name_of_provider = fields.provider(provider) or provider
        is_known = name_of_provider in self.providers
        for name in names:
            found = self._keys.get((name_of_provider, name))
            if found is not None:
                return found
            vendor, slash, rest = name.partition("/")
            if slash and (provider_of(vendor) == name_of_provider or (may_guess and not is_known)):
                found = self._keys.get((provider_of(vendor), rest))
                if found is not None:
                    return found
        if may_guess and not is_known:
            return next((self._whole[name] for name in names if name in self._whole), None)
        return None

    def has_tiers(self, key: str) -> bool:
        """Tell whether the entry has a price of its own for any service tier."""
        entry = self._entries[key]
        return any(
            KEYS[kind] + suffix in entry
            for kind in ("input", "output")
            for suffix in _SUFFIXES.values()
        )

    def amounts(self, key: str, service_tier: str | None = None) -> dict[str, Amount] | None:
        """Give what the kinds of token cost, `None` where the entry has no price for the service tier.

        A kind of which a service tier says nothing costs there what it costs else, as LiteLLM has it; but reasoning
        costs as its whole.
        """
        entry = self._entries[key]
        if service_tier is None:
            return (
                _tiered(entry["tiered_pricing"])
                if "tiered_pricing" in entry
                else self._of(entry, "")
            )
        suffix = _SUFFIXES[service_tier]
        if not any(f"{KEYS[kind]}{suffix}" in entry for kind in ("input", "output")):
            return None
        return self._of(entry, suffix)

    def _of(self, entry: Mapping[str, Any], suffix: str) -> dict[str, Amount]:
        inclusive = provider_of(entry["litellm_provider"]) in _INCLUSIVE
        starts: dict[str, dict[int, Decimal]] = {}
        for name, value in entry.items():
            found = _ABOVE.search(name)
            if found is None or (amount := _million(value)) is None:
                continue
            stem = name[: found.start()] + name[found.end() :]
            start = int(found[1]) * (1000 if found[2] else 1) - inclusive
            starts.setdefault(stem, {})[start] = amount
        amounts: dict[str, Amount] = {}
        for kind, name in KEYS.items():
            names = (name + suffix, name) if kind != "reasoning" else (name + suffix,)
            base = _first(entry, names)
            above = {
                start: one
                for name in reversed(names)
                for start, one in starts.get(name, {}).items()
            }
            if base is None and not above:
                continue
            whole = kind
            while base is None and (whole := _WHOLES.get(whole, "")):
                base = _first(entry, (KEYS[whole] + suffix, KEYS[whole]))
            base = base or Decimal(0)
            if kind == "thousand_requests":
                base /= 1000
            amounts[kind] = (
                [base, *[[start, above[start]] for start in sorted(above)]] if above else base
            )
        return amounts


_WHOLES = {
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "audio_input": "input",
    "audio_output": "output",
    "reasoning": "output",
}
"""What a kind of token costs as, that has no price of its own."""
_NEEDED = (KEYS["input"], KEYS["output"])


def provider_of(name: str) -> str:
    """Give our name for one of LiteLLM's providers: `vertex_ai-anthropic_models` is Vertex."""
    if name.startswith("vertex_ai-"):
        name = "vertex_ai"
    return _PROVIDERS.get(name) or fields.provider(name) or name


def _first(entry: Mapping[str, Any], names: Sequence[str]) -> Decimal | None:
    return next((one for name in names if (one := _million(entry.get(name))) is not None), None)


def _million(value: Any) -> Decimal | None:
    """Read USD for one token as USD for a million; `None` for what is no price."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        # a float stands for the decimal that it is written as
        amount = Decimal(str(value)) * 1_000_000
    except InvalidOperation:
        return None
    if not amount.is_finite() or not 0 <= amount < 1_000_000_000:
        return None
    return amount if amount.adjusted() > -24 else Decimal(0)


def _tiered(tiers: Sequence[Any]) -> dict[str, Amount]:
    """Read a list of whole price lists, each for a range of input tokens."""
    ranged = sorted(
        [
            (int(start), tier)
            for tier in tiers
            if isinstance(tier, dict)
            and isinstance(tier.get("range"), list)
            and isinstance(start := next(iter(tier["range"]), None), int | float)
            and 0 <= start < 1e12
        ],
        key=lambda one: one[0],
    )
    amounts: dict[str, Amount] = {}
    for kind, name in KEYS.items():
        steps = [
            (start, amount)
            for start, tier in ranged
            if (amount := _million(tier.get(name))) is not None
        ]
        if steps:
            amounts[kind] = [steps[0][1], *[[start, amount] for start, amount in steps[1:]]]
    return amounts
