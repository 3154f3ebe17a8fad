"""With which codes the service closes a socket, and what a client does then: for the channel and for its document."""

from dataclasses import dataclass

from vmsvc.service.hub import End


@dataclass(frozen=True, slots=True)
class Closing:
    """One way to close: `reason` goes over the wire, `when` and `then` are for the document."""

    code: int
    reason: str
    when: str
    then: str


# The codes are those of RFC 6455's registry where there is one, else from its private range.
NOT_MASKED = Closing(1002, "a client masks its frames", "the client sent a frame without a mask", "mask them, as RFC "
                     "6455 wants it: every library does")
TOO_BIG = Closing(1009, "message too big", "the client sent a message of more than 4 KiB", "send none: the channel "
                  "goes one way")
INTERNAL = Closing(1011, "internal error: reconnect with since", "a defect of the service", "reconnect with `since`")
GOING_AWAY = Closing(1012, "the service restarts: reconnect with since", "the service stops or restarts",
                     "reconnect with `since`, after a random pause of a second or so")
TRY_LATER = Closing(1013, "the history cannot be read now: reconnect with since", "the database does not answer",
                    "reconnect with `since`, a little later each time")
WHO_ARE_YOU = Closing(4001, "show who you are: reconnect with since", "the token has ended, or was not seen for five "
                      "minutes by the replica that took its ticket", "reconnect with `since`, and with a ticket or a "
                      "token that is good: nothing is lost")
TOO_SLOW = Closing(4008, "reconnect with since", "the client did not read, or not fast enough, or answered no ping",
                   "reconnect with `since`: nothing is lost")
HISTORY_GONE = Closing(4009, "history gone: reload the list", "`since` is older than the history that is kept",
                       "`GET /api/v1/vm`, then reconnect with its `seq`")

CLOSINGS = (NOT_MASKED, TOO_BIG, INTERNAL, GOING_AWAY, TRY_LATER, WHO_ARE_YOU, TOO_SLOW, HISTORY_GONE)
OF_END = {End.SLOW: TOO_SLOW, End.STOPPED: GOING_AWAY, End.GONE: HISTORY_GONE, End.FAILED: INTERNAL}


def table() -> str:
    """All of them in Markdown."""
    return "\n".join(["| close code | when | what to do |", "|---|---|---|",
                      *(f"| {one.code} | {one.when} | {one.then} |" for one in CLOSINGS),
                      "| none (1006) | the connection was cut | reconnect with `since` |"])
