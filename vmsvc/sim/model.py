"""The parts of the cloud that the life of a server touches, built from what is kept."""

from vmsvc.sim.catalog import Catalog
from vmsvc.sim.clock import Clock
from vmsvc.sim.groups import Groups
from vmsvc.sim.guests import Guests
from vmsvc.sim.hosts import Hosts
from vmsvc.sim.identity import Identity
from vmsvc.sim.placement import Placement
from vmsvc.sim.ports import Ports
from vmsvc.sim.quotas import Quotas
from vmsvc.sim.scheduler import Scheduler
from vmsvc.sim.servers import Servers
from vmsvc.sim.settings import Settings
from vmsvc.sim.store import Store
from vmsvc.sim.troubles import Troubles


class Model:
    """Every noun of the cloud. `build` reads them all; a reset builds them anew."""

    def __init__(self, store: Store):
        self.store = store
        self.build({})

    def build(self, settings: dict) -> None:
        """Read what is kept; these settings go before the kept ones."""
        kept = dict(self.store.load("setting"))
        self.settings = Settings()
        self.settings.change({**kept.get("all", {}), **settings})
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
        self.scheduler = Scheduler(self.hosts, self.placement, self.groups)
