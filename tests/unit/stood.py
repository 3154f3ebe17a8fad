"""What the project's servers held on each host of a referee's cloud, and what the cloud refused: the judge's own books.

As the referee, it takes nothing from `vmsvc`. Amounts are (VCPUs, GiB of memory, GiB of disk).
"""

from fractions import Fraction

from tests.unit.referee import Cloud, Flavor, Referee, Wanted

Amounts = tuple[int, int, int]
#: When what is declared was seen, and what the cloud's `held` says.
_DECLARED, _BEFORE = -2, -1


class Stood:
    """`see` is told each moment that the service reads the cloud, `refused` each refusal for want of room."""

    def __init__(self, cloud: Cloud):
        self._vectors: dict[str, list[tuple[Amounts, int]]] = {host.name: [] for host in cloud.hosts}
        #: The need, what did not fit together (0: so much has stood there since), when, and whether the service is
        #: sure to draw the conclusion.
        self._refusals: dict[str, list[tuple[Amounts, Amounts, int, bool]]] = {host.name: [] for host in cloud.hosts}
        self._now = 0
        for host in cloud.hosts if cloud.declared else ():
            self._vectors[host.name].append((amounts(cloud.declared), _DECLARED))
        for host, flavor in cloud.held:
            self._vectors[host].append((amounts(flavor), _BEFORE))

    def see(self, referee: Referee) -> None:
        """What stands there at this moment."""
        self._now += 1
        for host, vectors in self._vectors.items():
            standing = ours(referee, host, settled=True)
            vectors.append((standing, self._now))
            left = [(need, _without(total, standing), at, sure) for need, total, at, sure in self._refusals[host]]
            self._refusals[host] = [one for one in left if any(one[1])]

    def refused(self, referee: Referee, wanted: Wanted, when: int | None = None, after_round: bool = True) -> int:
        """The cloud had no room for it: somebody else is where it would have fitted. Returns when that was. Told again
        with that moment, the service is sure to draw this conclusion too. `after_round`: VMs had been evicted for it;
        if not, and VCPUs are among what is scarcest, they alone are."""
        need, certain = amounts(wanted.flavor), when is not None
        at = self._now if when is None else when
        for host in self._vectors:
            there = ours(referee, host)
            counting = [one for one, seen in self._counting(host, need, True) if seen <= at]
            total = _sum(there, need)
            scarcest: set[int] = set()
            for vector in counting:
                if _within(total, vector, need):
                    left = {one: Fraction(vector[one] - total[one], vector[one]) for one in range(3) if need[one]}
                    scarcest |= {one for one in left if left[one] == min(left.values())}
            if 0 in scarcest and not after_round:
                scarcest = {0}
            if scarcest:
                asked = tuple(amount if one in scarcest else 0 for one, amount in enumerate(total))
                self._refusals[host].append((need, asked, at, certain))
        return at

    def shows(self, referee: Referee, host: str, wanted: Wanted, after: Amounts, all_of_them: bool) -> bool:
        """True when so much (`after`) stood there together, as far as that counts for a request for `wanted`.
        `all_of_them`: also what only the service's caution keeps from counting."""
        need = amounts(wanted.flavor)
        now = _sum(ours(referee, host), need)
        counting = [vector for vector, _ in self._counting(host, need, all_of_them)]
        refuted = any(_within(now, vector, need) for vector, _ in self._counting(host, need, True))
        return not refuted and any(_within(after, vector, need) for vector in counting)

    def is_true(self, referee: Referee) -> bool:
        """True when all hosts could hold all that counts there, beside the servers of other projects."""
        return all(
            _within(vector, _sum(ours(referee, host), referee.free(host)), (1, 1, 1))
            for host, vectors in self._vectors.items()
            for vector, _ in vectors
        )

    def _counting(self, host: str, need: Amounts, all_of_them: bool) -> list[tuple[Amounts, int]]:
        against = [one for one in self._refusals[host] if one[3] or not all_of_them]
        return [
            (vector, when)
            for vector, when in self._vectors[host]
            if not any(when <= at and _within(refused, need, (1, 1, 1)) for refused, _, at, _ in against)
        ]


def amounts(flavor: Flavor) -> Amounts:
    """What a server of a flavor holds."""
    return flavor.vcpus, flavor.ram, flavor.disk


def ours(referee: Referee, host: str, gone: set[str] = frozenset(), settled: bool = False) -> Amounts:
    """What servers of the project hold on a host; `settled`: those that neither build nor leave."""
    there = [
        one.flavor for one in referee.on(host) if one.ours and one.name not in gone and not (settled and _moves(one))
    ]
    return sum(one.vcpus for one in there), sum(one.ram for one in there), sum(one.disk for one in there)


def _moves(server) -> bool:
    return server.status == "BUILD"


def _sum(one: Amounts, other: Amounts) -> Amounts:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def _without(total: Amounts, standing: Amounts) -> Amounts:
    """Of what did not fit, the classes of which less stands there."""
    return tuple(amount if there < amount else 0 for amount, there in zip(total, standing))


def _within(one: Amounts, other: Amounts, asked: Amounts) -> bool:
    """True when `other` has as much of each class that is asked for."""
    return all(less <= more for less, more, wanted in zip(one, other, asked) if wanted)
