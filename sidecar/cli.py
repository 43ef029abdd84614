"""Options → `Config` → the main job; commands are thin and import late."""

from __future__ import annotations

import gc
import gzip
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, BinaryIO, cast

import click
from click.core import ParameterSource

from . import config as configuration
from .config import Config, ConfigError


@cache
def program_version() -> str:
    """Give the version of the installed package."""
    try:
        return package_version("ai-sidecar")
    except PackageNotFoundError:
        return "unknown"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _set_up_log(level: str, form: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter()
        if form == "json"
        else logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    )
    root = logging.getLogger("ai_sidecar")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


_LATE_COMMANDS = {
    "backfill": "sidecar.commands.backfill",
    "demo": "sidecar.commands.demo",
    "prices": "sidecar.commands.prices",
    "report": "sidecar.commands.report",
}
"""Commands that bring more than a few imports: loaded when they are asked for."""


_READERS = frozenset({"backfill"})
"""Commands that read logs as the main job does: they take its options for that too, before or after their name."""
_READING_OPTIONS = frozenset(
    {
        "config",
        "cost_source",
        "envelope",
        "label",
        "log_format",
        "log_level",
        "log_path",
        "max_line_bytes",
        "max_series",
        "parser",
        "path_label",
        "prices",
        "schema",
        "state_dir",
        "zero_first",
    }
)


class _OneSentenceGroup(click.Group):
    """Says what is wrong in one sentence, without the usage text."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*super().list_commands(context), *_LATE_COMMANDS])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in _LATE_COMMANDS:
            found: click.Command = getattr(import_module(_LATE_COMMANDS[name]), name)
            if name in _READERS:
                own = {parameter.name for parameter in found.params}
                found.params += [
                    parameter
                    for parameter in self.params
                    if parameter.name in _READING_OPTIONS - own
                ]
            return found
        return super().get_command(context, name)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        words = list(args)
        context = super().make_context(info_name, args, parent, **extra)
        context.meta["words"] = words
        return context

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except ConfigError as error:
            self._end(str(error), 2)
        except click.exceptions.Abort:
            sys.exit(130)
        except click.ClickException as error:
            self._end(error.format_message(), 2)
        except OSError as error:
            self._end(str(error), 1)
        sys.exit(code if isinstance(code, int) else 0)

    def _end(self, sentence: str, code: int) -> None:
        click.echo("ai-sidecar: " + " ".join(sentence.split()), err=True)
        sys.exit(code)


def _config_file(
    context: click.Context, _parameter: click.Parameter, value: str | None
) -> dict[str, Any]:
    """Read the configuration file before the other options, which go over it."""
    if value is None:
        return {}
    document = configuration.read_file(Path(value))
    main_context = context.find_root()
    known = frozenset(p.name for p in main_context.command.params if p.name) - {
        "config",
        "help",
        "version",
    }
    context.default_map = {
        **(context.default_map or {}),
        **configuration.options_of(document, known),
    }
    return document


_MAIN_OPTIONS = [
    click.option(
        "--log-path",
        multiple=True,
        metavar="PATH",
        help="A file, a directory, a glob with **, or - for standard input.",
    ),
    click.option(
        "--parser",
        multiple=True,
        default=("auto",),
        show_default="auto",
        metavar="NAME",
        help="Which parsers may claim a line, asked in this order; auto is every installed one.",
    ),
    click.option(
        "--envelope",
        type=click.Choice(["auto", "none", "cri", "docker"]),
        default="auto",
        show_default=True,
        help="The container runtime's wrapper round each line.",
    ),
    click.option("--host", default="0.0.0.0", show_default=True, help="Where to serve."),  # noqa: S104 - a scrape comes from another host
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=9464,
        show_default=True,
        help="Port to serve on; 0 takes a free one, and the log says which.",
    ),
    click.option(
        "--state-dir",
        metavar="DIR",
        help="Keeps positions and counters, so that they go on over a restart.",
    ),
    click.option(
        "--state-interval",
        type=click.FloatRange(0.05, 3600),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="How often the state is saved, when something changed.",
    ),
    click.option(
        "--from",
        "from_",
        type=click.Choice(["beginning", "end"]),
        default="beginning",
        show_default=True,
        help="Where a file that is there at the first start is begun.",
    ),
    click.option(
        "--config",
        is_eager=True,
        callback=_config_file,
        metavar="FILE",
        help="TOML: any option by its name, and the tables [parsers.NAME], [prices], [labels], [budgets].",
    ),
    click.option(
        "--label",
        multiple=True,
        metavar="NAME=PATH",
        help="An extra label on every ai_api_* and gen_ai_* family, read from the record.",
    ),
    click.option(
        "--schema",
        multiple=True,
        type=click.Choice(["ai_api", "gen_ai"]),
        default=("ai_api",),
        show_default="ai_api",
        help="Which names are served: ours, or OpenTelemetry's GenAI client metrics, or both.",
    ),
    click.option(
        "--path-label",
        multiple=True,
        metavar="REGEX",
        help="Extra labels read from a file's path: each group (?P<NAME>…) of the regular expression is one.",
    ),
    click.option(
        "--cost-source",
        type=click.Choice(["auto", "log", "prices"]),
        default="auto",
        show_default=True,
        help="Where a cost comes from: the log's own figure where it tells one, else the prices; or one alone.",
    ),
    click.option(
        "--prices",
        metavar="FILE",
        help="TOML, or LiteLLM's JSON: prices over the bundled ones, read again when the file changes.",
    ),
    click.option(
        "--max-series",
        type=click.IntRange(1),
        default=2000,
        show_default=True,
        metavar="N",
        help="Distinct label combinations kept; what comes after is counted under _other.",
    ),
    click.option(
        "--max-line-bytes",
        type=click.IntRange(1024),
        default=8 << 20,
        show_default=True,
        metavar="N",
        help="A longer line is passed over and counted.",
    ),
    click.option(
        "--poll-interval",
        type=click.FloatRange(0.01, 3600),
        default=1.0,
        show_default=True,
        metavar="SECONDS",
        help="How often to look without file-system events.",
    ),
    click.option(
        "--zero-first/--no-zero-first",
        default=True,
        show_default=True,
        help="Show a new series as 0 once to each scraper, so that increase() sees its first requests.",
    ),
    click.option(
        "--once", is_flag=True, help="Read all there is, print the page to standard output, exit."
    ),
    click.option(
        "--push-url",
        metavar="URL",
        help="A Pushgateway to push to while running and at the end, for jobs that end before a scrape.",
    ),
    click.option(
        "--push-interval",
        type=click.FloatRange(0.1, 86400),
        default=15.0,
        show_default=True,
        metavar="SECONDS",
        help="How often to push.",
    ),
    click.option(
        "--linger",
        type=click.FloatRange(0, 86400),
        default=0.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to serve on after SIGTERM, until each scraper has the last figures: for jobs.",
    ),
    click.option(
        "--tls-cert", metavar="FILE", help="Serve HTTPS with this certificate chain, PEM."
    ),
    click.option("--tls-key", metavar="FILE", help="Its key, where it is not in the same file."),
    click.option(
        "--tls-client-ca",
        metavar="FILE",
        help="Require client certificates that this authority has signed.",
    ),
    click.option(
        "--auth-file",
        metavar="FILE",
        help="Lines user:bcrypt-hash; Basic auth on all but /health and /ready. Needs ai-sidecar[auth].",
    ),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="How much its own log tells, on standard error.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="The form of its own log.",
    ),
]


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def config_from(options: dict[str, Any], *, needs_log_path: bool = True) -> Config:
    """Make the frozen value of the command line's options; ConfigError names what is wrong."""
    document = options["config"] or {}
    if not options["log_path"] and needs_log_path:
        raise ConfigError("--log-path: expected a file, a directory, a glob or -, got nothing")
    if options["tls_cert"] is None and (options["tls_key"] or options["tls_client_ca"]):
        raise ConfigError(
            "--tls-cert: expected a certificate beside --tls-key and --tls-client-ca, got none"
        )
    labels = configuration.labels_of(tuple(options["label"]), document)
    return Config(
        log_paths=tuple(options["log_path"]),
        parsers=tuple(options["parser"]),
        envelope=options["envelope"],
        host=options["host"],
        port=options["port"],
        state_dir=_path(options["state_dir"]),
        state_interval_seconds=options["state_interval"],
        begin_at_end=options["from_"] == "end",
        labels=labels,
        path_labels=configuration.path_labels_of(tuple(options["path_label"]), labels),
        schemas=tuple(dict.fromkeys(options["schema"])),
        budgets=configuration.budgets_of(document, labels),
        cost_source=options["cost_source"],
        prices_path=_path(options["prices"]),
        prices=document.get("prices", {}),
        tables=configuration.tables_of(document),
        max_series=options["max_series"],
        max_line_bytes=options["max_line_bytes"],
        poll_interval_seconds=options["poll_interval"],
        zero_first=options["zero_first"],
        push_url=options["push_url"],
        push_interval_seconds=options["push_interval"],
        linger_seconds=options["linger"],
        tls_cert=_path(options["tls_cert"]),
        tls_key=_path(options["tls_key"]),
        tls_client_ca=_path(options["tls_client_ca"]),
        auth_path=_path(options["auth_file"]),
    )


@click.group(
    cls=_OneSentenceGroup,
    invoke_without_command=True,
    context_settings={
        "auto_envvar_prefix": "AI_SIDECAR",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.version_option(program_version(), prog_name="ai-sidecar")
@click.pass_context
def main(context: click.Context, /, **options: Any) -> None:
    """Watch what AI calls cost, how long they take and how they fail, from the logs that their clients write.

    The main job is `ai-sidecar --log-path PATH`: tail, count, serve, until SIGTERM or SIGINT.
    """
    context.obj = _for_command
    if context.invoked_subcommand is not None:
        return
    _set_up_log(options["log_level"], options["log_format"])
    config = config_from(options)
    # all that is made until the loop runs stays: nothing to collect
    gc.disable()
    # imported late: --help and the other commands need none of it
    from . import daemon

    if options["once"]:
        sys.stdout.buffer.write(daemon.once(config, version=program_version()))
        sys.stdout.buffer.flush()
        return
    daemon.run(config, version=program_version(), reload=lambda: _read_again(context))


def _for_command(context: click.Context, *, needs_log_path: bool = True) -> tuple[Config, str]:
    """Give the configuration of a command that is loaded late, and the program's version; its own options win."""
    assert context.parent is not None  # noqa: S101 - a command of a group has one
    options = dict(context.parent.params)
    for name in _READING_OPTIONS & set(context.params):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            options[name] = context.params[name]
    _set_up_log(options["log_level"], options["log_format"])
    return config_from(options, needs_log_path=needs_log_path), program_version()


def _read_again(context: click.Context) -> Config:
    """Read environment and configuration file anew; ConfigError where they are not good any more."""
    try:
        again = context.command.make_context(context.info_name, list(context.meta["words"]))
        return config_from(again.params)
    except click.ClickException as error:
        raise ConfigError(error.format_message()) from None


for _option in _MAIN_OPTIONS:
    main = _option(main)


@main.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or one JSON document for programs.",
)
def parsers(form: str) -> None:
    """List the installed parsers: what each reads, which fields it can tell, which package it comes from."""
    from .commands.parsers import document, table

    # a line for each where a program reads it
    click.echo(document() if form == "json" else table(is_wide=not sys.stdout.isatty()))


@main.command()
@click.argument("lines", nargs=-1, metavar="[FILE | - | LINE]...")
@click.option(
    "--line",
    "pasted",
    multiple=True,
    metavar="TEXT",
    help="A line as it stands in the log, with its wrapper if it has one.",
)
@click.option(
    "--lines",
    "in_full",
    type=click.IntRange(0),
    metavar="N",
    help="Of how many lines of a file all is told; then of a few of each kind.  [default: 100; json: all]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or one JSON document for programs.",
)
@click.pass_context
def check(
    context: click.Context,
    lines: tuple[str, ...],
    pasted: tuple[str, ...],
    in_full: int | None,
    form: str,
) -> None:
    """Tell whether the configuration is good, and what becomes of each line of a file, standard input, or pasted.

    For each line: who claimed it and why, where each field came from, what it cost at which price, or why it did
    not count. For lines that nobody understands a [parsers.NAME] table is proposed, to paste into --config.

    The options of the main job stand before the command: `ai-sidecar --config FILE check LOG`.
    """
    assert context.parent is not None  # noqa: S101 - a command of a group has one
    options = context.parent.params
    _set_up_log(options["log_level"], options["log_format"])
    from .commands.check import Checker, as_json, as_text

    checker = Checker(config_from(options, needs_log_path=False), version=program_version())
    sources = [*_sources(lines)]
    sources += [("line", partial(_pasted, text)) for text in pasted]
    tell = as_json if form == "json" else as_text
    # click takes colours away where nobody sees them; https://no-color.org is ours to keep
    colour = False if os.environ.get("NO_COLOR") or form == "json" else None
    for text in tell(checker, sources, in_full):
        click.echo(text, color=colour)


_LOG_NAMES = (".log", ".json", ".jsonl", ".ndjson")


def _sources(lines: tuple[str, ...]) -> Iterator[tuple[str, Callable[[], BinaryIO]]]:
    for text in lines:
        if text == "-":
            yield "standard input", lambda: sys.stdin.buffer
        elif text.lstrip()[:1] in ("{", "["):
            yield "line", partial(_pasted, text)
        else:
            path = Path(text)
            found = [path]
            if path.is_dir():
                found = [one for one in sorted(path.rglob("*")) if one.suffix in _LOG_NAMES]
            try:
                for one in found:
                    one.open("rb").close()
                    yield str(one), partial(_opened, one)
            except OSError as error:
                raise ConfigError(
                    f"check: expected a file, - or a JSON line, got {text!r}: {error.strerror}"
                ) from None


def _pasted(text: str) -> BinaryIO:
    return io.BytesIO(text.encode("utf-8", "surrogateescape"))


def _opened(path: Path) -> BinaryIO:
    """Open a log, gzipped or not."""
    file = path.open("rb")
    if file.peek(2)[:2] == b"\x1f\x8b":
        return cast("BinaryIO", gzip.open(file))
    return file
