"""GET /servers: filters, pages, changes-since, tags and metadata."""

from datetime import UTC, datetime


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_pages_follow_their_links_newest_first(sim, demo):
    for number in range(5):
        sim.add("servers", name=f"vm{number}")
    names, path = [], "/compute/v2.1/servers?limit=2"
    while path:
        page = demo.api.get(path)
        names += [server["name"] for server in page["servers"]]
        path = page["servers_links"][0]["href"].removeprefix(demo.api.url) if "servers_links" in page else None
    assert names == ["vm4", "vm3", "vm2", "vm1", "vm0"]


def test_a_page_has_at_most_max_limit_servers_and_then_a_link(sim, demo):
    sim.set("settings", max_limit=3)
    sim.add("servers", count=4)
    page = demo.api.get("/compute/v2.1/servers/detail")
    assert len(page["servers"]) == 3 and "servers_links" in page


def test_changes_since_shows_what_changed_and_what_is_deleted(sim, demo):
    old, gone, told = (sim.add("servers", name=name)["ids"][0] for name in ("old", "gone", "told"))
    sim.wait(60)
    since = stamp(sim.get("/sim/clock")["now"])
    sim.wait(1)
    demo.delete(gone)
    demo.api("POST", f"/compute/v2.1/servers/{told}/metadata", {"metadata": {"a": "b"}})
    demo.api("PUT", f"/compute/v2.1/servers/{old}/tags/new")
    sim.wait(5)
    changed = demo.api.get(f"/compute/v2.1/servers/detail?changes-since={since}")["servers"]
    assert [(each["name"], each["status"]) for each in changed] == [("told", "ACTIVE"), ("gone", "DELETED")]
    assert sorted(demo.names()) == ["old", "told"]


def test_tags_filter_from_2_26_on_and_are_ignored_below(sim, demo):
    sim.add("servers", name="a", tags=["red", "big"])
    sim.add("servers", name="b", tags=["red"])
    sim.add("servers", name="c")
    found = {
        query: demo.names(query)
        for query in ("tags=red", "tags=red,big", "tags-any=big,blue", "not-tags=red", "not-tags-any=big")
    }
    assert found == {
        "tags=red": ["b", "a"],
        "tags=red,big": ["a"],
        "tags-any=big,blue": ["a"],
        "not-tags=red": ["c"],
        "not-tags-any=big": ["c", "b"],
    }
    assert demo.names("tags=red", version="2.25") == ["c", "b", "a"]


def test_what_a_member_may_not_filter_by_is_ignored_without_a_word(sim, demo, admin):
    sim.add("servers", name="a", host="sim-1")
    assert demo.names("host=sim-2") == demo.names("metadata=x") == ["a"]
    assert admin.names("all_tenants=1&host=sim-2") == [] and admin.names("all_tenants=1&host=sim-1") == ["a"]
    assert admin.api("GET", "/compute/v2.1/servers?metadata=x").json()["badRequest"]["message"] == (
        "Invalid filter field: metadata."
    )


def test_names_are_regular_expressions_and_statuses_are_words(sim, demo):
    for name in ("web-1", "web-2", "db"):
        sim.add("servers", name=name)
    sim.set("servers/db", power="off")
    assert demo.names("name=^web") == ["web-2", "web-1"] and demo.names("status=shutoff") == ["db"]
    assert demo.api("GET", "/compute/v2.1/servers?status=odd").status_code == 400
    assert demo.api("GET", "/compute/v2.1/servers?status=DELETED").status_code == 403


def test_a_down_cell_is_left_out_of_filtered_lists_and_unknown_in_plain_ones(sim, demo):
    (server_id,) = sim.add("servers", name="a", host="sim-1")["ids"]
    sim.add("servers", name="b", host="sim-2")
    sim.set("hosts/sim-1", cell_down=True)
    assert demo.names("name=a") == [] and demo.names("limit=10") == ["b"]
    assert demo.names(version="2.1") == ["b"]
    plain = demo.api.get("/compute/v2.1/servers/detail")["servers"]
    assert {each["id"]: each["status"] for each in plain}[server_id] == "UNKNOWN"
    assert demo.show(server_id)["status"] == "UNKNOWN"


def test_metadata_merges_replaces_and_shows_in_the_guest(sim, demo):
    (server_id,) = sim.add("servers", name="guest", metadata={"a": "1"})["ids"]
    path = f"/compute/v2.1/servers/{server_id}/metadata"
    guest = f"/metadata/{server_id}/openstack/latest/meta_data.json"
    demo.api("POST", path, {"metadata": {"vmsvc_evict_at": "soon"}})
    seen = sim.get(guest)
    assert (seen["uuid"], seen["name"], seen["meta"]) == (server_id, "guest", {"a": "1", "vmsvc_evict_at": "soon"})
    demo.api("PUT", path, {"metadata": {"b": "2"}})
    assert demo.api("DELETE", f"{path}/b").status_code == 204 and demo.api("DELETE", f"{path}/b").status_code == 404
    assert "meta" not in sim.get(guest)


def test_the_guest_may_see_old_metadata_for_a_while(sim, demo):
    sim.set("settings", metadata_cache_seconds=15)
    (server_id,) = sim.add("servers")["ids"]
    guest = f"/metadata/{server_id}/openstack/latest/meta_data.json"
    assert "meta" not in sim.get(guest)
    demo.api("POST", f"/compute/v2.1/servers/{server_id}/metadata", {"metadata": {"a": "b"}})
    sim.wait(14)
    assert "meta" not in sim.get(guest)
    sim.wait(1)
    assert sim.get(guest)["meta"] == {"a": "b"}
