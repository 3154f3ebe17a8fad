"""Whose a token is."""

from datetime import UTC, datetime
from functools import partial

from vmsvc.cloud import parse
from vmsvc.cloud.calls import Caller
from vmsvc.cloud.exchange import Answer, Request
from vmsvc.domain.principal import Identity


class Identities(Caller):
    """The one question to Keystone besides signing in."""

    async def identity(self, token: str) -> Identity:
        """What a client's token stands for. Raises Unauthenticated for one that is not good, CloudUnavailable,
        CloudError."""
        return await self._calls.send(
            # The catalogue would be most of the answer.
            Request("identity", "identity", "GET", "/auth/tokens", {"nocatalog": "1"}, token=token), _identity)


def _identity(answer: Answer) -> Identity:
    return parse.whole("a token", partial(_of, answer.date or datetime.now(UTC)), answer)


def _of(now: datetime, body: parse.Json) -> Identity:
    token = body["token"]
    user = token["user"]
    ends = datetime.fromisoformat(token["expires_at"])
    # A name alone is only unique in its domain. It goes into log lines, so it has to be one word; it is for showing,
    # for two names can become one word.
    name = f"{user['name']}@{user['domain']['name']}"
    return Identity("".join(letter if letter.isprintable() and letter != " " else "_" for letter in name),
                    (token.get("project") or {}).get("id"), frozenset(role["name"] for role in token.get("roles", ())),
                    (ends - now).total_seconds(), user["id"])
