"""What Nova's lists show and which filters they obey, and metadata and tags, over plain HTTP."""

from datetime import UTC, datetime

from tests.openstack.http import until


def ids(reply) -> set[str]:
    """The servers in a list."""
    assert reply.status == 200, reply
    return {server["id"] for server in reply.body["servers"]}


def test_metadata_is_merged_by_post_replaced_by_put_and_removed_by_key(demo, boot):
    server = boot(demo, metadata={"a": "1"})
    path = f"/servers/{server['id']}/metadata"
    assert demo("POST", path, {"metadata": {"b": "2"}}).body == {"metadata": {"a": "1", "b": "2"}}
    assert demo("PUT", path, {"metadata": {"c": "3"}}).body == {"metadata": {"c": "3"}}
    assert demo("DELETE", f"{path}/c").status == 204
    assert demo("DELETE", f"{path}/c").status == 404
    assert demo("GET", path).body == {"metadata": {}}
    assert demo("POST", path, {"metadata": {"d": 4}}).status == 400


def test_tags_find_a_server_from_2_26_on_and_are_ignored_below(demo, boot, post):
    server = boot(demo, tags=["mine"])
    other = post(demo).body["server"]["id"]
    assert ids(demo("GET", "/servers?tags=mine")) == {server["id"]}
    assert ids(demo("GET", "/servers/detail?tags=mine")) == {server["id"]}
    assert ids(demo("GET", "/servers?tags=nobodys")) == set()
    assert ids(demo("GET", "/servers?tags=mine", version="2.25")) == {server["id"], other}


def test_a_tag_finds_a_server_at_once_and_one_that_failed(demo, post):
    server_id = post(demo, flavorRef="m1.large", tags=["mine"], name="a").body["server"]["id"]
    assert ids(demo("GET", "/servers?tags=mine")) == {server_id}
    for _ in range(4):
        post(demo, flavorRef="m1.large", tags=["more"])
    failed = until(
        "one of five has no room",
        lambda: [
            server["id"] for server in demo("GET", "/servers/detail").body["servers"] if server["status"] == "ERROR"
        ],
    )
    assert set(failed) <= ids(demo("GET", "/servers?tags=mine")) | ids(demo("GET", "/servers?tags=more"))


def test_there_is_no_filter_by_metadata(demo, admin, boot):
    servers = {boot(demo, metadata={"a": "1"})["id"], boot(demo)["id"]}
    assert ids(demo("GET", "/servers/detail?metadata=%7B%22a%22%3A+%221%22%7D")) == servers
    reply = admin("GET", "/servers/detail?metadata=%7B%22a%22%3A+%221%22%7D")
    assert (reply.status, reply.message) == (400, "Invalid filter field: metadata.")


def test_a_members_filter_by_host_is_ignored(demo, boot):
    server = boot(demo)
    assert ids(demo("GET", "/servers?host=no-such-host")) == {server["id"]}


def test_changes_since_shows_what_changed_and_what_was_deleted(demo, boot, gone):
    old = boot(demo, name="old")
    until("the next second", lambda: datetime.now(UTC).replace(microsecond=0) > moment(old["updated"]))
    since = datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
    new = boot(demo, name="new")

    def changed() -> dict[str, str]:
        # A real Nova also shows servers deleted long ago, when a periodic task of its own cleans up after them.
        found = demo("GET", f"/servers/detail?changes-since={since}").body["servers"]
        return {server["name"]: server["status"] for server in found if server["id"] in (old["id"], new["id"])}

    assert changed() == {"new": "ACTIVE"}
    demo("DELETE", f"/servers/{new['id']}")
    gone(demo, new["id"])
    assert changed() == {"new": "DELETED"}
    demo("POST", f"/servers/{old['id']}/metadata", {"metadata": {"a": "b"}})
    assert changed() == {"new": "DELETED", "old": "ACTIVE"}


def moment(text: str) -> datetime:
    """A time of Nova's."""
    return datetime.fromisoformat(text)


def test_a_page_that_is_not_the_last_links_to_the_next(demo, boot):
    made = {boot(demo)["id"] for _ in range(2)}
    first = demo("GET", "/servers/detail?limit=1").body
    assert len(first["servers"]) == 1
    [link] = first["servers_links"]
    assert link["rel"] == "next"
    second = demo("GET", "/servers/detail?" + link["href"].partition("?")[2]).body
    assert {first["servers"][0]["id"], second["servers"][0]["id"]} == made


def test_a_list_tells_the_time(demo):
    reply = demo("GET", "/servers/detail")
    assert reply.headers["Date"].endswith(" GMT")
    assert reply.headers["X-OpenStack-Request-ID"].startswith("req-")


def test_an_admin_lists_other_projects_only_when_asked(demo, admin, boot):
    server = boot(demo)
    assert ids(admin("GET", "/servers")) == set()
    assert ids(admin("GET", "/servers?all_tenants=1")) == {server["id"]}
