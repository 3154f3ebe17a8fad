"""The simulated cloud: the model put together with the life of its servers, without HTTP."""

import uuid
from dataclasses import asdict
from pathlib import Path

from vmsvc.sim.boot import Boot
from vmsvc.sim.changes import Changes
from vmsvc.sim.departure import Departure
from vmsvc.sim.identity import Project
from vmsvc.sim.life import Life
from vmsvc.sim.model import Model
from vmsvc.sim.quotas import AMPLE
from vmsvc.sim.refusal import bad_request
from vmsvc.sim.servers import Server
from vmsvc.sim.store import Store

SEEDED = {"image": "bed-image", "network": "bed-net"}
#: What a reset empties. Users and the seeded image and network stay, so that clients need not look them up again.
VOLATILE = ("server", "port", "consumer", "host", "provider", "class", "quota", "group", "trouble", "keypair", "flavor")


class Cloud(Model):
    """One cloud, kept in a folder. `size` (hosts, vcpus, ram_mb, disk_gb) is used when the folder is new and by a
    reset; `settings` are those of the start."""

    def __init__(self, folder: Path, size: dict[str, int], settings: dict | None = None):
        self._size = size
        self._start_settings = settings or {}
        super().__init__(Store(folder / "cloud.sqlite"))

    def build(self, settings: dict) -> None:
        """Read what is kept, seed what is not there, and let everything go on."""
        super().build({**self._start_settings, **settings})
        self.life = Life(self)
        self.boot, self.departure, self.changes = Boot(self.life), Departure(self.life), Changes(self.life)
        self.departure.thief = self._steal
        if not self.identity.users:
            self.identity.seed()
            admin = self.identity.find(self.identity.projects, {"name": "admin"})
            self.catalog.seed(admin.id, self.clock.now())
        if not self.hosts.all and not self.catalog.flavors:
            self.catalog.seed_flavors()
            for name in ("admin", "demo"):
                self.quotas.set(self.identity.find(self.identity.projects, {"name": name}).id, dict(AMPLE))
            for number in range(1, self._size["hosts"] + 1):
                self.hosts.add(f"sim-{number}", vcpus=self._size["vcpus"], ram_mb=self._size["ram_mb"],
                               disk_gb=self._size["disk_gb"])
        self.keep_settings()
        self.keep_clock()
        self.store.commit()
        self.clock.after_run = self.store.commit
        self.life.resume()

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
               name: str = "foreign", metadata: dict | None = None, tags: list[str] | None = None,
               volume: bool = False) -> list[Server]:
        """Servers of a project that are ACTIVE at once; fewer than asked for when the room ends. No quota is asked."""
        if flavor not in self.catalog.flavors:
            raise bad_request(f"no flavor {flavor}")
        embedded, made = self.catalog.flavors[flavor].embedded(volume), []
        owner = next((user.id for user in self.identity.users.values() if project.id in user.roles), "")
        image_id = "" if volume else next(iter(self.catalog.images), "")
        for _ in range(count):
            now = self.clock.now()
            server = Server(id=str(uuid.uuid4()), number=self.servers.next_number(), name=name, project_id=project.id,
                            user_id=owner, flavor=embedded, image_id=image_id,
                            network_ids=list(self.catalog.networks)[:1], created=now, updated=now, hostname=name,
                            metadata=dict(metadata or {}), tags=sorted(tags or []))
            if not self.boot.settle(server, host):
                break
            made.append(server)
        return made

    def _steal(self, project_name: str, victim: Server, host_name: str) -> None:
        """Somebody else's server takes the room that this one leaves, before anybody can see it free."""
        project = self.identity.find(self.identity.projects, {"name": project_name})
        if project is not None:
            self.settle(project, victim.flavor["id"], host=host_name, name="thief")

    def reset(self, keep_tokens: bool = True) -> None:
        """As new: no servers, ports, troubles or quotas; hosts, flavors and settings as at the start; the clock
        is the machine's again. Unless told otherwise tokens stay valid."""
        self.clock.forget()
        self.store.put("setting", "clock", {})
        self.store.put("setting", "all", {})
        for image_id in [key for key, image in self.catalog.images.items() if image.name != SEEDED["image"]]:
            self.catalog.drop_image(image_id)
        for network_id in [key for key, network in self.catalog.networks.items() if network.name != SEEDED["network"]]:
            self.catalog.drop_network(network_id)
        self.store.clear(*VOLATILE, *(() if keep_tokens else ("token",)))
        self.build({})

    def close(self) -> None:
        """Keep everything and close."""
        self.store.close()
