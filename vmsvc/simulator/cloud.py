"""The simulated cloud without HTTP: its model and the life of its servers, with what a new cloud is made of."""

import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vmsvc.simulator.errors import bad_request
from vmsvc.simulator.glance.model import Image
from vmsvc.simulator.keystone.model import Project
from vmsvc.simulator.model import Model
from vmsvc.simulator.neutron.model import Network
from vmsvc.simulator.nova.flavors import LARGE_QUOTA, Flavor
from vmsvc.simulator.nova.lifecycle import Boot, Deletion, Lifecycle, StateChanges
from vmsvc.simulator.nova.moves import Moves
from vmsvc.simulator.nova.servers import Server
from vmsvc.simulator.store import Store

#: The image, the network and the flavors of a new cloud: those of the real OpenStack that the tests use as well.
IMAGE, NETWORK, SUBNET = "bed-image", "bed-net", "bed-subnet"
FLAVORS = (("m1.large", 4, 8192), ("m1.medium", 2, 4096), ("m1.small", 1, 2048), ("m1.tiny", 1, 1024))
#: The kinds of rows that a reset deletes. Users, tokens, the image and the network stay, so that a client that has
#: looked them up can go on with them.
VOLATILE = (
    *("server", "port", "consumer", "host", "provider", "class", "quota", "group", "trouble", "keypair", "flavor"),
    *("migration", "security_group", "trait", "aggregate", "service", "endpoint", "volume", "volume_limit"),
)


class Cloud(Model):
    """One cloud, stored in a folder. `size` (hosts, vcpus, ram_mb, disk_gb) is that of a new cloud and of a reset one;
    `settings` are those of the command line and go before the stored ones."""

    def __init__(self, folder: Path, size: dict[str, int], settings: dict[str, Any] | None = None):
        self._size = size
        self._start_settings = settings or {}
        super().__init__(Store(folder / "cloud.sqlite"))

    def load(self, settings: dict[str, Any]) -> None:
        """Read what is stored, add what a new cloud has, and go on with what was under way."""
        super().load({**self._start_settings, **settings})
        self.lifecycle = Lifecycle(self)
        self.boot, self.deletion = Boot(self.lifecycle), Deletion(self.lifecycle, self._occupy)
        self.state_changes = StateChanges(self.lifecycle)
        self.moves = Moves(self.lifecycle)

        if not self.identity.users:
            self._add_users_image_and_network()
        if not self.hosts.all and not self.flavors:
            self._add_flavors_quotas_and_hosts()
        self.store_settings()
        self.store_clock()
        self.store.commit()

        self.lifecycle.resume()

    def _add_users_image_and_network(self) -> None:
        self.identity.add_first_users()
        owner, now = self.identity.project_id("admin"), self.clock.now()
        image = Image(str(uuid.uuid4()), IMAGE, now, owner=owner)
        self.images.save(image.id, image)
        network = Network(str(uuid.uuid4()), str(uuid.uuid4()), owner, now, NETWORK, SUBNET)
        self.networks.save(network.id, network)

    def _add_flavors_quotas_and_hosts(self) -> None:
        for name, vcpus, ram in FLAVORS:
            self.flavors.save(name, Flavor(name, vcpus, ram))
        for name in ("admin", "demo"):
            self.quotas.set(self.identity.project_id(name), dict(LARGE_QUOTA))
        for number in range(1, self._size["hosts"] + 1):
            self.hosts.add(
                f"sim-{number}", vcpus=self._size["vcpus"], ram_mb=self._size["ram_mb"], disk_gb=self._size["disk_gb"]
            )

    def store_settings(self) -> None:
        """To be called after each change of the settings."""
        self.store.put("setting", "all", asdict(self.settings))

    def store_clock(self) -> None:
        """To be called after the clock was moved or stopped."""
        self.store.put("setting", "clock", {"offset": self.clock.offset, "frozen_at": self.clock.frozen_at})

    def advance(self, seconds: float) -> None:
        """Move the clock forward and do everything that falls due on the way."""
        self.clock.advance(seconds)
        self.store_clock()

    def add_active_servers(
        self,
        project: Project,
        flavor: str = "m1.tiny",
        count: int = 1,
        host: str | None = None,
        name: str = "foreign",
        metadata: dict[str, Any] | None = None,
        tags: list[str] | None = None,
        volume: bool = False,
    ) -> list[Server]:
        """Make servers of a project that are ACTIVE at once. Stops early when no host has capacity left; the quota is
        not checked. `volume`: they boot from a volume."""
        if flavor not in self.flavors:
            raise bad_request(f"no flavor {flavor}")
        embedded, servers = self.flavors[flavor].embedded(volume), []
        owner = next((user.id for user in self.identity.users.values() if project.id in user.roles), "")
        image_id = "" if volume else next(iter(self.images), "")
        for _ in range(count):
            now = self.clock.now()
            server = Server(
                id=str(uuid.uuid4()),
                number=self.servers.next_number(),
                name=name,
                project_id=project.id,
                user_id=owner,
                flavor=embedded,
                image_id=image_id,
                network_ids=list(self.networks)[:1],
                created=now,
                updated=now,
                hostname=name,
                metadata=dict(metadata or {}),
                tags=sorted(tags or []),
            )
            if not self.boot.activate_at_once(server, host):
                break
            servers.append(server)
        return servers

    def _occupy(self, project_name: str, victim: Server, host_name: str | None) -> None:
        """Place another project's server on the capacity that a deleted server frees, before a client can see it
        free."""
        project = self.identity.project_named(project_name)
        if project is not None:
            self.add_active_servers(project, victim.flavor["id"], host=host_name, name="thief")

    def reset(self, keep_tokens: bool = True) -> None:
        """Make the cloud as new: no servers, ports, faults or quotas; hosts, flavors and settings as at the start; the
        clock shows the machine's time again."""
        self.clock.forget()
        self.store.put("setting", "clock", {})
        self.store.put("setting", "all", {})
        for image_id in [key for key, image in self.images.items() if image.name != IMAGE]:
            self.images.remove(image_id)
        for network_id in [key for key, network in self.networks.items() if network.name != NETWORK]:
            self.networks.remove(network_id)
        self.store.clear(*VOLATILE, *(() if keep_tokens else ("token",)))
        self.load({})

    def close(self) -> None:
        """Store everything and close the database."""
        self.store.close()
