"""All parts of the cloud, loaded from the store: what the life of a server and the HTTP handlers work on."""

from typing import Any

from vmsvc.simulator.cinder.model import Volumes
from vmsvc.simulator.clock import Clock, Settings
from vmsvc.simulator.faults import ServerFaults
from vmsvc.simulator.glance.model import Image
from vmsvc.simulator.keystone.model import Identity
from vmsvc.simulator.neutron.model import Network, Ports
from vmsvc.simulator.neutron.security_groups import SecurityGroups
from vmsvc.simulator.nova.aggregates import Aggregates
from vmsvc.simulator.nova.flavors import Flavor, KeyPair, Quotas
from vmsvc.simulator.nova.migrations import Migration
from vmsvc.simulator.nova.scheduling import Hosts, Scheduler
from vmsvc.simulator.nova.servers import Groups, MetadataService, Servers
from vmsvc.simulator.placement.model import Placement
from vmsvc.simulator.store import Store, Table


class Model:
    """The parts of one cloud. A reset loads all of them again."""

    def __init__(self, store: Store):
        self.store = store
        self.load({})

    def load(self, settings: dict[str, Any]) -> None:
        """Read every part from the store. `settings` go before the stored ones."""
        stored = dict(self.store.load("setting"))
        self.settings = Settings()
        self.settings.change({**stored.get("all", {}), **settings})
        self.clock = Clock(self.store.commit, **stored.get("clock", {}))
        self.identity = Identity(self.store, self.clock, self.settings)
        self.flavors = Table(self.store, "flavor", Flavor)
        self.images = Table(self.store, "image", Image)
        self.networks = Table(self.store, "network", Network)
        self.migrations = Table(self.store, "migration", Migration)
        self.keypairs = Table(self.store, "keypair", KeyPair)
        self.placement = Placement(self.store)
        self.hosts = Hosts(self.store, self.placement, self.clock, self.settings)
        self.aggregates = Aggregates(self.store, self.hosts, self.placement)
        self.servers = Servers(self.store, int(self.settings.deleted_kept))
        self.ports = Ports(self.store, self.networks)
        self.security_groups = SecurityGroups(self.store, self.ports, self.clock)
        self.volumes = Volumes(self.store)
        self.quotas = Quotas(self.store, self.servers)
        self.groups = Groups(self.store, self.servers)
        self.server_faults = ServerFaults(self.store)
        self.metadata_service = MetadataService(self.clock, self.settings)
        self.scheduler = Scheduler(self.hosts, self.placement, self.groups)
