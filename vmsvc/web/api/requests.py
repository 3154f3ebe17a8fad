"""The schemas of what clients send. Limits are those of Nova's API, so that Nova refuses nothing that vmsvc accepts."""

import base64
import binascii
import functools
import re
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates, validates_schema

from vmsvc.domain.errors import InvalidRequest
from vmsvc.domain.lineage import END, MAX_RESTARTS, RESTART, RESTART_WITHIN_SECONDS
from vmsvc.service.create_vm import CreateVm
from vmsvc.web.api import create_options
from vmsvc.web.api.field_types import NO_CONTROLS, NO_NUL, StrictBoolean, StrictInteger, TextField
from vmsvc.web.http.request import shorten
from vmsvc.web.openapi.responses import TYPES

#: Nova's default quota of metadata items is 128; vmsvc adds some keys of its own.
MAX_METADATA = 120
OWN_PREFIX = "vmsvc_"
MAX_USER_DATA = 65535
MAX_SEQ = 2**63 - 1
#: So many equal requests one dry run may be for.
MAX_DRY_RUNS = 50
#: Seconds that a request may wait: a week.
MAX_WAIT = 604_800

#: An id of a VM, the cloud's or vmsvc's own: a UUID as both write it. Nothing else may become a part of an address in
#: the cloud's API, where `detail`, for example, has a meaning of its own.
VM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: An id in a query, which only the database sees.
_REF = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_METADATA_KEY = re.compile(r"[a-zA-Z0-9_:. -]{1,255}")


class CreateVmSchema(Schema):
    """The body of `POST /api/v1/vm`."""

    class Meta:
        """A misspelt field is an error."""

        unknown = RAISE

    is_preemptible = StrictBoolean(
        required=True,
        metadata={"description": "true: may be evicted when a standard VM needs its capacity; no VM is evicted for it"},
    )
    name = TextField(
        "default `standart` or `preemptible`; as every text here it has no space at either end and nothing "
        "that cannot be printed"
    )
    flavor = TextField("id or name")
    image = TextField("id or name")
    network = TextField("id or name: the short form of `networks`")
    key_name = TextField("the name of a key pair that the service's user has")
    user_data = fields.String(
        validate=validate.Length(1, MAX_USER_DATA), metadata={"description": "base64", "format": "byte"}
    )
    metadata = fields.Dict(
        keys=fields.String(),
        values=fields.String(validate=validate.Length(max=255), metadata={"pattern": NO_NUL}),
        metadata={
            "maxProperties": MAX_METADATA,
            "description": "for the server; keys are 1 to 255 of a-z A-Z 0-9 - _ : . and "
            "space; keys that begin with `vmsvc_`, in any case "
            "and with spaces left out, are vmsvc's own",
        },
    )
    availability_zone = TextField("the name of a zone", pattern=NO_CONTROLS.replace("[^", "[^:"))
    priority = StrictInteger(
        validate=validate.Range(-1000, 1000),
        metadata={"description": "of a preemptible VM: higher is evicted later", "default": 0},
    )
    min_run_seconds = StrictInteger(
        validate=validate.Range(0, 31_536_000), metadata={"description": "a VM that has run for less time is no victim"}
    )
    group = TextField("eviction group of a preemptible VM: see `max_unavailable`")
    max_unavailable = StrictInteger(
        validate=validate.Range(1, 100_000),
        metadata={
            "description": "at most so many VMs of its group in notice or eviction at once; default 1. The least "
            "value of the group's VMs counts"
        },
    )

    wait_seconds = StrictInteger(
        validate=validate.Range(0, MAX_WAIT),
        metadata={
            "description": "without capacity the request waits in the queue for so long after it came",
            "default": 0,
        },
    )
    fallback_after_seconds = StrictInteger(
        validate=validate.Range(0, MAX_WAIT),
        metadata={
            "description": "preemptible, at most `wait_seconds`: a request that still waits then goes on as a standard "
            "one, for which VMs may be evicted"
        },
    )
    patience_seconds = StrictInteger(
        validate=validate.Range(0, MAX_WAIT),
        metadata={
            "description": "standard: nobody is evicted for it before so long after it came; it waits at least so long",
            "default": 0,
        },
    )

    @validates_schema
    def _waits_make_sense(self, data: dict[str, Any], **_: Any) -> None:
        preemptible, fallback = data.get("is_preemptible"), data.get("fallback_after_seconds")
        if fallback is not None and preemptible is False:
            raise ValidationError("Is for preemptible VMs: a standard one is one already.", "fallback_after_seconds")
        if fallback is not None and not fallback <= data.get("wait_seconds", 0) > 0:
            raise ValidationError("Needs wait_seconds, and must not be more.", "fallback_after_seconds")
        if data.get("patience_seconds") and preemptible:
            raise ValidationError("Is for standard VMs: nobody is evicted for a preemptible one.", "patience_seconds")

    on_eviction = fields.String(
        validate=validate.OneOf((END, RESTART)),
        metadata={
            "description": "of a preemptible VM: `restart` starts it again after an eviction, as a new VM of the same "
            "lineage; default `end`"
        },
    )
    max_restarts = StrictInteger(
        validate=validate.Range(0, 1000),
        metadata={"description": f"of `restart`: how often it is started again; default {MAX_RESTARTS}"},
    )
    restart_within_seconds = StrictInteger(
        validate=validate.Range(60, 604_800),
        metadata={
            "description": "of `restart`: how long after an eviction its successor may wait for capacity; "
            f"default {RESTART_WITHIN_SECONDS}"
        },
    )
    fallback_after_evictions = StrictInteger(
        validate=validate.Range(1, 100),
        metadata={
            "description": "of `restart`: after so many evictions within 24 h it is started again as a standard VM"
        },
    )
    keep_address = StrictBoolean(
        metadata={"description": "of `restart`: vmsvc makes its port, and each successor gets it; default false"}
    )

    networks = create_options.networks()
    security_groups = create_options.security_groups()
    tags = create_options.tags()
    server_group = TextField("id or name of a server group of Nova; vmsvc plans by its policy")
    scheduler_hints = fields.Nested(create_options.HintsSchema, metadata={"description": "for the choice of the host"})
    config_drive = StrictBoolean(metadata={"description": "true: the guest reads its metadata from a drive"})
    hostname = create_options.hostname()
    trusted_image_certificates = create_options.trusted_image_certificates()
    block_device_mapping_v2 = create_options.block_devices()

    @validates_schema
    def _options_go_together(self, data: dict[str, Any], **_: Any) -> None:
        create_options.check(data)

    @validates_schema
    def _restarts_are_asked_for(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("on_eviction") == RESTART:
            if data.get("is_preemptible") is False:
                raise ValidationError("Is for preemptible VMs: nobody evicts a standard one.", "on_eviction")
            return
        for name in ("max_restarts", "restart_within_seconds", "fallback_after_evictions", "keep_address"):
            if data.get(name, False) is not False:
                raise ValidationError("Needs on_eviction: restart.", name)

    @validates_schema
    def _budgets_have_a_group(self, data: dict[str, Any], **_: Any) -> None:
        if "max_unavailable" in data and "group" not in data:
            raise ValidationError("Needs a group.", "max_unavailable")
        if "group" in data and data.get("is_preemptible") is False:
            raise ValidationError("Is for preemptible VMs: nobody evicts a standard one.", "group")

    @validates("user_data")
    def _is_base64(self, value: str, data_key: str) -> None:
        del data_key
        try:
            base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            raise ValidationError("Must be base64.") from None

    @validates("metadata")
    def _keys_are_free(self, value: dict[str, str], data_key: str) -> None:
        del data_key
        if len(value) > MAX_METADATA:
            raise ValidationError(f"Must not have more than {MAX_METADATA} keys.")
        for key in value:
            if not _METADATA_KEY.fullmatch(key):
                raise ValidationError("Keys are 1 to 255 of a-z A-Z 0-9 - _ : . and space.")
            # Nova's database compares keys without regard to case, and to spaces at the end.
            if key.replace(" ", "").lower().startswith(OWN_PREFIX):
                raise ValidationError(
                    f"Keys that begin with {OWN_PREFIX} are the service's own, whatever their case "
                    "and with spaces left out."
                )

    @validates("availability_zone")
    def _names_no_host(self, value: str, data_key: str) -> None:
        # `zone:host` makes Nova skip its scheduler, when the credentials are an operator's.
        del data_key
        if ":" in value:
            raise ValidationError("Must be the name of a zone alone.")


class ChangeVmSchema(Schema):
    """The body of `PATCH /api/v1/vm/{id}`."""

    class Meta:
        """A misspelt name is an error."""

        unknown = RAISE

    on_eviction = fields.String(
        validate=validate.OneOf((END,)), metadata={"description": "`end`: it is not started again after an eviction"}
    )
    is_preemptible = StrictBoolean(metadata={"description": "the kind that the VM has from now on"})

    @validates_schema
    def _changes_something(self, data: dict[str, Any], **_: Any) -> None:
        if not data:
            raise ValidationError("Name on_eviction or is_preemptible.", "on_eviction")


class DeleteVmSchema(Schema):
    """The optional body of `DELETE /api/v1/vm/{id}`."""

    class Meta:
        """A misspelt name is an error."""

        unknown = RAISE

    cloud_vm_id = fields.String(metadata={"description": "the id in the path, once more"})


class QueryInteger(fields.Integer):
    """A whole number in a query string: digits alone."""

    def _validated(self, value: Any) -> int:
        if not re.fullmatch(r"[0-9]{1,19}", value, re.ASCII):
            raise ValidationError("Must be a whole number.")
        return int(value)


class VmRef(fields.String):
    """An id in a query string."""

    def __init__(self, about: str):
        super().__init__(metadata={"description": about, "pattern": f"^{_REF.pattern}$"})

    def _deserialize(self, value: str, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not _REF.fullmatch(value):
            raise ValidationError("Must be the id of a vm.")
        return value


class QueryBoolean(fields.Boolean):
    """`true` or `false` in a query string."""

    def _deserialize(self, value: str, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if value not in ("true", "false"):
            raise ValidationError("Must be one of: true, false.")
        return value == "true"


class EventTypes(fields.List[str]):
    """Types of events in a query string: one parameter with commas, or several parameters."""

    def __init__(self, **kwargs: Any):
        super().__init__(fields.String(validate=validate.OneOf(TYPES)), **kwargs)

    def _deserialize(self, value: str, attr: str | None, data: Any, **kwargs: Any) -> list[str | None]:
        del attr, data, kwargs
        types = value.split(",")
        if not set(types) <= set(TYPES):
            raise ValidationError(f"Must be one of: {', '.join(TYPES)}.")
        return [*types]


class CreateVmQuery(Schema):
    """The query of `POST /api/v1/vm`. An unknown name is an error: `?dryrun=true` must not create anything."""

    class Meta:
        """A misspelt name is an error."""

        unknown = RAISE

    dry_run = fields.String(
        validate=validate.OneOf(("true", "false")),
        load_default="false",
        metadata={"description": "`true`: say what would happen and do nothing"},
    )
    count = QueryInteger(
        validate=validate.Range(1, MAX_DRY_RUNS),
        load_default=1,
        metadata={"description": "of a dry run: what would happen to so many equal requests that come together"},
    )

    @validates_schema
    def _check_count(self, data: dict[str, Any], **_: Any) -> None:
        """A create makes one VM: a count without a dry run is a mistake."""
        if data["count"] != 1 and data["dry_run"] != "true":
            raise ValidationError("Is for a dry run alone.", "count")


class EventsQuery(Schema):
    """The query of `GET /api/v1/events`."""

    class Meta:
        """A misspelt name is an error."""

        unknown = RAISE

    since = QueryInteger(
        validate=validate.Range(0, MAX_SEQ),
        metadata={
            "description": "only events with a higher seq; without it a page begins at the oldest event that is "
            "kept, and a WebSocket or an event stream gets live events only"
        },
    )
    limit = QueryInteger(validate=validate.Range(1, 1000), load_default=100)
    type = EventTypes(metadata={"description": "repeatable, or a comma list"})
    vm = VmRef("the cloud's id or vmsvc's own")
    preemptible = QueryBoolean(
        metadata={"description": "`true`: events of preemptible VMs only, `false`: of standard ones"}
    )
    ticket = fields.String(
        metadata={"description": "of a WebSocket or an event stream: from `POST /api/v1/tickets`, instead of a token"}
    )


def _flatten(messages: Any) -> str:
    """The sentences of a nested collection of errors."""
    if isinstance(messages, dict):
        return " ".join(_flatten(part) for part in messages.values())
    if isinstance(messages, list):
        return " ".join(_flatten(part) for part in messages)
    return str(messages)


@functools.cache
def _loader(schema: type[Schema]) -> Schema:
    """One object of each class: a new one would copy all its fields."""
    return schema()


def load(schema: type[Schema], data: dict[str, Any]) -> dict[str, Any]:
    """The data as the schema converts it. Raises InvalidRequest that names every wrong field, the first as `field`."""
    try:
        loaded: dict[str, Any] = _loader(schema).load(data)
        return loaded
    except ValidationError as error:
        faults = {
            shorten(str(name)): shorten(_flatten(messages), 200)
            for name, messages in error.normalized_messages().items()
        }
    message = "; ".join(f"{name!a}: {text}" for name, text in list(faults.items())[:10])
    raise InvalidRequest(message, field=next(iter(faults)))


def create_request_of(data: dict[str, Any]) -> CreateVm:
    """The request in the body of a POST. Raises InvalidRequest."""
    return CreateVm(**load(CreateVmSchema, data))
