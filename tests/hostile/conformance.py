"""The OpenAPI document against the running service: schemathesis makes up requests, good and bad ones, from the
document alone, and holds every answer against it with all the checks that it has, and with ours.

`python -m tests.hostile.conformance http://127.0.0.1:8888 100 [TOKEN]` does it by hand, on a service of which nothing
is needed any more."""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOOKS = Path(__file__).with_name("conformance_hooks.py")
SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many requests were sent, and what each distinct failure was, with the request that shows it again."""

    requests: int
    failures: list[str]


def _offer(base_url: str, token: str | None) -> dict[str, list[str]]:
    """Names that the cloud has, so that not every request ends at the first name that it has not."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    wanted = urllib.request.Request(f"{base_url}/api/v1/catalog", headers=headers)
    with urllib.request.urlopen(wanted, timeout=30) as answer:
        catalog = json.load(answer)
    return {"flavor": [one["name"] for one in catalog["flavors"]][:3],
            "image": [one["id"] for one in catalog["images"]], "network": [one["name"] for one in catalog["networks"]],
            "availability_zone": catalog["availability_zones"], "key_name": catalog["key_names"]}


def settings(offer: dict[str, list[str]], examples: int, token: str | None, seed: int | None) -> dict[str, Any]:
    """schemathesis' configuration."""
    names = {name: values for name, values in offer.items() if values}
    wish = {f"body.{name}": {"dictionary": name, "probability": 0.9} for name in names}
    return {
        **({} if seed is None else {"seed": seed}),
        "hooks": str(HOOKS), "continue-on-failure": True, "request-timeout": 60, "max-failures": 20,
        "generation": {"max-examples": examples, "deterministic": seed is None, "database": "none", "no-shrink": True},
        "dictionaries": {**{name: {"values": values} for name, values in names.items()},
                         "prefer": {"values": ["respond-async", "wait=0", "wait=1", "wait=x"]}},
        "operations": [{"include-operation-id": "postVms", "parameters": {
            **wish, "header.Prefer": {"dictionary": "prefer", "probability": 0.5}}}],
        "checks": {
            # By default these two let more pass. 304: it is as it was. 409: no room, or the VM's state. 403: not for a
            # standard VM.
            "positive_data_acceptance": {"expected-statuses": ["2xx", "304", "403", "404", "409", "410"]},
            "negative_data_rejection": {"expected-statuses": ["400", "401", "404", "405", "415"]},
        },
        **({"auth": {"openapi": {"token": {"bearer": token}}}} if token else {}),
    }


def _toml(value: Any) -> str:
    """A value in TOML; JSON's strings, numbers, booleans and lists are TOML's too."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def run(base_url: str, examples: int, token: str | None = None, seed: int | None = None) -> Outcome:
    """Try every operation with so many examples in each phase. Without a seed the requests are the same in each run, as
    far as the answers are. `token` is one of a member, where the service asks for tokens. Blocks."""
    with tempfile.TemporaryDirectory(prefix="vmsvc-conformance-") as folder:
        config, report = Path(folder, "schemathesis.toml"), Path(folder, "report.json")
        wanted = settings(_offer(base_url, token), examples, token, seed)
        config.write_text("".join(f"{name} = {_toml(value)}\n" for name, value in wanted.items()), encoding="utf-8")
        environ = {**os.environ, "PYTHONWARNINGS": "ignore", **({"VMSVC_CONFORMANCE_TOKEN": token} if token else {})}
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "--config-file", config, "run",
             f"{base_url}/api/v1/openapi.json", "--checks", "all", "--phases", "examples,coverage,fuzzing,stateful",
             "--no-color", "--report-json-path", report],
            env=environ, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
        if not report.exists():
            return Outcome(0, [done.stdout + done.stderr])
        return _outcome(json.loads(report.read_text(encoding="utf-8")), done)


def _outcome(report: dict[str, Any], done: subprocess.CompletedProcess[str]) -> Outcome:
    """What the report counts; the text has the request of each failure."""
    sent = report["test_cases"]["generated"]
    if done.returncode == 0:
        return Outcome(sent, [])
    _, _, told = done.stdout.partition(" FAILURES ")
    cases = re.split(r"^(?=\d+\. Test Case ID)", told.partition(" SUMMARY ")[0], flags=re.MULTILINE)[1:]
    return Outcome(sent, cases or [done.stdout + done.stderr])


if __name__ == "__main__":
    outcome = run(sys.argv[1], int(sys.argv[2]), *sys.argv[3:4])
    print(f"{outcome.requests} requests", *outcome.failures, sep="\n\n")
    sys.exit(bool(outcome.failures))
