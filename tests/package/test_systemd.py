"""The systemd unit: valid, hardened, and with settings that the service takes."""

import configparser
import json
import os
import re
import shutil

import pytest

from tests.package.conftest import ROOT, install, run
from vmsvc import config

FOLDER = ROOT / "deploy" / "systemd"
HOW_TO = (ROOT / "docs" / "how-to" / "systemd.md").read_text(encoding="utf-8")
#: What `systemd-analyze security` may find left open, in tenths (0: nothing, 100: everything).
EXPOSURE = 18


def systemd(name, *arguments, folder):
    """Run a program of systemd's."""
    if shutil.which(name) is None:
        (pytest.fail if os.environ.get("TESTS_REQUIRE_ALL") else pytest.skip)(f"{name} is missing: install systemd")
    return run(name, *arguments, cwd=folder)


@pytest.fixture(name="unit")
def fixture_unit(installed, tmp_path):
    """The unit, with the program that the tests have installed in place of /opt/vmsvc."""
    text = (FOLDER / "vmsvc.service").read_text(encoding="utf-8")
    assert "/opt/vmsvc/bin/vmsvc" in text
    path = tmp_path / "vmsvc.service"
    path.write_text(text.replace("/opt/vmsvc/bin", str(installed)), encoding="utf-8")
    return path


def test_the_service_works_and_stops_under_the_unit(wheel, tmp_path):
    """With all that the unit forbids, under a systemd of its own; it needs root, as the first process always has."""
    if os.geteuid() != 0:
        (pytest.fail if os.environ.get("TESTS_REQUIRE_ALL") else pytest.skip)("only root can boot a systemd")
    # The unit hides home folders, and with them a Python that lies in one.
    environment = install(wheel, "[service,embedded]", tmp_path / "env", "/usr/bin/python3").parent
    booted = systemd(
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--net",
        "--ipc",
        "--uts",
        "--cgroup",
        "bash",
        ROOT / "tests" / "package" / "boot_systemd.sh",
        tmp_path,
        environment,
        FOLDER,
        folder=tmp_path,
    )
    found = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir()}
    assert json.loads(found["ready"])["status"] == "ready", (found, booted.stderr)
    assert json.loads(found["created"])["code"] == "201", found
    assert found["users"].split() == ["vmsvc"]
    assert dict(line.split("=") for line in found["stopped"].split()) == {
        "Result": "success",
        "ExecMainStatus": "0",
        "ActiveState": "inactive",
    }


def test_systemd_finds_no_fault_in_the_unit(unit):
    verified = systemd("systemd-analyze", "verify", "--man=no", unit, folder=unit.parent)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


def test_systemd_finds_a_fault_where_there_is_one(unit):
    """Else the test before would prove nothing."""
    unit.write_text(unit.read_text(encoding="utf-8").replace("ProtectHome=", "ProtectHomes="), encoding="utf-8")
    verified = systemd("systemd-analyze", "verify", "--man=no", unit, folder=unit.parent)
    assert "ProtectHomes" in verified.stderr


def test_the_unit_leaves_little_open(unit):
    rated = systemd(
        "systemd-analyze",
        "security",
        "--no-pager",
        "--offline=true",
        f"--threshold={EXPOSURE}",
        unit,
        folder=unit.parent,
    )
    assert rated.returncode == 0, rated.stdout
    assert re.search(r"Overall exposure level for vmsvc.service: [01]\.\d OK", rated.stdout)


def test_systemd_makes_the_user_of_the_unit(unit, tmp_path):
    settings = configparser.RawConfigParser(strict=False)
    settings.optionxform = str
    settings.read_string(unit.read_text(encoding="utf-8"))
    (tmp_path / "root" / "etc").mkdir(parents=True)
    made = systemd("systemd-sysusers", f"--root={tmp_path / 'root'}", FOLDER / "vmsvc.sysusers.conf", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    (line,) = (tmp_path / "root" / "etc" / "passwd").read_text(encoding="utf-8").splitlines()
    assert line.startswith(f"{settings['Service']['User']}:") and line.endswith(":/var/lib/vmsvc:/usr/sbin/nologin")


def test_the_settings_of_the_unit_and_of_its_file_are_settings_of_the_service():
    text = (FOLDER / "vmsvc.env").read_text(encoding="utf-8") + (FOLDER / "vmsvc.service").read_text(encoding="utf-8")
    named = dict(re.findall(r"(?m)(?:^|[ =])(VMSVC_\w+)=(\S*)", text))
    assert {"VMSVC_DATABASE_URL", "VMSVC_DATA_DIR"} <= named.keys()
    assert config.load(named).database_url.startswith("postgresql://")


def test_the_page_installs_the_files_that_there_are_to_where_the_unit_reads_them():
    installed = dict(re.findall(r"install -D -m \d+ (\S+) (\S+)", HOW_TO))
    assert {name for name in installed if name.startswith("deploy/")} == {
        f"deploy/systemd/{path.name}" for path in FOLDER.iterdir()
    }
    unit = (FOLDER / "vmsvc.service").read_text(encoding="utf-8")
    for path in installed.values():
        assert path in unit or path.startswith(("/etc/sysusers.d/", "/etc/systemd/system/"))
    assert "python3 -m venv /opt/vmsvc" in HOW_TO and "ExecStart=/opt/vmsvc/bin/vmsvc serve" in unit
