"""What the client decides, without any connection: when it repeats a request, and what it makes of an answer."""

import inspect

import pytest

from tests.unit.client.driver import AWAY, LOST, STREAM, Driver, answer, block, refusal
from vmsvc.client import core, errors
from vmsvc.client.clients import AsyncClient, Client
from vmsvc.client.core import Core, VmFields, WebhookFields
from vmsvc.client.steps import Answer, Block, NoAnswer
from vmsvc.web.api.requests import CreateVmSchema
from vmsvc.web.api.webhooks import ChangeWebhookSchema
from vmsvc.web.http.handler import STATUS_OF_SLUG
from vmsvc.web.openapi import responses

VM = "6f3a1c52-5d0e-4b5b-9f0e-0c7b8a3f2d11"
CREATED = answer(201, {"code": "201", "message": "it was created", "vm": responses.ROW, "evicted": []})
PENDING = answer(
    202, {"code": "202", "message": "it is being created", "vm": responses.ROW}, location=f"/api/v1/vm/{VM}"
)
DELETED = answer(200, {"code": "204", "message": "it was deleted", "vm": responses.ROW})


def keys(driver):
    """The Idempotency-Key of every request."""
    return [request.headers.get("Idempotency-Key") for request in driver.sent]


class TestOfCreates:
    """`create`."""

    def test_an_error_has_the_key_with_which_a_new_create_makes_no_second_vm(self):
        driver = Driver(LOST, *[AWAY] * 200)
        with pytest.raises(errors.Unreachable) as caught:
            driver.run(Core.create, True)
        assert caught.value.idempotency_key and set(keys(driver)) == {caught.value.idempotency_key}

    def test_it_keeps_its_key_and_its_body_over_lost_answers_and_refusals(self):
        busy = refusal(429, "too_many_requests", retry_after="7")
        driver = Driver(AWAY, LOST, busy, refusal(503, "unavailable", retry_after="2"), PENDING, LOST, CREATED)
        outcome = driver.run(Core.create, True, name="a", flavor="m1.tiny", image=None)
        assert (outcome.done, outcome.vm.id) == (True, responses.ROW["id"])
        assert len(set(keys(driver))) == 1 and len(keys(driver)[0]) == 36
        assert {str(request.body) for request in driver.sent} == {
            str({"is_preemptible": True, "name": "a", "flavor": "m1.tiny"})
        }
        assert driver.pauses[2:4] == [7, 2], "as Retry-After says"

    def test_two_creates_have_two_keys_and_a_caller_may_name_one(self):
        first, second = Driver(CREATED), Driver(CREATED)
        for driver in (first, second):
            driver.run(Core.create, True)
        assert keys(first) != keys(second)
        named = Driver(CREATED)
        named.run(Core.create, True, idempotency_key="mine")
        assert keys(named) == ["mine"]
        with pytest.raises(ValueError, match="Idempotency-Key"):
            Driver().run(Core.create, True, idempotency_key="a\nb")

    def test_it_asks_in_turns_until_the_outcome_or_the_end_of_its_time(self):
        driver = Driver(PENDING, PENDING, CREATED)
        assert driver.run(Core.create, False, timeout=60).done
        assert [request.headers["Prefer"] for request in driver.sent] == ["wait=25", "wait=25", "wait=10"]

    def test_when_its_time_is_over_it_says_which_vm_and_with_which_key_to_go_on(self):
        driver = Driver(PENDING, PENDING)
        with pytest.raises(errors.StillPending) as caught:
            driver.run(Core.create, False, timeout=30)
        assert (caught.value.vm_id, caught.value.idempotency_key) == (VM, keys(driver)[0])

    def test_a_service_that_never_waits_is_not_asked_all_the_time(self):
        at_once = answer(202, {"message": "it is being created"}, location=f"/api/v1/vm/{VM}")
        driver = Driver(*[at_once] * 3, CREATED)
        driver.now = 0.0
        driver.core = Core(clock=lambda: sum(driver.pauses), chance=lambda: 1.0)
        driver.run(Core.create, False)
        assert driver.pauses == [core.BETWEEN_TURNS] * 3

    def test_an_error_that_it_ended_with_is_not_asked_for_again(self):
        """It has a Location, and the same key gives it for ever."""
        end = refusal(503, "cloud_unavailable", retry_after="5", location=f"/api/v1/vm/{VM}")
        with pytest.raises(errors.CloudUnavailable) as caught:
            Driver(end).run(Core.create, False)
        assert (caught.value.status, caught.value.retry_after, caught.value.request_id) == (503, 5, "req-1")

    def test_without_a_wait_it_returns_at_once(self):
        driver = Driver(PENDING)
        outcome = driver.run(Core.create, True, wait=False)
        assert not outcome.done and driver.sent[0].headers["Prefer"] == "respond-async"


class TestOfDeletes:
    """`delete`."""

    def test_a_404_after_a_lost_answer_or_a_202_is_the_end_that_was_wanted(self):
        for first in (LOST, PENDING):
            assert Driver(first, refusal(404, "not_found")).run(Core.delete, VM).done
        with pytest.raises(errors.NotFound):
            Driver(AWAY, refusal(404, "not_found")).run(Core.delete, VM)

    def test_it_waits_in_turns(self):
        driver = Driver(PENDING, PENDING, DELETED)
        assert driver.run(Core.delete, VM, timeout=60).done
        with pytest.raises(errors.StillPending, match="not deleted"):
            Driver(PENDING, PENDING).run(Core.delete, VM, timeout=26)

    @pytest.mark.parametrize("ref", ["", "a/b", "..", "a?b", "a b", "ä"])
    def test_a_text_that_is_no_id_is_never_sent(self, ref):
        driver = Driver()
        for flow in (Core.delete, Core.show, Core.ack, Core.evict, Core.webhook):
            with pytest.raises(ValueError, match="no id"):
                driver.run(flow, ref)
        assert not driver.sent


class TestOfErrors:
    """What refusals and failures become."""

    @pytest.mark.parametrize("slug", sorted(STATUS_OF_SLUG.keys() - {"internal"}))
    def test_each_error_of_the_service_has_a_class(self, slug):
        with pytest.raises(errors.ServiceError) as caught:
            Driver(refusal(STATUS_OF_SLUG[slug], slug), timeout=0).run(Core.show, VM)
        assert caught.type.code == slug == caught.value.code and caught.type is not errors.ServiceError
        assert str(caught.value) == f"no: {slug} ({slug}, request req-1)"

    def test_an_unknown_word_is_a_plain_service_error(self):
        with pytest.raises(errors.ServiceError) as caught:
            Driver(refusal(418, "teapot")).run(Core.show, VM)
        assert (caught.type, caught.value.code, caught.value.status) == (errors.ServiceError, "teapot", 418)

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'"x"', b""])
    def test_what_vmsvc_did_not_write_is_a_bad_answer(self, body):
        for status in (200, 404):
            with pytest.raises(errors.BadAnswer):
                Driver(Answer(status, {}, body)).run(Core.show, VM)

    def test_a_proxy_without_its_service_is_asked_again(self):
        driver = Driver(Answer(502, {}, b"<html>"), answer(200, responses.VM))
        assert driver.run(Core.show, VM).name == "standart"

    def test_what_must_not_happen_twice_is_sent_twice_only_when_it_certainly_was_not_carried_out(self):
        done = answer(202, {"message": "it was noticed", "vm": responses.ROW})
        assert Driver(AWAY, refusal(503, "unavailable", retry_after="1"), done).run(Core.evict, VM)
        with pytest.raises(errors.OutcomeUnknown):
            Driver(LOST).run(Core.evict, VM)
        with pytest.raises(errors.BadAnswer):
            Driver(Answer(502, {}, b"<html>")).run(Core.evict, VM)

    def test_every_wait_has_an_end(self):
        away = Driver(*[AWAY] * 20, patience=10)
        with pytest.raises(errors.Unreachable, match="Connection refused"):
            away.run(Core.list)
        assert 5 < away.now <= 10
        busy = Driver(*[refusal(429, "too_many_requests", retry_after="20")] * 9, timeout=60)
        with pytest.raises(errors.TooManyRequests):
            busy.run(Core.list)
        assert busy.now == 60
        with pytest.raises(errors.TooManyRequests):
            Driver(refusal(429, "too_many_requests", retry_after="3600")).run(Core.list)

    def test_a_certificate_that_is_not_trusted_is_not_tried_again(self):
        with pytest.raises(errors.Unreachable, match="self-signed"):
            Driver(NoAnswer("self-signed certificate", sent=False, hopeless=True)).run(Core.list)


class TestOfEvents:
    """`events` and the pages."""

    def test_each_comes_once_whatever_the_service_repeats_and_it_goes_on_where_it_was(self):
        driver = Driver(
            STREAM, Block("4", ""), block(5), block(6), LOST, AWAY, STREAM, block(6), block(7), None, STREAM
        )
        driver.run(Core.events, 4, types=["create"], vm=VM, preemptible=True)
        assert [event.seq for event in driver.given] == [5, 6, 7]
        places = [request.headers.get("Last-Event-ID") for request in driver.sent]
        assert places == ["4", "6", "6", "7"]
        assert {str(request.query) for request in driver.sent} == {
            str({"type": "create", "vm": VM, "preemptible": "true"})
        }

    def test_a_block_without_data_moves_the_place(self):
        """So a filter that lets nothing through for hours does not lead back into a history that has gone."""
        driver = Driver(STREAM, Block("10", ""), Block("90", ""), None, STREAM)
        driver.run(Core.events)
        assert [request.headers.get("Last-Event-ID") for request in driver.sent] == [None, "90"]

    def test_it_says_when_the_history_is_gone(self):
        with pytest.raises(errors.HistoryGone):
            Driver(STREAM, block(5), None, refusal(410, "history_gone")).run(Core.events, 4)

    def test_it_comes_back_to_a_service_that_is_away_for_so_long_and_not_longer(self):
        back = Driver(*[AWAY] * 10, refusal(503, "unavailable", retry_after="9"), STREAM, block(5), None, STREAM)
        back.run(Core.events, 4)
        assert [event.seq for event in back.given] == [5] and 9 in back.pauses
        gone = Driver(STREAM, block(5), *[AWAY] * 99)
        with pytest.raises(errors.Unreachable):
            gone.run(Core.events, 4, patience=120)
        assert [event.seq for event in gone.given] == [5] and 110 < gone.now <= 120

    def test_a_token_that_has_ended_is_an_error(self):
        with pytest.raises(errors.Unauthenticated):
            Driver(refusal(401, "unauthenticated")).run(Core.events, 4)

    def test_pages_follow_each_other(self):
        event = responses.EVENT
        driver = Driver(
            answer(200, {"events": [event, event], "seq": 42}),
            answer(200, {"events": [event], "seq": 43}),
            answer(200, {"events": [], "seq": 43}),
        )
        driver.run(Core.history)
        assert [request.query.get("since") for request in driver.sent] == [None, "42", "43"]
        assert len(driver.given) == 3 and driver.given[0].evict_at.year == 2026
        pages = Driver(answer(200, {"evictions": [], "before": 17}), answer(200, {"evictions": [], "before": None}))
        pages.run(Core.evictions, vm=VM)
        assert [request.query.get("before") for request in pages.sent] == [None, "17"]


def test_a_create_and_a_change_take_the_fields_that_the_api_has():
    assert VmFields.__annotations__.keys() | {"is_preemptible"} == CreateVmSchema().fields.keys()
    assert WebhookFields.__annotations__.keys() == ChangeWebhookSchema().fields.keys()


def test_both_clients_have_a_method_for_each_flow():
    flows = {name for name, _ in inspect.getmembers(Core, inspect.isgeneratorfunction) if not name.startswith("_")}
    for client in (Client, AsyncClient):
        assert flows <= {name for name in vars(client) if callable(getattr(client, name))}
    assert all(Client.__dict__[name].__doc__ for name in flows)
