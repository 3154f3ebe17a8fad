"""Tokens of the cloud's Keystone: how long an answer is believed, and what an answer means."""

import asyncio

import pytest

from vmsvc.domain.errors import CloudUnavailable, Forbidden, TooManyRequests, Unauthenticated
from vmsvc.domain.principal import Identity
from vmsvc.service.identity import keystone
from vmsvc.service.identity.keystone import Keystone


class Cloud:
    """Knows the tokens in `tokens`; `asked` is every question."""

    project_id = "ours"

    def __init__(self):
        self.tokens = {
            "good": Identity("demo@Default", "ours", frozenset({"member", "reader"}), 3600.0),
            "look": Identity("eve@Default", "ours", frozenset({"reader"}), 3600.0),
            "none": Identity("max@Default", "ours", frozenset({"auditor"}), 3600.0),
            "bare": Identity("max@Default", None, frozenset(), 3600.0),
            "else": Identity("max@Default", "theirs", frozenset({"admin"}), 3600.0),
            "ends": Identity("demo@Default", "ours", frozenset({"member"}), 5.0),
        }
        self.asked: list[str] = []
        self.away = False

    async def identity(self, token):
        """As Keystone."""
        self.asked.append(token)
        await asyncio.sleep(0)
        if self.away:
            raise CloudUnavailable("no answer")
        if token not in self.tokens:
            raise Unauthenticated("no such token")
        return self.tokens[token]


@pytest.fixture(name="cloud")
def _cloud():
    return Cloud()


@pytest.fixture(name="now")
def _now():
    return [1000.0]


@pytest.fixture(name="known")
def _known(cloud, now):
    return Keystone(cloud, {"member", "admin"}, {"reader"}, clock=lambda: now[0])


@pytest.mark.gen_test
async def test_a_principal_is_identified_by_its_id_and_not_by_its_name(cloud, known):
    member = frozenset({"member"})
    for token, user_id in (("first", "1"), ("second", "2"), ("third", "2")):
        cloud.tokens[token] = Identity("team_one@Default", "ours", member, 3600.0, user_id)
    one, other, again = [await known.authenticate(token, "a") for token in ("first", "second", "third")]
    assert one.name == other.name and one.id != other.id == again.id
    assert not one.owns(other.id, other.name) and again.owns(other.id, other.name)
    assert one.owns(None, "team_one@Default"), "a row from before has the name alone"


@pytest.mark.gen_test
async def test_a_role_decides_who_may_act_for_other_owners(cloud, now):
    known = Keystone(cloud, {"member"}, {"reader"}, clock=lambda: now[0], admin_roles={"admin"})
    cloud.tokens["root"] = Identity("root@Default", "ours", frozenset({"member", "admin"}), 3600.0, "3")
    assert (await known.authenticate("root", "a")).acts_for_others
    assert not (await known.authenticate("good", "a")).acts_for_others


@pytest.mark.gen_test
async def test_a_role_decides_who_may_write(known):
    assert (await known.authenticate("good", "a")).may_write
    principal = await known.authenticate("look", "a")
    assert (principal.name, principal.may_write) == ("eve@Default", False)


@pytest.mark.gen_test
@pytest.mark.parametrize("token", ["none", "bare", "else"])
async def test_another_project_or_role_is_forbidden(known, token):
    with pytest.raises(Forbidden):
        await known.authenticate(token, "a")


@pytest.mark.gen_test
async def test_a_good_answer_is_believed_for_a_minute_and_a_revoked_token_no_longer(known, cloud, now):
    await asyncio.gather(*(known.authenticate("good", "a") for _ in range(20)))
    assert cloud.asked == ["good"], "many at once ask once"
    del cloud.tokens["good"]
    now[0] += keystone.ACCEPTED_SECONDS - 1
    await known.authenticate("good", "a")
    now[0] += 2
    with pytest.raises(Unauthenticated):
        await known.authenticate("good", "a")


@pytest.mark.gen_test
async def test_nothing_is_believed_beyond_the_tokens_end(known, cloud, now):
    await known.authenticate("ends", "a")
    now[0] += 6
    await known.authenticate("ends", "a")
    assert cloud.asked == ["ends", "ends"]


@pytest.mark.gen_test
async def test_a_bad_answer_is_believed_for_some_seconds(known, cloud, now):
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await known.authenticate("bad", "a")
    assert cloud.asked == ["bad"]
    now[0] += keystone.REJECTED_SECONDS + 1
    cloud.tokens["bad"] = cloud.tokens["good"]
    assert (await known.authenticate("bad", "a")).name == "demo@Default"


@pytest.mark.gen_test
async def test_a_keystone_that_is_away_is_no_reason_to_believe_or_to_refuse(known, cloud, now):
    await known.authenticate("good", "a")
    cloud.away = True
    await known.authenticate("good", "a")
    for token in ("good", "look"):
        now[0] += keystone.ACCEPTED_SECONDS + 1
        with pytest.raises(CloudUnavailable):
            await known.authenticate(token, "a")
    cloud.away = False
    await known.authenticate("good", "a")


@pytest.mark.gen_test
async def test_a_service_that_has_not_signed_in_yet_authenticates_no_client(known, cloud):
    cloud.project_id = ""
    cloud.tokens["bare"] = Identity("max@Default", "", frozenset({"member"}), 60.0)
    with pytest.raises(CloudUnavailable):
        await known.authenticate("bare", "a")


@pytest.mark.gen_test
@pytest.mark.parametrize("token", ["", "a b", "a\n", "ü", "x" * 5000])
async def test_what_cannot_be_a_token_is_not_asked_about(known, cloud, token):
    with pytest.raises(Unauthenticated):
        await known.authenticate(token, "a")
    assert not cloud.asked


@pytest.mark.gen_test
async def test_a_client_that_guesses_tokens_is_slowed_down_and_keeps_no_other_out(known, cloud):
    await known.authenticate("good", "a")
    refused = 0
    for number in range(200):
        try:
            await known.authenticate(f"guess-{number}", "a")
        except TooManyRequests:
            refused += 1
        except Unauthenticated:
            pass
    assert refused == 200 - 50
    assert len(cloud.asked) == 51
    await known.authenticate("good", "a")
    await known.authenticate("look", "b")


@pytest.mark.gen_test
async def test_what_is_remembered_is_bounded(cloud, now, monkeypatch):
    monkeypatch.setattr(keystone, "MAX_REMEMBERED", 3)
    known = Keystone(cloud, {"member", "admin"}, {"reader"}, clock=lambda: now[0])
    for number in range(10):
        cloud.tokens[f"t{number}"] = cloud.tokens["good"]
        await known.authenticate(f"t{number}", "a")
        with pytest.raises(Unauthenticated):
            await known.authenticate(f"bad{number}", "a")
    assert len(known._accepted) == len(known._rejected) == 3  # pylint: disable=protected-access


@pytest.mark.gen_test
async def test_a_socket_may_go_on_as_long_as_its_token(known, cloud, now):
    principal = await known.authenticate("good", "a")
    await known.recheck(principal, 10_000)
    del cloud.tokens["good"]
    now[0] += keystone.ACCEPTED_SECONDS + 1
    with pytest.raises(Unauthenticated):
        await known.recheck(principal, 60)


@pytest.mark.gen_test
async def test_a_socket_whose_token_was_never_seen_here_comes_back_after_a_while(known, cloud):
    other = Keystone(cloud, {"member"}, set())
    principal = await other.authenticate("good", "a")
    await known.recheck(principal, keystone.UNSEEN_SECONDS - 1)
    with pytest.raises(Unauthenticated):
        await known.recheck(principal, keystone.UNSEEN_SECONDS + 1)


async def bombard(known, tokens, peer):
    """All of them at once; how each ended."""
    return await asyncio.gather(*(known.authenticate(token, peer) for token in tokens), return_exceptions=True)


@pytest.mark.gen_test
async def test_bad_tokens_from_ones_own_address_do_not_lock_a_known_user_out(known, cloud, now):
    await known.authenticate("good", "nat")
    for second in range(180):
        now[0] += 1
        await bombard(known, [f"bad-{second}-{number}" for number in range(10)], "nat")
        assert (await known.authenticate("good", "nat")).name == "demo@Default", second
    del cloud.tokens["good"]
    now[0] += keystone.ACCEPTED_SECONDS
    with pytest.raises(Unauthenticated):
        await known.authenticate("good", "nat")
    assert len([token for token in cloud.asked if token == "good"]) <= 5


@pytest.mark.gen_test
async def test_a_thousand_bad_tokens_at_once_are_some_questions(known, cloud):
    answers = await bombard(known, [f"bad-{number}" for number in range(1500)], "a")
    assert len(cloud.asked) == 50
    assert sum(isinstance(answer, TooManyRequests) for answer in answers) == 1450
    await bombard(known, [f"bad-{number}" for number in range(50)], "a")
    assert len(cloud.asked) == 50, "they are known to be bad"
    assert (await known.authenticate("look", "b")).name == "eve@Default"


@pytest.mark.gen_test
async def test_bad_tokens_from_a_thousand_addresses_are_some_questions(known, cloud):
    await known.authenticate("good", "a")
    await asyncio.gather(
        *(bombard(known, [f"bad-{peer}-{number}" for number in range(3)], f"peer-{peer}") for peer in range(1000))
    )
    assert len(cloud.asked) == 1 + 200
    await known.authenticate("good", "a")


@pytest.mark.gen_test
async def test_good_tokens_cost_their_address_nothing(known, cloud):
    for number in range(300):
        cloud.tokens[f"good-{number}"] = cloud.tokens["good"]
    answers = [await known.authenticate(f"good-{number}", "office") for number in range(300)]
    assert {answer.name for answer in answers} == {"demo@Default"}
