"""What a running service tells of its own work: calls to the cloud, and when each step of a create was done."""

import re
from collections import Counter
from datetime import datetime

from tests.openstack.http import send
from tests.openstack.service import Service

_CALLS = re.compile(r'^vmsvc_cloud_calls_total\{operation="(\w+)".*\} ([\d.e+]+)$', re.MULTILINE)
#: Of an eviction, as the record has them.
_EVICTION = ("noticed_at", "evicting_at", "deleted_at", "freed_at")


def calls_of(service: Service) -> Counter[str]:
    """Calls to the cloud so far, by operation."""
    calls: Counter[str] = Counter()
    for operation, number in _CALLS.findall(send("GET", f"{service.url}/metrics").body):
        calls[operation] += round(float(number))
    return calls


def steps_of(service: Service, began: float, ended: float, since: int, vm: dict) -> dict[str, float]:
    """Seconds that led to each step of a create, in order. `began` and `ended` are time.time() around the POST, `since`
    the newest event before it."""
    done = {
        f"{event['type']} {event['data']['state']}": event["time"]
        for event in service.events(since)
        if vm["vmsvc_id"] in (event["data"]["vm"]["vmsvc_id"], event["data"].get("makes_room_for"))
    }
    for eviction in service.record(f"request={vm['vmsvc_id']}"):
        done |= {name: eviction[name] for name in _EVICTION if eviction[name]}
    at = sorted((datetime.fromisoformat(moment).timestamp(), name) for name, moment in done.items())
    steps, before = {}, began
    for moment, name in [*at, (ended, "answer")]:
        steps[name], before = moment - before, moment
    return steps
