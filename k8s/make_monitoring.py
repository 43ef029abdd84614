"""Makes what Kubernetes wants of `dashboards/`: `python k8s/make_monitoring.py`, or `make k8s`.

Every `dashboards/*.yaml` with rule groups becomes a PrometheusRule in `k8s/monitoring/rules.yaml`, every
`dashboards/*.json` a ConfigMap for Grafana's sidecar, through `dashboards/kustomization.yaml` (Kustomize reads no
files from outside of its folder).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
DASHBOARDS = ROOT / "dashboards"
RULES = ROOT / "k8s" / "monitoring" / "rules.yaml"
KUSTOMIZATION = DASHBOARDS / "kustomization.yaml"

_NOTE = "# Made by k8s/make_monitoring.py of what stands in dashboards/: change that.\n"


class _Dumper(yaml.SafeDumper):
    """Writes expressions of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _write(document: Any) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100_000, allow_unicode=True)


def rules() -> str:
    """Give the PrometheusRules as YAML: one for each file with groups."""
    documents = []
    for path in sorted(DASHBOARDS.glob("*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not document.get("groups"):
            continue
        documents.append(
            {
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "PrometheusRule",
                "metadata": {
                    "name": f"ai-sidecar-{path.stem.replace('_', '-')}",
                    "labels": {"app.kubernetes.io/name": "ai-sidecar"},
                },
                "spec": {"groups": document["groups"]},
            }
        )
    return _NOTE + "---\n".join(map(_write, documents))


def kustomization() -> str:
    """Give the kustomization that makes a ConfigMap of each dashboard."""
    return _NOTE + _write(
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "generatorOptions": {
                # Grafana's sidecar looks for the label; a name that changes would leave old dashboards behind
                "disableNameSuffixHash": True,
                "labels": {"grafana_dashboard": "1"},
            },
            "configMapGenerator": [
                {"name": f"ai-sidecar-{path.stem.replace('_', '-')}", "files": [path.name]}
                for path in sorted(DASHBOARDS.glob("*.json"))
            ],
        }
    )


def main() -> None:
    """Write both."""
    RULES.write_text(rules(), encoding="utf-8")
    KUSTOMIZATION.write_text(kustomization(), encoding="utf-8")


if __name__ == "__main__":
    main()
