"""Webhooks on a real PostgreSQL, with real receivers: each event arrives, in order for each VM, whatever fails."""

import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network

import pytest

from tests.integration.receiver import Receiver
from tests.system.client import until
from vmsvc.domain.errors import Conflict, HistoryGone, InvalidRequest, NotFound
from vmsvc.domain.principal import ANYBODY, Principal
from vmsvc.domain.timing import Timing
from vmsvc.service.events.listener import Listener
from vmsvc.service.runtime import Runtime
from vmsvc.service.webhooks.dispatcher import Dispatcher
from vmsvc.service.webhooks.endpoints import WebhookPolicy, Webhooks
from vmsvc.store import db, outbox
from vmsvc.web.outgoing.client import OutgoingClient

#: A hundredth of the real times.
QUICK = Timing(
    webhook_timeout=2.0,
    webhook_lease=2.5,
    webhook_retries=(0.05, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2),
    webhook_urgent=0.05,
    webhook_troubled=0.01,
    webhook_turn=0.005,
)
LOOPBACK = [ip_network("127.0.0.0/8")]
ANN, BOB = (Principal(name, True, credential=name) for name in ("ann", "bob"))
ADMIN = Principal("root", True, identity="keystone:1", acts_for_others=True)


class Replica:
    """What of a service has to do with webhooks."""

    def __init__(self, store, timing: Timing = QUICK, **policy):
        self.runtime = Runtime(timing, 4)
        self.client = OutgoingClient(LOOPBACK, timing.webhook_timeout)
        self.counted: list[str] = []
        listener = Listener(self.runtime, store.url)
        self.dispatcher = Dispatcher(
            self.runtime,
            self.client,
            lambda: "vmsvc_test",
            listener.wakeup(),
            timing,
            lambda result, outcome: self.counted.append(outcome),
        )
        settings = WebhookPolicy(**{"most": 10, "trusted_hosts": frozenset(), "origin": "vmsvc", **policy})
        self.webhooks = Webhooks(self.runtime, self.client, settings, lambda: "vmsvc_test", listener.wake)
        self.runtime.supervise("doorbell", listener.run)
        self.runtime.supervise("webhooks", self.dispatcher.run)

    async def new(self, receiver, principal=ANYBODY, since=None, **fields):
        """An endpoint for a receiver: its id and its secret."""
        fields = {"url": receiver.url(), **fields}
        view, secret = await self.webhooks.create(fields, since, principal=principal)
        return view["id"], secret

    async def stop(self):
        await self.dispatcher.stop()
        await self.runtime.stop()
        self.client.close()

    async def kill(self):
        """End at once, as kill -9 does: nothing is recorded or given back."""
        self.runtime.stopping.set()
        for task in [*self.dispatcher._under_way.values()]:  # pylint: disable=protected-access
            task.cancel()
        await self.runtime.stop()
        self.client.close()


@pytest.fixture(name="world")
def fixture_world(store, io_loop):
    """`replica = world.replica()`, `receiver = world.receiver(answer)`; all are stopped in the end."""

    class World:
        """What a test has started."""

        def __init__(self):
            self.things = []

        def replica(self, *args, **kwargs):
            """Another replica."""
            self.things.append(Replica(store, *args, **kwargs))
            return self.things[-1]

        def receiver(self, *args, **kwargs):
            """Another receiver."""
            self.things.append(Receiver(*args, **kwargs))
            return self.things[-1]

    world = World()
    yield world

    async def end():
        for thing in reversed(world.things):
            await (thing.close() if isinstance(thing, Receiver) else thing.stop())

    io_loop.run_sync(end, timeout=20)


def emit(*vms, kind="create", state="active", preemptible=True, **data):
    """Commit an event of each of these VMs, in one transaction."""
    with db.unit() as work:
        for vm in vms:
            work.emit(
                type=kind,
                state=state,
                vm_id=vm,
                subject=f"cloud-{vm}",
                is_preemptible=preemptible,
                data={"vm": {"id": f"cloud-{vm}", "vmsvc_id": vm, "name": "x", "is_preemptible": preemptible}, **data},
            )


def notice(vm, seconds):
    """Commit a notice that ends in so many seconds."""
    with db.unit() as work:
        end = work.now + timedelta(seconds=seconds)
    emit(vm, kind="evict", state="noticed", evict_at=end.isoformat())
    return end


def history():
    """All events, as the socket has them."""
    with db.reading():
        return outbox.page(0, 100_000)[0]


def orders(seqs):
    """The seqs by VM."""
    of = {event["data"]["seq"]: event["data"]["vm"]["vmsvc_id"] for event in history()}
    found = {}
    for seq in seqs:
        found.setdefault(of[seq], []).append(seq)
    return found


@pytest.mark.gen_test(timeout=20)
async def test_an_event_arrives_signed_and_as_the_socket_has_it(world):
    receiver, replica = world.receiver(consents="vmsvc"), world.replica()
    emit("a")  # before the webhook was made
    webhook, secret = await replica.new(receiver)
    assert receiver.asked[0]["Webhook-Request-Origin"] == "vmsvc"
    emit("a", "b")
    await until(lambda: len(receiver.taken) == 2)
    assert receiver.taken == history()[1:]
    _, headers = receiver.posts[0]
    assert headers["Content-Type"] == "application/cloudevents+json" and headers["Webhook-Id"] == "vmsvc_test_2"
    receiver.verify(secret)
    found, _ = await replica.webhooks.deliveries(webhook, None, None, 10, ANYBODY)
    assert [(one["seq"], one["type"], one["state"], one["vm"]) for one in found] == [
        (3, "create", "active", "cloud-b"),
        (2, "create", "active", "cloud-a"),
    ]
    await until(lambda: replica.counted == ["done", "done"])
    view = await replica.webhooks.one(webhook, ANYBODY)
    assert (view["status"], view["pending"], view["last_code"]) == ("verified", 0, 204) and view["last_success_at"]


@pytest.mark.gen_test(timeout=20)
async def test_a_receiver_that_does_not_agree_gets_nothing_until_it_does(world):
    receiver, replica = world.receiver(consents=None), world.replica()
    webhook, _ = await replica.new(receiver)
    emit("a")
    view = await replica.webhooks.one(webhook, ANYBODY)
    assert view["status"] == "unverified" and "OPTIONS (405)" in view["last_error"]
    receiver.consents = "other.example"
    assert not (await replica.webhooks.test(webhook, ANYBODY))["delivered"]
    assert not receiver.posts
    receiver.consents = "vmsvc"
    assert await replica.webhooks.test(webhook, ANYBODY) == {"delivered": True, "code": 204, "reason": None}
    await until(lambda: len(receiver.posts) == 2)  # the test, and the event since the webhook was made
    assert [event["type"] for event, _ in receiver.posts] == ["test", "create"]


@pytest.mark.gen_test(timeout=20)
async def test_a_host_that_the_operator_trusts_need_not_agree(world):
    receiver, replica = world.receiver(consents=None), world.replica(trusted_hosts=frozenset({"127.0.0.1"}))
    await replica.new(receiver)
    emit("a")
    await until(lambda: receiver.taken)
    assert not receiver.asked


@pytest.mark.gen_test(timeout=20)
async def test_an_endpoint_gets_what_its_rule_admits_and_since_goes_back(world):
    evictions, one, old, replica = world.receiver(), world.receiver(), world.receiver(), world.replica()
    emit("a", "b")
    await replica.new(evictions, types=["evict"], preemptible=True)
    await replica.new(one, vm="cloud-b")
    await replica.new(old, since=1, states=["active"])
    emit("a", kind="evict", state="evicting")
    emit("b", kind="evict", state="evicting", preemptible=False)
    await until(lambda: (evictions.seqs(), one.seqs(), old.seqs()) == ([3], [4], [2]))


@pytest.mark.gen_test(timeout=30)
async def test_each_event_arrives_in_order_for_each_vm_though_a_third_of_the_attempts_fail(world):
    chance = random.Random(7)
    receiver = world.receiver(lambda event, headers: 204 if chance.random() > 0.3 else 500)
    replica = world.replica()
    _, secret = await replica.new(receiver)
    for _ in range(30):
        emit(*(f"vm-{number}" for number in range(5)))
    wanted = [event["data"]["seq"] for event in history()]
    await until(lambda: len(set(receiver.seqs())) == len(wanted), seconds=25)
    assert orders(receiver.seqs()) == orders(wanted)
    receiver.verify(secret)
    assert len(receiver.posts) > len(wanted)
    for event, headers in receiver.posts:
        assert headers["Webhook-Id"] == f"vmsvc_test_{event['id']}"


@pytest.mark.gen_test(timeout=20)
async def test_one_vm_in_trouble_holds_up_no_other(world):
    receiver = world.receiver(lambda event, headers: 500 if event["data"]["vm"]["vmsvc_id"] == "bad" else 204)
    replica = world.replica(replace(QUICK, webhook_retries=(30.0,)))
    await replica.new(receiver)
    emit("bad", "good")
    emit("bad", "good")
    await until(lambda: receiver.seqs() == [2, 4])
    assert {event["data"]["seq"] for event, _ in receiver.posts} == {1, 2, 4}, "3 waits for 1"


@pytest.mark.gen_test(timeout=20)
async def test_vms_whose_events_hang_leave_requests_for_the_others(world):
    async def answer(event, headers):
        del headers
        if event["data"]["vm"]["vmsvc_id"].startswith("slow"):
            await asyncio.sleep(0.6)
            return 500
        return 204

    receiver, replica = world.receiver(answer), world.replica(replace(QUICK, webhook_retries=(0.01,) * 99))
    await replica.new(receiver)
    emit("quick")  # its success lets the endpoint have all requests
    emit(*(f"slow-{number}" for number in range(8)))
    await until(lambda: receiver.in_flight == 8)
    await until(lambda: len(receiver.posts) > 1 + 8)  # they are tried again
    for number in range(3):
        emit("quick")
        await until(lambda number=number: len(receiver.taken) == 2 + number, seconds=0.5)
    assert receiver.most_in_flight == 8


@pytest.mark.gen_test(timeout=20)
async def test_a_dead_endpoint_costs_few_requests_until_it_answers_again(world, store):
    fails = True
    receiver = world.receiver(lambda event, headers: 500 if fails else 204)
    replica = world.replica(replace(QUICK, webhook_troubled=30.0))
    await replica.new(receiver)
    emit(*(f"vm-{number}" for number in range(40)))
    await until(lambda: store.rows("SELECT id FROM webhook WHERE not_before IS NOT NULL"))
    await until(lambda: len(replica.counted) == len(receiver.posts))
    await asyncio.sleep(0.3)
    # One turn may have recorded a part of the first 8, and claimed others in their place.
    assert len(replica.counted) == len(receiver.posts) < 20
    fails = False
    store.rows("UPDATE webhook SET not_before = now()")  # the pause is over
    await until(lambda: len(receiver.taken) == 40)


@pytest.mark.gen_test(timeout=20)
async def test_a_notice_arrives_before_its_end_though_the_receiver_failed_for_most_of_it(world):
    """The event before it has been sent away for half a minute; 2 s stand for the 20 s of a notice of 30."""
    fails = True
    receiver = world.receiver(lambda event, headers: 500 if fails else 204)
    replica = world.replica(replace(QUICK, webhook_retries=(30.0,)))
    webhook, _ = await replica.new(receiver)
    emit("a", "b")
    await until(lambda: len(receiver.posts) >= 2)
    end = notice("a", 3)
    await asyncio.sleep(2.0)
    assert len(receiver.posts) > 12, "the first event of the VM is tried as often as the notice itself would be"
    fails = False
    await until(lambda: len(receiver.taken) == 2, seconds=0.6)
    assert receiver.seqs() == [1, 3]
    with db.unit() as work:
        assert work.now < end
    await until(lambda: replica.counted.count("done") == 2)
    found, _ = await replica.webhooks.deliveries(webhook, "pending", None, 9, ANYBODY)
    assert [one["seq"] for one in found] == [2], "another VM keeps to the schedule"


@pytest.mark.gen_test(timeout=20)
async def test_410_switches_off_and_a_change_switches_on_again(world, caplog):
    caplog.set_level("INFO")
    receiver, replica = world.receiver(lambda event, headers: 410), world.replica()
    webhook, _ = await replica.new(receiver)
    emit("a", "b")
    await until(lambda: "switched off (gone)" in caplog.text)
    view = await replica.webhooks.one(webhook, ANYBODY)
    assert (view["status"], view["off_reason"], view["pending"]) == ("off", "gone", 0)
    receiver.answer = lambda event, headers: 204
    emit("a")
    assert (await replica.webhooks.change(webhook, {}, True, ANYBODY))["status"] == "verified"
    emit("a")
    await until(lambda: receiver.taken)
    assert receiver.seqs() == [4], "what it missed comes by a replay"
    await until(lambda: "done" in replica.counted)
    assert await replica.webhooks.replay(webhook, 0, None, ANYBODY) == (4, 4)
    await until(lambda: len(receiver.taken) == 5)
    assert orders(receiver.seqs()[1:]) == orders([1, 2, 3, 4])


@pytest.mark.gen_test(timeout=20)
async def test_five_days_without_a_success_switch_off(world, store):
    receiver, replica = world.receiver(lambda event, headers: 500), world.replica()
    webhook, _ = await replica.new(receiver)
    emit("a")
    await until(lambda: store.rows("SELECT id FROM webhook WHERE failures > 0"))
    store.rows("UPDATE webhook SET failing_since = failing_since - interval '5 days'")
    emit("a", "b")
    await until(lambda: store.rows("SELECT id FROM webhook WHERE off_reason = 'failing'"))
    found, _ = await replica.webhooks.deliveries(webhook, "failed", None, 9, ANYBODY)
    assert [one["seq"] for one in found] == [3, 2, 1]


@pytest.mark.gen_test(timeout=20)
async def test_a_delivery_that_has_failed_for_good_makes_way_for_the_next_of_its_vm(world):
    receiver = world.receiver(lambda event, headers: 500 if event["id"] == "1" else 204)
    replica = world.replica(replace(QUICK, webhook_retries=(0.01, 0.01)))
    webhook, _ = await replica.new(receiver)
    emit("a")
    emit("a")
    await until(lambda: receiver.seqs() == [2])
    found, _ = await replica.webhooks.deliveries(webhook, "failed", None, 9, ANYBODY)
    assert [(one["seq"], one["attempts"], one["last_code"]) for one in found] == [(1, 3, 500)]


@pytest.mark.gen_test(timeout=20)
async def test_after_a_rotation_both_secrets_sign_and_another_is_409(world, store):
    receiver, replica = world.receiver(), world.replica()
    webhook, first = await replica.new(receiver)
    _, second = await replica.webhooks.rotate(webhook, ANYBODY)
    emit("a")
    await until(lambda: receiver.taken)
    receiver.verify(first, second)
    with pytest.raises(Conflict):
        await replica.webhooks.rotate(webhook, ANYBODY)
    store.rows("UPDATE webhook SET old_secret_until = now()")
    emit("a")
    await until(lambda: len(receiver.taken) == 2)
    assert len(receiver.posts[1][1]["Webhook-Signature"].split()) == 1
    await replica.webhooks.rotate(webhook, ANYBODY)


@pytest.mark.gen_test(timeout=20)
async def test_members_see_their_own_webhooks_and_an_admin_all(world):
    receiver, replica = world.receiver(), world.replica(most=2)
    webhook, _ = await replica.new(receiver, ANN)
    assert [len(await replica.webhooks.mine(one)) for one in (ANN, BOB, ADMIN)] == [1, 0, 1]
    for call in (
        replica.webhooks.one(webhook, BOB),
        replica.webhooks.change(webhook, {}, False, BOB),
        replica.webhooks.remove(webhook, BOB),
        replica.webhooks.rotate(webhook, BOB),
        replica.webhooks.test(webhook, BOB),
        replica.webhooks.replay(webhook, 0, None, BOB),
        replica.webhooks.deliveries(webhook, None, None, 9, BOB),
    ):
        with pytest.raises(NotFound):
            await call
    await replica.new(receiver, ANN)
    with pytest.raises(Conflict):
        await replica.new(receiver, ANN)
    await replica.new(receiver, BOB)
    await replica.webhooks.remove(webhook, ADMIN)
    assert len(await replica.webhooks.mine(ANN)) == 1


@pytest.mark.gen_test(timeout=20)
async def test_a_redirect_is_not_followed_and_a_gone_history_is_said(world, store):
    receiver, replica = world.receiver(lambda event, headers: 302), world.replica()
    webhook, _ = await replica.new(receiver)
    emit("a")
    await until(lambda: len(receiver.posts) == 2)
    store.rows("UPDATE watermark SET removed_seq = 1; DELETE FROM event")
    with pytest.raises(HistoryGone):
        await replica.webhooks.replay(webhook, 0, None, ANYBODY)
    await until(lambda: store.rows("SELECT id FROM delivery WHERE last_error = 'the event is no longer kept'"))


@pytest.mark.gen_test(timeout=20)
async def test_a_url_to_which_the_service_does_not_send_is_refused_with_its_field(world):
    receiver, replica = world.receiver(), world.replica()
    webhook, _ = await replica.new(receiver)
    for url in ("http://169.254.169.254/", "http://10.0.0.1/", "https://10.0.0.1/", "https://a:b@127.0.0.1/"):
        for call in (
            replica.webhooks.create({"url": url}, None, principal=ANYBODY),
            replica.webhooks.change(webhook, {"url": url}, None, ANYBODY),
        ):
            with pytest.raises(InvalidRequest) as refused:
                await call
            assert refused.value.field == "url"


@pytest.mark.gen_test(timeout=40)
async def test_kills_and_replicas_lose_nothing_and_keep_the_order(world, store):
    """Two replicas, one of which is killed again and again; a small form of tests/chaos/webhooks.py."""
    chance = random.Random(3)

    async def answer(event, headers):
        del event, headers
        await asyncio.sleep(chance.random() * 0.02)
        return 204 if chance.random() > 0.3 else 503

    receiver, timing = world.receiver(answer), replace(QUICK, webhook_timeout=0.4, webhook_lease=0.5)
    world.replica(timing)
    victim = Replica(store, timing)
    _, secret = await victim.new(receiver)
    for round_ in range(40):
        emit(*(f"vm-{chance.randrange(10)}" for _ in range(4)))
        await asyncio.sleep(0.01)
        if round_ % 10 == 9:
            await victim.kill()
            victim = Replica(store, timing)
    wanted = [event["data"]["seq"] for event in history()]
    await until(lambda: set(receiver.seqs()) == set(wanted), seconds=30)
    await victim.stop()
    firsts = list(dict.fromkeys(receiver.seqs()))
    assert orders(firsts) == orders(wanted)
    receiver.verify(secret)
    assert receiver.most_in_flight <= 8 + 8  # what a killed replica had in flight may still be answered
