"""The process of the simulated cloud: its command line, its port, and the HTTP handlers of all services on it."""

import argparse
import asyncio
import os
import signal
import socket
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from vmsvc.simulator import control
from vmsvc.simulator.cinder import api as cinder
from vmsvc.simulator.clock import Settings
from vmsvc.simulator.cloud import Cloud
from vmsvc.simulator.glance import api as glance
from vmsvc.simulator.http import Context
from vmsvc.simulator.keystone import api as keystone, catalog_api
from vmsvc.simulator.keystone.model import Identity
from vmsvc.simulator.neutron import api as neutron, security_groups_api
from vmsvc.simulator.nova import (
    aggregates_api,
    api as nova,
    attachments_api,
    flavors_api,
    hosts_api,
    projects_api,
    servers_api,
)
from vmsvc.simulator.placement import allocations_api, providers_api
from vmsvc.simulator.process import FolderLock, write_atomically

#: `direct` is a key that only vmsvc reads: it calls this cloud without a proxy, whatever the cloud's host name is.
CLOUDS = """clouds:
  sim-admin:
    auth: {{auth_url: "{url}/identity/v3", username: admin, password: "{admin}", project_name: admin,
           user_domain_name: Default, project_domain_name: Default}}
    region_name: bed
    identity_api_version: 3
    direct: true
  sim-demo:
    auth: {{auth_url: "{url}/identity/v3", username: demo, password: "{demo}", project_name: demo,
           user_domain_name: Default, project_domain_name: Default}}
    region_name: bed
    identity_api_version: 3
    direct: true
"""


def application(cloud: Cloud) -> Application:
    """The HTTP handlers of all services of a cloud. The catch-all routes of each service come last."""
    context = Context(cloud)
    modules = (
        control,
        keystone,
        catalog_api,
        nova,
        servers_api,
        attachments_api,
        aggregates_api,
        flavors_api,
        projects_api,
        hosts_api,
        providers_api,
        allocations_api,
        glance,
        cinder,
        neutron,
        security_groups_api,
    )
    routes = [route for module in modules for route in module.routes]
    routes += [route for module in modules for route in getattr(module, "last_routes", ())]
    return Application([(path, handler, {"context": context}) for path, handler in routes], log_function=lambda _: None)


def write_clouds(folder: Path, url: str, identity: Identity) -> Path:
    """Write clouds.yaml, which only its owner can read, with the clouds sim-admin and sim-demo."""
    path = folder / "clouds.yaml"
    passwords = {user.name: user.password for user in map(identity.user_named, ("admin", "demo")) if user}
    write_atomically(path, CLOUDS.format(url=url, **passwords))
    return path


def bind(address: str, port: int, last_port: int | None) -> list[socket.socket]:
    """Listen on `port`; with 0 on the port of the last run if that is free, else on any free one."""
    for candidate in [port] if port else [last_port, 0] if last_port else [0]:
        try:
            return bind_sockets(candidate, address=address, reuse_port=False)
        except OSError:
            if candidate in (port, 0):
                raise
    raise AssertionError("port 0 is always tried")


async def serve(
    folder: Path, address: str, name: str, port: int, size: dict[str, int], settings: dict[str, Any], lock: FolderLock
) -> None:
    """Serve the cloud of this folder until SIGTERM or SIGINT. The caller holds the lock. clouds.yaml has `name` as the
    cloud's host."""
    cloud = Cloud(folder, size, settings)
    sockets = bind(address, port, lock.last_port())
    bound = sockets[0].getsockname()[1]
    url = f"http://{name}:{bound}"
    clouds = write_clouds(folder, url, cloud.identity)
    server = HTTPServer(application(cloud), max_buffer_size=2**20)
    server.add_sockets(sockets)
    cloud.clock.run_due()
    lock.announce(bound)
    print(f"simulated cloud at {url}, clouds.yaml at {clouds}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    server.stop()
    await server.close_all_connections()
    cloud.close()


def parser() -> argparse.ArgumentParser:
    """The options of `python -m vmsvc.simulator`. Each setting of the cloud is an option too."""
    options = argparse.ArgumentParser(prog=".venv/bin/python -m vmsvc.simulator", description="A simulated OpenStack.")
    options.add_argument("--dir", type=Path, required=True, help="folder of its state; kept across restarts")
    options.add_argument(
        "--address", default="127.0.0.1", help="where it listens; everybody who reaches it can control it"
    )
    options.add_argument("--name", default="127.0.0.1", help="by which name clients reach it, for its clouds.yaml")
    options.add_argument("--port", type=int, default=0, help="0: that of the last run, else any free one")
    options.add_argument("--hosts", type=int, default=4, help="compute hosts of a new cloud")
    options.add_argument("--vcpus", type=int, default=4, help="vCPUs of each")
    options.add_argument("--ram-mb", type=int, default=8192, help="MiB of each")
    options.add_argument("--disk-gb", type=int, default=1000, help="GiB of each")
    for field in fields(Settings):
        options.add_argument("--" + field.name.replace("_", "-"), type=float, help=f"default {field.default}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the simulator. Returns the exit status: 0 after SIGTERM, 3 when a simulator already runs in this folder."""
    os.umask(0o077)  # The state holds passwords and tokens.
    options = vars(parser().parse_args(arguments))
    folder = options.pop("dir").resolve()
    lock = FolderLock(folder)
    if not lock.acquire():
        print(f"a simulated cloud runs already in {folder}", file=sys.stderr)
        return 3
    size = {name: options.pop(name) for name in ("hosts", "vcpus", "ram_mb", "disk_gb")}
    address, name, port = options.pop("address"), options.pop("name"), options.pop("port")
    settings = {key: value for key, value in options.items() if value is not None}
    asyncio.run(serve(folder, address, name, port, size, settings, lock))
    return 0
