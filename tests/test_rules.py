"""The recording and alert rules: sound, explained, and each alert fires when it should and is silent when it should be."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from grafana import FOLDER, RULES, documents, queries_of, rules_of, sample_table
from prometheus import needs_prometheus

from dashboards import rules, targets

ALERTS = [rule for rule in rules_of() if "alert" in rule]
NAMES = [alert["alert"] for alert in ALERTS]
TARGET = 'job="app",namespace="prod",instance="a:9464",pod="a"'
CALLS = f'{{{TARGET},provider="openai",model="gpt-4.1"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is scraped, in promtool's notation, and how many alerts are raised then."""

    alert: str
    why: str
    series: Mapping[str, str]
    at: str
    fires: int = 1
    interval: str = "1m"
    labels: Mapping[str, str] = field(default_factory=dict)


def requests(values: str) -> dict[str, str]:
    return {f'ai_api_requests_total{CALLS},status_code="200"}}': values}


def errors(values: str, error_type: str = "server") -> dict[str, str]:
    return {f'ai_api_errors_total{CALLS},error_type="{error_type}"}}': values}


def durations(values: str, in_time: str) -> dict[str, str]:
    name = "ai_api_request_duration_milliseconds"
    return {
        f"{name}_count{CALLS}}}": values,
        f'{name}_bucket{CALLS},le="30000.0"}}': in_time,
        f'{name}_bucket{CALLS},le="+Inf"}}': values,
    }


def cents(values: str) -> dict[str, str]:
    return {f'ai_api_cost_usd_cents_total{CALLS},cost_type="total"}}': values}


def of_model(metric: str, values: str, more: str = "") -> dict[str, str]:
    return {f"{metric}{CALLS}{more}}}": values}


def of_sidecar(metric: str, values: str, more: str = "") -> dict[str, str]:
    return {f"ai_sidecar_{metric}{{{TARGET}{more}}}": values}


FAST, SLOW = "AiApiErrorBudgetBurnsFast", "AiApiErrorBudgetBurnsSlowly"
LATE_FAST, LATE_SLOW = "AiApiLatencyBudgetBurnsFast", "AiApiLatencyBudgetBurnsSlowly"
ANOMALY, BUDGET = "AiApiCostAnomaly", "AiApiCostOverDailyBudget"
FEW_REQUESTS, FEW_TOKENS = "AiApiRateLimitRequestsLow", "AiApiRateLimitTokensLow"
UNPRICED, TRUNCATED = "AiApiUnpricedRequests", "AiApiTruncatedAnswers"
UNREADABLE = "AiSidecarLinesUnreadable"
SAVES = "state_saves_total"


def limit(kind: str, values: str, sent: str) -> dict[str, str]:
    return of_model(f"ai_api_rate_limit_remaining{kind}", values) | requests(sent)


def finished(stop: str, length: str, sent: str) -> dict[str, str]:
    return (
        of_model("ai_api_finish_reasons_total", stop, ',finish_reason="stop"')
        | of_model("ai_api_finish_reasons_total", length, ',finish_reason="length"')
        | requests(sent)
    )


def lines(request: str, result: str, values: str) -> dict[str, str]:
    return of_sidecar("lines_total", request, ',result="request"') | of_sidecar(
        "lines_total", values, f',result="{result}"'
    )


FIRING = [
    Case(alert=FAST, why="a fifth fails", series=requests("0+10x120") | errors("0+2x120"), at="90m"),
    Case(alert=FAST, why="four in a hundred fail for hours", series=requests("0+50x420") | errors("0+2x420"), at="400m"),
    Case(alert=FAST, why="a rate limit is no mistake of the caller", series=requests("0+10x120") | errors("0+2x120", "rate_limit"), at="90m"),
    Case(alert=SLOW, why="one in fifty fails for a day", series=requests("0+50x300") | errors("0+1x300"), at="1500m", interval="5m"),
    Case(alert=LATE_FAST, why="four of five are slow", series=requests("0+10x120") | durations("0+10x120", "0+2x120"), at="90m"),
    Case(alert=LATE_SLOW, why="a fifth is slow for a day", series=requests("0+50x300") | durations("0+50x300", "0+40x300"), at="1500m", interval="5m"),
    Case(alert=ANOMALY, why="ten times the usual", series=cents("0+10x300 3100+100x20"), at="1540m", interval="5m"),
    Case(alert=ANOMALY, why="three hours later still", series=cents("0+10x300 3100+100x60"), at="1680m", interval="5m"),
    Case(alert=BUDGET, why="144 USD in a day", series=cents("0+50x300"), at="1500m", interval="5m"),
    Case(alert=FEW_REQUESTS, why="5 of 100 left", series=limit("", "100x100 5x20", "0+10x120"), at="115m"),
    Case(alert=FEW_TOKENS, why="5 of 100 left", series=limit("_tokens", "100x100 5x20", "0+10x120"), at="115m"),
    Case(alert=UNPRICED, why="a tenth has no price", series=requests("0+10x120") | of_model("ai_api_unpriced_requests_total", "0+1x120"), at="90m"),
    Case(alert=TRUNCATED, why="a tenth is cut off", series=finished("0+9x120", "0+1x120", "0+10x120"), at="90m"),
    Case(alert="AiSidecarAbsent", why="nothing but others", series={'up{job="node"}': "1x60"}, at="30m"),
    Case(alert="AiSidecarAbsent", why="the last one went", series=of_sidecar("build_info", "1x10 _x50"), at="40m"),
    Case(alert="AiSidecarDown", why="it does not answer any more", series={f"up{{{TARGET}}}": "1x10 0x30"} | of_sidecar("build_info", "1x10 _x30"), at="30m"),
    Case(alert="AiSidecarLagging", why="5 MB all the time", series=of_sidecar("lag_bytes", "5000000x60"), at="30m"),
    Case(alert="AiSidecarStateNotSaved", why="every save fails", series=of_sidecar(SAVES, "0+12x60", ',result="failure"'), at="40m"),
    Case(alert="AiSidecarPricesOld", why="100 days", series=of_sidecar("prices_timestamp_seconds", "-8640000x120"), at="100m"),
    *(
        Case(alert=UNREADABLE, why=f"a tenth is {result}", series=lines("0+9x120", result, "0+1x120"), at="90m")
        for result in ("malformed", "too_long", "plugin_error")
    ),
    Case(alert="AiSidecarFilesUnreadable", why="one file", series=of_sidecar("unreadable_files", "1x60"), at="30m"),
    Case(alert="AiSidecarSeriesOverflow", why="it grows", series=of_sidecar("series_overflow_total", "0+1x90"), at="60m"),
]  # fmt: skip

SILENT = [
    Case(alert=FAST, why="all is well", series=requests("0+10x120"), at="90m"),
    Case(alert=FAST, why="one in a hundred fails", series=requests("0+100x420") | errors("0+1x420"), at="400m"),
    *(
        Case(alert=FAST, why=f"the caller's own {own}", series=requests("0+10x120") | errors("0+5x120", own), at="90m")
        for own in targets.CALLERS_OWN_ERRORS
    ),
    Case(alert=FAST, why="a request a minute", series=requests("0+1x120") | errors("0+1x120"), at="90m"),
    Case(alert=FAST, why="it is over since an hour", series=requests("0+10x180") | errors("0+5x60 300x120"), at="150m"),
    Case(alert=SLOW, why="four in a thousand fail", series=requests("0+250x300") | errors("0+1x300"), at="1500m", interval="5m"),
    Case(alert=SLOW, why="three requests an hour", series=requests("0+0.25x300") | errors("0+0.2x300"), at="1500m", interval="5m"),
    Case(alert=LATE_FAST, why="a fifth is slow", series=requests("0+10x120") | durations("0+10x120", "0+8x120"), at="90m"),
    Case(alert=LATE_FAST, why="a request a minute", series=requests("0+1x120") | durations("0+1x120", "0x120"), at="90m"),
    Case(alert=LATE_SLOW, why="four in a hundred are slow", series=requests("0+50x300") | durations("0+50x300", "0+48x300"), at="1500m", interval="5m"),
    Case(alert=ANOMALY, why="half more than usual", series=cents("0+10x300 3100+15x20"), at="1540m", interval="5m"),
    Case(alert=ANOMALY, why="ten times, but cents", series=cents("0+0.1x300 31+1x20"), at="1540m", interval="5m"),
    Case(alert=ANOMALY, why="the first day", series=cents("0+1x60 60+100x60"), at="500m", interval="5m"),
    Case(alert=ANOMALY, why="as every noon", series=cents("0+1x144 144+100x12 1345+1x276 1621+100x12"), at="2170m", interval="5m"),
    Case(alert=BUDGET, why="58 USD in a day", series=cents("0+20x300"), at="1500m", interval="5m"),
    Case(alert=FEW_REQUESTS, why="half is left", series=limit("", "100x100 50x20", "0+10x120"), at="115m"),
    Case(alert=FEW_REQUESTS, why="nobody asks any more", series=limit("", "100x100 5x20", "0+10x90 900x30"), at="115m"),
    Case(alert=FEW_TOKENS, why="half is left", series=limit("_tokens", "100x100 50x20", "0+10x120"), at="115m"),
    Case(alert=FEW_TOKENS, why="nobody asks any more", series=limit("_tokens", "100x100 5x20", "0+10x90 900x30"), at="115m"),
    Case(alert=UNPRICED, why="all have a price", series=requests("0+10x120"), at="90m"),
    Case(alert=UNPRICED, why="a request a minute", series=requests("0+1x120") | of_model("ai_api_unpriced_requests_total", "0+1x120"), at="90m"),
    Case(alert=TRUNCATED, why="one in fifty", series=finished("0+49x120", "0+1x120", "0+50x120"), at="90m"),
    Case(alert=TRUNCATED, why="a request a minute", series=finished("0x120", "0+1x120", "0+1x120"), at="90m"),
    Case(alert="AiSidecarAbsent", why="one is there", series=of_sidecar("build_info", "1x60"), at="30m"),
    Case(alert="AiSidecarDown", why="it answers", series={f"up{{{TARGET}}}": "1x40"} | of_sidecar("build_info", "1x40"), at="30m"),
    Case(alert="AiSidecarDown", why="its pod went", series={f"up{{{TARGET}}}": "1x10 _x30"} | of_sidecar("build_info", "1x10 _x30"), at="30m"),
    Case(alert="AiSidecarDown", why="another's target", series={'up{job="node",instance="n:9100"}': "0x40"} | of_sidecar("build_info", "1x40"), at="30m"),
    Case(alert="AiSidecarLagging", why="it catches up", series=of_sidecar("lag_bytes", "5000000x8 100x60"), at="30m"),
    Case(alert="AiSidecarLagging", why="it is at the end now and then", series=of_sidecar("lag_bytes", "5000000 5000000 5000000 0 5000000 5000000 5000000 0 5000000 5000000 5000000 0 5000000 5000000 5000000 0 5000000 5000000 5000000 0 5000000"), at="20m"),
    Case(alert="AiSidecarStateNotSaved", why="every save succeeds", series=of_sidecar(SAVES, "0x60", ',result="failure"') | of_sidecar(SAVES, "0+12x60", ',result="success"'), at="40m"),
    Case(alert="AiSidecarStateNotSaved", why="one failed, long ago", series=of_sidecar(SAVES, "0x10 1x50", ',result="failure"'), at="40m"),
    Case(alert="AiSidecarPricesOld", why="a month", series=of_sidecar("prices_timestamp_seconds", "-2592000x120"), at="100m"),
    Case(alert=UNREADABLE, why="other lines are no trouble", series=lines("0+9x120", "ignored", "0+90x120"), at="90m"),
    Case(alert=UNREADABLE, why="text is no trouble", series=lines("0+9x120", "not_json", "0+90x120"), at="90m"),
    Case(alert=UNREADABLE, why="a line a minute", series=lines("0x120", "malformed", "0+1x120"), at="90m"),
    Case(alert="AiSidecarFilesUnreadable", why="none", series=of_sidecar("unreadable_files", "0x60"), at="30m"),
    Case(alert="AiSidecarFilesUnreadable", why="for a moment", series=of_sidecar("unreadable_files", "0x20 1x5 0x30"), at="24m"),
    Case(alert="AiSidecarSeriesOverflow", why="long ago", series=of_sidecar("series_overflow_total", "7x90"), at="80m"),
]  # fmt: skip


def run_promtool(path: Path, test: Mapping[str, object]) -> subprocess.CompletedProcess[str]:
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": test["interval"],
        "tests": [test],
    }
    path.write_text(json.dumps(document))  # JSON is YAML
    return subprocess.run(
        ["promtool", "test", "rules", path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def raised(case: Case, fires: int) -> dict[str, object]:
    asked = f'count(ALERTS{{alertname="{case.alert}", alertstate="firing"}}) or vector(0)'
    return {
        "interval": case.interval,
        "input_series": [
            {"series": name, "values": values} for name, values in case.series.items()
        ],
        "promql_expr_test": [
            {
                "expr": asked,
                "eval_time": case.at,
                "exp_samples": [{"labels": "{}", "value": fires}],
            }
        ],
    }


@needs_prometheus
@pytest.mark.parametrize("case", FIRING, ids=lambda case: f"{case.alert}: {case.why}")
def test_an_alert_fires(case: Case, tmp_path: Path) -> None:
    done = run_promtool(tmp_path / "test.yaml", raised(case, 1))

    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
@pytest.mark.parametrize("case", SILENT, ids=lambda case: f"{case.alert}: {case.why}")
def test_an_alert_is_silent(case: Case, tmp_path: Path) -> None:
    done = run_promtool(tmp_path / "test.yaml", raised(case, 0))

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires_it_and_one_that_keeps_it_silent() -> None:
    assert {case.alert for case in FIRING} == set(NAMES)
    assert {case.alert for case in SILENT} == set(NAMES)


@needs_prometheus
def test_what_an_alert_says_has_its_figures_and_labels(tmp_path: Path) -> None:
    (rule,) = (alert for alert in ALERTS if alert["alert"] == BUDGET)
    case = next(case for case in FIRING if case.alert == BUDGET)
    test = raised(case, 1)
    test["alert_rule_test"] = [
        {
            "eval_time": case.at,
            "alertname": BUDGET,
            "exp_alerts": [
                {
                    "exp_labels": {"severity": "ticket", "job": "app", "namespace": "prod"},
                    "exp_annotations": {
                        **rule["annotations"],
                        "summary": "AI calls of app prod are over their daily budget",
                        "description": "144.00 USD in the last 24 hours; the budget is 100 USD.",
                    },
                }
            ],
        }
    ]
    done = run_promtool(tmp_path / "test.yaml", test)

    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(rules_of())} rules found" in done.stdout


def test_names_of_rules_are_unique() -> None:
    names = [rule.get("alert") or rule["record"] for rule in rules_of()]

    assert sorted(names) == sorted(set(names))


def test_rules_ask_only_for_what_there_is() -> None:
    table = sample_table()
    for rule in rules_of():
        asked = set(re.findall(r"\b(?:(?:ai_api|ai_sidecar)_|\w+:)[\w:]+", rule["expr"]))
        assert asked, rule
        assert asked <= set(table), asked - set(table)


def test_no_gauge_is_asked_for_a_rate() -> None:
    table = sample_table()
    for rule in rules_of():
        for metric in re.findall(r"\b(?:rate|increase)\(([\w:]+)", rule["expr"]):
            assert table[metric][0] in ("counter", "histogram"), rule


def test_every_record_is_asked_for_by_an_alert_or_a_dashboard() -> None:
    """But for the one that is there for the dashboards that users have already."""
    asking = [alert["expr"] for alert in ALERTS]
    asking += [
        target["expr"] for document in documents().values() for _, target in queries_of(document)
    ]
    unused = [
        record.name
        for record in rules.records()
        if not any(re.search(rf"{record.name}(?!\w)", expression) for expression in asking)
    ]

    assert unused == ["ai_api_cost_usd_cents"]


@pytest.mark.parametrize("objective", [targets.AVAILABILITY_OBJECTIVE, targets.LATENCY_OBJECTIVE])
def test_an_outage_of_everything_burns_fast_enough_to_be_told(objective: float) -> None:
    fastest = max(factor for _, pairs in targets.BURNS for _, _, factor in pairs)

    assert fastest * (1 - objective) < 1


def test_the_limit_of_latency_is_a_bound_of_the_histogram() -> None:
    from sidecar.metrics import DURATION_MS

    assert targets.LATENCY_MS in DURATION_MS


def test_every_alert_says_what_to_do_and_where_to_look() -> None:
    uids = {document["uid"] for document in documents().values()}
    for alert in ALERTS:
        said = alert["annotations"]
        assert set(said) == {"summary", "description", "action", "runbook_url", "dashboard"}
        assert all(said.values())
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert said["dashboard"].removeprefix("/d/") in uids


def test_the_runbook_has_a_section_for_each_alert_in_their_order() -> None:
    text = (FOLDER / "RUNBOOK.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))

    assert list(sections) == NAMES
    for alert in ALERTS:
        section = sections[alert["alert"]]
        assert "**Means**" in section, alert["alert"]
        assert "**Do**" in section, alert["alert"]
        assert alert["annotations"]["runbook_url"] == f"RUNBOOK.md#{alert['alert'].lower()}"


ALERTMANAGER = FOLDER / "alertmanager.yaml"
needs_amtool = pytest.mark.skipif(
    shutil.which("amtool") is None,
    reason="there is no amtool on PATH (Debian: prometheus-alertmanager)",
)


def amtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["amtool", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_amtool
def test_amtool_takes_the_example_for_alertmanager() -> None:
    checked = amtool("check-config", ALERTMANAGER)

    assert "6 inhibit rules" in checked
    assert "2 receivers" in checked


@needs_amtool
@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_an_alert_reaches_who_should_be_told(alert: Mapping[str, Mapping[str, str]]) -> None:
    severity = alert["labels"]["severity"]
    receiver = amtool(
        "config", "routes", "test", f"--config.file={ALERTMANAGER}",
        f"alertname={alert['alert']}", f"severity={severity}",
    )  # fmt: skip

    assert receiver.strip() == {"page": "pager", "ticket": "tickets"}[severity]


def test_inhibitions_name_alerts_that_there_are_and_labels_that_both_have() -> None:
    document = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))
    expressions = {alert["alert"]: alert["expr"] for alert in ALERTS}
    for inhibition in document["inhibit_rules"]:
        for matchers in (inhibition["source_matchers"], inhibition["target_matchers"]):
            (pattern,) = (re.fullmatch(r'alertname=~?"(.+)"', matcher) for matcher in matchers)
            assert pattern is not None
            matched = [name for name in NAMES if re.fullmatch(pattern[1], name)]
            assert matched, pattern
            for name in matched:
                first = re.search(r"\b(?:ai_api|ai_sidecar|\w+:)[\w:]*", expressions[name])
                assert first is not None
                labels = sample_table()[first[0]][1]
                # what a sidecar tells of itself keeps the labels of its target
                kept = labels if ":" in first[0] else {*labels, "job", "instance", "namespace"}
                assert set(inhibition.get("equal", ())) <= kept, (name, inhibition)
