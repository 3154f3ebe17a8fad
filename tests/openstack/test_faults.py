"""The way to a cloud fails, by a proxy in between: on the simulated one and on a real one alike."""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.chaos.fleet import Launcher
from tests.chaos.proxy import Fault, Proxy
from tests.chaos.scenarios import Clients
from tests.openstack.conftest import LARGE
from tests.system import invariants
from tests.system.client import until
from vmsvc.domain.timing import Timing

TIMING = Timing(find_server=(0.3, 0.5), retries=(0.5, 1.0), reconciler_round=1.0)
CREATE = ("POST", "/servers$")
FAULTS = {
    **{action: [Fault(action, *CREATE)] for action in ("before", "after", "half", "html", "status")},
    "late": [Fault("late", *CREATE, seconds=4.0)],
    "429": [Fault("status", *CREATE, status=429)],
    "lists": [Fault("half", "GET", "/servers/detail", 3), Fault("html", "GET", "/servers/detail", 2)],
    "delete": [Fault("after", "DELETE", "/servers/", 1), Fault("before", "DELETE", "/servers/", 1)],
    "hang": [Fault("hang", *CREATE)],
}
#: On the simulated cloud its own faults try most of them (tests/system/test_cloud_faults.py).
HERE = FAULTS if os.environ.get("VMSVC_TEST_CLOUD") == "bed" else ("after", "late", "delete")


@pytest.mark.parametrize("kind", HERE)
@pytest.mark.gen_test(timeout=300)
async def test_one_server_comes_of_one_request_whatever_the_network_does(
    kind, database, clouds_yaml, entries, demo, admin
):
    assert admin("PUT", f"/os-quota-sets/{demo.project}", {"quota_set": {**LARGE, "force": True}}).status == 200
    folder, launcher, proxy = Path(tempfile.mkdtemp(prefix="vmsvc-fault-")), Launcher(), Proxy()
    await proxy.open()
    replicas = [
        launcher.start(
            {
                "OS_CLOUD": entries["demo"][0],
                "OS_CLIENT_CONFIG_FILE": str(clouds_yaml),
                "http_proxy": proxy.url,
                "no_proxy": "",
                "VMSVC_PORT": "0",
                "VMSVC_DATABASE_URL": database.url,
                "VMSVC_FLAVOR": "m1.tiny",
                "VMSVC_CLOUD_TIMEOUT": "5",
            },
            folder / "log",
            TIMING,
        )
    ]
    try:
        await replicas[0].ready()
        clients = Clients(replicas, 120)
        proxy.faults += [Fault(**vars(fault)) for fault in FAULTS[kind]]
        created = await clients.created("one", False, "m1.tiny")
        if kind == "delete":
            await clients.delete(created.id)
            created = await clients.created("other", False, "m1.tiny")
        assert proxy.struck
        await asyncio.gather(*proxy.late)

        def settled() -> bool:
            return [server["id"] for server in demo("GET", "/servers").body["servers"]] == [created.id]

        await until(settled, "one server", 60, 0.3)
        invariants.of_the_database(database)
        await clients.delete(created.id)
        assert demo("GET", "/servers").body["servers"] == []
        assert "Traceback" not in replicas[0].text()
    finally:
        await replicas[0].clean_up()
        launcher.close()
        await proxy.close()
        shutil.rmtree(folder)
