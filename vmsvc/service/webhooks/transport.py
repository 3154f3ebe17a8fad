"""The interface that sends requests to webhooks (`web.outgoing` implements it), and the signed headers of a POST."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from standardwebhooks import Webhook

#: The media type of an event (CloudEvents, structured mode).
MEDIA_TYPE = "application/cloudevents+json"


class TransportFailed(Exception):
    """No status came; the message says why, for the owner of the endpoint. It holds nothing that an endpoint sent."""


class TargetRefused(TransportFailed):
    """The service does not send there, whatever the endpoint says."""


class Consent(NamedTuple):
    """What a receiver answered to OPTIONS: the status, and from whom it takes events (None: it does not say)."""

    status: int
    allowed_origin: str | None


class Transport(Protocol):
    """Sends one request each; all methods raise TransportFailed, and TargetRefused before anything is sent."""

    async def check(self, url: str) -> None:
        """Look the URL's host up, and see whether requests may go there."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """POST, and return the status."""

    async def ask_consent(self, url: str, origin: str) -> Consent:
        """Ask the receiver by OPTIONS whether it takes events (the abuse protection of CloudEvents)."""


def signed_headers(message_id: str, secrets: Sequence[str], now: datetime, body: bytes) -> dict[str, str]:
    """The headers of a POST, by Standard Webhooks 1.0; each secret signs."""
    text = body.decode("ascii")
    return {
        "Content-Type": MEDIA_TYPE,
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(message_id, now, text) for secret in secrets),
    }
