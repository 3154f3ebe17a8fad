"""Answers as they come: what is JSON, and what is not."""

import json

import pytest

from vmsvc.cloud.openstack.exchange import Answer, Garbled
from vmsvc.domain.errors import CloudError


@pytest.fixture(name="reader", params=["orjson", "json"], autouse=True)
def fixture_reader(request, monkeypatch):
    """With the quick reader, and where it is missing."""
    module = json if request.param == "json" else pytest.importorskip("orjson")
    monkeypatch.setattr("vmsvc.cloud.openstack.exchange.quickly", module.loads)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"servers": [{"id": "a", "name": "ü \U0001f600 \u2028", "flavor": {"vcpus": 1, "swap": None}}] * 3},
        {"name": "half a surrogate \ud800"},
        {"ram": 2**70, "share": 0.1 + 0.2, "least": -(2**63)},
    ],
)
def test_what_json_writes_is_read_the_same(body):
    assert Answer(200, {}, json.dumps(body)).json() == body


@pytest.mark.parametrize("text", ["", "<html>", '{"servers": [', '{"a": 1} {', "{'a': 1}"])
def test_what_is_no_json_is_garbled(text):
    with pytest.raises(Garbled):
        Answer(200, {}, text).json()


@pytest.mark.parametrize("text", ["[]", "null", '"text"', "1"])
def test_what_is_no_object_is_a_defect_of_the_cloud(text):
    with pytest.raises(CloudError):
        Answer(200, {}, text).json()
