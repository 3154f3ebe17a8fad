"""What is in the image, and what its containers may do."""

import json

import pytest
import yaml

from tests.docker.installation import docker


def test_no_two_services_build_one_image(tree):
    """BuildKit would build both at once, and chance would choose which of the two images gets the name."""
    services = yaml.safe_load((tree / "docker-compose.yml").read_text(encoding="utf-8"))["services"].values()
    built = [service["image"] for service in services if "build" in service]
    assert len(set(built)) == len(built)


def inside(command):
    """What a shell in the service's image says."""
    return docker("run", "--rm", "--entrypoint", "sh", "vmsvc", "-c", command)


def test_the_service_s_image_has_neither_compiler_nor_tests_nor_an_embedded_database(installation):
    del installation
    tools = "gcc cc g++ make pytest pylint chromium postgres psql"
    assert inside(f"for name in {tools}; do command -v $name; done; true") == ""
    packages = inside("ls /opt/vmsvc/lib/python3*/site-packages; find /srv /opt/vmsvc -name tests").lower()
    for name in ("pytest", "pylint", "hypothesis", "playwright", "pgserver", "openstackclient", "/tests"):
        assert name not in packages


def test_the_image_adds_less_than_100_mb_to_its_base(installation):
    del installation
    size = {
        name: json.loads(docker("image", "inspect", name))[0]["Size"] for name in ("vmsvc", "python:3.13-slim-trixie")
    }
    assert size["vmsvc"] - size["python:3.13-slim-trixie"] < 100e6


def test_every_package_in_the_image_is_the_pinned_release(installation):
    pinned = {
        line.strip().lower().replace("_", "-")
        for line in (installation.tree / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    listed = inside(
        "python -c 'from importlib.metadata import distributions as d; "
        '[print(one.name, one.version, sep="==") for one in d()]\''
    )
    assert {line.lower().replace("_", "-") for line in listed.split()} <= pinned


@pytest.mark.parametrize("service", ["vmsvc", "cloud"])
def test_a_container_has_no_rights_that_it_does_not_need(installation, service):
    (container,) = installation.inspect(service)
    assert container["Config"]["User"] == "10001:10001"
    assert container["HostConfig"]["ReadonlyRootfs"]
    assert container["HostConfig"]["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in container["HostConfig"]["SecurityOpt"]


def test_only_the_service_is_published_and_only_on_loopback(installation):
    published = {
        service: {
            (bound["HostIp"], bound["HostPort"])
            for container in installation.inspect(service)
            for bounds in (container["NetworkSettings"]["Ports"] or {}).values()
            for bound in bounds or ()
        }
        for service in ("vmsvc", "database", "cloud")
    }
    assert published == {"vmsvc": {("127.0.0.1", str(installation.port))}, "database": set(), "cloud": set()}


def test_the_password_is_made_at_the_first_start_and_for_its_owner_alone(installation):
    file = installation.tree / ".env"
    (password,) = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("POSTGRES_PASS")]
    assert len(password.partition("=")[2]) == 32
    assert file.stat().st_mode & 0o077 == 0
