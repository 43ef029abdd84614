"""Who is not us writes a parser: as a package of their own, or as a table; and a broken one stops nothing.

The package is installed, with ours, into an environment that was made for it; what both depend on is taken from
the environment that runs the tests, so that nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus import SidecarProcess, sidecar_process, wait_until

ROOT = Path(__file__).parent.parent
STRANGER = ROOT / "tests" / "stranger"


def begin(call: str, model: str) -> dict[str, Any]:
    return {"acme.event": "begin", "call": call, "model": model}


def end(call: str, **more: object) -> dict[str, Any]:
    return {
        "acme.event": "end",
        "call": call,
        "took": 250_000,
        "http": 200,
        "tokens": {"in": 10, "out": 4},
        **more,
    }


GENERIC = {
    "model": "gpt-4o",
    "provider": "openai",
    "status": 200,
    "usage": {"prompt_tokens": 7, "completion_tokens": 1},
}


def text(*records: dict[str, Any]) -> str:
    return "".join([json.dumps(record) + "\n" for record in records])


def sample(page: str, start: str) -> float:
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(start)
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with our package and the strangers' in it; give its interpreter."""
    directory = tmp_path_factory.mktemp("stranger") / "venv"
    venv.create(directory, with_pip=False)
    interpreter = directory / "bin" / "python"
    printed = subprocess.run(
        [interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    site = Path(printed.stdout.strip())
    # without isolation the build tool is the tests' own, and nothing is downloaded
    is_offline = importlib.util.find_spec("hatchling") is not None
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site),
            *(["--no-build-isolation", "--no-index"] if is_offline else []),
            *("--disable-pip-version-check", ROOT, STRANGER, STRANGER / "broken"),
        ],
        check=True,
    )
    # what they depend on, after what was installed
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(ours) + "\n")
    return interpreter


@contextmanager
def running(python: Path, *options: str | Path) -> Iterator[SidecarProcess]:
    """Run the sidecar that is installed beside the strangers."""
    process = SidecarProcess(options)
    process.arguments[0] = str(python)
    with process:
        yield process


def test_a_strangers_parser_counts_in_a_running_sidecar(python: Path, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_text(text(begin("c1", "acme-1"), begin("c2", "acme-2"), end("c2"), end("c1")))
    with running(python, "--log-path", log) as sidecar:
        with log.open("a") as file:
            file.write(text(begin("c3", "acme-1"), end("c3", http=429, tokens={}), end("c1")))
        wait_until(
            lambda: sample(sidecar.page(), 'ai_sidecar_lines_total{result="repeat"}') == 1,
            "the copy of c1",
        )
        page = sidecar.page()

    labels = 'endpoint="/chat/completions",model="acme-1",provider="acme"'
    assert sample(page, f'ai_api_requests_total{{{labels},status_code="200"}}') == 1
    assert sample(page, f'ai_api_requests_total{{{labels},status_code="429"}}') == 1
    assert sample(page, 'ai_api_input_tokens_total{model="acme-2",provider="acme"}') == 10
    assert sample(page, 'ai_api_output_tokens_total{model="acme-1",provider="acme"}') == 4
    assert sample(page, 'ai_sidecar_requests_total{parser="acme"}') == 3
    assert sample(page, "ai_api_request_duration_milliseconds_sum") == 750


def test_a_broken_parser_stops_nothing_and_is_named_once(python: Path, tmp_path: Path) -> None:
    log = tmp_path / "app.jsonl"
    log.write_text(text({"kind": "broken", "key": "sk-secret"}, GENERIC) * 5)
    with running(python, "--log-path", log) as sidecar:
        with log.open("a") as file:
            file.write(text({"kind": "broken"}, GENERIC, begin("c1", "acme-1"), end("c1")))
        wait_until(
            lambda: sample(sidecar.page(), 'ai_sidecar_requests_total{parser="acme"}') == 1,
            "the last line",
        )
        page, said = sidecar.page(), "\n".join(sidecar.lines)

    assert sample(page, 'ai_sidecar_requests_total{parser="generic"}') == 6
    assert sample(page, 'ai_sidecar_lines_total{result="plugin_error"}') == 6
    assert said.count("parser broken failed") == 1
    assert said.count("parser unloadable of broken-ai-sidecar 0.1 cannot be loaded") == 1
    assert "sk-secret" not in said


def test_both_commands_tell_of_strangers(python: Path) -> None:
    listed, checked = (
        subprocess.run(
            [python, "-m", "sidecar", *arguments],
            check=True,
            capture_output=True,
            text=True,
            input=text(end("c1"), {"kind": "broken", "prompt": "tell me a secret"}),
        )
        for arguments in (["parsers"], ["check", "-"])
    )

    by_name = {line.split()[0]: line for line in listed.stdout.splitlines()}
    assert "acme-ai-sidecar 1.0" in by_name["acme"]
    assert "Acme's gateway: a line when a call begins" in by_name["acme"]
    assert "[provider, model, endpoint, error_type, duration_seconds," in by_name["acme"]
    assert "cannot be loaded: ImportError" in by_name["unloadable"]
    assert "claimed by acme (function of acme-ai-sidecar 1.0): Acme's gateway" in checked.stdout
    assert "tokens.in" in checked.stdout
    assert "broken failed with KeyError at " in checked.stdout
    assert "secret" not in checked.stdout


def test_a_strangers_package_type_checks_against_ours(python: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-incremental"),
            *("--python-executable", python, "--config-file", "", STRANGER / "acme_ai_sidecar"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert result.stdout == "Success: no issues found in 1 source file\n", result.stdout


def test_the_type_checker_sees_what_a_strangers_parser_does_wrong(
    python: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    (tmp_path / "wrong.py").write_text(
        "from sidecar import Memory, Parser, Record, Request\n"
        "def parse(record: Record, memory: Memory) -> list[Request]:\n"
        "    return [Request(input_tokens='7')]\n"
        "def other(record: Record) -> None: ...\n"
        "wrong: Parser = other\n"
    )
    result = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-incremental"),
            *("--python-executable", python, "--config-file", "", "wrong.py"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert [line.split(": ")[0] for line in result.stdout.splitlines() if ": error:" in line] == [
        "wrong.py:3",
        "wrong.py:5",
    ]


def test_a_table_counts_in_a_running_sidecar(tmp_path: Path) -> None:
    log, config = tmp_path / "app.jsonl", tmp_path / "sidecar.toml"
    config.write_text(
        """
        [parsers.shop]
        when = { "kind" = ["llm_call", "llm_error"] }
        provider = { const = "acme" }
        model = "req.model"
        status = "http"
        duration = { path = "took", unit = "s" }
        input_excludes_cache = true
        input_tokens = "tok.fresh"
        cache_read_tokens = "tok.cached"
        output_tokens = "tok.out"
        """
    )
    call = {"kind": "llm_call", "req": {"model": "m"}, "took": 0.5}
    log.write_text(text({**call, "tok": {"fresh": 5, "cached": 95, "out": 20}}))
    with sidecar_process(log, "--config", config) as sidecar:
        with log.open("a") as file:
            file.write(text({"kind": "llm_start"}, {**call, "kind": "llm_error", "http": 503}))
        wait_until(
            lambda: sample(sidecar.page(), 'ai_sidecar_requests_total{parser="shop"}') == 2,
            "the failure",
        )
        page = sidecar.page()

    labels = 'model="m",provider="acme"'
    assert sample(page, f"ai_api_input_tokens_total{{{labels}}}") == 100
    assert sample(page, f"ai_api_cache_read_tokens_total{{{labels}}}") == 95
    assert sample(page, f"ai_api_output_tokens_total{{{labels}}}") == 20
    assert sample(page, 'ai_api_errors_total{error_type="overloaded"') == 1
    assert sample(page, "ai_api_request_duration_milliseconds_sum") == 1000
