"""The capacity of a small cloud, as `GET /api/v1/capacity` answers it."""

from typing import Any


def _host(
    name: str, standard: int, preemptible: int, reserved: int = 0, *, foreign: int = 0, available: bool = True
) -> dict[str, Any]:
    """A host of 4 vCPUs and 8 GiB; the amounts are vCPUs with 2 GiB each."""
    amounts = {
        "standard": standard,
        "preemptible": preemptible,
        "foreign": foreign,
        "reserved": reserved,
        "used": standard + preemptible + foreign,
        "capacity": 4,
        "reclaimable": preemptible,
        "free": 4 - standard - preemptible - foreign - reserved,
    }
    return {
        "name": name,
        "available": available,
        "availability_zone": "nova",
        **{part: {"VCPU": amount, "MEMORY_MB": 2048 * amount} for part, amount in amounts.items()},
    }


CAPACITY = {
    "mode": "operator",
    "quota": {
        "limit": {"instances": 20, "cores": 16, "ram": 40960},
        "used": {"instances": 9, "cores": 10, "ram": 20480},
        "standard": {"instances": 4, "cores": 5, "ram": 10240},
        "preemptible": {"instances": 4, "cores": 4, "ram": 8192},
        "reserved": {"cores": 2, "ram": 4096},
        "reclaimable": {"instances": 4, "cores": 4, "ram": 8192},
        "free": {"instances": 11, "cores": 4, "ram": 16384},
    },
    "hosts": [
        _host("bed-1", 2, 2),
        _host("bed-2", 1, 1, 2),
        _host("bed-3", 2, 0, foreign=1),
        _host("bed-4", 0, 1, available=False),
    ],
    "flavors": [
        {"name": "m1.tiny", "fits_now": 1, "fits_after_evictions": 6},
        {"name": "m1.small", "fits_now": 1, "fits_after_evictions": 5},
        {"name": "m1.medium", "fits_now": 0, "fits_after_evictions": 2},
        {"name": "m1.large", "fits_now": 0, "fits_after_evictions": 0},
    ],
}
