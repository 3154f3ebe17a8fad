"""What Keystone says of a client's token: the facts that the service's own check of tokens stands on."""

import pytest

from tests.openstack.http import Api, Reply, send
from vmsvc.domain.errors import Forbidden, Unauthenticated
from vmsvc.service.identity.keystone import ACCEPTED_SECONDS, Keystone

WRONG = ["nonsense", "gAAAAABm" + "A" * 180, "x" * 4000]


def ask(api: Api, asker: str, subject: str, method: str = "GET") -> Reply:
    """What Keystone tells `asker` of `subject`, with the query that the service uses."""
    return send(
        method,
        f"{api.auth['auth_url']}/auth/tokens?nocatalog=1",
        headers={"X-Auth-Token": asker, "X-Subject-Token": subject},
    )


@pytest.fixture(name="own")
def _own(entries):
    """A token of demo's that nobody else uses."""
    return Api(entries["demo"][1]).token


def test_a_token_may_ask_what_it_stands_for(demo, own):
    reply = ask(demo, own, own)
    assert reply.status == 200
    token = reply.body["token"]
    assert (token["user"]["name"], token["user"]["domain"]["name"]) == ("demo", "Default")
    assert token["project"]["id"] == demo.project
    assert {"member", "reader"} <= {role["name"] for role in token["roles"]}
    assert token["expires_at"].endswith("Z")


def test_a_member_may_not_ask_about_somebody_else_and_an_admin_may(demo, admin, own):
    assert ask(demo, own, admin.token).status == 403
    assert ask(demo, admin.token, own).status == 200


@pytest.mark.parametrize("token", WRONG, ids=len)
def test_a_token_that_is_none_is_401_when_it_asks_about_itself(demo, token):
    assert ask(demo, token, token).status == 401


def test_a_token_that_was_revoked_is_refused_at_once(demo, own):
    assert ask(demo, own, own, "DELETE").status == 204
    # 404 from a worker whose cache still lets the token ask: the question, whose it is, has no answer all the same.
    assert ask(demo, own, own).status in (401, 404)


@pytest.mark.gen_test(timeout=60)
async def test_the_adapter_says_whose_a_token_is_whoever_the_service_is(connect, demo, admin):
    for service in ("demo", "admin"):
        cloud = await connect(service)
        for api, user, role in ((demo, "demo@Default", "member"), (admin, "admin@Default", "admin")):
            identity = await cloud.identity(api.token)
            assert (identity.user, identity.project_id) == (user, api.project)
            assert role in identity.roles and 0 < identity.seconds_left <= 7 * 86400


@pytest.mark.gen_test(timeout=60)
async def test_the_adapter_refuses_what_keystone_refuses_and_stays_signed_in(connect, demo, own):
    cloud = await connect("demo")
    assert (await cloud.identity(own)).user == "demo@Default"
    ask(demo, own, own, "DELETE")
    for token in (own, *WRONG):
        with pytest.raises(Unauthenticated):
            await cloud.identity(token)
    await cloud.flavors()


@pytest.mark.gen_test(timeout=60)
async def test_project_and_role_decide_access_and_the_right_to_write(connect, demo, admin):
    cloud = await connect("demo")
    by_default = Keystone(cloud, {"member", "admin"}, {"reader"})
    for_admins = Keystone(cloud, {"admin"}, {"reader"})
    assert (await by_default.authenticate(demo.token, "")).may_write
    assert not (await for_admins.authenticate(demo.token, "")).may_write
    with pytest.raises(Forbidden, match="project"):
        await by_default.authenticate(admin.token, "")
    with pytest.raises(Forbidden, match="roles"):
        await Keystone(cloud, {"operator"}, {"auditor"}).authenticate(demo.token, "")


@pytest.mark.gen_test(timeout=60)
async def test_a_token_that_was_revoked_is_good_for_the_cache_time_at_most(connect, demo, own):
    now = 0.0
    keystone = Keystone(await connect("demo"), {"member"}, {"reader"}, clock=lambda: now)
    assert (await keystone.authenticate(own, "")).name == "demo@Default"
    ask(demo, own, own, "DELETE")
    now = ACCEPTED_SECONDS - 1
    assert (await keystone.authenticate(own, "")).name == "demo@Default"
    now = ACCEPTED_SECONDS
    with pytest.raises(Unauthenticated):
        await keystone.authenticate(own, "")
