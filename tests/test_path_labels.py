"""Extra labels from a file's path: for one sidecar that reads the logs of many pods."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus import sidecar_process, wait_until
from prometheus_client.parser import text_string_to_metric_families
from test_batch import FAILED, LINE, text_of

from sidecar.config import Config, ConfigError, path_labels_of, values_in
from sidecar.daemon import Sidecar
from sidecar.pipeline import Source
from sidecar.series import EXTRA

PODS = r"/(?P<namespace>[^/_]+)_(?P<pod>[^/_]+)_[^/_]+/(?P<container>[^/]+)/"


def path_of(namespace: str, pod: str, name: str = "0.log") -> str:
    return f"/var/log/pods/{namespace}_{pod}_0f1e2d3c-0000-4000-8000-123456789abc/app/{name}"


def sidecar_with(*regexes: str, labels: dict[str, str] | None = None, **config: Any) -> Sidecar:
    labels = labels or {}
    return Sidecar(
        Config(log_paths=(), labels=labels, path_labels=path_labels_of(regexes, labels), **config),
        version="test",
    )


def requests(sidecar: Sidecar) -> dict[tuple[str, ...], int]:
    """Give requests by the values of the extra labels."""
    found: dict[tuple[str, ...], int] = {}
    for series in sidecar.store.series:
        extra = series.labels[EXTRA:]
        found[extra] = found.get(extra, 0) + series.count
    return found


@pytest.mark.parametrize(
    ("path", "regexes", "values"),
    [
        (path_of("prod", "web-7f9c-x2"), [PODS], ("prod", "web-7f9c-x2", "app")),
        (path_of("prod", "web", "0.log.20260101-000000"), [PODS], ("prod", "web", "app")),
        ("/var/log/app/a.log", [PODS], ("", "", "")),
        ("/srv/one/x.log", [r"/(?P<team>one)/", r"/(?P<team>[a-z]+)\.log"], ("one",)),
        ("/srv/two/x.log", [r"/(?P<team>one)/", r"/(?P<team>[a-z]+)\.log"], ("x",)),
        ("/srv/two/x.log", [r"/srv/(?P<team>[a-z]+)/(?P<file>[A-Z]+)?"], ("two", "")),
        ("/srv/two/x.log", [], ()),
    ],
)
def test_what_a_path_tells(path: str, regexes: list[str], values: tuple[str, ...]) -> None:
    assert values_in(path, path_labels_of(tuple(regexes), {})) == values


@pytest.mark.parametrize(
    "regex", ["(", "/var/log", "(.*)", "(?P<model>.*)", "(?P<__x>.*)", "(?P<team>.)"]
)
def test_a_bad_one_is_refused_in_one_sentence(regex: str) -> None:
    with pytest.raises(ConfigError, match=r"--path-label: expected .*, got "):
        path_labels_of((regex,), {"team": "metadata.team"})


def test_the_command_line_says_what_is_wrong() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "--log-path", "x", "--once", "--path-label", "(.*)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ai-sidecar: --path-label: expected a group (?P<NAME>")
    assert done.stderr.count("\n") == 1


def test_files_counted_at_once_by_one_loop_keep_their_own_labels() -> None:
    """Lines of known shapes share one loop, whatever file they stand in."""
    sidecar = sidecar_with(PODS, labels={"team": "team"})
    one, two = Source(path_of("a", "one")), Source(path_of("b", "two"))
    text = text_of({**LINE, "team": "t"}, {**FAILED, "team": "u"})

    for _ in range(20):
        sidecar.pipeline.feed_whole(one, text)
        sidecar.pipeline.feed_whole(two, text * 2)

    assert one.batch is not None
    assert one.batch is two.batch
    assert one.batch.renew(b"")
    assert requests(sidecar) == {
        ("t", "a", "one", "app"): 20,
        ("u", "a", "one", "app"): 20,
        ("t", "b", "two", "app"): 40,
        ("u", "b", "two", "app"): 40,
    }


def test_at_once_and_one_by_one_give_the_same() -> None:
    pods = [Source(path_of("ns", f"pod-{number}")) for number in range(7)]
    at_once, one_by_one = sidecar_with(PODS), sidecar_with(PODS)
    others = [Source(pod.path) for pod in pods]
    for number in range(60):
        text = text_of(LINE, {**LINE, "model": f"m{number % 5}"}, {"odd": number}, FAILED)
        place = number * 3 % 7
        at_once.pipeline.feed_whole(pods[place], text)
        for line in text.splitlines(keepends=True):
            others[place].batch = None
            one_by_one.pipeline.feed_whole(others[place], line)

    assert any(pod.batch is not None for pod in pods)
    assert requests(at_once) == requests(one_by_one)
    assert [one.dump() for one in at_once.store.series] == [
        one.dump() for one in one_by_one.store.series
    ]


def test_more_spellings_than_are_kept_for_all_files_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sidecar.batch.MAX_CELLS", 5)
    sidecar = sidecar_with(PODS)
    pods = [Source(path_of("ns", f"pod-{number}")) for number in range(9)]

    for _ in range(15):
        for pod in pods:
            sidecar.pipeline.feed_whole(pod, text_of(LINE, FAILED))

    batch = pods[0].batch
    assert batch is not None
    assert sum(len(cells) for cells in batch._cells.values()) <= 5
    assert requests(sidecar) == {("ns", f"pod-{number}", "app"): 30 for number in range(9)}


def test_the_cap_holds_for_them_too() -> None:
    sidecar = sidecar_with(PODS, max_series=3)
    for number in range(10):
        source = Source(path_of("ns", f"pod-{number}"))
        for _ in range(6):
            sidecar.pipeline.feed_whole(source, text_of(LINE))

    counted = requests(sidecar)
    assert sum(counted.values()) == 60
    assert sidecar.store.overflow == 42
    assert {values for values in counted if "pod-9" in values} <= {("ns", "pod-9", "app")}
    assert sum(series.labels[1] != "_other" for series in sidecar.store.series) == 3


def cri(record: dict[str, Any]) -> str:
    return "2026-01-01T00:00:00.123456789Z stdout F " + json.dumps(record) + "\n"


def test_a_node_is_read_over_rotation_restart_and_new_pods(tmp_path: Path) -> None:
    """As on a node: CRI lines, a rotated name that the kubelet gives, a pod that comes while we are away."""

    def log_of(pod: str) -> Path:
        path = tmp_path / "pods" / f"prod_{pod}_0f1e2d3c-0000" / "app" / "0.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def counted(page: str) -> dict[tuple[str, str, str], float]:
        found: dict[tuple[str, str, str], float] = {}
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name == "ai_api_requests_total":
                    key = tuple(sample.labels[name] for name in ("namespace", "pod", "container"))
                    found[key] = found.get(key, 0) + sample.value  # type: ignore[index,arg-type] # three names
        return found

    log_of("one").write_text(cri(LINE) * 20)
    pattern = Path(f"{tmp_path}/pods/*/*/*.log")
    options = ["--state-dir", str(tmp_path / "state"), "--path-label", PODS]
    with sidecar_process(pattern, *options) as sidecar:
        wait_until(
            lambda: counted(sidecar.page()) == {("prod", "one", "app"): 20}, "twenty requests"
        )
        sidecar.popen.kill()
    with log_of("one").open("a") as file:
        file.write(cri(LINE))
    log_of("one").rename(log_of("one").with_name("0.log.20260101-000000"))
    log_of("one").write_text(cri(LINE) * 3)
    log_of("two").write_text(cri(FAILED) * 2)

    with sidecar_process(pattern, *options) as sidecar:
        wait_until(
            lambda: (
                counted(sidecar.page()) == {("prod", "one", "app"): 24, ("prod", "two", "app"): 2}
            ),
            "what was written meanwhile, by pod",
        )


def test_labels_from_the_path_can_come_and_go_over_a_restart(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.touch()
    seen = []
    for regexes in ([], ["--path-label", r"(?P<app>[a-z]+)\.log"], []):
        with log.open("a") as file:
            file.write(text_of(LINE).decode() * 2)
        # who scraped the life before sees what is new as 0 first
        options = ["--no-zero-first", "--state-dir", str(tmp_path / "state"), *regexes]
        with sidecar_process(log, *options) as sidecar:
            page = sidecar.page()
            seen.append(
                {
                    sample.labels.get("app"): sample.value
                    for family in text_string_to_metric_families(page)
                    for sample in family.samples
                    if sample.name == "ai_api_requests_total"
                }
            )

    # what was counted before it had the label goes on without one; what differs in nothing any more is one
    assert seen == [{None: 2}, {"": 2, "web": 2}, {None: 6}]
