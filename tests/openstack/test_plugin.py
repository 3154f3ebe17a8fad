"""`openstack preemptible ...` with Keystone's tokens: the program itself, against a service on this cloud."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests import openstack_program
from tests.openstack.conftest import LARGE
from tests.openstack.service import Service, set_quota

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "register-the-endpoint.md"


@pytest.fixture(name="secured", scope="module")
def fixture_secured(clouds_yaml, entries, demo, admin):
    """A service that asks for Keystone's tokens."""
    set_quota(admin, demo, **LARGE)
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-"))
    service = Service(clouds_yaml, entries["demo"][0], folder, VMSVC_AUTH="keystone")
    yield service
    service.stop()
    shutil.rmtree(folder)


@pytest.fixture(name="environ")
def fixture_environ(clouds_yaml, tmp_path):
    """The environment of the program, with the plugin."""
    return {**openstack_program.register(tmp_path), "OS_CLIENT_CONFIG_FILE": str(clouds_yaml)}


def script_of(page):
    """The commands of a page."""
    return "".join(re.findall(r"(?ms)^ *```bash\n(.*?)^ *```$", page.read_text(encoding="utf-8")))


def test_a_member_creates_and_deletes_by_the_address_in_the_catalogue(secured, environ, entries, demo):
    member, operator = entries["demo"][0], entries["admin"][0]
    path = os.pathsep.join((str(openstack_program.OPENSTACK.parent), environ["PATH"]))
    settings = {"OS_CLOUD": operator, "REGION": "bed", "URL": secured.url, "MEMBER": member, "PATH": path}
    registered = subprocess.run(
        ["bash", "-euc", script_of(HOW_TO)], env=environ | settings, capture_output=True, text=True, check=False
    )
    try:
        assert registered.returncode == 0, registered.stderr

        def run(cloud, *arguments):
            return openstack_program.run(environ, "--os-cloud", cloud, "preemptible", *arguments)

        wanted = ("--preemptible", "--wait", "--flavor", "m1.tiny", "-f", "json")
        made = run(member, "create", *wanted, "first")
        assert made.returncode == 0, made.stderr
        vm = json.loads(made.stdout)
        assert (vm["state"], vm["owner"], demo.server(vm["id"])["name"]) == ("active", "demo@Default", "first")
        stranger = run(operator, "list")
        assert stranger.returncode == 1 and "not for the project" in stranger.stderr
        deleted = run(member, "delete", "--wait", vm["id"])
        assert (deleted.returncode, deleted.stdout) == (0, ""), deleted.stderr
        assert demo("GET", f"/servers/{vm['id']}").status == 404
    finally:
        openstack_program.run(environ, "--os-cloud", operator, "service", "delete", "vmsvc")
