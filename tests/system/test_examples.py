"""Every example that a reader may copy, sent to the running service: those of the OpenAPI document and the scenario."""

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

from tests.docker.test_scenario import SCENARIOS, commands_of, objects
from tests.system.client import API
from vmsvc.web.app import api_document

ROOT = Path(__file__).parents[2]
OPERATIONS = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, item in api_document()["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
}
JSON = "application/json"


#: A call on a page: at the beginning of a line, with all lines that it continues on; or within a sentence.
CALL = re.compile(
    r"""(?:^ *|`)(curl (?:-[^|`#\n]*)?"\$URL/(?:'[^']*'|\\\n|[^|`#\n'])*)""",
    re.MULTILINE,
)


def lacking(example, real, where=""):
    """The keys of an example that the real thing has not. What is null or empty in either says nothing, and where all
    values are numbers the keys are data: priorities, resource classes."""
    if isinstance(example, dict) and isinstance(real, dict) and real:
        if all(isinstance(one, int) for one in example.values()):
            return []
        return [f"{where}/{key}" for key in example.keys() - real.keys()] + [
            fault
            for key in example.keys() & real.keys()
            for fault in lacking(example[key], real[key], f"{where}/{key}")
        ]
    if isinstance(example, list) and isinstance(real, list) and example and real:
        return lacking(example[0], real[0], f"{where}/0")
    return []


class Reader:
    """Does what the document's examples show, with the ids that there really are."""

    def __init__(self, client):
        self.client = client
        self.sent = set()  # (operation, title of the body's example)
        self.seen = set()  # (operation, status)

    async def follow(self, name, title=None, status=200, *, ref="", query="", headers=None):
        """Send an example; the answer must look as the example of its status does."""
        method, path, operation = OPERATIONS[name]
        body = operation["requestBody"]["content"][JSON]["examples"][title]["value"] if title else None
        if body and "cloud_vm_id" in body:
            body = body | {"cloud_vm_id": ref}
        answer = await self.client.call(method, path.replace("{id}", str(ref)) + query, body, headers)
        assert answer.status == status, answer.json
        assert not lacking(operation["responses"][str(status)]["content"][JSON]["example"], answer.json), answer.json
        self.sent.add((name, title))
        self.seen.add((name, status))
        return answer


@pytest.mark.parametrize("options", [{"grace_seconds": 2}])
@pytest.mark.gen_test(timeout=60)
async def test_every_example_of_the_document_works_and_is_answered_as_shown(client):
    reader = Reader(client)
    standard = (await reader.follow("postVms", "standard", 201)).id
    preemptible = (await reader.follow("postVms", "preemptible", 201)).id
    later = await reader.follow("postVms", "preemptible", 202, headers={"Prefer": "respond-async"})
    await client.wait_for_event("create/active", later.json["vm"]["vmsvc_id"])
    another = (await client.create(True)).id
    await reader.follow("postVms", "standard", 200, query="?dry_run=true")
    for name in ("getVms", "getCapacity", "getUsage", "getCatalog", "getHealth", "getReady"):
        await reader.follow(name)
    await reader.follow("postTickets", status=201)
    await reader.follow("getVm", ref=standard)
    await reader.follow("postPractice", "notice only", 202, ref=another)
    await reader.follow("postPractice", "to the end", 202, ref=preemptible)
    await reader.follow("postAcknowledgement", "nothing", ref=preemptible)
    await client.wait_for_event("evict/evicted", preemptible)
    await client.wait_for_event("evict/reprieved", another)
    await reader.follow("postVms", "a deadline for capacity", 201)
    await reader.follow("getEvictions", query=f"?vm={preemptible}")
    record = await client.record(vm=preemptible)
    await reader.follow("getOneEviction", ref=record[0]["id"])
    await reader.follow("getEvents", query="?type=evict&since=0")
    await reader.follow("getAdvice")
    await reader.follow("getMe")
    hook = (await reader.follow("postWebhooks", "evictions", 201)).json["webhook"]["id"]
    for name in ("getWebhooks", "getOneWebhook", "getDeliveries", "postTest", "postRotate"):
        await reader.follow(name, ref=hook)
    await reader.follow("patchOneWebhook", "events of one state", ref=hook)
    await reader.follow("patchOneWebhook", "switch it on again", ref=hook)
    await reader.follow("postReplay", "since", 202, ref=hook)
    await reader.follow("deleteOneWebhook", ref=hook)
    await reader.follow("patchVm", "no more restarts", ref=another)
    await reader.follow("patchVm", "to a standard VM", ref=another)
    await reader.follow("deleteVm", "the id once more", 202, ref=another, headers={"Prefer": "wait=0"})
    await reader.follow("deleteVm", "nothing", 200, ref=standard)

    assert {
        (name, title)
        for name, (_, _, operation) in OPERATIONS.items()
        for title in operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("examples", {})
    } <= reader.sent
    assert {
        (name, int(status))
        for name, (_, _, operation) in OPERATIONS.items()
        for status, answer in operation["responses"].items()
        if "example" in answer.get("content", {}).get(JSON, {})
    } - {("getReady", 503)} == reader.seen


@pytest.mark.gen_test(timeout=60)
async def test_the_links_of_an_answer_lead_somewhere(client):
    created = await client.create(True)
    links = OPERATIONS["postVms"][2]["responses"]["201"]["links"]
    for link in links.values():
        method, path, _ = OPERATIONS[link["operationId"]]
        ((parameter, expression),) = link["parameters"].items()
        found = created.json
        for step in expression.removeprefix("$response.body#/").split("/"):
            found = found[step]
        path = path.replace("{id}", found) if parameter == "id" else f"{path}?{parameter}={found}"
        assert method != "GET" or (await client.call(method, path)).status == 200
    assert {OPERATIONS[link["operationId"]][1] for link in links.values()} == {
        f"{API}/vm/{{id}}",
        f"{API}/vm/{{id}}/evict",
        f"{API}/vm/{{id}}/ack",
        f"{API}/events",
        f"{API}/evictions",
    }


class TestOfTheDocuments:
    """The scenario to copy, and every call on another page."""

    @pytest.fixture(name="hosts")
    def _hosts(self):
        return 4

    @pytest.mark.parametrize("page", SCENARIOS)
    @pytest.mark.gen_test(timeout=60)
    async def test_the_scenario_does_what_is_said(self, client, page):
        commands = [line.replace(":8888", f":{client.port}") for line in commands_of((ROOT / page).read_text("utf-8"))]

        async def run(script):
            process = await asyncio.create_subprocess_exec(
                "bash", "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
            )
            return objects((await process.communicate())[0].decode())

        *_, dry_run, created, events, listed = await run("\n".join(commands[:-1]))
        assert dry_run["result"] == "evicts" and len(dry_run["victims"]) == 4
        assert (created["code"], sorted(created["evicted"])) == ("201", sorted(dry_run["victims"]))
        assert {event["type"] for event in events["events"]} == {"evict"} and listed["servers"]
        (deleted,) = await run(f"{commands[0]}\nID={created['vm']['id']}\n{commands[-1]}")
        assert deleted["code"] == "204"

    @pytest.mark.parametrize("options", [{"webhook_networks": "127.0.0.1"}])
    @pytest.mark.gen_test(timeout=60)
    async def test_every_call_on_a_page_is_answered(self, client):
        pages = [path for path in sorted(ROOT.glob("docs/**/*.md")) if "_build" not in path.parts]
        text = "".join(path.read_text("utf-8") for path in pages)
        calls = set(CALL.findall(text))
        assert len(calls) > 5
        made = await client.call("POST", f"{API}/webhooks", {"url": "https://127.0.0.1:1/"})
        for call in sorted(calls):
            one = (await client.create(True)).id
            environ = {
                "PATH": os.environ["PATH"],
                "URL": f"http://127.0.0.1:{client.port}",
                "TOKEN": "unused",
                "HOOK": made.json["webhook"]["id"],
                "ID": one,
            }
            process = await asyncio.create_subprocess_exec(
                "bash",
                "-c",
                call.replace("curl ", "curl --fail --silent --show-error ", 1),
                env=environ,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, complaint = await process.communicate()
            assert process.returncode == 0, (call, complaint)
            json.loads(out)
            await client.call("DELETE", f"{API}/vm/{one}")  # so that the cloud has capacity for every call
