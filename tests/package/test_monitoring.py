"""What operators plug in (deploy/prometheus, deploy/grafana, deploy/kubernetes/monitoring): it asks for metrics that
there are, with labels that they have, and Prometheus and Kubernetes take it."""

import json
import os
import re
import shutil

import pytest
import yaml

from docs.generate import KUBERNETES_RULES, RULES, kubernetes_rules, metrics
from tests.package.conftest import ROOT, module, run

schemas = module("kubernetes_validate")
DEPLOY = ROOT / "deploy"
RULES_OF = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
PANELS = json.loads((DEPLOY / "grafana" / "vmsvc.json").read_text(encoding="utf-8"))["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel.get("targets", ())]
#: Prometheus' own, of each target and of each sample.
OF_PROMETHEUS = {"up": {"job", "instance"}}


def series():
    """The labels of each series of /metrics, by its name."""
    found = {name: set(labels) for name, labels in OF_PROMETHEUS.items()}
    for name, kind, labels in re.findall(r"(?m)^\| `(\w+)` \| (\w+) \| (.*?) \|", metrics()):
        own = set(re.findall(r"`(\w+)`", labels)) | {"job", "instance"}
        if kind == "histogram":
            found |= {f"{name}_bucket": own | {"le"}, f"{name}_sum": own, f"{name}_count": own}
        else:
            found[name] = own
    return found


@pytest.mark.parametrize("query", [rule["expr"] for rule in RULES_OF] + QUERIES)
def test_a_query_asks_for_metrics_and_labels_that_there_are(query):
    known = series()
    named = set(re.findall(r"\b(?:vmsvc|process|up)\w*(?=[{\[\s)]|$)", query))
    assert named and named <= known.keys()
    labels = set(re.findall(r"(\w+)=~?\"", query))
    labels |= {label for group in re.findall(r"\bby \(([^)]*)\)", query) for label in group.split(", ")}
    assert labels <= set.union(*(known[name] for name in named))


def test_the_dashboard_shows_every_metric_that_matters():
    """The others say how well a peer behaves, or where a replica is in the history."""
    shown = {name for name in series() if any(re.search(rf"\b{name}\b", query) for query in QUERIES)}
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in series() if name.startswith("vmsvc")} - families == {
        "vmsvc_event_seq",
        "vmsvc_http_unsent_bytes",
        "vmsvc_http_unsent_hung_up",
        "vmsvc_tasks",
    }


def test_the_panels_do_not_lie_on_each_other():
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in PANELS)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken)) and max(x for x, _ in taken) < 24
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert all(panel["description"] for panel in PANELS if panel["type"] != "row")


def test_prometheus_takes_the_configuration_and_each_alarm_sounds_when_it_has_to():
    if shutil.which("promtool") is None:
        (pytest.fail if os.environ.get("TESTS_REQUIRE_ALL") else pytest.skip)("promtool is missing")
    for arguments in (("check", "config", "prometheus.yml"), ("test", "rules", "vmsvc.rules.test.yml")):
        done = run("promtool", *arguments, cwd=DEPLOY / "prometheus")
        assert done.returncode == 0, done.stdout + done.stderr
    tried = (DEPLOY / "prometheus" / "vmsvc.rules.test.yml").read_text(encoding="utf-8")
    assert all(tried.count(rule["alert"]) >= 2 for rule in RULES_OF)


def test_the_alarms_for_kubernetes_are_the_same():
    assert KUBERNETES_RULES.read_text(encoding="utf-8") == kubernetes_rules(), "run `make reference`"


def test_kubernetes_takes_the_base_with_the_component(tmp_path):
    if shutil.which("kubectl") is None:
        (pytest.fail if os.environ.get("TESTS_REQUIRE_ALL") else pytest.skip)("kubectl is missing")
    shutil.copytree(DEPLOY / "kubernetes", tmp_path / "kubernetes")
    overlay = tmp_path / "kubernetes" / "mine"
    overlay.mkdir()
    text = "resources: [../base]\ncomponents: [../monitoring]\n"
    assert text in (ROOT / "docs" / "how-to" / "monitoring.md").read_text(encoding="utf-8")
    (overlay / "kustomization.yaml").write_text(text, encoding="utf-8")
    done = run("kubectl", "kustomize", overlay, cwd=ROOT, KUBECONFIG="/dev/null")
    assert done.returncode == 0, done.stderr
    resources = [one for one in yaml.safe_load_all(done.stdout) if one]
    for resource in resources:
        if not resource["apiVersion"].startswith("monitoring.coreos.com/"):  # has its schema in the cluster alone
            schemas.validate(resource, "1.25", strict=True)
    (pod,) = [one["spec"]["template"] for one in resources if one["kind"] == "Deployment"]
    (container,) = pod["spec"]["containers"]
    (port,) = [one["containerPort"] for one in container["ports"] if one["name"] == "metrics"]
    assert {"name": "VMSVC_METRICS_PORT", "value": str(port)} in container["env"]
    (monitor,) = [one["spec"] for one in resources if one["kind"] == "PodMonitor"]
    assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert [one["port"] for one in monitor["podMetricsEndpoints"]] == ["metrics"]
    (policy,) = [one["spec"] for one in resources if one["metadata"]["name"] == "vmsvc-metrics"]
    assert [one["port"] for one in policy["ingress"][0]["ports"]] == ["metrics"]
