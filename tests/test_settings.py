"""The settings: what is written of them and what is refused."""

import dataclasses
import re
import socket
import struct
from pathlib import Path

import pytest

from vmsvc import access, cli, config

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "settings.md"
NAMES = [config.variable(field.name) for field in dataclasses.fields(config.Settings)]


def documented():
    """The names in the first column of the page's tables; a row may have several."""
    return {
        name
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
        for name in re.findall(r"`(VMSVC_\w+)`", line.split("|")[1])
    }


def test_every_setting_is_on_its_page_and_every_name_there_is_a_setting():
    assert documented() == set(NAMES)


def test_every_setting_can_be_made_with_docker_too():
    """But where it listens and keeps its data, which are the container's own, and traces, whose packages the image does
    not have."""
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    listens = {f"VMSVC_{name}" for name in ("ADDRESS", "PORT", "METRICS_ADDRESS", "METRICS_PORT")}
    assert set(re.findall(r"VMSVC_\w+", compose)) == set(NAMES) - listens - {"VMSVC_DATA_DIR", "VMSVC_TRACES_URL"}


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_meaning_and_a_default_that_is_valid(name):
    (field,) = (field for field in dataclasses.fields(config.Settings) if config.variable(field.name) == name)
    (flag,) = (action for action in config.parser()._actions if action.dest == field.name)  # pylint: disable=W0212
    assert len(flag.help) > 10
    assert config.load({name: str(field.default)}) == config.Settings()


def test_the_help_names_every_setting_as_a_flag(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"], {})
    assert ended.value.code == 0
    assert set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) >= {
        "--" + field.name.replace("_", "-") for field in dataclasses.fields(config.Settings)
    }


def test_a_name_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(config.ConfigError, match="VMSVC_GRACE_SECS.*VMSVC_GRACE_SECONDS"):
        config.load({"VMSVC_GRACE_SECS": "1"})


def test_names_of_hosts_are_a_list():
    assert config.load({"VMSVC_HOSTS": " Example.org,vms.example ,"}).host_names == {"example.org", "vms.example"}
    assert config.load({}).host_names == frozenset()


def test_the_flag_wins_over_the_variable():
    assert config.load({"VMSVC_GRACE_SECONDS": "5"}, {"grace_seconds": "7"}).grace_seconds == 7
    flags = vars(config.parser().parse_args(["--grace-seconds", "8", "--evict-action", "delete"]))
    settings = config.load({"VMSVC_GRACE_SECONDS": "5", "PATH": "/bin"}, flags)
    assert (settings.grace_seconds, settings.evict_action) == (8, "delete")


@pytest.mark.parametrize(
    "name, value",
    [
        ("VMSVC_PORT", "70000"),
        ("VMSVC_PORT", "-1"),
        ("VMSVC_PORT", "http"),
        ("VMSVC_GRACE_SECONDS", "-1"),
        ("VMSVC_GRACE_SECONDS", "nan"),
        ("VMSVC_EVICT_ACTION", "shelve"),
        ("VMSVC_MAX_VICTIMS", "0"),
        ("VMSVC_MAX_VICTIMS", "1.5"),
        ("VMSVC_LOG_FORMAT", "xml"),
        ("VMSVC_CLOUD_RATE", "0"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(name, value):
    with pytest.raises(config.ConfigError, match=name):
        config.load({name: value})


def test_what_the_demo_and_the_tests_read_may_be_in_the_same_shell():
    others = {"VMSVC_URL": "http://127.0.0.1:8888", "VMSVC_TOKEN": "t", "VMSVC_TEST_CLOUD": "bed"}
    assert config.load(others) == config.load({})


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "CHANGELOG.md",
        "vmsvc/simulator/README.md",
        *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
    ],
)
def test_commands_in_documents_can_be_copied(name):
    text = ROOT.joinpath(name).read_text(encoding="utf-8")
    # In a container of the image, Python is on the path.
    assert not re.findall(r"(?<!\.venv/bin/)(?<!exec deployment/vmsvc -- )python -m (?:vmsvc|tests|docs)", text)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "host.example"])
def test_other_machines_are_let_in_only_when_that_is_said_in_plain_words(address):
    with pytest.raises(config.ConfigError, match="VMSVC_"):
        config.load({"VMSVC_ADDRESS": address})


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_this_machine_is_let_in(address):
    assert config.load({"VMSVC_ADDRESS": address}).address == address


@pytest.mark.parametrize("auth", ["token", "keystone"])
def test_other_machines_are_let_in_when_they_are_asked_who_they_are(auth):
    assert config.load({"VMSVC_ADDRESS": "0.0.0.0", "VMSVC_AUTH": auth}).auth == auth


@pytest.mark.parametrize(
    "name, value",
    [
        ("VMSVC_AUTH", "password"),
        ("VMSVC_TLS_KEY", "key.pem"),
        ("VMSVC_WRITE_RATE", "0"),
        *(
            ("VMSVC_TRUSTED_PROXIES", text)
            for text in (
                "10.0.0.1/8",
                "127.1",
                "10.0.0.256",
                "0x7f000001",
                "proxy:8080",
                "http://proxy",
                "proxy example",
                "*",
                "[::1]",
                "fe80::1%eth0",
                "-proxy",
                "proxy..example",
                "localhost, 10.0.0.0.1",
                "a" * 64,
                "pröxy",
            )
        ),
    ],
)
def test_a_door_that_cannot_be_is_refused_by_name(name, value):
    with pytest.raises(config.ConfigError, match=name):
        config.load({name: value})


@pytest.mark.parametrize(
    ("text", "networks", "names"),
    [
        ("", [], []),
        (",", [], []),
        ("balancer,", [], ["balancer"]),
        ("10.0.0.0/8, ::1 ,Proxy_2.example,my-proxy", ["10.0.0.0/8", "::1/128"], ["proxy_2.example", "my-proxy"]),
    ],
)
def test_trusted_proxies_are_addresses_networks_and_names(text, networks, names):
    config.load({"VMSVC_TRUSTED_PROXIES": text})
    found, called = config.networks_and_names(text)
    assert sorted(map(str, found)) == networks
    assert sorted(called) == sorted(names)


def test_the_gateway_of_a_container_counts_as_this_machine_only_when_that_is_said(tmp_path, monkeypatch):
    table = tmp_path / "route"
    # As a container of two networks has it; addresses in this machine's order of bytes.
    hexadecimal = f"{struct.unpack('=I', socket.inet_aton('172.18.0.1'))[0]:08X}"
    table.write_text(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        f"eth1\t00000000\t{hexadecimal}\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t000013AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n",
        encoding="ascii",
    )
    assert access.gateways(table) == {"172.18.0.1"}
    assert access.gateways(tmp_path / "none") == frozenset()
    monkeypatch.setattr(access, "gateways", lambda: frozenset({"172.18.0.1"}))
    assert access.web_settings(config.load({})).local_peers == frozenset()
    assert access.web_settings(config.load({"VMSVC_GATEWAY_IS_LOCAL": "yes"})).local_peers == {"172.18.0.1"}


def test_a_declared_capacity_is_a_vector():
    declared = config.load({"VMSVC_HOST_CAPACITY": "VCPU=4, MEMORY_MB=8192,CUSTOM_GOLD=1"}).declared_capacity
    assert dict(declared) == {"VCPU": 4, "MEMORY_MB": 8192, "CUSTOM_GOLD": 1}
    assert not config.Settings().declared_capacity


@pytest.mark.parametrize(
    "text", ["4", "VCPU", "VCPU=", "VCPU=-1", "VCPU=0", "VCPU=4.5", "vcpu=4", "VCPU=٤", "VCPU=4=5"]
)
def test_what_is_no_amount_of_a_resource_class_is_refused(text):
    with pytest.raises(config.ConfigError, match="VMSVC_HOST_CAPACITY.*VCPU=4,MEMORY_MB=8192"):
        config.load({"VMSVC_HOST_CAPACITY": f"DISK_GB=1,{text}"})


def test_a_resource_class_is_declared_once():
    with pytest.raises(config.ConfigError, match="VMSVC_HOST_CAPACITY names VCPU twice"):
        config.load({"VMSVC_HOST_CAPACITY": "VCPU=4,VCPU=4"})
