"""What Nova's actions do to a server, and which states allow them, over plain HTTP."""

import time

import pytest

from tests.openstack.http import Api, Reply, until


class Acts:
    """The actions on one server."""

    def __init__(self, server_id: str, demo: Api, admin: Api):
        self.path = f"/servers/{server_id}/action"
        self.server_id = server_id
        self.demo, self.admin = demo, admin

    def __call__(self, action: str, value: object = None, user: str = "demo", **options: str) -> Reply:
        return getattr(self, user)("POST", self.path, {action: value}, **options)

    def state(self) -> tuple[str, str | None, int]:
        """(status, task_state, power_state)"""
        server = self.demo.server(self.server_id)
        return server["status"], server["OS-EXT-STS:task_state"], server["OS-EXT-STS:power_state"]

    def until(self, status: str, power: int = 1) -> None:
        """Wait until it has this status and no task."""
        until(f"{self.server_id} is {status}", lambda: self.state() == (status, None, power))

    def held(self) -> list[dict]:
        """What it holds, by provider."""
        reply = self.admin("GET", f"/allocations/{self.server_id}", service="placement")
        return [each["resources"] for each in reply.body["allocations"].values()]


@pytest.fixture(name="acts")
def fixture_acts(demo, admin, boot) -> Acts:
    """A server that is ACTIVE."""
    return Acts(boot(demo, name="acts")["id"], demo, admin)


def test_a_resize_is_verified_and_reverted_or_confirmed(acts, admin, demo):
    first_host = admin.server(acts.server_id)["OS-EXT-SRV-ATTR:host"]
    assert acts("resize", {"flavorRef": "m1.tiny"}).message == "When resizing, instances must change flavor!"
    assert acts("resize", {"flavorRef": "nope"}).status == 400
    assert acts("resize", {"flavorRef": "m1.small"}).status == 202
    acts.until("VERIFY_RESIZE")
    server = admin.server(acts.server_id)
    assert server["flavor"]["original_name"] == "m1.small" and server["OS-EXT-SRV-ATTR:host"] != first_host
    [migration] = [
        each
        for each in admin("GET", "/os-migrations").body["migrations"]
        if each["instance_uuid"] == acts.server_id and each["status"] == "finished"
    ]
    assert (migration["source_compute"], migration["migration_type"]) == (first_host, "resize")
    # Both hosts are taken until it is confirmed: the source belongs to the migration.
    source = admin("GET", f"/allocations/{migration['uuid']}", service="placement").body["allocations"]
    assert [each["resources"]["MEMORY_MB"] for each in source.values()] == [1024]
    assert [each["MEMORY_MB"] for each in acts.held()] == [2048]
    for action in ("os-stop", "pause", "shelve"):
        assert acts(action).message.endswith("while it is in vm_state resized")

    assert acts("revertResize").status == 202
    acts.until("ACTIVE")
    server = admin.server(acts.server_id)
    assert (server["flavor"]["original_name"], server["OS-EXT-SRV-ATTR:host"]) == ("m1.tiny", first_host)
    assert [each["MEMORY_MB"] for each in acts.held()] == [1024]

    assert acts("resize", {"flavorRef": "m1.small"}).status == 202
    acts.until("VERIFY_RESIZE")
    assert acts("confirmResize").status == 204
    acts.until("ACTIVE")
    assert demo.server(acts.server_id)["flavor"]["original_name"] == "m1.small"
    assert acts("confirmResize").message == (
        f"Cannot 'confirmResize' instance {acts.server_id} while it is in vm_state active"
    )


def test_a_resize_without_room_leaves_the_server_as_it_was(acts, demo, post):
    others = [post(demo, flavorRef="m1.medium").body["server"]["id"] for _ in range(6)]
    until("the cloud is full", lambda: all(demo.server(each)["status"] == "ACTIVE" for each in others))
    assert acts("resize", {"flavorRef": "m1.large"}).status == 202
    until("it was tried", lambda: acts.state()[1] is None and acts.state()[0] == "ACTIVE")
    server = demo.server(acts.server_id)
    assert server["flavor"]["original_name"] == "m1.tiny" and "fault" not in server
    action = until(
        "the action has ended",
        lambda: next(
            (
                each
                for each in demo("GET", f"/servers/{acts.server_id}/os-instance-actions").body["instanceActions"]
                if each["action"] == "resize" and each["message"]
            ),
            None,
        ),
    )
    assert action["message"] == "Error"
    assert [each["MEMORY_MB"] for each in acts.held()] == [1024]


def test_a_live_migration_moves_the_server_and_frees_its_source_later(acts, admin, demo):
    assert acts("os-migrateLive", {"host": None, "block_migration": "auto"}).status == 403
    assert acts("os-migrateLive", {}, "admin").status == 400
    assert acts("os-migrateLive", {"host": "nope", "block_migration": "auto"}, "admin").status == 400
    before = demo.server(acts.server_id)
    assert acts("os-migrateLive", {"host": None, "block_migration": "auto"}, "admin").status == 202
    assert acts.state()[0] == "MIGRATING"
    assert acts("os-stop").message == (f"Cannot 'stop' instance {acts.server_id} while it is in task_state migrating")
    acts.until("ACTIVE")
    after = demo.server(acts.server_id)
    assert after["hostId"] != before["hostId"] and after["addresses"] == before["addresses"]

    def record() -> dict:
        found = admin("GET", "/os-migrations").body["migrations"]
        return next(each for each in found if each["instance_uuid"] == acts.server_id)

    until("it is recorded", lambda: record()["status"] == "completed")
    assert admin("GET", f"/allocations/{record()['uuid']}", service="placement").body["allocations"] == {}
    assert [each["MEMORY_MB"] for each in acts.held()] == [1024]
    aborted = admin("DELETE", f"/servers/{acts.server_id}/migrations/{record()['id']}")
    assert (aborted.status, aborted.message) == (
        409,
        f"Instance {acts.server_id} is in an invalid state for 'abort live migration'",
    )


def test_rescue_and_unrescue(acts):
    reply = acts("rescue")
    assert (reply.status, list(reply.body)) == (200, ["adminPass"])
    acts.until("RESCUE", 4)
    for action, verb in (("os-stop", "stop"), ("rescue", "rescue"), ("os-start", "start")):
        assert acts(action).message == f"Cannot '{verb}' instance {acts.server_id} while it is in vm_state rescued"
    assert acts("unrescue").status == 202
    acts.until("ACTIVE")


def test_rebuild_shows_the_server(acts, image_id, demo):
    reply = acts("rebuild", {"imageRef": image_id, "name": "again", "metadata": {"a": "b"}})
    assert reply.status == 202
    server = reply.body["server"]
    assert (server["status"], server["name"], server["metadata"]) == ("REBUILD", "again", {"a": "b"})
    assert server["adminPass"] and server["user_data"] is None
    acts.until("ACTIVE")
    assert demo.server(acts.server_id)["name"] == "again"
    old = acts("rebuild", {"imageRef": image_id}, version="2.1").body["server"]
    assert "OS-EXT-STS:task_state" not in old and old["status"] == "REBUILD"
    acts.until("ACTIVE")


def test_a_wrong_action_is_400(acts):
    for action, value in (
        ("os-resetState", {"state": "1"}),
        ("os-resetState", {}),
        ("resize", {}),
        ("rebuild", {}),
        ("reboot", {"type": "x"}),
        ("lock", {"reason": "x"}),
        ("unshelve", {"nonsense": 1}),
        ("createImage", {"name": " blank"}),
        ("os-nonsense", None),
        ("evacuate", {}),
    ):
        assert acts(action, value, "admin").status == 400, action
    assert acts.state() == ("ACTIVE", None, 1)


def test_a_state_that_was_reset_shows_at_once(acts, demo):
    assert acts("os-resetState", {"state": "error"}).status == 403
    assert acts("os-resetState", {"state": "error"}, "admin").status == 202
    assert acts.state() == ("ERROR", None, 1)
    assert acts("os-start").status == 409
    assert demo("GET", "/servers/detail").status == 200
    assert acts("os-resetState", {"state": "active"}, "admin").status == 202
    assert acts.state() == ("ACTIVE", None, 1)


def test_shelving_gives_the_capacity_up_and_unshelving_takes_some(acts, demo):
    assert acts("shelve").status == 202
    acts.until("SHELVED_OFFLOADED", 4)
    assert acts.held() == []
    assert acts("shelveOffload", None, "admin").message.endswith("while it is in vm_state shelved_offloaded")
    assert acts("unshelve", {"host": "bed-1"}).status == 403
    assert acts("unshelve").status == 202
    acts.until("ACTIVE")
    assert [each["MEMORY_MB"] for each in acts.held()] == [1024]
    assert demo("GET", "/images", service="image").body["images"][0]["name"] == "bed-image"


def test_a_deleted_server_of_changes_since_has_lost_its_metadata_tags_and_groups(demo, admin, boot, gone):
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    server = boot(demo, name="was", metadata={"a": "b"}, tags=["t"], accessIPv4="10.0.0.9")
    demo("DELETE", f"/servers/{server['id']}")
    gone(demo, server["id"])
    for api in (demo, admin):
        query = f"/servers/detail?changes-since={since}" + ("&all_tenants=1" if api is admin else "")
        [entry] = [each for each in api("GET", query).body["servers"] if each["id"] == server["id"]]
        assert (entry["status"], entry["metadata"], entry["tags"], entry["addresses"]) == ("DELETED", {}, [], {})
        assert "security_groups" not in entry and entry["accessIPv4"] == "10.0.0.9"
        assert entry["hostId"] == server["hostId"]
        assert entry.get("host_status", "") == ""
    actions = demo("GET", f"/servers/{server['id']}/os-instance-actions").body["instanceActions"]
    assert [each["action"] for each in actions] == ["delete", "create"]
    assert demo("GET", f"/servers/{server['id']}/os-instance-actions", version="2.20").status == 404


def test_placement_refuses_a_trait_that_does_not_exist(admin):
    for required in ("CUSTOM_NOBODY_MADE", "!CUSTOM_NOBODY_MADE", "in:CUSTOM_NOBODY_MADE"):
        query = f"/allocation_candidates?resources=VCPU:1&required={required}"
        reply = admin("GET", query, service="placement", version="1.39")
        assert reply.status == 400 and "No such trait(s): CUSTOM_NOBODY_MADE." in reply.body["errors"][0]["detail"]


def test_a_flavor_that_forbids_such_a_trait_finds_no_host(admin, demo, post):
    made = admin("POST", "/flavors", {"flavor": {"name": "forbids", "ram": 512, "vcpus": 1, "disk": 1}}).body["flavor"]
    specs = {"extra_specs": {"trait:CUSTOM_NOBODY_MADE": "forbidden"}}
    assert admin("POST", f"/flavors/{made['id']}/os-extra_specs", specs).status == 200
    try:
        server_id = post(demo, flavorRef=made["id"]).body["server"]["id"]
        fault = until("its fault is there", lambda: demo.server(server_id).get("fault"))
        assert fault["message"] == "No valid host was found. "
    finally:
        admin("DELETE", f"/flavors/{made['id']}")
