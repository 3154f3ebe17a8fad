"""`vmsvc.client` against a whole service: both clients, every call."""

import re
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tests import certificate
from tests.examples import examples
from tests.integration.receiver import Receiver
from tests.system.client import until
from tests.system.client_forms import FORMS, client_of
from vmsvc.client import (
    Conflict,
    Forbidden,
    IdempotencyMismatch,
    InvalidRequest,
    NoCapacity,
    NotFound,
    StillPending,
    Unauthenticated,
    Unreachable,
)
from vmsvc.service.identity import tokens

ROOT = Path(__file__).parents[2]
HOW_TO = ROOT / "docs" / "how-to" / "python-client.md"
#: For calls in which the two clients differ in nothing but what every call has.
EITHER_FORM = pytest.mark.parametrize("form", FORMS[: examples(1, 2)])


@pytest.fixture(name="form", params=FORMS)
def fixture_form(request):
    """Which of the two clients."""
    return request.param


@pytest.fixture(name="api")
def fixture_api(io_loop, form, client):
    """The client under test; `client` is the tests' own."""
    api = client_of(form, f"http://127.0.0.1:{client.port}")
    yield api
    io_loop.run_sync(api.close)


@pytest.mark.gen_test(timeout=60)
async def test_the_life_of_vms(api, client, sim):
    assert (await api.plan(True)).result == "placed" and not sim.servers()
    fields = {"name": "one", "flavor": "m1.tiny", "metadata": {"a": "b"}, "priority": 5}
    first = await api.create(True, **fields)
    assert (first.done, first.vm.state, first.vm.name, first.vm.priority) == (True, "active", "one", 5)
    assert sim.servers()[first.vm.id]["metadata"]["a"] == "b"
    shown = await api.show(first.vm.vmsvc_id)
    assert (shown.id, shown.is_preemptible, shown.on_eviction) == (first.vm.id, True, "end") and shown.addresses
    listed = await api.list()
    assert [vm.id for vm in listed.vms] == [first.vm.id] and listed.seq == 3
    assert [one.fits_now for one in (await api.capacity()).flavors if one.name == "m1.tiny"] == [3]

    noticed = await api.evict(first.vm.id, notice_only=True)
    assert noticed.state == "noticed" and noticed.evict_at
    await client.wait_for_event("evict/reprieved", first.vm.id)
    with pytest.raises(Conflict):
        await api.ack(first.vm.id)
    await api.evict(first.vm.id)
    assert (await api.ack(first.vm.id)).acknowledged_at
    await client.wait_for_event("evict/evicted", first.vm.id)
    found = [eviction async for eviction in api.evictions(vm=first.vm.id)]
    assert [(one.state, one.reason, one.vm.name) for one in found] == [
        ("evicted", "simulated", "one"),
        ("reprieved", "simulated", "one"),
    ]
    assert await api.eviction(found[0].id) == found[0]
    with pytest.raises(NotFound) as caught:
        await api.show(first.vm.id)
    assert caught.value.status == 404 and caught.value.request_id.startswith("req-")

    second = (await api.create(True)).vm
    assert not (await api.patch(second.id, is_preemptible=False)).is_preemptible
    deleted = await api.delete(second.id)
    assert (deleted.done, deleted.vm.state) == (True, "deleted") and not sim.servers()
    with pytest.raises(NotFound):
        await api.delete(second.id)
    events = [event async for event in api.history()]
    assert [event.body for event in events] == await client.events()


@EITHER_FORM
@pytest.mark.gen_test(timeout=60)
async def test_what_a_standard_vm_evicts_is_what_the_plan_said(api, client):
    victims = set(await client.fill(4))
    plan = await api.plan(False, flavor="m1.large")
    assert (plan.result, set(plan.victims), plan.certainty, plan.bin.kind) == ("evicts", victims, "sure", "host")
    with pytest.raises(NoCapacity):
        await api.create(True, flavor="m1.large")
    outcome = await api.create(False, flavor="m1.large")
    assert set(outcome.evicted) == victims and outcome.vm.state == "active"
    assert {one.request.id async for one in api.evictions(request=outcome.vm.id)} == {outcome.vm.id}
    await api.delete(outcome.vm.id)


@EITHER_FORM
@pytest.mark.gen_test(timeout=60)
async def test_errors_say_what_is_wrong(api):
    with pytest.raises(InvalidRequest) as caught:
        await api.create(True, flavour="m1.tiny")
    assert (caught.value.status, caught.value.field, caught.value.code) == (400, "flavour", "invalid_request")
    made = await api.create(True, idempotency_key="k")
    assert (await api.create(True, idempotency_key="k")).vm.id == made.vm.id
    with pytest.raises(IdempotencyMismatch):
        await api.create(False, idempotency_key="k")
    await api.delete(made.vm.id)


@EITHER_FORM
@pytest.mark.gen_test(timeout=60)
async def test_a_request_that_waits_outlives_the_patience_of_its_client(api, client):
    full = await client.fill(4)
    with pytest.raises(StillPending) as caught:
        await api.create(True, wait_seconds=600, timeout=0.5)
    await client.wait_for_event("create/queued", caught.value.vm_id)
    waiting = await api.show(caught.value.vm_id)
    assert (waiting.state, waiting.position) == ("pending", 1)
    assert (await api.capacity()).waiting.count == 1
    await api.delete(full[0])
    outcome = await api.create(True, wait_seconds=600, idempotency_key=caught.value.idempotency_key)
    assert outcome.vm.vmsvc_id == caught.value.vm_id


@pytest.mark.gen_test(timeout=60)
async def test_events_come_as_they_happen_and_by_their_filter(api, client):
    start = (await api.list()).seq
    vm = (await client.create(True)).id
    await client.delete(vm)
    heard = []
    async for event in api.events(start, types=["delete"]):
        heard.append(event)
        if event.state == "deleted":
            break
    assert [(event.type, event.state) for event in heard] == [("delete", "deleting"), ("delete", "deleted")]
    assert heard[-1].vm.id == heard[-1].subject == vm


class TestOfTheHowTo:
    """The programs of docs/how-to/python-client.md, as processes."""

    @pytest.fixture(name="run")
    def fixture_run(self, client, tmp_path):
        """Starts one; what it prints goes to the file that comes back."""
        started = []

        def run(name):
            codes = re.findall(
                r"(?ms)Save it as `(\w+\.py)`:\n\n```python\n(.*?)^```$", HOW_TO.read_text(encoding="utf-8")
            )
            (tmp_path / name).write_text(dict(codes)[name], encoding="utf-8")
            printed = tmp_path / f"{name}.out"
            with printed.open("w") as out:
                environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "URL": f"http://127.0.0.1:{client.port}"}
                command = [sys.executable, tmp_path / name]
                # pylint: disable-next=consider-using-with
                started.append(subprocess.Popen(command, env=environ, stdout=out, stderr=subprocess.STDOUT))
            return printed

        yield run
        for process in started:
            process.kill()
            process.wait()

    @pytest.mark.gen_test(timeout=60)
    async def test_they_do_what_the_page_says(self, run, client):
        watch = run("watch.py")
        await until(lambda: watch.read_text() == "0 VMs\n", watch.read_text())
        guard = run("guard.py")
        await until(lambda: "batch-7 has to leave at 20" in guard.read_text(), "the notice")
        await until(lambda: watch.read_text().endswith("delete deleted batch-7\n"), watch.read_text())
        assert [line.split()[1:3] for line in watch.read_text().splitlines()[1:5]] == [
            ["create", "pending"],
            ["create", "building"],
            ["create", "active"],
            ["evict", "noticed"],
        ]
        assert await client.listed() == {}


class TestOfWebhooks:
    """The calls about webhooks."""

    @pytest.fixture(name="options")
    def fixture_options(self):
        return {"webhook_networks": "127.0.0.0/8"}

    @EITHER_FORM
    @pytest.mark.gen_test(timeout=60)
    async def test_the_life_of_a_webhook(self, api, client):
        receiver = Receiver()
        made = await api.create_webhook(receiver.url(), types=["create"])
        assert made.webhook.status == "verified" and made.secret.startswith("whsec_")
        await client.fill(1)
        await until(lambda: len(receiver.taken) == 3)
        receiver.verify(made.secret)
        hook = made.webhook.id
        assert (await api.test_webhook(hook)).delivered
        assert (await api.patch_webhook(hook, states=["active"])).states == ("active",)
        assert [one.id for one in await api.webhooks()] == [hook] and (await api.webhook(hook)).states == ("active",)
        while (await api.webhook(hook)).pending:
            pass
        assert [one.state async for one in api.deliveries(hook)] == ["active", "building", "pending"]
        assert (await api.replay_webhook(hook, 0)).count == 1
        assert (await api.rotate_webhook(hook)).secret != made.secret
        await api.delete_webhook(hook)
        with pytest.raises(NotFound):
            await api.delete_webhook(hook)
        await receiver.close()


class TestWithTokens:
    """Where the service asks who comes, and over TLS."""

    @pytest.fixture(name="pair")
    def fixture_pair(self, tmp_path):
        """A certificate that nobody trusts, and its key."""
        return certificate.make(tmp_path)

    @pytest.fixture(name="roles")
    def fixture_roles(self, tmp_path):
        """A token for each role."""
        return {role: tokens.add(tmp_path / "tokens", role, role) for role in ("member", "reader")}

    @pytest.fixture(name="options")
    def fixture_options(self, tmp_path, pair, roles):
        assert roles
        return {"auth": "token", "token_file": tmp_path / "tokens", "tls_cert": pair[0], "tls_key": pair[1]}

    @pytest.mark.gen_test(timeout=60)
    async def test_a_token_decides_and_a_certificate_has_to_be_trusted(self, form, port_of_service, pair, roles):
        url = f"https://127.0.0.1:{await port_of_service()}"
        trusts = ssl.create_default_context(cafile=pair[0])
        member, reader, nobody, stranger = (
            client_of(form, url, token=token, verify=trusts)
            for token in (roles["member"], roles["reader"], "", "vmsvc-" + "W" * 43)
        )
        made = await member.create(True)
        assert (made.vm.owner, len((await reader.list()).vms)) == ("member", 1)
        async for event in reader.events(0):
            assert event.by == "member"
            break
        with pytest.raises(Forbidden):
            await reader.delete(made.vm.id)
        for client in (nobody, stranger):
            with pytest.raises(Unauthenticated):
                await client.list()
            with pytest.raises(Unauthenticated):
                async for _ in client.events(0):
                    pass
        careless = client_of(form, url, token=roles["member"], verify=False)
        assert (await careless.list()).seq == 3
        with pytest.raises(Unreachable, match="(?i)certificate"):
            await client_of(form, url, token=roles["member"]).list()
        await member.delete(made.vm.id)
        for client in (member, reader, nobody, stranger, careless):
            await client.close()

    @pytest.fixture(name="port_of_service")
    def fixture_replica(self, new_replica):
        """Starts a service; its port."""

        async def start():
            replica, _ = await new_replica()
            return replica.service.port

        return start
