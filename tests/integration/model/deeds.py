"""What hypothesis draws: a cloud to begin with, and deeds of clients, owners, outsiders, time and the service."""

from dataclasses import dataclass

from hypothesis import strategies as st

_SEEDS = st.integers(0, 2**16)
_NUMBERS = st.integers(0, 20)


@dataclass(frozen=True)
class Setting:
    """A cloud and the preemptible VMs that run there: (VCPUs, priority)."""

    mode: str
    hosts: list[int]
    cores: int
    max_victims: int
    first: list[tuple[int, int]]


SETTINGS = st.builds(
    Setting,
    st.sampled_from(["operator", "tenant"]),
    st.lists(st.integers(2, 4), min_size=1, max_size=3),
    st.sampled_from([100, 100, 4, 6, 8]),
    st.sampled_from([1, 20, 20]),
    st.lists(st.tuples(st.sampled_from([1, 1, 2]), st.integers(0, 1)), min_size=2, max_size=8),
)


def _deed(name, *arguments):
    return st.tuples(st.just(name), st.tuples(*arguments))


_CPUS = st.integers(1, 4)
_ORDERLY = [
    _deed("nothing"),  # the first: what a failing story can do without shrinks to it
    _deed("standard_posts", _CPUS, st.just(1)),
    _deed("standard_posts", _CPUS, st.integers(1, 3)),
    _deed("preemptible_post", st.integers(1, 2), st.integers(0, 1), st.sampled_from([None, 1, 2])),
    _deed("preemptible_post", st.integers(1, 2), st.integers(0, 1), st.none()),
    _deed("owner_deletes", _NUMBERS),
    _deed("victim_acknowledges", _NUMBERS),
    _deed("guest_powers_off", _NUMBERS),
    _deed("crash", st.integers(0, 1)),
    *3 * [_deed("time_passes", st.sampled_from([0.2, 1.0, 3.0, 7.0, 31.0]))],
    *6 * [_deed("go_on", st.integers(5, 60), _SEEDS)],
]
_MEDDLING = [
    _deed("owner_locks", _NUMBERS),
    _deed("server_vanishes", _NUMBERS),
    _deed("outsider_goes", _NUMBERS),
    _deed("outsider_comes", _NUMBERS, st.integers(1, 2), st.booleans()),
    _deed("host_goes_down_or_up", _NUMBERS),
    _deed("answers_get_lost"),
]
DEEDS = st.one_of(
    st.lists(st.one_of(_ORDERLY), min_size=10, max_size=18),
    st.lists(st.one_of(_ORDERLY + 2 * _MEDDLING), min_size=10, max_size=18),
)
