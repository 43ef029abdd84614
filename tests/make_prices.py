"""Make `sidecar/prices.jsonl` from the data of the installed genai-prices package.

Run it as `python tests/make_prices.py [FILE]`; the same package gives the same bytes. The first line tells
where the data is from; each further line is one provider, so that only those asked for need be decoded.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import genai_prices
from genai_prices import types
from genai_prices.data import providers

TARGET = Path(__file__).parent.parent / "sidecar" / "prices.jsonl"

KEYS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "output_reasoning_mtok": "reasoning",
    "requests_kcount": "thousand_requests",
}
"""Their name → ours. Images, hours, searches and pages are no tokens of a Request and are left out."""

NOTICE = (
    "Prices from genai-prices, https://github.com/pydantic/genai-prices. MIT License. "
    "Copyright (c) Pydantic Services Inc. 2025 to present. Permission is hereby granted, free of charge, to any person "
    'obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software '
    "without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, "
    "sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, "
    "subject to the following conditions: The above copyright notice and this permission notice shall be included in "
    'all copies or substantial portions of the Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY '
    "KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A "
    "PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY "
    "CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN "
    "CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."
)


def clause(match: Any) -> list[Any]:
    """Write a matching rule as [sign, text] or [sign, rule, rule, …]."""
    match match:
        case types.ClauseEquals():
            return ["=", match.equals]
        case types.ClauseStartsWith():
            return ["^", match.starts_with]
        case types.ClauseEndsWith():
            return ["$", match.ends_with]
        case types.ClauseContains():
            return ["*", match.contains]
        case types.ClauseRegex():
            return ["~", match.regex]
        case types.ClauseOr():
            return ["|", *map(clause, match.or_)]
        case types.ClauseAnd():
            return ["&", *map(clause, match.and_)]
    raise TypeError(f"a matching rule that is not known: {type(match).__name__}")


def dollars(price: Decimal) -> str:
    """Write a price; ValueError for one that is finer than the sidecar counts (10⁻³⁰ USD for one token)."""
    if price.scaleb(24) % 1:
        raise ValueError(f"a price with more than 24 decimals: {price}")
    return str(price)


def prices(model_price: types.ModelPrice) -> dict[str, Any]:
    """Write the prices of tokens: USD for a million as text, or [base, [start, price], …] where they have tiers."""
    written: dict[str, Any] = {}
    for theirs, ours in KEYS.items():
        price = getattr(model_price, theirs)
        if isinstance(price, Decimal):
            written[ours] = dollars(price)
        elif price is not None:
            tiers = [[tier.start, dollars(tier.price)] for tier in price.tiers]
            written[ours] = [dollars(price.base), *tiers]
    return written


def dated(model: types.ModelInfo) -> list[list[Any]]:
    """Write prices with the condition from which they hold: a date, two times of day, or none."""
    conditional = (
        model.prices
        if isinstance(model.prices, list)
        else [types.ConditionalPrice(prices=model.prices)]
    )
    written = []
    for one in conditional:
        condition: Any = None
        if isinstance(one.constraint, types.StartDateConstraint):
            condition = one.constraint.start_date.isoformat()
        elif isinstance(one.constraint, types.TimeOfDateConstraint):
            condition = [one.constraint.start_time.isoformat(), one.constraint.end_time.isoformat()]
        written.append([condition, prices(one.prices)])
    return written


def newest_start() -> str:
    """Give the day when the newest price in force began: the package tells no date of its own.

    Prices that are announced for later than the package's installation are not in force.
    """
    installed = datetime.fromtimestamp(Path(genai_prices.__file__).stat().st_mtime, UTC).date()
    starts = [
        price.constraint.start_date
        for provider in providers
        for model in provider.models
        if isinstance(model.prices, list)
        for price in model.prices
        if isinstance(price.constraint, types.StartDateConstraint)
    ]
    return max(start for start in starts if start <= installed).isoformat()


def made() -> str:
    """Give the text of the file."""
    day = newest_start()
    if TARGET.exists():
        head = json.loads(TARGET.read_text(encoding="utf-8").partition("\n")[0])
        if head["version"] == version("genai-prices"):
            day = head["date"]
    lines: list[Any] = [{"notice": NOTICE, "version": version("genai-prices"), "date": day}]
    for provider in providers:
        models = [[model.id, clause(model.match), dated(model)] for model in provider.models]
        lines.append(
            {
                "id": provider.id,
                "fallback": provider.fallback_model_providers or [],
                "models": models,
            }
        )
    return "".join(
        json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines
    )


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    target.write_text(made(), encoding="utf-8")
    print(f"{target}: {target.stat().st_size} bytes")
