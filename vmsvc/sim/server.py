"""The process of the simulated cloud: one port, until SIGTERM."""

import asyncio
import logging
import signal
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from vmsvc.sim import (api_claims, api_compute, api_flavors, api_hosts, api_identity, api_image, api_inventories,
                       api_network, api_parts, api_placement, api_servers, api_sim, api_steer, api_tags, api_users)
from vmsvc.sim.cloud import Cloud
from vmsvc.sim.handler import World
from vmsvc.sim.identity import Identity
from vmsvc.sim.lock import Lock, write_atomically

LOG = logging.getLogger(__name__)
#: `direct` is for vmsvc: it asks this cloud through no proxy, under whatever name it runs. Others do not know it.
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
    """All services of one cloud."""
    modules = (api_sim, api_steer, api_identity, api_users, api_compute, api_servers, api_tags, api_parts, api_flavors,
               api_hosts, api_placement, api_inventories, api_claims, api_image, api_network)
    routes = [route for module in modules for route in module.routes]
    routes += [route for module in modules for route in getattr(module, "last_routes", ())]
    world = World(cloud)
    return Application([(path, handler, {"world": world}) for path, handler in routes], log_function=lambda _: None)


def write_clouds(folder: Path, url: str, identity: Identity) -> Path:
    """clouds.yaml for the ordinary clients, with the clouds sim-admin and sim-demo; for its owner alone to read."""
    path = folder / "clouds.yaml"
    passwords = {name: identity.find(identity.users, {"name": name}).password for name in ("admin", "demo")}
    write_atomically(path, CLOUDS.format(url=url, **passwords))
    return path


def bind(address: str, port: int, kept: int | None):
    """The socket: on the port asked for, else on that of the last run if it is free, else on any."""
    for wanted in ([port] if port else [kept, 0] if kept else [0]):
        try:
            return bind_sockets(wanted, address=address, reuse_port=False)
        except OSError:
            if wanted in (port, 0):
                raise
    raise AssertionError("port 0 is always tried")


async def serve(folder: Path, address: str, name: str, port: int, size: dict[str, int], settings: dict,
                lock: Lock) -> None:
    """Serve the cloud of this folder. The lock is held by the caller; clouds.yaml has `name` as the cloud's host."""
    cloud = Cloud(folder, size, settings)
    sockets = bind(address, port, lock.last_port())
    bound = sockets[0].getsockname()[1]
    url = f"http://{name}:{bound}"
    clouds = write_clouds(folder, url, cloud.identity)
    server = HTTPServer(application(cloud), max_buffer_size=2 ** 20)
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
