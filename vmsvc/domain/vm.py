"""One of our VMs as scheduling sees it."""

from dataclasses import dataclass
from datetime import datetime

from vmsvc.domain.lifecycle import LEAVING, State
from vmsvc.domain.resources import Resources


@dataclass(frozen=True, slots=True)
class VmFacts:
    """One of our VMs: row and server together."""

    id: str
    state: State
    is_preemptible: bool
    quota: Resources
    room: Resources
    priority: int = 0
    cloud_id: str | None = None
    host: str | None = None            # operator: where it is, or where it is to be built
    host_id: str = ""
    present: bool = False              # the cloud's answer counted its server
    unseen: bool = False               # it stays, and its server came so late that the quota may not count it yet
    untouchable: bool = False          # locked, changing, exempt, or (a tenant's) unable to read a notice: no victim
    spared_until: int = 0              # seconds since the epoch; too young to be a victim before
    ran: bool = True
    lost_work: int = 0                 # what its going costs by the policy at `since`, in seconds since the epoch ...
    rate: int = 0                      # ... and how much more each second later
    since: int = 0
    owner: str = ""                    # what its owner lost lately comes on top: see World.surcharges
    evicted_for: str | None = None
    ended_at: datetime | None = None
    group: str | None = None
    running: bool = True               # its guest runs, so that it can read a notice
    takes_notice: bool = True          # ... and, if it runs, the cloud lets a notice be written for it
    locked: bool = False               # nobody but who locked it can delete it
    zone: str | None = None            # availability zone of its host

    @property
    def leaves(self) -> bool:
        """True when the room that it still holds will be free without our doing more."""
        goes = self.state is State.NOTICED and not self.locked
        return self.present and (self.state in LEAVING or goes or self.ended)

    @property
    def ended(self) -> bool:
        """True when it ended after the cloud was read: the answer still counts it."""
        return self.state in (State.EVICTED, State.DELETED, State.LOST, State.FAILED)
