"""The schemas of a create's options: what Nova takes besides flavor, image, network, key pair and zone."""

import functools
import ipaddress
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

MAX_NICS = 16
#: Nova takes 50, and vmsvc adds one of its own, by which it finds its servers.
MAX_TAGS = 49
MAX_SERVERS = 16
UUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
#: Nova's rule from 2.90 to 2.93.
HOSTNAME = r"^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$"
_TEXT = validate.Length(1, 255)


def text(about: str, **more: Any) -> fields.String:
    """A string of 1 to 255 characters."""
    return fields.String(validate=_TEXT, metadata={"description": about}, **more)


class Strings(fields.List[str]):
    """A list of different strings."""

    def __init__(self, inner: fields.String, most: int, about: str):
        super().__init__(inner, validate=validate.Length(1, most), metadata={"description": about, "uniqueItems": True})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[str | None]:
        found = super()._deserialize(value, attr, data, **kwargs)
        if len(set(found)) < len(found):
            raise ValidationError("Must not name one twice.")
        return found


class Servers(Strings):
    """Servers, by the cloud's ids; one may stand alone, as Nova takes it."""

    def __init__(self, about: str):
        inner = fields.String(validate=validate.Regexp(UUID, error="Must be the cloud's id of a server."))
        super().__init__(inner, MAX_SERVERS, about)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[str | None]:
        return super()._deserialize([value] if isinstance(value, str) else value, attr, data, **kwargs)


class Address(fields.String):
    """An IP address."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        found = super()._deserialize(value, attr, data, **kwargs)
        try:
            return str(ipaddress.ip_address(found))
        except ValueError:
            raise ValidationError("Must be an IP address.") from None


class NicSchema(Schema):
    """A network interface: a network, in which Nova makes a port, or a port that is there."""

    class Meta:
        """A misspelt name is an error."""

        unknown = RAISE

    network = text("id or name of a network: Nova makes a port in it, and deletes it with the server")
    port = text("id or name of a port that you made: it stays yours when the VM is gone")
    fixed_ip = Address(metadata={"description": "with `network`: the address that the port gets"})

    @validates_schema
    def _is_one(self, data: dict[str, Any], **_: Any) -> None:
        if ("network" in data) == ("port" in data):
            raise ValidationError("Name a network or a port.", "network")
        if "port" in data and "fixed_ip" in data:
            raise ValidationError("A port has its address already.", "fixed_ip")


class HintsSchema(Schema):
    """The hints that vmsvc can plan by. It chooses the host itself, and could not keep the promise that nobody is
    evicted for nothing if Nova refused that host by a rule that vmsvc does not know."""

    class Meta:
        """Another hint is an error."""

        unknown = RAISE

    error_messages = {
        "unknown": "vmsvc plans by group, same_host and different_host; what another hint does, it cannot foresee."
    }

    group = text("a server group, as `server_group`")
    same_host = Servers("servers of the project, by the cloud's ids: only a host with one of them will do")
    different_host = Servers("servers of the project, by the cloud's ids: no host with one of them will do")


def networks() -> fields.Field[Any]:
    """The field `networks`."""
    return fields.List(
        fields.Nested(NicSchema),
        validate=validate.Length(1, MAX_NICS),
        metadata={"description": "the network interfaces in their order, instead of `network`"},
    )


def security_groups() -> fields.Field[Any]:
    """The field `security_groups`."""
    return Strings(
        text("id or name"),
        50,
        "ids or names, for the ports that Nova makes; default: the project's group `default`. A port that you made has "
        "its own",
    )


def tags() -> fields.Field[Any]:
    """The field `tags`."""
    inner = fields.String(
        validate=[validate.Length(1, 60), validate.Regexp(r"^[^,/]*$", error="Must not have a comma or a slash.")]
    )
    return Strings(inner, MAX_TAGS, "of the server; vmsvc adds its own id of the VM")


def trusted_image_certificates() -> fields.Field[Any]:
    """The field `trusted_image_certificates`."""
    return Strings(text("the id of a certificate"), 50, "the certificates by which Nova checks the image's signature")


hostname = functools.partial(
    fields.String,
    validate=[validate.Length(2, 63), validate.Regexp(HOSTNAME, error="Must be a host name without a domain.")],
    metadata={"description": "the guest's name of itself; default: made of `name`"},
)


def check(data: dict[str, Any]) -> None:
    """Raise ValidationError for options that do not go together with others of the request."""
    nics: list[dict[str, str]] = data.get("networks") or []
    if nics and "network" in data:
        raise ValidationError("Is the long form of network: name one of the two.", "networks")
    ports = [nic["port"] for nic in nics if "port" in nic]
    addresses = [(nic["network"], nic["fixed_ip"]) for nic in nics if "fixed_ip" in nic]
    if len(set(ports)) < len(ports) or len(set(addresses)) < len(addresses):
        raise ValidationError("Must not name a port or an address twice.", "networks")
    if data.get("keep_address") and (len(nics) > 1 or ports or addresses):
        raise ValidationError(
            "Is for one network: a port that you made, and an address that you chose, are the same again anyway.",
            "keep_address",
        )
    hints = data.get("scheduler_hints") or {}
    if both := set(hints.get("same_host", ())) & set(hints.get("different_host", ())):
        raise ValidationError(f"The server {min(both)} is in same_host and in different_host.", "scheduler_hints")
