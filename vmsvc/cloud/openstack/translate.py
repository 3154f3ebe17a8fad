"""From the cloud's refusals to ours: the one place that knows OpenStack's status codes and sentences.

The sentences are Nova's, read in its source or answered by a real one. They matter, because one status means many
things: 403 is quota as well as policy, 409 is a locked server as well as a busy one.
"""

import json
import re
from collections.abc import Callable

from vmsvc.cloud.openstack.exchange import Answer, CloudRequest, TurnedAway
from vmsvc.domain.errors import (
    CloudError,
    CloudUnavailable,
    Conflict,
    Forbidden,
    Garbled,
    InvalidRequest,
    Locked,
    NotFound,
    OutcomeUnknown,
    QuotaExceeded,
    Unauthenticated,
    VmsvcError,
)

Rule = tuple[frozenset[int], re.Pattern[str], Callable[[str], VmsvcError]]


def _rule(statuses: set[int], pattern: str, error: Callable[[str], VmsvcError]) -> Rule:
    return frozenset(statuses), re.compile(pattern), error


#: The first rule whose status and sentence fit decides; else the status alone does.
SENTENCES: tuple[Rule, ...] = (
    # 409 for want of a choice: the request has to name one.
    _rule({400, 409}, r"^Multiple possible networks", lambda text: InvalidRequest(text, "network")),
    # "Maximum number of metadata items exceeds 128" looks like quota, but no eviction helps.
    # With unified limits Nova passes on oslo.limit's sentence, which names the resource.
    _rule(
        {400, 403},
        r"^Maximum number of metadata items|\bserver_metadata_items is over limit",
        lambda text: InvalidRequest(text, "metadata"),
    ),
    _rule({403}, r"^Quota exceeded, too many servers in group", lambda text: InvalidRequest(text, "server_group")),
    # Nova's default policy says this to all but admins; no eviction changes that.
    _rule({403}, r"^Only volume-backed servers", lambda text: InvalidRequest(text, "flavor")),
    # Nova: 403 on POST /servers. Neutron: 409 OverQuota, or through Nova "Maximum number of ports exceeded".
    _rule({403, 409, 413}, r"Quota exceeded for |^Maximum number of |exceeds quota", QuotaExceeded),
    # Nova with unified limits (oslo.limit).
    _rule({403, 413}, r"is over (a )?limit (of|for) ", QuotaExceeded),
    _rule({409}, r"is locked\b", Locked),
    # Two have the name. Nova's API says 409 for a request that has to be corrected.
    _rule({409}, r"^Multiple security_group matches", lambda text: InvalidRequest(text, "security_groups")),
)

STATUSES: dict[int, Callable[[str], VmsvcError]] = {
    400: InvalidRequest,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: InvalidRequest,
}

BLOCK_DEVICES = "block_device_mapping_v2"
#: Which field of a create request Nova's 400 speaks of.
FIELDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), name)
    for pattern, name in (
        (r"^invalid input for field/attribute flavorRef", "flavor"),
        (r"^invalid input for field/attribute imageRef", "image"),
        (r"^invalid input for field/attribute (uuid|networks)", "network"),
        (r"^invalid input for field/attribute (?P<name>name|metadata|key_name|user_data|availability_zone)\b", ""),
        (r"^invalid image metadata|^memory encryption|^page size|numa", "image"),
        (
            r"^invalid input for field/attribute (?P<name>hostname|security_groups|tags|trusted_image_certificates)\b",
            "",
        ),
        (r"security_group", "security_groups"),
        (
            r"^block device mapping|^the volume|^volume|^snapshot|^boot sequence|^you specified more local",
            BLOCK_DEVICES,
        ),
        (r"^instance group", "server_group"),
        (r"certificate", "trusted_image_certificates"),
        (r"^flavor", "flavor"),
        (r"requested image|^image", "image"),
        (r"^network|^port |fixed ip", "network"),
        (r"availability zone", "availability_zone"),
        (r"key_name|keypair", "key_name"),
        (r"user.?data", "user_data"),
        (r"metadata", "metadata"),
        (r"^compute host|^no compute host", "host"),
    )
)

UNAVAILABLE_AFTER = 5.0
NO_REASON = "no reason was given"
#: Statuses that mean the same without a body of the service's own, also when a proxy sends them.
PLAIN = frozenset({401, 413, 429})


def error_of(request: CloudRequest, answer: Answer) -> VmsvcError | None:
    """What the answer to this request means, or None when it is a good one."""
    if answer.status < 300:
        return None
    text = reason(answer)
    if answer.status >= 500:
        return _broken(request, answer, text)
    if _is_garbled(request, answer, text):
        return Garbled(f"the cloud answered {answer.status} to {request.operation} in words that are not its own")
    if answer.status == 401 or request.token and answer.status == 404:
        return _unknown_token(request)
    error = next(
        (error for statuses, pattern, error in SENTENCES if answer.status in statuses and pattern.search(text)), None
    )
    if error is None and _limits_the_rate(answer):
        return TurnedAway(f"the cloud asks for fewer calls: {text}", answer.retry_after or UNAVAILABLE_AFTER)
    error = error or STATUSES.get(answer.status)
    return (
        _with_field(error(text))
        if error
        else CloudError(f"the cloud answered {answer.status} to {request.operation}: {text}")
    )


def _is_garbled(request: CloudRequest, answer: Answer, text: str) -> bool:
    """True when the service that was asked cannot have written this refusal. A proxy's page with 404 says that the
    proxy knows no such address: neither that a server is gone, nor that a token is bad."""
    if request.service == "compute" and answer.status == 404:
        body = _json(answer)  # Nova's own 404 has this key, whatever was not found
        return not isinstance(body, dict) or "itemNotFound" not in body
    if request.service == "image":  # Glance answers with text that mentions the image
        return answer.status in (400, 404) and not re.search(r"\bimage\b", answer.text, re.IGNORECASE)
    if request.service == "network" and answer.status == 404:
        return False  # Neutron itself may lack the address of an extension
    return text == NO_REASON and (answer.status not in PLAIN or request.token is not None)


def _limits_the_rate(answer: Answer) -> bool:
    """True for 429, and for the 413 of older Novas and proxies: a Retry-After, or the key `overLimit`, distinguishes it
    from a 413 for a body that is too large. (Older Novas answer 413 with `Retry-After: 0` for a quota too: the caller
    matches the quota's sentence first.)"""
    return (
        answer.status == 429
        or answer.status == 413
        and (answer.retry_after is not None or answer.text.lstrip().startswith('{"overLimit"'))
    )


def _unknown_token(request: CloudRequest) -> VmsvcError:
    if request.token:
        return Unauthenticated("Keystone does not know this token: it is wrong, has expired or was revoked")
    return CloudUnavailable("the cloud does not accept the service's token, not even a new one")


def unsent(request: CloudRequest, why: str) -> CloudUnavailable:
    """The error for a request that never left."""
    return CloudUnavailable(f"{request.operation} did not reach the cloud: {why}")


def unanswered(request: CloudRequest, why: str, retry_after: float = UNAVAILABLE_AFTER) -> CloudUnavailable:
    """The error for a request that went out and was not answered: a read failed, a write may have been done."""
    if request.is_read:
        return CloudUnavailable(f"the cloud did not answer {request.operation}: {why}", retry_after)
    return OutcomeUnknown(f"the cloud did not answer {request.operation}, which may have been done: {why}", retry_after)


def reason(answer: Answer) -> str:
    """The sentence in an error's body: Nova's, Keystone's, Placement's and Neutron's shapes; never HTML."""
    text = _sentence(_json(answer))
    return " ".join(text.split())[:500] if text else NO_REASON


def _json(answer: Answer) -> object:
    """The body as JSON; {} for an empty body and for one that is no JSON."""
    try:
        return json.loads(answer.text) or {}
    except ValueError:
        return {}


def _sentence(body: object) -> str | None:
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return _sentence(body[0]) if body else None
    if not isinstance(body, dict):
        return None
    for said in (body.get("message"), body.get("detail")):
        if isinstance(said, str):
            return said
    # One key around it: {"forbidden": {...}}, {"errors": [{...}]}, {"NeutronError": {...}}
    return next(
        (found for value in body.values() if isinstance(value, (dict, list)) for found in [_sentence(value)] if found),
        None,
    )


def _broken(request: CloudRequest, answer: Answer, text: str) -> VmsvcError:
    """5xx. A write may have been done before it failed: clouds have made a server and answered 503 or 504."""
    return unanswered(request, f"it said {answer.status}, {text}", answer.retry_after or UNAVAILABLE_AFTER)


def _with_field(error: VmsvcError) -> VmsvcError:
    if not isinstance(error, InvalidRequest) or error.field is not None:
        return error
    for pattern, name in FIELDS:
        if found := pattern.search(error.message):
            field = name or found["name"]
            if field == "user_data":  # Nova repeats the value: a secret, in a message that others come to read
                return InvalidRequest("user_data must be base64, at most 65535 characters", "user_data")
            return InvalidRequest(error.message, field)
    return error
