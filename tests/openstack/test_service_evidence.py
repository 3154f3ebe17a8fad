"""A member's service on a cloud that tells no host's size: it evicts by what its own servers held on a host."""

import pytest

from tests.openstack.conftest import LARGE
from tests.openstack.http import until
from tests.openstack.service import PREEMPTIBLE, STANDARD, set_quota

SMALL, TINY = {**PREEMPTIBLE, "flavor": "m1.small"}, {**PREEMPTIBLE, "flavor": "m1.tiny"}


@pytest.fixture(scope="module", name="mode", params=["tenant"])
def fixture_mode(request) -> str:
    """A project member's credentials."""
    return request.param


def mixed(service) -> list[str]:
    """Of four hosts three are filled by standard VMs. The fourth was full of m1.small once; now an m1.tiny is in the
    place of one of them. Its VMs."""
    smalls = service.create_many(4, SMALL)

    def known() -> bool:
        hosts = service("GET", "/capacity").body["hosts"]
        return any(one["resources"]["MEMORY_MB"] == 8192 for host in hosts for one in host["evidence"])

    until("the evidence of a whole host is there", known)
    assert service("DELETE", f"/vm/{smalls.pop()}").status == 200
    return [*smalls, *service.create_many(1, TINY)]


def test_a_mix_is_evicted_by_evidence_and_a_stranger_in_the_way_costs_one_round_and_not_again(
    service, admin, outsider, boot, gone
):
    service.create_many(3, STANDARD)
    victims = mixed(service)
    plan = service.ask(STANDARD)
    assert (plan["result"], plan["certainty"], set(plan["victims"])) == ("evicts", "likely", set(victims)), plan
    assert "this host held 4 vCPU, 8 GiB" in plan["evidence"]
    made = service("POST", "/vm", STANDARD)
    assert (made.status, set(made.body["evicted"])) == (201, set(victims)), made.body
    assert {one["certainty"] for one in service.record()} == {"likely"}

    assert service("DELETE", f"/vm/{made.body['vm']['id']}").status == 200
    *smalls, tiny = mixed(service)
    assert service("DELETE", f"/vm/{tiny}").status == 200
    set_quota(admin, outsider, **LARGE)
    stranger = boot(outsider, flavorRef="m1.tiny")["id"]
    since = service.seq()
    refused = service("POST", "/vm", STANDARD)
    assert (refused.status, refused.body["error"]) == (409, "no_capacity"), refused.body
    assert service.victims(since, "evicted") == set(smalls)
    record = [row for row in service.record() if row["vm"]["id"] in smalls]
    assert {row["round"] for row in record} == {1} and all(row["wasted"] for row in record), record

    service.create_many(3, SMALL)  # beside the stranger: they show nothing new
    since = service.seq()
    assert service("POST", "/vm", STANDARD).status == 409
    assert not service.victims(since)

    assert outsider("DELETE", f"/servers/{stranger}").status == 204
    gone(outsider, stranger)
    mixed_again = service.create_many(1, SMALL)  # the whole host is held again: that is new evidence
    until(
        "the refusal is void",
        lambda: not any(host["refusals"] for host in service("GET", "/capacity").body["hosts"]),
    )
    assert service("DELETE", f"/vm/{mixed_again[0]}").status == 200
    service.create_many(1, TINY)
    assert service("POST", "/vm", STANDARD).status == 201
