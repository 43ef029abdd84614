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
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    auth_path: Path | None = None


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
        if not _LABEL_NAME.match(name) or name.startswith("__") or name in _OWN_LABELS:
            raise ConfigError(f"--label: expected a label name that is free to use, got {name!r}")
        if not isinstance(path, str) or not path:
            raise ConfigError(f"--label: expected a path in the record for {name}, got {path!r}")
    return labels
