"""What is promised of evictions, judged by the referee of a cloud: each decision, and what became of each request."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

from tests.unit.episode import Episode, Outcome, evictable, going
from tests.unit.referee import Cloud, Promise, Referee, Server, Wanted
from tests.unit.stood import Amounts, ours
from vmsvc.scheduling.decisions import Decision, Evict, Place, Refuse


class Broken(AssertionError):
    """A promise was broken: (which, what happened)."""

    def __init__(self, promise: str, what: str):
        super().__init__(f"{promise}: {what}")
        self.promise = promise


class Promises:
    """`decided` is told each decision before it is carried out, `ended` the end of all."""

    def __init__(self, cloud: Cloud, dry_run: bool = True):
        self._cloud = cloud
        self._dry_run = dry_run
        self._operator = cloud.mode == "operator"
        self._calm = not cloud.thieves
        self._alone = len(cloud.wanted) == 1
        self._first = min(cloud.wanted, key=lambda one: (one.late, one.preemptible))
        self._foreseen: list[Decision] = []
        self._could = True
        self._planned: dict[str, list[tuple[str, str, set[str]]]] = {}  # request -> where, how certain, who
        self._there: dict[str, set[str]] = {}  # request -> who was on the host when room began to be made there
        self.evictions = self.refusals = 0

    # ------------------------------------------------------------ before anything is decided

    def foreseen(self, episode: Episode) -> None:
        """Ask what would happen, and remember whether the first request can be served at all."""
        if self._dry_run and self._alone and not self._first.late:
            first, full = episode.dry_run(self._first)
            moving = any(server.leaving or server.status == "BUILD" for server in self._cloud.servers)
            self._foreseen = [first, full] if full is not None and not moving else [first]
        may_go = evictable(episode)
        self._could = episode.referee.smallest(self._first, may_go, going(episode)) <= self._cloud.max_victims
        if self._could and not self._operator:
            self._could = self._alone and not _special(self._first) and self._tenant_could(episode, may_go)

    def _tenant_could(self, episode: Episode, may_go: set[str]) -> bool:
        """True when a tenant is sure to be served: hosts have the room, or those of one give it and all take it."""
        referee, first = episode.referee, self._first
        if any(referee.has_room(host, first) for host in referee.hosts):
            return True
        healthy = all(referee.takes(host, first) and min(referee.free(host)) >= 0 for host in referee.hosts)
        if not healthy or referee.over_quota(first):
            return False
        evident = self._cloud.likely and episode.stood.is_true(referee)
        return any(
            _covers(some, host, first)
            or evident
            and episode.stood.shows(
                referee, host, first, _beside(first, ours(referee, host, {one.name for one in some})), False
            )
            for host, some in self._sets(referee, may_go)
        )

    def _sets(self, referee: Referee, may_go: set[str]) -> Iterator[tuple[str, tuple[Server, ...]]]:
        """All sets of VMs of one host that may go together."""
        for host in referee.hosts:
            there = [referee.servers[name] for name in sorted(may_go) if referee.servers[name].host == host]
            for size in range(1, min(self._cloud.max_victims, len(there)) + 1):
                for some in combinations(there, size):
                    if referee.at_once(one.name for one in some):
                        yield host, some

    # ------------------------------------------------------------ each decision

    def decided(self, episode: Episode, together: list[tuple[str, Decision]], as_one: bool = True) -> None:
        """Look at decisions that were made together, `as_one` plan or, in one pass, one after the other: whether their
        victims are needed together `passed` finds out. Raises Broken."""
        for name, decision in together:
            self._as_foreseen(episode.outcomes[name], decision)
            if isinstance(decision, Refuse):
                self.refusals += 1
                self._right_reason(episode, episode.wanted[name], decision)
        evicting = [(episode.wanted[name], decision) for name, decision in together if isinstance(decision, Evict)]
        victims = [victim for _, decision in evicting for victim in decision.victims]
        if not victims:
            return
        fresh = {victim for victim in victims if not episode.rows[victim].evicted_for}
        self.evictions += len(fresh)
        _require(len({*victims}) == len(victims), "one request for each victim", f"{victims} go twice")
        away = [name for name in going(episode) if episode.rows[name].state == "noticed"]
        _require(episode.referee.at_once([*away, *fresh]), "one of a group at a time", f"{away} and {sorted(fresh)} go")
        barred = fresh - evictable(episode, known=True)
        _require(not barred, "nobody is noticed who cannot go", f"{sorted(barred)} are noticed")
        for wanted, _ in evicting:
            _require(not wanted.preemptible, "nobody goes for a preemptible VM", f"{victims} go for {wanted}")
            self._once_for_one_cause(episode, wanted)
            self._one_of_a_kind(episode, wanted)
        (self._fits_on_hosts if self._operator else self._fits_as_a_tenant_knows)(episode, evicting, as_one)

    def passed(self, episode: Episode, noticed: set[str], idle: bool = False) -> None:
        """A pass is over. Without any that it has noticed, capacity that is reserved for some request would not do. And
        when it had nothing to change (`idle`) and all will be served, that holds for every victim. Raises Broken."""
        victims = {row.id for row in episode.rows.values() if row.state == "noticed" and row.evicted_for}
        unserved = self._unserved(episode, set())
        for victim in victims if idle and not unserved else noticed:
            _require(
                self._unserved(episode, {victim}) != unserved,
                "nobody goes who could stay",
                f"without {victim} of {victims} {[*episode.reservations]} are as well off",
            )

    def _unserved(self, episode: Episode, staying: set[str]) -> set[str]:
        """For whom capacity is reserved that will not do when these stay."""
        gone, unserved = going(episode) - staying, set()
        for name, kept in episode.reservations.items():
            others, wanted = self._promised(episode, {name}), _readable(episode.wanted[name])
            if episode.requests[name].state != "pending":
                continue
            if kept.bin_kind == "host":
                served = episode.referee.fits(wanted, gone, others, [kept.bin])
            else:
                served = not episode.referee.over_quota(wanted, gone, others)
            if kept.bin_kind == "host_id":
                served = served and self._group_gives(episode, kept.bin, [], gone)
            if not served:
                unserved.add(name)
        return unserved

    def _as_foreseen(self, outcome: Outcome, decision: Decision) -> None:
        """The dry run said the same: what is decided first; to a tenant also what follows a refusal by the cloud."""
        turn = len(outcome.decisions)
        if turn < len(self._foreseen) and (turn == 0 or self._calm and outcome.refusals == ["no_capacity"]):
            said = self._foreseen[turn]
            _require(_gist(said) == _gist(decision), "the dry run says the same", f"{said}, then {decision}")

    def _once_for_one_cause(self, episode: Episode, wanted: Wanted) -> None:
        """Room was made, and yet the cloud said no, and would on every host: that happens once. A tenant's request that
        asks nothing special of its host cannot be told from one whose room others take: that may happen twice."""
        outcome, referee = episode.outcomes[wanted.name], episode.referee
        gone = [episode.known[victim] for victims in outcome.rounds for victim in victims]
        made = [host for host in referee.hosts if _covers(gone, host, wanted)]
        hopeless = not any(referee.takes(host, wanted) for host in referee.hosts)
        suspect = self._operator or _special(wanted)
        refused = "no_capacity" in outcome.refusals[outcome.refused_before :] and self._calm
        _require(
            not (refused and made and hopeless and suspect),
            "what nobody can tell costs one round",
            f"{outcome.rounds} went, {made} had room, the cloud refused {wanted}, and more go",
        )

    @staticmethod
    def _one_of_a_kind(episode: Episode, wanted: Wanted) -> None:
        """Of requests whose conditions no VM has met yet, one costs somebody a VM until it is decided. (Any VM in a
        zone meets that zone.)"""
        conditions = episode.requests[wanted.name].boot["conditions"]
        if not conditions or wanted.zone or episode.memory.accepted(conditions):
            return
        tried = [
            other.id
            for other in episode.requests.values()
            if other.id != wanted.name
            and other.state == "pending"
            and other.boot["conditions"] == conditions
            and any(episode.outcomes[other.id].rounds)
        ]
        _require(not tried, "one of a kind is tried", f"VMs go for {wanted} while {tried} are undecided")

    # ------------------------------------------------------------ plans

    def _promised(self, episode: Episode, names: set[str]) -> list[Promise]:
        """What is kept for others than these, and what is just being built."""
        kept = [(name, one.bin if one.bin_kind == "host" else None) for name, one in episode.reservations.items()]
        built = [(row.id, row.host) for row in episode.requests.values() if row.state == "building"]
        return [
            (_readable(episode.wanted[name]), host) for name, host in dict([*kept, *built]).items() if name not in names
        ]

    @staticmethod
    def _gone_for(episode: Episode, names: set[str]) -> set[str]:
        """Who goes whatever is planned for these: not their own victims that may still be reprieved."""
        rows = episode.rows
        return {name for name in going(episode) if rows[name].state != "noticed" or rows[name].evicted_for not in names}

    def _fits_on_hosts(self, episode: Episode, evicting: list[tuple[Wanted, Evict]], as_one: bool) -> None:
        """With the victims gone there is room for each on its host and in the quota, and not without any of them."""
        names = {wanted.name for wanted, _ in evicting}
        gone = self._gone_for(episode, names)
        victims = [victim for _, plan in evicting for victim in plan.victims]
        promised = self._promised(episode, names)
        bins = [(_readable(wanted), plan.bin) for wanted, plan in evicting]

        def fit(without: set[str], anywhere: bool = False) -> bool:
            left = {*gone, *victims} - without
            return all(
                episode.referee.fits(
                    wanted,
                    left,
                    [*promised, *bins[:at], *bins[at + 1 :]],
                    self._hosts(episode, wanted) if anywhere else [host],
                )
                for at, (wanted, host) in enumerate(bins)
            )

        _require(
            fit(set()),
            "nobody goes unless it then fits",
            f"{victims} are noticed for {bins}, {self._why(episode, bins, {*gone, *victims}, promised)}",
        )
        for victim in victims if as_one else ():
            _require(
                not fit({victim}, anywhere=len(bins) == 1),
                "nobody goes who could stay",
                f"{bins} fit without {victim} of {victims}",
            )

    @staticmethod
    def _hosts(episode: Episode, wanted: Wanted) -> list[str]:
        """Where the service may think of, by what the cloud said to it so far."""
        row = episode.requests[wanted.name]
        cooling = episode.memory.cooling.get((row.boot["flavor_id"], row.boot["image_id"]), {})
        return [host for host in episode.referee.hosts if host not in row.avoid and host not in cooling]

    @staticmethod
    def _why(episode: Episode, bins: list[tuple[Wanted, str]], gone: set[str], promised: list[Promise]) -> str:
        return "; ".join(
            episode.referee.unfit(wanted)
            or episode.referee.over_quota(wanted, gone, promised)
            or f"{host} has {episode.referee.free(host, gone)}"
            for wanted, host in bins
        )

    def _fits_as_a_tenant_knows(self, episode: Episode, evicting: list[tuple[Wanted, Evict]], as_one: bool) -> None:
        """The same by quota, image, flavor, and own servers: those of one host give all that is needed."""
        names = {wanted.name for wanted, _ in evicting}
        gone = self._gone_for(episode, names)
        victims = [victim for _, plan in evicting for victim in plan.victims]
        promised = self._promised(episode, names)
        servers_and_occupants = [(wanted, None) for wanted, _ in evicting]

        def fit(without: set[str] = frozenset()) -> bool:
            left = {*gone, *victims} - without
            quota = not any(
                episode.referee.over_quota(
                    wanted, left, [*promised, *servers_and_occupants[:at], *servers_and_occupants[at + 1 :]]
                )
                for at, (wanted, _) in enumerate(servers_and_occupants)
            )
            return quota and all(
                plan.kind != "host_id" or self._group_gives(episode, plan.bin, evicting, left, not without)
                for _, plan in evicting
            )

        for wanted, plan in evicting:
            unfit = episode.referee.unfit(wanted)
            _require(not unfit, "nobody goes unless it then fits", f"{plan.victims} go for {wanted}, but {unfit}")
            if plan.kind == "host_id":
                host = plan.bin.removeprefix("id-of-")
                zone = episode.referee.hosts[host].zone
                if plan.members is None:
                    self._there[wanted.name] = {one.name for one in episode.referee.on(host) if one.ours}
                self._is_the_best_of_its_kind(episode, wanted, plan, host)
                _require(
                    episode.referee.allows(host, wanted, promised),
                    "nobody goes where the server group forbids the host",
                    f"{plan.victims} go on {plan.bin} for {wanted}",
                )
                _require(
                    wanted.zone in (None, zone),
                    "nobody goes unless it then fits",
                    f"{plan.victims} go on {plan.bin} in zone {zone} for {wanted}",
                )
        _require(
            fit(),
            "nobody goes unless it then fits",
            f"{victims} are noticed for {evicting}: quota {self._cloud.quota}, then used "
            f"{episode.referee.quota_used({*gone, *victims})}",
        )
        for victim in victims if as_one else ():
            _require(not fit({victim}), "nobody goes who could stay", f"{evicting} fit without {victim} of {victims}")

    def _is_the_best_of_its_kind(self, episode: Episode, wanted: Wanted, plan: Evict, host: str) -> None:
        """A likely plan is made only where it may be, where there is no sure one, and once on a host."""
        if plan.certainty == "sure":
            over = min(episode.referee.free(host)) < 0  # over-committed: nobody can tell
            self._planned.setdefault(wanted.name, []).append((host, "over" if over else "sure", set(plan.victims)))
            return
        planned = self._planned.setdefault(wanted.name, [])
        _require(self._cloud.likely, "likely plans are made where they may be", f"{plan} for {wanted}")
        if plan.members is not None or not self._alone:
            planned.append((host, "likely", set(plan.victims)))
            return
        went = {victim for victims in episode.outcomes[wanted.name].rounds for victim in victims}
        again = [others for at, kind, others in planned if (at, kind) == (host, "likely") and others & went]
        tried = again and "no_capacity" in episode.outcomes[wanted.name].refusals[1:]
        _require(
            not (tried and self._calm),
            "a likely plan costs one round",
            f"{again} went on {host}, and now {plan.victims}",
        )
        referee, may_go = episode.referee, evictable(episode, known=True)
        zoned = [
            some
            for at, some in self._sets(referee, may_go)
            if wanted.zone in (None, referee.hosts[at].zone)
            and referee.allows(at, wanted)
            and _covers(some, at, wanted)
        ]
        _require(
            not zoned or referee.over_quota(wanted) != "",
            "sure before likely",
            f"{plan.victims} go for {wanted}, but {zoned} are enough by themselves",
        )
        planned.append((host, "likely", set(plan.victims)))

    def _group_gives(
        self,
        episode: Episode,
        group: str,
        evicting: list[tuple[Wanted, Evict]],
        leaving: set[str],
        all_of_them: bool = True,
    ) -> bool:
        """True when what has left and leaves there, since room began to be made, gives all that those need together who
        are to go there (beside what the plan took to be free); or, for a new likely plan, when all that is there then
        stood there at one moment. `all_of_them`: what only the service's caution keeps from counting counts too."""
        host, servers = group.removeprefix("id-of-"), episode.referee.servers
        names = {wanted.name for wanted, plan in evicting if plan.bin == group} | {
            name for name, kept in episode.reservations.items() if kept.bin == group
        }
        likely = [wanted for wanted, plan in evicting if plan.bin == group and plan.certainty == "likely"]
        if likely:
            after = ours(episode.referee, host, {*leaving, *names})
            for name in names:
                after = _beside(episode.wanted[name], after)
            return episode.stood.shows(episode.referee, host, likely[0], after, all_of_them)
        there = set().union(*(self._there[name] for name in names))
        left = [episode.known[name] for name in there if name not in servers or name in leaving]
        left = [one for one in left if one.host == host and one.status != "ERROR"]
        came = [one for one in episode.referee.on(host) if one.ours and one.name not in there | names]

        def amount(of: Iterable, name: str) -> int:
            return sum(getattr(one.flavor, name) for one in of)

        needs = {name: amount((episode.wanted[one] for one in names), name) for name in ("vcpus", "ram", "disk")}
        free = _taken_to_be_free(next((kept for kept in episode.reservations.values() if kept.bin == group), None))
        return all(
            free.get(name, 0) + amount(left, name) - amount(came, name) >= need for name, need in needs.items() if need
        )

    # ------------------------------------------------------------ refusals

    def _right_reason(self, episode: Episode, wanted: Wanted, refusal: Refuse) -> None:
        """Where the quota cannot be satisfied it is the quota, otherwise it is the hosts."""
        if episode.referee.unfit(wanted):
            right = refusal.error == "invalid_request" or self._hopeless(episode, wanted)
            _require(right, "the right reason", f"{refusal} for {wanted}")
            return
        if not self._calm or not self._alone or wanted.odd or refusal.error == "invalid_request":
            return
        referee, gone = episode.referee, going(episode)
        candidates = set() if wanted.preemptible else evictable(episode, known=True)
        lacks = referee.over_quota(wanted, gone | candidates)
        if lacks:
            _require(refusal.error == "quota_exceeded", "the right reason", f"{refusal}, but the quota lacks {lacks}")
        elif len(candidates) <= self._cloud.max_victims and referee.at_once(candidates):
            _require(refusal.error == "no_capacity", "the right reason", f"{refusal}, but the quota would do")

    @staticmethod
    def _hopeless(episode: Episode, wanted: Wanted) -> bool:
        """True when it would not fit though Nova took its image: then Nova need not be asked whether it does."""
        may_go = set() if wanted.preemptible else evictable(episode, known=True)
        return not episode.referee.fits(_readable(replace(wanted, spoilt=False)), may_go | going(episode))

    # ------------------------------------------------------------ the end

    def ended(self, episode: Episode) -> None:
        """What became of all of them. Raises Broken."""
        for name, outcome in episode.outcomes.items():
            went = [victims for victims in outcome.rounds if victims]
            _require(len(went) <= 2, "two rounds at most", f"{name}: {went}")
            if outcome.error == "invalid_request":
                _require(not went, "nobody goes unless it then fits", f"{went} went, then {outcome.message}")
            elif self._calm and episode.referee.unfit(episode.wanted[name]):
                right = not went and self._hopeless(episode, episode.wanted[name])
                _require(right, "the right reason", f"{name}: {outcome}")
            if self._foreseen and not outcome.decisions:
                self._as_foreseen(outcome, Refuse(outcome.error, outcome.message))
            self._sure_is_sure(episode, name, outcome)
        first = episode.outcomes[self._first.name]
        sure = self._alone or not any(one.mute or one.stubborn for one in self._cloud.servers)
        if self._calm and self._could and sure and not self._first.preemptible:
            tried = sum(bool(victims) for victims in first.rounds) == 2  # and some of them could not go
            _require(
                first.placed or tried, "who can be served is served", f"{self._first}: {first.error} {first.message}"
            )

    def _sure_is_sure(self, episode: Episode, name: str, outcome: Outcome) -> None:
        """Where all victims of a sure plan have left, and nobody took their room, the request was built."""
        wanted, referee = episode.wanted[name], episode.referee
        if self._operator or not self._calm or not self._alone or outcome.error != "no_capacity":
            return
        for (host, certainty, victims), went in zip(self._planned.get(name, ()), outcome.rounds):
            gone = [episode.known[victim] for victim in went]
            _require(
                not (
                    certainty == "sure"
                    and victims == {*went}
                    and _covers(gone, host, wanted)
                    and referee.takes(host, wanted)
                ),
                "a sure plan is sure",
                f"{went} left {host} for {wanted}, which was refused: {outcome.message}",
            )


def _taken_to_be_free(kept: Any) -> dict[str, int]:
    """What the plan of this reservation counts on besides its victims."""
    free = (getattr(kept, "evidence", None) or {}).get("free", {})
    return {
        "vcpus": free.get("VCPU", 0),
        "ram": free.get("MEMORY_MB", 0) // 1024,
        "disk": free.get("DISK_GB", 0),
    }


def _beside(wanted: Wanted, there: Amounts) -> Amounts:
    """What is there, and the request."""
    return there[0] + wanted.flavor.vcpus, there[1] + wanted.flavor.ram, there[2] + wanted.flavor.disk


def _require(held: bool, promise: str, what: str) -> None:
    if not held:
        raise Broken(promise, what)


def _special(wanted: Wanted) -> bool:
    """True when it asks for more of its host than room and a zone."""
    asks = wanted.flavor.required or wanted.flavor.forbidden or wanted.image.required or wanted.image.arch
    return bool(asks or wanted.server_group)


def _readable(wanted: Wanted) -> Wanted:
    """The request without what nobody can know of it."""
    return replace(wanted, odd=False)


def _gist(decision: Decision) -> object:
    """What matters to who asks."""
    match decision:
        case Place(host=host):
            return "placed", host
        case Evict(kind=kind, bin=place, victims=victims):
            return "evicts", kind, place, sorted(victims)
        case Refuse(error=error):
            return "refused", error
    return "waits"


def _covers(gone, host: str, wanted: Wanted) -> bool:
    """True when these held all that it needs there."""
    there = [one.flavor for one in gone if one.host == host and one.status != "ERROR"]
    needs = wanted.flavor
    return (
        sum(one.vcpus for one in there) >= needs.vcpus
        and sum(one.ram for one in there) >= needs.ram
        and sum(one.disk for one in there) >= needs.disk
    )
