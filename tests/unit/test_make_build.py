"""What `make build` decides before it touches anything: settings, `.env`, the cloud, the ports."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from vmsvc.config import networks_and_names

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docker" / "build"
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def module(name):
    """One of the modules of `docker/build`, which are no package: the machine's own Python runs that folder."""
    spec = importlib.util.spec_from_file_location(f"docker_build_{name}", FOLDER / f"{name}.py")
    found = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


settings, engine = module("settings"), module("engine")
Refused = settings.Refused


@pytest.fixture(name="checks")
def fixture_checks(monkeypatch):
    """The checks, with nothing to wait for between two looks."""
    monkeypatch.setitem(sys.modules, "engine", engine)
    found = module("checks")
    monkeypatch.setattr(found, "_PAUSE", 0)
    return found


def decide(told=None, kept=None, credentials=None):
    """With no files but these."""
    return settings.decide(told or {}, kept or {}, COMPOSE, lambda _: (credentials or {}, {}))


def again(settled, told=None, credentials=None):
    """A later build, in another shell."""
    return decide(told, settings.parse(settings.render("", settled.env)), credentials)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_it_runs_on_every_python_that_an_operator_may_have_and_needs_no_package(path):
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    own = {each.stem for each in FOLDER.glob("*.py")}
    for node in ast.walk(tree):
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names | own


def test_a_first_build_is_one_replica_on_the_simulated_cloud():
    first = decide()
    assert (first.cloud, first.replicas, first.ports, first.services) == (
        "simulated",
        1,
        [8888],
        ["database", "cloud", "vmsvc"],
    )
    assert len(first.env["POSTGRES_PASSWORD"]) == 32
    assert first.env["REPLICA_PORTS"] == "8888"


def test_the_settings_of_a_build_are_kept_by_a_later_one_without_settings():
    told = {
        "REPLICAS": "3",
        "PORT": "9000",
        "VMSVC_AUTH": "token",
        "VMSVC_HOSTS": "a.example,b.example",
        "POSTGRES_IMAGE": "postgres:17@sha256:0a",
        "OS_CLOUD": "real",
        "OS_CLIENT_CONFIG_FILE": "/home/me/clouds.yaml",
    }
    first = decide(told, credentials={"clouds.yaml": b"1"})
    second = again(first, credentials={"clouds.yaml": b"1"})
    assert second == first
    assert second.services == ["database", "vmsvc", "balancer"]
    assert second.replica_ports == [9001, 9002, 9003] and second.ports == [9000, 9001, 9002, 9003]
    assert {name: second.env[name] for name in told} == told
    third = again(second, {"REPLICAS": "2", "VMSVC_AUTH": ""}, {"clouds.yaml": b"1"})
    assert third.replicas == 2 and third.port == 9000 and "VMSVC_AUTH" not in third.env


def test_the_balancer_is_a_trusted_proxy_as_long_as_there_is_one_beside_those_of_the_operator():
    line = next(line.partition(": ")[2] for line in COMPOSE.splitlines() if "VMSVC_TRUSTED_PROXIES:" in line)

    def trusted(settled):
        return networks_and_names(re.sub(r"\$\{(\w+):-\}", lambda name: settled.env.get(name[1], ""), line))[1]

    assert not trusted(decide())
    three = decide({"REPLICAS": "3"})
    assert trusted(three) == ["balancer"]
    assert trusted(again(three, {"VMSVC_TRUSTED_PROXIES": "tls.example"})) == ["balancer", "tls.example"]
    assert trusted(again(three, {"VMSVC_TRUSTED_PROXIES": "tls.example", "REPLICAS": "1"})) == ["tls.example"]
    assert "  balancer:\n" in COMPOSE


def test_a_cloud_that_variables_name_is_kept_whole_and_another_cloud_takes_nothing_from_it():
    told = {
        "OS_AUTH_URL": "https://one/v3",
        "OS_USERNAME": "me",
        "OS_PASSWORD": 'with space # and $ and "',
        "OS_PROJECT_NAME": "p",
        "OS_REGION_NAME": "north",
    }
    first = decide(told)
    assert first.cloud == "https___one_v3_p"
    assert again(first) == first and again(first).env["OS_PASSWORD"] == told["OS_PASSWORD"]
    changed = again(first, {**told, "OS_PASSWORD": "new"})
    assert changed.cloud == first.cloud and changed.env["OS_PASSWORD"] == "new"
    other = again(first, {"OS_AUTH_URL": "https://two/v3", "OS_USERNAME": "me", "OS_PROJECT_NAME": "p"})
    assert other.cloud != first.cloud and not {"OS_PASSWORD", "OS_REGION_NAME"} & set(other.env)
    named = again(first, {"OS_CLOUD": "real"})
    assert named.cloud == "real" and "OS_AUTH_URL" not in named.env


def test_only_plain_words_lead_from_a_real_cloud_to_the_simulated_one():
    first = decide({"OS_CLOUD": "real", "VMSVC_GRACE_SECONDS": "60"})
    assert again(first).cloud == "real"
    back = again(first, {"CLOUD": "simulated", "OS_CLOUD": "real"})
    assert back.cloud == "simulated" and back.env["OS_CLOUD"] == "sim-admin"
    assert back.env["VMSVC_GRACE_SECONDS"] == "60" and back.env["VMSVC_FLAVOR"] == "m1.tiny"
    with pytest.raises(Refused, match="the last 'make build' was for the cloud 'real'"):
        decide({}, {"CLOUD": "real", "POSTGRES_PASSWORD": "x"})


def test_defaults_of_the_simulated_cloud_do_not_go_along_to_a_real_one():
    real = again(decide(), {"OS_CLOUD": "real"})
    assert not {"VMSVC_FLAVOR", "VMSVC_GRACE_SECONDS"} & set(real.env)
    assert again(decide(), {"OS_CLOUD": "real", "VMSVC_FLAVOR": "m1.tiny"}).env["VMSVC_FLAVOR"] == "m1.tiny"


def test_other_credentials_have_another_folder_and_a_ca_is_named_in_it():
    one, two = (
        decide({"OS_CLOUD": "real", "OS_CACERT": "/etc/my-ca.pem"}, credentials={"ca.pem": content})
        for content in (b"1", b"2")
    )
    assert one.env["CREDENTIALS"] != two.env["CREDENTIALS"]
    assert one.env["OS_CACERT"] == one.env["REQUESTS_CA_BUNDLE"] == f"/etc/openstack/{one.env['CREDENTIALS']}/ca.pem"
    assert one.env["CACERT_FILE"] == "/etc/my-ca.pem"
    assert again(one, credentials={"ca.pem": b"1"}) == one


@pytest.mark.parametrize(
    "told",
    [
        {"REPLICAS": "0"},
        {"REPLICAS": "17"},
        {"REPLICAS": "two"},
        {"PORT": "0"},
        {"PORT": "65536"},
        {"PORT": "80 "},
        {"PORT": "65535", "REPLICAS": "2"},
        {"REPLICAS": "2", "VMSVC_TLS_CERT": "/etc/vmsvc/cert.pem"},
    ],
)
def test_what_cannot_be_is_refused(told):
    with pytest.raises(Refused):
        decide(told)


def test_lines_that_an_operator_has_written_stay_as_they_are():
    text = (
        '# mine\nVMSVC_GRACE_SECONDS="30"\n\nFOO = bar\nVMSVC_HOSTS=\nPORT=1\nPORT=9000\nREPLICA_PORT=\n'
        "BALANCER_PORT=8888\n"
    )
    settled = decide({}, settings.parse(text))
    assert settled.port == 9000
    written = settings.render(text, settled.env)
    assert written.startswith('# mine\nVMSVC_GRACE_SECONDS="30"\n\nFOO = bar\nVMSVC_HOSTS=\nPORT=9000\n')
    assert "BALANCER_PORT" not in written and "REPLICA_PORT=" not in written
    assert settings.render(written, settled.env) == written


@pytest.mark.parametrize("value", ["it's", "two\nlines", "${HOME}", "back\\\\slash"])
def test_a_value_that_both_kinds_of_compose_do_not_read_alike_is_refused_and_not_shown(value):
    with pytest.raises(Refused, match="OS_PASSWORD") as refused:
        settings.render("", {"OS_PASSWORD": value})
    assert value not in str(refused.value)


def test_credentials_are_searched_for_where_every_client_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(Refused, match="OS_CLIENT_CONFIG_FILE"):
        settings.read_credentials({"OS_CLOUD": "real"})
    with pytest.raises(Refused, match="gone.yaml"):
        settings.read_credentials({"OS_CLOUD": "real", "OS_CLIENT_CONFIG_FILE": "gone.yaml"})
    (tmp_path / "clouds.yaml").write_text("clouds: {}", encoding="utf-8")
    (tmp_path / "secure.yaml").write_text("s", encoding="utf-8")
    (tmp_path / "ca.pem").write_text("c", encoding="utf-8")
    contents, found = settings.read_credentials({"OS_CLOUD": "real", "CACERT_FILE": "ca.pem"})
    assert contents == {"clouds.yaml": b"clouds: {}", "secure.yaml": b"s", "ca.pem": b"c"}
    assert found == {"OS_CLIENT_CONFIG_FILE": str(tmp_path / "clouds.yaml"), "CACERT_FILE": str(tmp_path / "ca.pem")}


def test_the_networks_of_a_service_are_read_from_what_the_older_compose_prints():
    printed = (
        "services:\n  cloud:\n    image: x\n    networks:\n      front: null\n  vmsvc:\n    command:\n    - a\n"
        "    networks:\n      back: null\n      front:\n        aliases:\n        - b\n    ports:\n    - c\n"
        "version: '3'\nvolumes:\n  cloud:\n    name: y\n"
    )
    assert engine.networks_of(printed, "vmsvc") == ["back", "front"]
    assert engine.networks_of(printed, "cloud") == ["front"]


class Reports:
    """Stands for the engine and what is there: each look at `check` gives the next report."""

    def __init__(self, *reports):
        self.left, self.looks = list(reports), 0

    def try_compose(self, *_):
        """(exit status, report)"""
        self.looks += 1
        report = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        return (0 if "WRONG" not in report and "vmsvc:" not in report else 1), report

    def stays(self, _):
        """All that was there stays."""
        return True


MOMENT = "ok     access       x\nWRONG  cloud        the database has 1 VMs and not one of them is in this project"


def test_what_is_wrong_for_a_moment_only_does_not_keep_a_build_from_going_on(checks):
    reports = Reports(MOMENT, MOMENT, "ok     cloud        x")
    checks.check_service(reports, decide(), reports)
    assert reports.looks == 3


@pytest.mark.parametrize(
    "report, looks, words",
    [
        (MOMENT, 3, "the database has 1 VMs"),
        ("WRONG  credentials  no", 1, "credentials  no"),
        ("vmsvc: VMSVC_GRACE_SECONDS='x' is not a number", 1, "VMSVC_GRACE_SECONDS='x'"),
    ],
)
def test_what_is_wrong_and_stays_so_is_reported(checks, report, looks, words):
    reports = Reports(report)
    with pytest.raises(engine.Failed, match=words):
        checks.check_service(reports, decide(), reports)
    assert reports.looks == looks


def test_a_cloud_and_a_database_that_are_not_there_yet_are_not_asked(checks):
    reports = Reports(MOMENT + "\nWRONG  database     nobody answers")
    reports.stays = lambda _: False
    checks.check_service(reports, decide(), reports)
    with pytest.raises(engine.Failed, match="1 VMs"):
        checks.check_service(reports, decide({"OS_CLOUD": "real"}), reports)
