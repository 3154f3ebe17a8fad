"""A small cloud that knows all of itself, and what Nova would say in it.

It judges what the service decides, so nothing here may come from `vmsvc`: quota as Nova counts it, hosts as Placement
and Nova's filters judge them, images as Nova's API does. Amounts are VCPUs, GiB of memory and GiB of disk.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import MISSING, dataclass, fields
from itertools import combinations
from math import inf

MOST_METADATA = 128  # items that Nova lets a server have


class Literal:
    """Its repr can be pasted, and names only what is not as usual."""

    def __repr__(self) -> str:
        said = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.default is MISSING:
                said.append(repr(value))
            elif value != field.default:
                said.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(said)})"


@dataclass(frozen=True, repr=False)
class Flavor(Literal):
    """A size, with the traits that its extra specs require and forbid."""

    vcpus: int
    ram: int
    disk: int = 1
    required: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Image(Literal):
    """What Glance shows of an image."""

    arch: str | None = None
    min_ram: int = 0
    min_disk: int = 0
    required: tuple[str, ...] = ()
    active: bool = True


@dataclass(frozen=True, repr=False)
class Host(Literal):
    """A compute host. `largest`: the most VCPUs that one server may have there."""

    name: str
    vcpus: int
    ram: int
    disk: int = 100
    zone: str = "nova"
    arch: str = "x86_64"
    traits: tuple[str, ...] = ()
    up: bool = True
    largest: int | None = None


@dataclass(frozen=True, repr=False)
class Server(Literal):
    """A server. `kind`: preemptible or standard (made by the service), outsider (of the same project), hidden (of
    another project). `items`: how much metadata its owner has written. `mute`: the cloud refuses to write more, and
    nothing shows that. `stubborn`: it is locked as soon as it is noticed. `young`: it has not run for as long as it
    was promised. `leaving`: its owner deletes it. `group`: of which one may go at a time; `server_group`: of Nova. In
    BUILD it is built yet."""

    name: str
    flavor: Flavor
    host: str | None
    kind: str = "preemptible"
    priority: int = 0
    age: int = 100
    status: str = "ACTIVE"
    items: int = 0
    locked: bool = False
    mute: bool = False
    stubborn: bool = False
    young: bool = False
    leaving: bool = False
    group: str | None = None
    server_group: str | None = None

    @property
    def ours(self) -> bool:
        """True when the project's quota counts it."""
        return self.kind != "hidden"

    @property
    def full(self) -> bool:
        """True when its guest runs and no notice can be written for it, as everybody can see."""
        return self.status == "ACTIVE" and self.items >= MOST_METADATA


@dataclass(frozen=True, repr=False)
class Wanted(Literal):
    """A request. `odd`: a filter of this cloud that nobody can read refuses it everywhere. `spoilt`: its image is
    deactivated as soon as the request has been accepted. `late`: it comes when the service has decided so often."""

    name: str
    flavor: Flavor
    image: Image = Image()
    zone: str | None = None
    preemptible: bool = False
    odd: bool = False
    spoilt: bool = False
    late: int = 0
    server_group: str | None = None


@dataclass(frozen=True, repr=False)
class Cloud(Literal):
    """All of it at the beginning. `quota`: instances, cores, GiB; -1 is unlimited. `thieves`: what an outsider takes
    ("host" or "quota") each time when room that was made is about to be used. To a tenant: `held`, what the project's
    servers held on a host before; `declared`, what is said of each host; `likely`, whether evidence is trusted."""

    mode: str
    hosts: tuple[Host, ...]
    servers: tuple[Server, ...]
    wanted: tuple[Wanted, ...]
    quota: tuple[int, int, int] = (-1, -1, -1)
    thieves: tuple[str, ...] = ()
    max_victims: int = 20
    seed: int = 0
    held: tuple[tuple[str, Flavor], ...] = ()
    declared: Flavor | None = None
    likely: bool = True
    groups: tuple[tuple[str, str, int], ...] = ()  # server groups: name, policy, how many may be on one host


Promise = tuple[Wanted, str | None]  # a request, and the host that is kept for it if there is one


class Referee:
    """The cloud as it is at the moment: `servers` by name."""

    def __init__(self, cloud: Cloud):
        self.cloud = cloud
        self.hosts = {host.name: host for host in cloud.hosts}
        self.servers = {server.name: server for server in cloud.servers}

    # ------------------------------------------------------------ what is used

    def quota_used(self, gone: Collection[str] = ()) -> tuple[int, int, int]:
        """Nova counts every server of the project that it has a record of, whatever its status."""
        flavors = [one.flavor for one in self.servers.values() if one.ours and one.name not in gone]
        return len(flavors), sum(one.vcpus for one in flavors), sum(one.ram for one in flavors)

    def on(self, host: str) -> Iterator[Server]:
        """Those that hold an allocation there."""
        return (one for one in self.servers.values() if one.host == host and one.status != "ERROR")

    def free(self, host: str, gone: Collection[str] = ()) -> tuple[int, int, int]:
        """What nobody holds there: VCPUs, memory, disk; negative where the host is over-committed."""
        flavors = [one.flavor for one in self.on(host) if one.name not in gone]
        place = self.hosts[host]
        return (
            place.vcpus - sum(one.vcpus for one in flavors),
            place.ram - sum(one.ram for one in flavors),
            place.disk - sum(one.disk for one in flavors),
        )

    # ------------------------------------------------------------ what Nova says

    def unfit(self, wanted: Wanted) -> str:
        """What Nova's API says of image and flavor, whatever room there is; nothing when it has no objection."""
        image, flavor = wanted.image, wanted.flavor
        if wanted.spoilt or not image.active:
            return "the image is not active"
        if image.min_ram > flavor.ram:
            return "the flavor's memory is too small for the image"
        if flavor.disk and image.min_disk > flavor.disk:
            return "the flavor's disk is too small for the image"
        if not flavor.disk and self.cloud.mode == "tenant":
            return "only volume-backed servers are allowed for flavors with zero disk"
        return ""

    def over_quota(self, wanted: Wanted, gone: Collection[str] = (), promised: Iterable[Promise] = ()) -> str:
        """The items of the quota that do not have enough for it, beside what others were promised."""
        flavors = [wanted.flavor, *(other.flavor for other, _ in promised)]
        asked = len(flavors), sum(one.vcpus for one in flavors), sum(one.ram for one in flavors)
        adds = 1, wanted.flavor.vcpus, wanted.flavor.ram
        return " ".join(
            item
            for item, limit, used, more, mine in zip(
                ("instances", "cores", "ram"), self.cloud.quota, self.quota_used(gone), asked, adds
            )
            if mine and used + more > limit >= 0
        )

    def takes(self, host: str, wanted: Wanted) -> bool:
        """True when Nova's filters would let it go there, and it would fit if the host were empty."""
        place, flavor, image = self.hosts[host], wanted.flavor, wanted.image
        return (
            place.up
            and not wanted.odd
            and wanted.zone in (None, place.zone)
            and image.arch in (None, place.arch)
            and {*flavor.required, *image.required} <= {*place.traits}
            and not {*flavor.forbidden} & {*place.traits}
            and flavor.vcpus <= (place.vcpus if place.largest is None else place.largest)
            and self._fit((place.vcpus, place.ram, place.disk), [flavor], flavor)
            and self.allows(host, wanted)
        )

    def members(self, group: str) -> list[Server]:
        """The servers of a server group."""
        return [one for one in self.servers.values() if one.server_group == group]

    def allows(self, host: str, wanted: Wanted, promised: Iterable[Promise] = ()) -> bool:
        """True when its server group lets it go there, beside what others of the group were promised."""
        policy, most = next(
            ((policy, most) for name, policy, most in self.cloud.groups if name == wanted.server_group), ("", 0)
        )
        there = [one.host for one in self.members(wanted.server_group or "-") if one.host and one.status != "ERROR"]
        there += [place for other, place in promised if place and other.server_group == wanted.server_group]
        if policy == "anti-affinity":
            return there.count(host) < most
        return policy != "affinity" or not there or host in there

    @staticmethod
    def _fit(free: tuple[int, ...], flavors: Collection[Flavor], mine: Flavor) -> bool:
        """Placement looks at the classes that are asked for."""
        asked = (sum(one.vcpus for one in flavors), sum(one.ram for one in flavors), sum(one.disk for one in flavors))
        return all(more <= left for more, left, own in zip(asked, free, (mine.vcpus, mine.ram, mine.disk)) if own)

    def has_room(self, host: str, wanted: Wanted, gone: Collection[str] = (), promised: Iterable[Promise] = ()) -> bool:
        """True when it could be claimed there, beside what others were promised there."""
        flavors = [wanted.flavor, *(other.flavor for other, place in promised if place == host)]
        return (
            self.takes(host, wanted)
            and self.allows(host, wanted, promised)
            and self._fit(self.free(host, gone), flavors, wanted.flavor)
        )

    def fits(
        self,
        wanted: Wanted,
        gone: Collection[str] = (),
        promised: Collection[Promise] = (),
        hosts: Iterable[str] | None = None,
    ) -> bool:
        """True when Nova would take it with these gone, on one of these hosts (None: on any)."""
        return not (self.unfit(wanted) or self.over_quota(wanted, gone, promised)) and any(
            self.has_room(host, wanted, gone, promised) for host in (self.hosts if hosts is None else hosts)
        )

    def boot(self, wanted: Wanted, pinned: str | None) -> tuple[str, str]:
        """POST it. (slug, words) of the refusal; none where it runs afterwards."""
        if unfit := self.unfit(wanted):
            return "invalid_request", unfit
        if items := self.over_quota(wanted):
            return "quota_exceeded", f"Quota exceeded for {items}"
        hosts = [host for host in self.hosts if pinned in (None, host) and self.has_room(host, wanted)]
        if not hosts:
            return "no_capacity", "No valid host was found. There are not enough hosts available."
        host = max(hosts, key=lambda name: (self.free(name), name))
        self.servers[wanted.name] = Server(
            wanted.name,
            wanted.flavor,
            host,
            kind="preemptible" if wanted.preemptible else "standard",
            server_group=wanted.server_group,
        )
        return "", ""

    def steal(self, what: str, wanted: Wanted, pinned: str | None) -> None:
        """An outsider takes what this request is about to use."""
        hosts = [host for host in self.hosts if pinned in (None, host) and self.has_room(host, wanted)]
        for number, host in enumerate(hosts if what == "host" else hosts[:1]):
            size = Flavor(max(1, self.free(host)[0]), 1, 0) if what == "host" else wanted.flavor
            name = f"thief-{len(self.servers)}-{number}"
            self.servers[name] = Server(name, size, host, kind="hidden" if what == "host" else "outsider")

    # ------------------------------------------------------------ who may go

    def may_go(self, server: Server, known: bool = False) -> bool:
        """True when it can be evicted by the rules; `known`: as far as anybody can see beforehand. A tenant's victim
        has to be told in its metadata; an operator may tell it by event alone."""
        tellable = self.cloud.mode == "operator" or not server.full and (known or not server.mute)
        return (
            server.kind == "preemptible"
            and tellable
            and (known or not server.stubborn)
            and not (server.locked or server.young or server.leaving)
        )

    def smallest(self, wanted: Wanted, candidates: Collection[str], gone: Collection[str] = ()) -> float:
        """How many of these have to go at least, beside those that go anyway; infinite when it does not fit with all
        of them gone that may go at once."""
        if not self.fits(wanted, {*gone, *candidates}):
            return inf
        return next(
            (
                size
                for size in range(len(candidates) + 1)
                for some in combinations(sorted(candidates), size)
                if self.at_once(some) and self.fits(wanted, {*gone, *some})
            ),
            inf,
        )

    def at_once(self, names: Iterable[str]) -> bool:
        """True when these may go at the same time: no two of a group."""
        groups = [self.servers[name].group for name in names if self.servers[name].group]
        return len({*groups}) == len(groups)
