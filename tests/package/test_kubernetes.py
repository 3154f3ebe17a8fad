"""The manifests: valid by the schemas of Kubernetes, consistent with each other, and with settings that the service
takes. What needs a cluster (apply, rollout, exec) is not run."""

import os
import re
import shutil
import subprocess

import pytest
import yaml
from packaging.version import Version

from tests.package.conftest import ROOT, module, run
from vmsvc import __version__, config
from vmsvc.web.app import api_document

schemas = module("kubernetes_validate")
BASE = ROOT / "deploy" / "kubernetes" / "base"
HOW_TO = (ROOT / "docs" / "how-to" / "kubernetes.md").read_text(encoding="utf-8")
#: The oldest release that the page names, and the newest whose schemas there are.
RELEASES = ("1.25", ".".join(schemas.latest_version().split(".")[:2]))


def kubectl(*arguments, cwd):
    """Run kubectl, which knows of no cluster here; what it prints."""
    if shutil.which("kubectl") is None:
        (pytest.fail if os.environ.get("TESTS_REQUIRE_ALL") else pytest.skip)("kubectl is missing")
    done = run("kubectl", *arguments, cwd=cwd, KUBECONFIG="/dev/null")
    assert done.returncode == 0, done.stderr
    return done.stdout


def resources_of(text):
    """The resources, by kind; there is one of each."""
    found = [one for one in yaml.safe_load_all(text) if one]
    by_kind = {one["kind"]: one for one in found}
    assert len(by_kind) == len(found)
    return by_kind


@pytest.fixture(name="resources")
def fixture_resources():
    """What `kubectl apply -k` would send."""
    return resources_of(kubectl("kustomize", BASE, cwd=ROOT))


@pytest.fixture(name="pod")
def fixture_pod(resources):
    """The pods of the Deployment."""
    return resources["Deployment"]["spec"]["template"]


@pytest.fixture(name="container")
def fixture_container(pod):
    """Their one container."""
    (container,) = pod["spec"]["containers"]
    return container


@pytest.mark.parametrize("release", RELEASES)
def test_kubernetes_takes_every_resource(resources, release):
    assert resources.keys() == {
        "Namespace",
        "ServiceAccount",
        "ConfigMap",
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "NetworkPolicy",
    }
    for resource in resources.values():
        schemas.validate(resource, release, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found(resources):
    """Else the test before would prove nothing."""
    resources["Deployment"]["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(schemas.ValidationError):
        schemas.validate(resources["Deployment"], RELEASES[0], strict=True)


def test_everything_selects_the_pods_of_the_deployment_and_lies_in_one_namespace(resources, pod):
    spec = {kind: resource["spec"] for kind, resource in resources.items() if "spec" in resource}
    for selector in (
        spec["Deployment"]["selector"]["matchLabels"],
        spec["Service"]["selector"],
        spec["PodDisruptionBudget"]["selector"]["matchLabels"],
        spec["NetworkPolicy"]["podSelector"]["matchLabels"],
        *(one["labelSelector"]["matchLabels"] for one in pod["spec"]["topologySpreadConstraints"]),
    ):
        assert selector and selector.items() <= pod["metadata"]["labels"].items()
    assert {resource["metadata"].get("namespace") for kind, resource in resources.items() if kind != "Namespace"} == {
        resources["Namespace"]["metadata"]["name"]
    }
    assert pod["spec"]["serviceAccountName"] == resources["ServiceAccount"]["metadata"]["name"]


def test_two_replicas_of_which_a_rollout_and_a_drain_leave_one(resources):
    deployment = resources["Deployment"]["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert resources["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


def test_the_ports_have_one_name_and_are_the_service_s_own(resources, container):
    (port,) = container["ports"]
    assert port["containerPort"] == config.Settings().port
    assert [one["targetPort"] for one in resources["Service"]["spec"]["ports"]] == [port["name"]]
    (rule,) = resources["NetworkPolicy"]["spec"]["ingress"]
    assert [one["port"] for one in rule["ports"]] == [port["name"]]


def test_the_probes_ask_what_the_api_answers_without_a_token(container):
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert {probe["port"] for probe in probes.values()} == {container["ports"][0]["name"]}
    assert all("security" not in api_document()["paths"][probe["path"]]["get"] for probe in probes.values())


def test_the_container_has_no_right_that_it_does_not_need(pod, container):
    user = re.search(
        r"(?m)^FROM runtime AS service$(?s:.*?)^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8")
    )
    context = pod["spec"]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == tuple(map(int, user.groups()))
    assert context["runAsNonRoot"] and context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod["spec"].keys()
    mounts = {one["name"]: one for one in container["volumeMounts"]}
    assert mounts.keys() == {one["name"] for one in pod["spec"]["volumes"]}
    assert mounts["cloud"]["readOnly"]
    assert {one["name"] for one in pod["spec"]["volumes"] if "emptyDir" in one} == {"data", "tmp"}


def test_the_settings_are_settings_of_the_service_and_let_nobody_in_without_a_token(resources, container):
    settings = {
        **resources["ConfigMap"]["data"],
        "VMSVC_ADDRESS": "0.0.0.0",
        **{one["name"]: one.get("value", "postgresql://u:p@host/vmsvc") for one in container["env"]},
    }
    own = {name: value for name, value in settings.items() if name.startswith("VMSVC_")}
    assert config.load(own).auth == "keystone"
    assert settings["OS_CLIENT_CONFIG_FILE"].startswith(
        next(one["mountPath"] for one in container["volumeMounts"] if one["name"] == "cloud")
    )
    assert container["envFrom"] == [{"configMapRef": {"name": resources["ConfigMap"]["metadata"]["name"]}}]


def test_the_image_is_the_one_of_this_release(container):
    assert container["image"] == f"vmsvc:{__version__}"
    assert f"registry.example/vmsvc:{__version__}" in HOW_TO and f"newTag: {__version__}" in HOW_TO


def test_the_secrets_of_the_page_are_those_that_the_pods_name(pod, container, tmp_path):
    (tmp_path / "clouds.yaml").write_text("clouds: {}", encoding="utf-8")
    commands = re.findall(r"(?m)^ *(kubectl .*create secret .*)$", HOW_TO)
    made = {}
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", f"{command} --dry-run=client -o yaml"],
            cwd=tmp_path,
            check=True,
            env={
                **os.environ,
                "KUBECONFIG": "/dev/null",
                "DATABASE_URL": "postgresql://u:p@h/d",
                "CLOUDS": "clouds.yaml",
            },
            capture_output=True,
            text=True,
        )
        secret = yaml.safe_load(done.stdout)
        schemas.validate(secret, RELEASES[1], strict=True)
        made[secret["metadata"]["name"]] = set(secret["data"])
    url = next(one for one in container["env"] if one["name"] == "VMSVC_DATABASE_URL")["valueFrom"]["secretKeyRef"]
    volume = next(one["secret"]["secretName"] for one in pod["spec"]["volumes"] if "secret" in one)
    assert made == {url["name"]: {url["key"]}, volume: {"clouds.yaml"}}


def test_the_overlay_of_the_page_builds_on_the_base(tmp_path):
    shutil.copytree(BASE, tmp_path / "base")
    overlay = re.search(r"(?s)```yaml\n(.*?)```", HOW_TO)[1]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(
        "\n".join(line.removeprefix("   ") for line in overlay.splitlines()), encoding="utf-8"
    )
    resources = resources_of(kubectl("kustomize", tmp_path / "mine", cwd=tmp_path))
    for resource in resources.values():
        schemas.validate(resource, RELEASES[1], strict=True)
    (container,) = resources["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example/vmsvc:{__version__}"
    assert resources["ConfigMap"]["data"]["VMSVC_AUTH"] == "keystone"


def test_the_page_names_an_old_release_that_has_what_the_manifests_use():
    (oldest,) = re.findall(r"Kubernetes (1\.\d+) or newer", HOW_TO)
    assert Version(oldest) == Version(RELEASES[0])
