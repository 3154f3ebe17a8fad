"""What people do without vmsvc: openstacksdk, and a look at each server every 50 ms. It counts its calls."""

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from keystoneauth1 import session as keystoneauth
from openstack import connection
from openstack.compute.v2.server import Server
from openstack.config import loader
from openstack.exceptions import NotFoundException

RELOAD_SECONDS = 0.05
LIST_SECONDS = 0.25
LIMIT = 300.0


class ByHand:
    """One user of one cloud; every method returns when it is done, as the cloud tells."""

    def __init__(self, clouds: Path, cloud: str, threads: int = 1):
        http = requests.Session()
        for scheme in ("http://", "https://"):  # else all but ten connections would be made anew for each call
            http.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=max(10, threads)))
        config = loader.OpenStackConfig(
            config_files=[str(clouds)], session_constructor=functools.partial(keystoneauth.Session, session=http)
        )
        self._compute = connection.Connection(config=config.get_one(cloud=cloud, api_timeout=60)).compute
        self._what = {"image_id": "", "flavor_id": ""}
        self._counting = threading.Lock()
        self.calls: Counter[str] = Counter()
        list(self._compute.servers(details=False))  # sign in, find the endpoint and the version

    def choose(self, flavor: str, image: str, network: str) -> None:
        """What its servers are made of, by id."""
        self._what = {"flavor_id": flavor, "image_id": image, "networks": [{"uuid": network}]}

    def post(self) -> str:
        """The id of a new server, as soon as the cloud has taken the request."""
        return self._call("POST", self._compute.create_server, name="by hand", **self._what).id

    def create(self, to_be: str = "ACTIVE") -> str:
        """The id of a new server that is ACTIVE, or what else it is to become."""
        server_id = self.post()
        while (status := self._status(server_id)) != to_be:
            assert status == "BUILD", f"server {server_id} is {status}"
            time.sleep(RELOAD_SECONDS)
        return server_id

    def is_refused(self) -> None:
        """Ask the cloud for a server for which it has no room, and delete it."""
        self.delete(self.create("ERROR"))

    def create_and_wait(self) -> str:
        """The same, by the wait that the SDK (and so `openstack server create --wait`) has."""
        server_id = self.post()
        self._compute.wait_for_server(Server(id=server_id), wait=LIMIT)
        return server_id

    def delete(self, server_id: str) -> None:
        """DELETE, until GET says 404."""
        self._call("DELETE", self._compute.delete_server, server_id)
        self._until(lambda: self._status(server_id) is None, RELOAD_SECONDS)

    def create_each(self, number: int) -> list[str]:
        """So many, side by side: a thread looks after each."""
        with ThreadPoolExecutor(number) as pool:
            return list(pool.map(lambda _: self.create(), range(number)))

    def create_all(self, number: int) -> list[str]:
        """So many, posted side by side; then one list shows them all."""
        with ThreadPoolExecutor(number) as pool:
            made = set(pool.map(lambda _: self.post(), range(number)))
        self._until(lambda: made <= self._active(), LIST_SECONDS)
        return sorted(made)

    def delete_all(self, servers: list[str]) -> None:
        """All of them."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.delete, servers))

    def _status(self, server_id: str) -> str | None:
        try:
            return self._call("GET", self._compute.get_server, server_id).status
        except NotFoundException:
            return None

    def _active(self) -> set[str]:
        shown = self._call("LIST", lambda: list(self._compute.servers()))
        return {server.id for server in shown if server.status == "ACTIVE"}

    def _call(self, method: str, call: Callable, *args, **keywords):
        with self._counting:
            self.calls[method] += 1
        return call(*args, **keywords)

    def _until(self, done: Callable[[], bool], pause: float) -> None:
        deadline = time.monotonic() + LIMIT
        while not done():
            assert time.monotonic() < deadline, f"not within {LIMIT:.0f} s"
            time.sleep(pause)
