"""What calls return has what the API's document says, and is read from its examples."""

import dataclasses
from datetime import UTC, datetime

import pytest
from marshmallow import fields

from vmsvc.client import results
from vmsvc.client.errors import BadAnswer
from vmsvc.web.api import capacity, evictions, webhooks
from vmsvc.web.app import api_document
from vmsvc.web.openapi import responses

#: Class of the client -> schema of the document, and the members that one of them has for reasons of its own.
SCHEMAS = {
    results.Vm: (responses.VmView, {"links"}, set(responses.ROW) - set(responses.VM)),
    results.Member: (responses.MemberView, set(), set()),
    results.VmList: (responses.VmList, {"servers"}, {"vms"}),
    results.Plan: (responses.DryRun, set(), set()),
    results.Bin: (responses.BinSchema, set(), set()),
    results.Event: (responses.EventData, set(), {"type", "time", "subject"}),
    results.EventPage: (responses.EventPage, set(), set()),
    results.Restart: (responses.RestartSchema, set(), set()),
    results.Quota: (capacity.QuotaCapacity, set(), set()),
    results.Host: (capacity.HostCapacity, set(), set()),
    results.FlavorCapacity: (capacity.FlavorCapacity, set(), set()),
    results.Waiting: (capacity.WaitingView, set(), set()),
    results.Capacity: (capacity.CapacityView, set(), set()),
    results.Party: (evictions.Party, set(), set()),
    results.Eviction: (evictions.EvictionSchema, set(), set()),
    results.EvictionPage: (evictions.EvictionPage, set(), set()),
    results.Webhook: (webhooks.WebhookView, set(), set()),
    results.NewSecret: (webhooks.WithSecret, set(), set()),
    results.OneWebhook: (webhooks.OneWebhook, set(), set()),
    results.WebhookList: (webhooks.WebhookList, set(), set()),
    results.WebhookTest: (webhooks.TestResult, set(), set()),
    results.Replay: (webhooks.ReplayResult, set(), set()),
    results.Delivery: (webhooks.DeliveryView, set(), set()),
    results.DeliveryPage: (webhooks.DeliveryPage, set(), set()),
    results.Outcome: (responses.Created, {"code"}, {"done"}),
}
#: Operation and status -> the class that its example is read as.
EXAMPLES = {
    ("getVms", 200): results.VmList,
    ("postVms", 200): results.Plan,
    ("postVms", 201): results.Outcome,
    ("postVms", 202): results.Outcome,
    ("getVm", 200): results.Vm,
    ("deleteVm", 200): results.Outcome,
    ("getCapacity", 200): results.Capacity,
    ("getEvictions", 200): results.EvictionPage,
    ("getOneEviction", 200): results.Eviction,
    ("getEvents", 200): results.EventPage,
    ("getWebhooks", 200): results.WebhookList,
    ("postWebhooks", 201): results.NewSecret,
    ("getDeliveries", 200): results.DeliveryPage,
    ("postTest", 200): results.WebhookTest,
    ("postReplay", 202): results.Replay,
}


def example(name, status):
    """The document's example of an answer."""
    operations = {
        operation["operationId"]: operation
        for path in api_document()["paths"].values()
        for method, operation in path.items()
        if method != "parameters"
    }
    return operations[name]["responses"][str(status)]["content"]["application/json"]["example"]


def names_of(kind):
    """The members of a class of the client."""
    return {one.name for one in dataclasses.fields(kind)} - {"body"}


def test_every_result_is_here():
    kinds = {kind for kind in vars(results).values() if dataclasses.is_dataclass(kind)}
    assert kinds == SCHEMAS.keys()


@pytest.mark.parametrize("kind", SCHEMAS, ids=lambda kind: kind.__name__)
def test_a_result_has_the_members_that_the_document_has(kind):
    schema, left_out, own = SCHEMAS[kind]
    assert names_of(kind) - own == schema().fields.keys() - left_out - own


@pytest.mark.parametrize("kind", SCHEMAS, ids=lambda kind: kind.__name__)
def test_what_an_answer_may_lack_or_have_as_null_is_optional(kind):
    schema, _, own = SCHEMAS[kind]
    for one in dataclasses.fields(kind):
        if one.name in own or one.name == "body":
            continue
        field = schema().fields[one.name]
        assert not field.allow_none or "None" in str(one.type), one.name
        optional = one.default is not dataclasses.MISSING
        assert field.required or optional, one.name
        if isinstance(field, fields.DateTime):
            assert "datetime" in str(one.type), one.name


@pytest.mark.parametrize("name, status", EXAMPLES, ids=str)
def test_the_examples_of_the_document_can_be_read(name, status):
    found = results.read(EXAMPLES[name, status], example(name, status))
    assert dataclasses.is_dataclass(found)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(found, dataclasses.fields(found)[0].name, None)


def test_a_server_as_nova_has_it_is_read_by_vmsvc_s_names():
    body = {
        "id": "a",
        "name": "n",
        "flavor": {"original_name": "m1.tiny", "vcpus": 1},
        "image": "",  # booted from a volume
        "addresses": {"net": [{"addr": "10.0.0.1"}, {"addr": "10.0.0.2"}]},
        "created": "2026-11-23T12:00:00Z",
        "OS-SRV-USG:launched_at": "2026-11-23T12:00:01.000000",
        "OS-EXT-SRV-ATTR:host": "h",
        "a later release": {"adds": "this"},
    }
    vm = results.read(results.Vm, body)
    assert (vm.flavor, vm.image, vm.network, vm.host, vm.is_preemptible) == ("m1.tiny", None, "net", "h", None)
    assert vm.launched_at == datetime(2026, 11, 23, 12, 0, 1, tzinfo=UTC)
    assert vm.addresses == ("10.0.0.1", "10.0.0.2") and vm.body == body
    assert results.read(results.Vm, {"id": "a", "name": "n", "image": {"id": "i"}}).image == "i"


@pytest.mark.parametrize(
    "body",
    [None, [], {}, {"id": 1, "name": "n"}, {"id": "a", "name": "n", "evict_at": "soon"}, {"id": "a", "name": None}],
)
def test_what_is_no_vm_is_a_bad_answer(body):
    with pytest.raises(BadAnswer, match="no Vm of vmsvc"):
        results.read(results.Vm, body)


def test_true_is_no_number():
    with pytest.raises(BadAnswer):
        results.read(results.Replay, {"count": True, "seq": 1})
