"""The process: what survives a kill, how it is started and found, where it listens."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
import requests

from tests.system.simulated import password_of
from vmsvc.simulator.process import FolderLock, start, start_time
from vmsvc.simulator.store import LATER, Store


def end(pid: int, number: int = signal.SIGKILL) -> int:
    """Kill our child and wait until it is gone; its wait status."""
    os.kill(pid, number)
    return os.waitpid(pid, 0)[1]


@pytest.fixture(name="folder")
def _folder(tmp_path):
    yield tmp_path
    address = FolderLock(tmp_path).live_address()
    if address:
        end(address["pid"])


def steer(running, method, path, body=None):
    return requests.request(method, f"{running.url}/sim/{path}", json=body, timeout=10)


def statuses(running):
    return {each["name"]: each["status"] for each in steer(running, "GET", "state").json()["servers"]}


def test_a_killed_sim_forgets_nothing_that_it_answered(folder):
    first = start(folder)
    made, stop = [], threading.Event()

    def make():
        while not stop.is_set():
            try:
                answer = steer(first, "POST", "servers", {"flavor": "m1.tiny", "name": f"n{len(made)}"})
            except requests.RequestException:
                return
            made.extend(answer.json()["ids"])

    thread = threading.Thread(target=make)
    thread.start()
    while len(made) < 8:
        time.sleep(0.001)
    end(first.pid)
    stop.set()
    thread.join()
    second = start(folder)
    assert second.url == first.url and second.pid != first.pid
    kept = [each["id"] for each in steer(second, "GET", "state").json()["servers"]]
    assert set(made) <= set(kept) and len(kept) - len(made) <= 1
    state = steer(second, "GET", "state").json()
    assert sum(host["used"]["VCPU"] for host in state["hosts"]) == len(kept) == state["ports"]


def sign_in(running, user, password):
    """The answer to a sign-in of a user for the project of that name."""
    return requests.post(
        f"{running.url}/identity/v3/auth/tokens",
        timeout=10,
        json={
            "auth": {
                "identity": {
                    "methods": ["password"],
                    "password": {"user": {"name": user, "domain": {"name": "Default"}, "password": password}},
                },
                "scope": {"project": {"name": user, "domain": {"name": "Default"}}},
            }
        },
    )


def test_the_admins_password_is_made_at_the_first_start_and_kept(folder, tmp_path_factory):
    running, other = start(folder), start(tmp_path_factory.mktemp("other"))
    try:
        made = password_of(running.clouds, "admin")
        assert len(made) >= 32 and made != password_of(other.clouds, "admin")
        assert running.clouds.stat().st_mode & 0o777 == 0o600
        assert sign_in(running, "admin", "sim").status_code == 401
        assert sign_in(running, "admin", made).status_code == 201
        end(running.pid)
        running = start(folder)
        assert password_of(running.clouds, "admin") == made and sign_in(running, "admin", made).status_code == 201
        assert sign_in(running, "demo", password_of(running.clouds, "demo")).status_code == 201
    finally:
        end(other.pid)


def test_what_was_under_way_goes_on_after_a_restart(folder):
    running = start(folder)
    steer(running, "POST", "clock", {"frozen": True})
    steer(running, "PUT", "settings", {"delete_seconds": 10})
    steer(running, "POST", "servers", {"name": "leaving"})
    token = sign_in(running, "demo", password_of(running.clouds, "demo")).headers["X-Subject-Token"]
    server_id = steer(running, "GET", "state").json()["servers"][0]["id"]
    url = f"{running.url}/compute/v2.1/servers/{server_id}"
    assert requests.delete(url, headers={"X-Auth-Token": token}, timeout=10).status_code == 204
    end(running.pid)
    running = start(folder)
    assert requests.get(url, headers={"X-Auth-Token": token}, timeout=10).json()["server"]["status"] == "ACTIVE"
    steer(running, "POST", "clock", {"advance": 11})
    assert requests.get(url, headers={"X-Auth-Token": token}, timeout=10).status_code == 404


@dataclass
class Thing:
    """An object with a field that came later."""

    name: str
    note: str = field(default="", metadata=LATER)


def test_a_field_that_came_later_is_stored_apart_and_only_while_it_says_something(tmp_path):
    def kinds(store):
        store.close()
        with contextlib.closing(sqlite3.connect(tmp_path / "a.sqlite")) as database:
            return {kind: json.loads(body) for kind, body in database.execute("SELECT kind, body FROM thing")}

    store = Store(tmp_path / "a.sqlite")
    store.put("thing", "1", Thing("one", "later"))
    assert kinds(store) == {"thing": {"name": "one"}, "thing+": {"note": "later"}}
    store = Store(tmp_path / "a.sqlite")
    assert dict(store.load("thing")) == {"1": {"name": "one", "note": "later"}}
    store.put("thing", "1", Thing("one"))
    assert kinds(store) == {"thing": {"name": "one"}}
    store = Store(tmp_path / "a.sqlite")
    store.put("thing", "1", Thing("one", "again"))
    store.commit()
    store.drop("thing", "1")
    assert kinds(store) == {}


def test_the_stored_fields_of_a_server_keep_their_names(folder):
    """Folders of earlier releases have these; a release that is taken back reads them as well. Fields that came later
    are in rows of their own, which it does not read."""
    running = start(folder)
    steer(running, "POST", "servers", {"name": "old"})
    with contextlib.closing(sqlite3.connect(folder / "cloud.sqlite")) as database:
        ((body,),) = database.execute("SELECT body FROM thing WHERE kind = 'server'").fetchall()
    assert " ".join(sorted(json.loads(body))) == (
        "actions admin_pass asked_az asked_host asked_node az chosen created delete_asked delete_tries description due "
        "fault fault_seen_from flavor group_id host hostname id image_id key_name launch_index launched_at locked_by "
        "locked_reason metadata name network_ids number pending power_state project_id reservation_id step tags "
        "task_state terminated_at tried_hosts updated user_data user_id vm_state"
    )


def test_starters_at_once_end_with_one_sim(folder):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: start(folder), range(4)))
    assert len({each.pid for each in found}) == 1 and len({each.url for each in found}) == 1


def test_sigterm_stops_it_cleanly_and_the_port_is_kept(folder):
    first = start(folder)
    assert os.waitstatus_to_exitcode(end(first.pid, signal.SIGTERM)) == 0
    assert FolderLock(folder).live_address() is None
    assert start(folder).url == first.url


def test_another_processs_pid_is_not_taken_for_the_sim(folder):
    running = start(folder)
    end(running.pid)
    lock = FolderLock(folder)
    text = (folder / "address").read_text(encoding="utf-8")
    (folder / "address").write_text(text.replace(f'"pid": {running.pid}', f'"pid": {os.getpid()}'), encoding="utf-8")
    assert start_time(os.getpid()) and lock.live_address() is None
    assert start(folder).pid != os.getpid()


def test_size_and_speed_are_options(folder):
    running = start(folder, hosts=2, vcpus=8, ram_mb=1024, boot_seconds=0)
    state = steer(running, "GET", "state").json()
    assert [host["inventories"]["VCPU"]["total"] for host in state["hosts"]] == [8, 8]
    assert state["settings"]["boot_seconds"] == 0
    assert oct((folder / "clouds.yaml").stat().st_mode)[-3:] == "600"
    assert statuses(running) == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_that_runs_the_cloud_alone_ends_it_too(tmp_path, number):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VMSVC_", "OS_"))}
    with subprocess.Popen(
        [sys.executable, "-m", "vmsvc", "sim", "--data-dir", str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as command:
        assert command.stdout.readline().startswith(f"export OS_CLIENT_CONFIG_FILE={tmp_path}/cloud/clouds.yaml ")
        cloud = FolderLock(tmp_path / "cloud")
        assert cloud.live_address()
        command.send_signal(number)
        assert command.wait(10) == 0
    deadline = time.monotonic() + 10
    while cloud.live_address():
        assert time.monotonic() < deadline
        time.sleep(0.02)
