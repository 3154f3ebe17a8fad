"""The simulated cloud: all parts of the model put together, without HTTP."""

import uuid
from dataclasses import asdict
from pathlib import Path

from vmsvc.sim.catalog import Catalog
from vmsvc.sim.clock import Clock
from vmsvc.sim.groups import Groups
from vmsvc.sim.guests import Guests
from vmsvc.sim.hosts import Hosts
from vmsvc.sim.identity import Identity, Project
from vmsvc.sim.life import Life
from vmsvc.sim.placement import Placement
from vmsvc.sim.ports import Ports
from vmsvc.sim.quotas import Quotas
from vmsvc.sim.refusal import bad_request
from vmsvc.sim.servers import Server, Servers
from vmsvc.sim.settings import Settings
from vmsvc.sim.store import Store
from vmsvc.sim.troubles import Troubles


class Cloud:
    """One cloud, kept in a folder. `size` (hosts, vcpus, ram_mb, disk_gb) is used when the folder is new."""

    def __init__(self, folder: Path, size: dict[str, int], settings: dict | None = None):
        self.store = Store(folder / "cloud.sqlite")
        self.size = size
        self._start_settings = settings or {}
        self.build(self._start_settings)

    def build(self, settings: dict | None = None) -> None:
        """Make the model from what is kept; seed it if there is nothing."""
        kept = dict(self.store.load("setting"))
        self.settings = Settings()
        self.settings.change({**kept.get("all", {}), **(settings or {})})
        self.clock = Clock(**kept.get("clock", {}))
        self.identity = Identity(self.store, self.clock, self.settings)
        self.catalog = Catalog(self.store)
        self.placement = Placement(self.store)
        self.hosts = Hosts(self.store, self.placement, self.clock, self.settings)
        self.servers = Servers(self.store, int(self.settings.deleted_kept))
        self.ports = Ports(self.store, self.catalog)
        self.quotas = Quotas(self.store, self.servers)
        self.groups = Groups(self.store, self.servers)
        self.troubles = Troubles(self.store)
        self.guests = Guests(self.clock, self.settings)
        self.life = Life(self.clock, self.settings, self.servers, self.hosts, self.placement, self.ports,
                         self.catalog, self.groups, self.troubles)
        if not self.identity.users:
            self._seed()
        self.keep_settings()
        self.keep_clock()
        self.store.commit()
        self.clock.after_run = self.store.commit
        self.life.resume()

    def _seed(self) -> None:
        self.identity.seed()
        admin = self.identity.find(self.identity.projects, {"name": "admin"})
        self.catalog.seed(admin.id, self.clock.now())
        self._seed_size()

    def _seed_size(self) -> None:
        self.catalog.seed_flavors()
        for number in range(1, self.size["hosts"] + 1):
            self.hosts.add(f"sim-{number}", vcpus=self.size["vcpus"], ram_mb=self.size["ram_mb"],
                           disk_gb=self.size["disk_gb"])

    def keep_settings(self) -> None:
        """After a change of settings."""
        self.store.put("setting", "all", asdict(self.settings))

    def keep_clock(self) -> None:
        """After the clock was moved or stopped."""
        self.store.put("setting", "clock", {"offset": self.clock.offset, "frozen_at": self.clock.frozen_at})

    def advance(self, seconds: float) -> None:
        """Move the clock and do all that falls due on the way."""
        self.clock.advance(seconds)
        self.keep_clock()

    def settle(self, project: Project, flavor: str = "m1.tiny", count: int = 1, host: str | None = None,
               name: str = "foreign", metadata: dict | None = None, tags: list[str] | None = None) -> list[Server]:
        """Servers of a project that are ACTIVE at once; fewer than asked for when the room ends. No quota is asked."""
        if flavor not in self.catalog.flavors:
            raise bad_request(f"no flavor {flavor}")
        kind, made = self.catalog.flavors[flavor], []
        owner = next((user.id for user in self.identity.users.values() if project.id in user.roles), "")
        for _ in range(count):
            now = self.clock.now()
            server = Server(id=str(uuid.uuid4()), number=self.servers.next_number(), name=name, project_id=project.id,
                            user_id=owner, flavor=kind.embedded(), image_id=next(iter(self.catalog.images), ""),
                            network_ids=list(self.catalog.networks)[:1], created=now, updated=now, hostname=name,
                            metadata=dict(metadata or {}), tags=sorted(tags or []))
            if not self.life.settle(server, host):
                break
            made.append(server)
        return made

    def reset(self, keep_tokens: bool = True) -> None:
        """As new: no servers, ports, troubles or quotas; hosts as at the start; the clock runs on.

        Users, ids of image and network, and (unless told otherwise) tokens stay, so that clients need not reconnect.
        """
        self.clock.forget()
        self.store.clear("server", "port", "consumer", "host", "provider", "class", "quota", "group", "trouble",
                         "keypair", "flavor", *(() if keep_tokens else ("token",)))
        self.store.put("setting", "all", self._start_settings)
        self.keep_clock()
        self.store.commit()
        self.build()
        self._seed_size()

    def close(self) -> None:
        """Keep everything and close."""
        self.store.close()
