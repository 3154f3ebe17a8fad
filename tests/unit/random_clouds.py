"""Random small clouds for the referee, and smaller ones of the same kind for showing what went wrong."""

import random
from collections.abc import Callable, Iterator
from dataclasses import fields, replace

from tests.unit.referee import Cloud, Flavor, Host, Image, Server, Wanted

_TRAITS = ("CUSTOM_SSD", "CUSTOM_GPU")
_MOST_PREEMPTIBLE = 7


def random_cloud(rng: random.Random, mode: str) -> Cloud:
    """A cloud that is mostly full, with a quota of any kind, and a request or several."""
    zones = rng.choice((("nova",), ("nova",), ("nova", "mars")))
    hosts = tuple(_host(rng, f"host-{number}", zones) for number in range(1, rng.choice((1, 1, 2, 2, 3)) + 1))
    servers = tuple(_servers(rng, hosts))
    wanted = _wanted(rng, zones)
    thieves = rng.choice([()] * 8 + [("host",), ("quota",), ("host", "host"), ("quota", "host", "host")])
    cloud = Cloud(
        mode,
        hosts,
        servers,
        wanted,
        _quota(rng, servers, wanted),
        thieves,
        max_victims=rng.choice((20, 20, 20, 20, 1, 2, 3)),
        seed=rng.randrange(1000),
    )
    cloud = _with_server_group(rng, cloud) if rng.random() < 0.15 else cloud
    return cloud if mode == "operator" else _with_evidence(rng, cloud)


def _with_server_group(rng: random.Random, cloud: Cloud) -> Cloud:
    """The same with a server group, of which the requests for standard VMs and others that stay may be members."""

    def joined(one, share: float):
        stays = (
            isinstance(one, Wanted)
            and not one.preemptible
            or (isinstance(one, Server) and one.kind in ("standard", "outsider") and not one.leaving)
        )
        return replace(one, server_group="together") if stays and rng.random() < share else one

    policy = rng.choice(("anti-affinity", "anti-affinity", "affinity", "soft-anti-affinity"))
    return replace(
        cloud,
        servers=tuple(joined(one, 0.6) for one in cloud.servers),
        wanted=tuple(joined(one, 0.8) for one in cloud.wanted),
        groups=(("together", policy, rng.choice((1, 1, 1, 2))),),
    )


def _with_evidence(rng: random.Random, cloud: Cloud) -> Cloud:
    """A tenant's cloud, with what its hosts have held: often all of a host, though others may be there by now."""

    def stood(host: Host) -> Flavor:
        part = rng.choice((0, 0, 0, 1, 2))
        return Flavor(max(1, host.vcpus - part), max(1, host.ram - rng.choice((0, part, 1))), host.disk)

    share = rng.choice((0.0, 0.5, 1.0))
    held = tuple((host.name, stood(host)) for host in cloud.hosts for _ in range(2) if rng.random() < share)
    some = rng.choice(cloud.hosts)
    declared = _often(rng, None, Flavor(some.vcpus, some.ram, some.disk), Flavor(some.vcpus, some.ram, 0), share=0.15)
    return replace(cloud, held=held, declared=declared, likely=_often(rng, True, False))


def crowded_cloud(rng: random.Random, mode: str) -> Cloud:
    """The same with several requests, each different, that wait together."""
    cloud = random_cloud(rng, mode)
    zones = tuple({host.zone for host in cloud.hosts})
    group = "together" if cloud.groups else None
    wanted = tuple(
        replace(_request(rng, f"wanted-{number}", zones), late=0, preemptible=False, server_group=group)
        if group and rng.random() < 0.5
        else replace(_request(rng, f"wanted-{number}", zones), late=0)
        for number in range(1, rng.choice((2, 3, 3, 4)) + 1)
    )
    return replace(cloud, wanted=wanted)


def _often(rng: random.Random, usual, *others, share: float = 0.08):
    """Mostly the usual one."""
    return rng.choice(others) if rng.random() < share else usual


def _host(rng: random.Random, name: str, zones: tuple[str, ...]) -> Host:
    vcpus = rng.randint(2, 6)
    return Host(
        name,
        vcpus,
        rng.randint(2, 8),
        disk=_often(rng, 100, 2, 4),
        zone=rng.choice(zones),
        arch=_often(rng, "x86_64", "aarch64"),
        traits=tuple(one for one in _TRAITS if rng.random() < 0.3),
        up=_often(rng, True, False),
        largest=_often(rng, None, 1, 2, share=0.05),
    )


def _servers(rng: random.Random, hosts: tuple[Host, ...]) -> Iterator[Server]:
    """Each host filled until the next does not fit, mostly."""
    number = preemptible = 0
    for host in hosts:
        free = [host.vcpus, host.ram, host.disk]
        for _ in range(6):
            flavor = Flavor(rng.choice((1, 1, 2, 2, 3)), rng.choice((1, 1, 2, 3)), rng.choice((1, 1, 1, 0, 2)))
            kind = rng.choice(("preemptible",) * 7 + ("standard", "outsider", "hidden"))
            left = free[0] - flavor.vcpus, free[1] - flavor.ram, free[2] - flavor.disk
            if min(left) < 0 and rng.random() < 0.97 or rng.random() < 0.05:
                continue
            preemptible += kind == "preemptible"
            if preemptible > _MOST_PREEMPTIBLE:
                return
            free, number = left, number + 1
            yield _special(rng, Server(f"{kind}-{number}", flavor, host.name, kind=kind))


def _special(rng: random.Random, server: Server) -> Server:
    """The same, perhaps with something that matters about it."""
    facts = {"age": rng.randint(1, 100)}
    if server.kind == "preemptible":
        facts["priority"] = rng.choice((0, 0, 0, 1, 2))
        facts |= rng.choice(
            [{}] * 14
            + [
                {"locked": True},
                {"items": 128},
                {"items": 127},
                {"mute": True},
                {"young": True},
                {"leaving": True},
                {"stubborn": True},
                {"stubborn": True},
                {"group": "web"},
                {"status": "ERROR"},
                {"status": "SHUTOFF"},
                {"status": "BUILD"},
            ]
        )
    elif rng.random() < 0.1:
        facts["leaving"] = True
    return replace(server, **facts)


def _wanted(rng: random.Random, zones: tuple[str, ...]) -> tuple[Wanted, ...]:
    count = rng.choice((1,) * 6 + (2, 2, 3))
    first = _request(rng, "wanted-1", zones)
    if rng.random() < 0.7:
        return tuple(replace(first, name=f"wanted-{number}") for number in range(1, count + 1))
    return first, *(_request(rng, f"wanted-{number}", zones) for number in range(2, count + 1))


def _request(rng: random.Random, name: str, zones: tuple[str, ...]) -> Wanted:
    flavor = Flavor(
        rng.randint(1, 4),
        rng.randint(1, 4),
        _often(rng, 1, 0, 2),
        **_often(
            rng,
            {},
            {"required": _TRAITS[:1]},
            {"required": _TRAITS[1:]},
            {"required": ("CUSTOM_NOWHERE",)},
            {"forbidden": _TRAITS[:1]},
            share=0.15,
        ),
    )
    image = _often(
        rng,
        Image(),
        Image("x86_64"),
        Image("aarch64"),
        Image("ppc64le"),
        Image(min_ram=3),
        Image(min_disk=2),
        Image(required=_TRAITS[:1]),
        Image(active=False),
        share=0.25,
    )
    return Wanted(
        name,
        flavor,
        image,
        zone=_often(rng, None, *zones, "empty", share=0.15),
        preemptible=rng.random() < 0.06,
        odd=rng.random() < 0.04,
        spoilt=rng.random() < 0.02,
        late=_often(rng, 0, 1, 2, 5, 8, share=0.3) if name != "wanted-1" else 0,
    )


def _quota(rng: random.Random, servers: tuple[Server, ...], wanted: tuple[Wanted, ...]) -> tuple[int, int, int]:
    """Item by item: unlimited, all used, some left, or below what is used."""
    ours = [one.flavor for one in servers if one.ours]
    asked = wanted[0].flavor
    loose = rng.choice((0.3, 0.8))

    def limit(used: int, more: int) -> int:
        if rng.random() < loose:
            return -1
        return max(0, used + rng.choice((0, 1, more, -1, -used, -rng.randint(0, used))) + rng.choice((0, more)))

    return tuple(
        limit(used, more)
        for used, more in (
            (len(ours), 1),
            (sum(one.vcpus for one in ours), asked.vcpus),
            (sum(one.ram for one in ours), asked.ram),
        )
    )


# ---------------------------------------------------------------- smaller ones


def shrunk(cloud: Cloud, fails: Callable[[Cloud], bool]) -> Cloud:
    """The smallest that still fails, by leaving out or making usual one thing after the other."""
    smaller = cloud
    while smaller is not None:
        cloud = smaller
        smaller = next((one for one in _smaller(cloud) if fails(one)), None)
    return cloud


def _smaller(cloud: Cloud) -> Iterator[Cloud]:
    for kind in ("wanted", "servers", "hosts", "thieves", "held"):
        items = getattr(cloud, kind)
        for at in range(len(items)):
            if kind != "wanted" or len(items) > 1:
                gone = replace(cloud, **{kind: (*items[:at], *items[at + 1 :])})
                if kind == "hosts":
                    gone = replace(
                        gone,
                        servers=tuple(one for one in cloud.servers if one.host != items[at].name),
                        held=tuple(one for one in cloud.held if one[0] != items[at].name),
                    )
                yield gone
    for kind in ("wanted", "servers", "hosts"):
        items = getattr(cloud, kind)
        for at, item in enumerate(items):
            for usual in _plainer(item):
                yield replace(cloud, **{kind: (*items[:at], usual, *items[at + 1 :])})
    yield from _plainer(cloud, leave=("mode", "servers", "thieves"))
    for at, limit in enumerate(cloud.quota):
        if limit >= 0:
            yield replace(cloud, quota=(*cloud.quota[:at], -1, *cloud.quota[at + 1 :]))


def _plainer(item, leave=("kind",)) -> Iterator:
    """The same with one field as usual, or with one number less."""
    for field in fields(item):
        value = getattr(item, field.name)
        if field.name in leave:
            continue
        if field.default is not None and value != field.default and _is_plain(field.default):
            yield replace(item, **{field.name: field.default})
        elif field.default is None and value is not None:
            yield replace(item, **{field.name: None})
        if field.name in ("vcpus", "ram") and value > 1:
            yield replace(item, **{field.name: value - 1})
        if isinstance(value, (Flavor, Image)):
            for plainer in _plainer(value):
                yield replace(item, **{field.name: plainer})


def _is_plain(value) -> bool:
    return isinstance(value, (int, str, bool, tuple, Image))
