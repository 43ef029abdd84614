"""The documents say what the code does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click

from sidecar import budgets, plugins
from sidecar.cli import main
from sidecar.metrics import AI_API, GEN_AI, BudgetCollector, Health, HealthCollector
from sidecar.series import Store

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_readme_lists_every_option_and_no_other() -> None:
    documented = set(re.findall(r"`(--[a-z-]+)`", section("Options"))) - {"--config"}
    options = {
        name
        for parameter in main.params
        if isinstance(parameter, click.Option)
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--") and parameter.name not in ("help", "version", "config")
    }

    assert documented == options


def test_the_readme_lists_every_option_of_backfill_and_no_other() -> None:
    from sidecar.commands.backfill import backfill

    rows = re.findall(
        r"^\| `(--[a-z-]+)` \| \S+ \| (.*?) \|$",
        section("The days before you had it"),
        re.MULTILINE,
    )
    reading = {parameter.name for parameter in main.params}

    assert dict(rows) == {
        parameter.opts[0]: parameter.help
        for parameter in backfill.params
        if isinstance(parameter, click.Option) and parameter.name not in reading
    }


def test_the_readme_lists_every_family_and_no_other() -> None:
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", section("Metrics"), re.MULTILINE))
    families = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in (*AI_API, *GEN_AI)
    }
    families |= {
        family.name + ("_total" if family.type == "counter" else "")
        for family in HealthCollector(Health(), Store(1)).collect()
    }
    some = budgets.read({"some": {"usd": 1, "per": "day"}}, ())
    collector = BudgetCollector(budgets.Budgets(some, (), lambda: 1e9))
    families |= {family.name for family in collector.collect()}

    assert documented == families


def test_the_readme_says_of_each_family_what_its_table_says() -> None:
    for family in (*AI_API, *GEN_AI):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = [*family.labels, *([family.split[0]] if family.split else [])]
        assert f"| `{name}` | {family.type} | {', '.join(labels)} | {family.help} |" in README, name


def test_every_parser_is_in_the_changelog_and_has_a_golden_log() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()

    for name in plugins.installed():
        assert f"`{name}`" in changelog
        golden = ROOT / "tests" / "golden"
        assert [*golden.glob(f"{name}/*.jsonl"), *golden.glob(f"{name}*.jsonl")], name


def test_the_readmes_configuration_is_good(tmp_path: Path) -> None:
    from sidecar import config

    text = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert text is not None
    path = tmp_path / "sidecar.toml"
    path.write_text(text[1])
    document = config.read_file(path)

    assert set(config.tables_of(document)) == {"acme"}
    assert tomllib.loads(text[1])["prices"]["models"]["acme-large"]["input"] == 2.0


def test_the_readmes_budgets_are_good() -> None:
    text = README.split("\n## Budgets\n")[1].split("```toml\n")[1].split("```")[0]

    some = budgets.read(tomllib.loads(text)["budgets"], ("team",))

    assert [(one.name, one.periods.unit) for one in some] == [
        ("everything", "day"),
        ("research", "month"),
    ]


def test_nothing_names_a_path_of_the_machine_it_was_written_on() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("sidecar/**/*.py"), *ROOT.glob("parsers/**/*.py")]:
        assert str(ROOT) + "/" not in path.read_text(), path
