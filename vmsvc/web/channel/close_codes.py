"""The codes with which the service closes a WebSocket, and what a client does then."""

from dataclasses import dataclass

from vmsvc.service.events.hub import EndReason


@dataclass(frozen=True, slots=True)
class CloseCode:
    """One way to close. `reason` goes over the wire; `when` and `then` are for the document."""

    code: int
    reason: str
    when: str
    then: str


# The codes are those of RFC 6455's registry where there is one, else from its private range.
UNMASKED_FRAME = CloseCode(
    1002,
    "a client masks its frames",
    "the client sent a frame without a mask",
    "mask them, as RFC 6455 wants it: every library does",
)
MESSAGE_TOO_BIG = CloseCode(
    1009, "message too big", "the client sent a message of more than 4 KiB", "send none: the channel goes one way"
)
INTERNAL_ERROR = CloseCode(
    1011, "internal error: reconnect with since", "a defect of the service", "reconnect with `since`"
)
SERVICE_RESTART = CloseCode(
    1012,
    "the service restarts: reconnect with since",
    "the service stops or restarts",
    "reconnect with `since`, after a random pause of a second or so",
)
TRY_AGAIN_LATER = CloseCode(
    1013,
    "the history cannot be read now: reconnect with since",
    "the database does not answer",
    "reconnect with `since`, a little later each time",
)
UNAUTHENTICATED = CloseCode(
    4001,
    "show who you are: reconnect with since",
    "the token has ended, or was not seen for five minutes by the replica that took its ticket",
    "reconnect with `since`, and with a ticket or a token that is good: nothing is lost",
)
TOO_SLOW = CloseCode(
    4008,
    "reconnect with since",
    "the client did not read, or not fast enough, or answered no ping",
    "reconnect with `since`: nothing is lost",
)
HISTORY_GONE = CloseCode(
    4009,
    "history gone: reload the list",
    "`since` is older than the history that is kept",
    "`GET /api/v1/vm`, then reconnect with its `seq`",
)

CLOSE_CODES = (
    UNMASKED_FRAME,
    MESSAGE_TOO_BIG,
    INTERNAL_ERROR,
    SERVICE_RESTART,
    TRY_AGAIN_LATER,
    UNAUTHENTICATED,
    TOO_SLOW,
    HISTORY_GONE,
)
#: By the reason for which the hub ends a subscriber.
BY_END_REASON = {
    EndReason.SLOW: TOO_SLOW,
    EndReason.STOPPED: SERVICE_RESTART,
    EndReason.GONE: HISTORY_GONE,
    EndReason.FAILED: INTERNAL_ERROR,
}


def markdown_table() -> str:
    """All of them, for the document."""
    return "\n".join(
        [
            "| close code | when | what to do |",
            "|---|---|---|",
            *(f"| {one.code} | {one.when} | {one.then} |" for one in CLOSE_CODES),
            "| none (1006) | the connection was cut | reconnect with `since` |",
        ]
    )
