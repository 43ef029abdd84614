"""Everything a user can set, its default and its check, as one frozen value."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from . import budgets
from .budgets import Budget
from .compiled import compile_table
from .request import Parser
from .table import Table

_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_OWN_LABELS = frozenset(
    {
        "provider",
        "model",
        "endpoint",
        "status_code",
        "error_type",
        "cost_type",
        "finish_reason",
        "gen_ai_operation_name",
        "gen_ai_provider_name",
        "gen_ai_request_model",
        "gen_ai_response_model",
        "gen_ai_token_type",
        "le",
        "quantile",
    }
)
_TABLES = frozenset({"parsers", "prices", "labels", "budgets"})


class ConfigError(ValueError):
    """A wrong option or file: one sentence that names the option, the value and what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the main job is told."""

    log_paths: tuple[str, ...]
    parsers: tuple[str, ...] = ("auto",)
    envelope: str = "auto"
    host: str = "0.0.0.0"  # noqa: S104 - a scrape comes from another host
    port: int = 9464
    state_dir: Path | None = None
    state_interval_seconds: float = 5.0
    begin_at_end: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    """Extra label → path in the record."""
    schemas: tuple[str, ...] = ("ai_api",)
    """Which names are served: of `metrics.SCHEMAS`."""
    path_labels: tuple[re.Pattern[str], ...] = ()
    """Looked for in a file's path; each named group is an extra label."""
    cost_source: str = "auto"
    prices_path: Path | None = None
    prices: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Parser] = field(default_factory=dict)
    """The user's own parsers, from `[parsers.NAME]`."""
    budgets: tuple[Budget, ...] = ()
    max_series: int = 2000
    max_line_bytes: int = 8 << 20
    poll_interval_seconds: float = 1.0
    zero_first: bool = True
    push_url: str | None = None
    push_interval_seconds: float = 15.0
    linger_seconds: float = 0.0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    auth_path: Path | None = None

    @property
    def extra_labels(self) -> tuple[str, ...]:
        """The names of all extra labels: of those from the record, then of those from the path."""
        return (*self.labels, *names_of(self.path_labels))


def read_file(path: Path) -> dict[str, Any]:
    """Read a TOML file of options and tables; ConfigError where it cannot be read or holds what nobody knows."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise ConfigError(
            f"--config: expected a file that can be read, got {str(path)!r}: {error.strerror}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config: expected TOML in {str(path)!r}: {error}") from None


def options_of(document: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Give the options of a configuration file by their Python names (`log_path`)."""
    options: dict[str, Any] = {}
    for key, value in document.items():
        if key in _TABLES:
            if not isinstance(value, dict):
                raise ConfigError(f"--config: expected [{key}] to be a table, got {value!r}")
            continue
        name = key.replace("-", "_")
        if name not in known:
            raise ConfigError(
                f"--config: expected an option or one of [parsers], [prices], [labels], [budgets], got {key!r}"
            )
        options[name] = float(value) if isinstance(value, Decimal) else value
    return options


def tables_of(document: Mapping[str, Any]) -> dict[str, Parser]:
    """Compile the user's `[parsers.NAME]` tables."""
    tables: dict[str, Parser] = {}
    for name, mapping in document.get("parsers", {}).items():
        if name == "auto" or not isinstance(mapping, dict):
            raise ConfigError(
                f"[parsers.{name}]: expected a table under a name of its own, got {mapping!r}"
            )
        try:
            tables[name] = compile_table(Table.from_toml(name, mapping))
        except ValueError as error:
            raise ConfigError(str(error)) from None
    return tables


def budgets_of(document: Mapping[str, Any], labels: Mapping[str, str]) -> tuple[Budget, ...]:
    """Read the `[budgets]` of a configuration file with these extra labels."""
    try:
        return budgets.read(document.get("budgets", {}), tuple(labels))
    except ValueError as error:
        raise ConfigError(str(error)) from None


def labels_of(pairs: tuple[str, ...], document: Mapping[str, Any]) -> dict[str, str]:
    """Read extra labels from the options, `NAME=PATH`, over those of the file's `[labels]`."""
    labels: dict[str, str] = dict(document.get("labels", {}))
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals:
            raise ConfigError(f"--label: expected NAME=PATH, got {pair!r}")
        labels[name] = path
    for name, path in labels.items():
        if not _is_free(name):
            raise ConfigError(f"--label: expected a label name that is free to use, got {name!r}")
        if not isinstance(path, str) or not path:
            raise ConfigError(f"--label: expected a path in the record for {name}, got {path!r}")
    return labels


def path_labels_of(
    texts: tuple[str, ...], labels: Mapping[str, str]
) -> tuple[re.Pattern[str], ...]:
    """Read `--path-label`: regular expressions whose named groups are extra labels beside `labels`."""
    patterns = []
    for text in texts:
        try:
            pattern = re.compile(text)
        except re.error as error:
            raise ConfigError(
                f"--path-label: expected a regular expression, got {text!r}: {error}"
            ) from None
        if not pattern.groupindex:
            raise ConfigError(
                f"--path-label: expected a group (?P<NAME>…) in the regular expression, got {text!r}"
            )
        for name in pattern.groupindex:
            if not _is_free(name) or name in labels:
                raise ConfigError(
                    f"--path-label: expected a label name that is free to use, got {name!r}"
                )
        patterns.append(pattern)
    return tuple(patterns)


def names_of(patterns: tuple[re.Pattern[str], ...]) -> tuple[str, ...]:
    """Give the names of the groups of all patterns, each once."""
    return tuple(dict.fromkeys(name for pattern in patterns for name in pattern.groupindex))


def values_in(path: str, patterns: tuple[re.Pattern[str], ...]) -> tuple[str, ...]:
    """Give the value of each of `names_of(patterns)` in a file's path: the first that is found, or nothing."""
    found: dict[str, str] = {}
    for pattern in patterns:
        match = pattern.search(path)
        if match is not None:
            for name, value in match.groupdict().items():
                if value:
                    found.setdefault(name, value)
    return tuple(found.get(name, "") for name in names_of(patterns))


def _is_free(name: str) -> bool:
    return (
        _LABEL_NAME.match(name) is not None
        and not name.startswith("__")
        and name not in _OWN_LABELS
    )
