"""The OpenAPI document against the running service: schemathesis makes up requests, good and bad ones, from the
document alone, and holds every answer against it with all the checks that it has, and with ours.

`python -m tests.hostile.conformance http://127.0.0.1:8888 100 [TOKEN]` does it by hand, on a service of which nothing
is needed any more (TOKEN: a member's, with `VMSVC_AUTH=token`)."""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOOKS = Path(__file__).with_name("conformance_hooks.py")
SECONDS = 3600.0
#: What schemathesis can do. `coverage` tries every odd value of each field, however few examples are asked for.
PHASES = ("examples", "coverage", "fuzzing", "stateful")


@dataclass(frozen=True, slots=True)
class Caller:
    """In whose name all is asked: with a token of the token file or one of Keystone's, of a member or of a reader."""

    token: str
    by_keystone: bool = False
    may_write: bool = True

    @property
    def headers(self) -> dict[str, str]:
        """How the token is shown."""
        return {"X-Auth-Token": self.token} if self.by_keystone else {"Authorization": f"Bearer {self.token}"}

    @property
    def scheme(self) -> dict[str, dict[str, str]]:
        """The same by the document's name for it."""
        return {"keystone": {"api_key": self.token}} if self.by_keystone else {"token": {"bearer": self.token}}

    @property
    def environ(self) -> dict[str, str]:
        """What the hooks have to know of it."""
        return {
            "CONFORMANCE_SCHEME": next(iter(self.scheme)),
            "CONFORMANCE_ROLE": "member" if self.may_write else "reader",
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """How often each status came, and what each distinct failure was, with the request that shows it again."""

    answers: Counter[str]
    failures: list[str]


def _get(address: str, caller: Caller | None) -> Any:
    wanted = urllib.request.Request(address, headers=caller.headers if caller else {})
    with urllib.request.urlopen(wanted, timeout=30) as answer:
        return json.load(answer)


def _offer(base_url: str, caller: Caller | None) -> dict[str, list[str]]:
    """What there is, so that not every request ends at the first name that there is not."""
    catalog = _get(f"{base_url}/api/v1/catalog", caller)
    evictions = _get(f"{base_url}/api/v1/evictions", caller)["evictions"]
    return {
        "eviction": [str(one["id"]) for one in evictions],
        "flavor": [one["name"] for one in catalog["flavors"]][:3],
        "image": [one["id"] for one in catalog["images"]],
        "network": [one["name"] for one in catalog["networks"]],
        "availability_zone": catalog["availability_zones"],
        "key_name": catalog["key_names"],
    }


def settings(offer: dict[str, list[str]], examples: int, caller: Caller | None, seed: int | None) -> dict[str, Any]:
    """schemathesis' configuration."""
    # A reader is refused before anybody looks at what is wrong with the body.
    who = ["401"] if caller is None or caller.may_write else ["401", "403"]
    names = {name: values for name, values in offer.items() if values}
    wish = {f"body.{name}": {"dictionary": name, "probability": 0.9} for name in names if name != "eviction"}
    known = {"path.id": {"dictionary": "eviction", "probability": 0.5}} if "eviction" in names else {}
    return {
        **({} if seed is None else {"seed": seed}),
        "hooks": str(HOOKS),
        "continue-on-failure": True,
        "request-timeout": 60,
        "max-failures": 20,
        "generation": {"max-examples": examples, "deterministic": seed is None, "database": "none", "no-shrink": True},
        "dictionaries": {
            **{name: {"values": values} for name, values in names.items()},
            "prefer": {"values": ["respond-async", "wait=0", "wait=1", "wait=x"]},
        },
        "operations": [
            {
                "include-operation-id": "postVms",
                "parameters": {**wish, "header.Prefer": {"dictionary": "prefer", "probability": 0.5}},
            },
            {"include-operation-id": "getOneEviction", "parameters": known},
        ],
        "checks": {
            # By default these two let more pass. 304: it is as it was. 409: no room, or the VM's state. 403: not for a
            # standard VM. 422: an Idempotency-Key that came with another body before.
            "positive_data_acceptance": {"expected-statuses": ["2xx", "304", "403", "404", "409", "410", "422"]},
            "negative_data_rejection": {"expected-statuses": ["400", *who, "404", "405", "415"]},
        },
        **({"auth": {"openapi": caller.scheme}} if caller else {}),
    }


def _toml(value: Any) -> str:
    """A value in TOML; JSON's strings, numbers, booleans and lists are TOML's too."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def run(
    base_url: str,
    examples: int,
    caller: Caller | None = None,
    seed: int | None = None,
    phases: Sequence[str] = PHASES,
) -> Outcome:
    """Try every operation with so many examples in each phase. Without a seed the requests are the same in each run, as
    far as the answers are. `caller` is needed where the service asks for tokens. Blocks."""
    with tempfile.TemporaryDirectory(prefix="vmsvc-conformance-") as folder:
        config, answers = Path(folder, "schemathesis.toml"), Path(folder, "answers")
        wanted = settings(_offer(base_url, caller), examples, caller, seed)
        config.write_text("".join(f"{name} = {_toml(value)}\n" for name, value in wanted.items()), encoding="utf-8")
        environ = {
            **os.environ,
            "PYTHONWARNINGS": "ignore",
            "CONFORMANCE_ANSWERS": str(answers),
            **(caller.environ if caller else {}),
        }
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "schemathesis.cli",
                "--config-file",
                config,
                "run",
                f"{base_url}/api/v1/openapi.json",
                "--checks",
                "all",
                "--phases",
                ",".join(phases),
                "--no-color",
            ],
            env=environ,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        came = Counter(answers.read_text(encoding="ascii").split()) if answers.exists() else Counter()
        return Outcome(came, _failures(done))


def _failures(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The text has the request of each."""
    if done.returncode == 0:
        return []
    _, _, told = done.stdout.partition(" FAILURES ")
    cases = re.split(r"^(?=\d+\. Test Case ID)", told.partition("\n===")[0], flags=re.MULTILINE)[1:]
    return cases or [done.stdout + done.stderr]


if __name__ == "__main__":
    outcome = run(sys.argv[1], int(sys.argv[2]), *map(Caller, sys.argv[3:4]))
    print(f"{outcome.answers.total()} requests", *outcome.failures, sep="\n\n")
    sys.exit(bool(outcome.failures))
