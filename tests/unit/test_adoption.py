"""Which servers without a row are adopted, and what their rows say."""

import pytest

from tests.unit.test_snapshot import NOW, server
from vmsvc.cloud.port import EVICT_AT, KIND, MARK, OWNER, Flavor, Named
from vmsvc.domain.resources import Resources
from vmsvc.service.adoption import CloudCatalog, adoption_problem, columns_of

ID = "0e7f3a52-6a4e-4a38-9a0c-7c1f4f6f4a11"
MARKS = {MARK: ID, OWNER: "ours", KIND: "preemptible"}


@pytest.mark.parametrize(
    "fields, carried, problem",
    [
        ({}, 1, None),
        ({"status": "SHUTOFF"}, 1, None),
        ({"status": "ERROR"}, 1, None),
        ({"status": "SHELVED_OFFLOADED"}, 1, None),
        ({"metadata": {**MARKS, KIND: "standard"}}, 1, None),
        ({}, 2, "2 servers carry its mark"),
        ({"metadata": {**MARKS, KIND: "spot"}}, 1, "its vmsvc_kind is 'spot'"),
        ({"metadata": {MARK: ID, OWNER: "ours"}}, 1, "vmsvc_kind=standard A"),
        ({"status": "BUILD", "launched_at": None}, 1, "try again later"),
        ({"task_state": "deleting"}, 1, "being deleted"),
        ({"status": "SOFT_DELETED"}, 1, "being deleted"),
        ({"status": "ERROR", "launched_at": None}, 1, "never ran"),
    ],
)
def test_a_server_that_cannot_be_adopted_is_left_alone_with_instructions(fields, carried, problem):
    found = adoption_problem(server("A", **{"metadata": MARKS, **fields}), carried)
    assert found is None if problem is None else problem in found


@pytest.mark.parametrize("mark", ["", "a", "x" * 255, ID.upper(), f"{ID} ", "0e7f3a52-6a4e-4a38-9a0c-7c1f4f6f4a12"])
def test_a_mark_that_vmsvc_did_not_write_makes_no_row(mark):
    """An owner can edit it: no row could be found by such an id, or that of another server, the last one here."""
    problem = adoption_problem(server("A", metadata={**MARKS, MARK: mark}), 1, {"0e7f3a52-6a4e-4a38-9a0c-7c1f4f6f4a12"})
    assert problem is not None and "which vmsvc did not write" in problem


def test_a_row_says_what_the_cloud_knows_and_the_owner_that_is_given():
    flavor = Flavor("m1.small", "m1.small", 2, 2048, 10)
    shown = server(
        "A",
        flavor=flavor,
        resources=Resources({"VCPU": 2}),
        host="sim-1",
        body={"image": {"id": "i-1"}, "addresses": {"net": []}, "key_name": "ann's"},
        metadata={**MARKS, "a": "b", EVICT_AT: "x"},
    )
    catalog = CloudCatalog({"m1.small": Flavor("f-1", "m1.small", 2, 2048, 10)}, {"i-1": Named("i-1", "debian")})
    row = columns_of(shown, catalog, "ann")
    told = {
        "name": "any",
        "is_preemptible": True,
        "principal": "ann",
        "flavor": "m1.small",
        "image": "debian",
        "network": "net",
        "host": "sim-1",
    }
    assert {name: row[name] for name in told} == told
    assert row["quota"] == {"instances": 1, "cores": 2, "ram": 2048} and row["room"] == {"VCPU": 2}
    assert row["launched_at"] == row["created_at"] == NOW
    assert (row["boot"]["flavor_id"], row["boot"]["image_id"], row["boot"]["metadata"]) == ("f-1", "i-1", {"a": "b"})
    assert columns_of(server("A", body={"image": ""}, metadata=MARKS), CloudCatalog({}, {}), "ann")["image"] == ""
