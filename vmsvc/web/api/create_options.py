"""The schemas of a create's options: what Nova takes besides flavor, image, network, key pair and zone."""

import ipaddress
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

from vmsvc.web.api.field_types import PatternField, StrictBoolean, StrictInteger, TextField

DEVICES = "block_device_mapping_v2"
MAX_NICS = 16
#: Nova takes 50, and vmsvc adds one of its own, by which it finds its servers.
MAX_TAGS = 49
MAX_SERVERS = 16
MAX_DEVICES = 16
UUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
#: Nova's rule from 2.90 to 2.93.
HOSTNAME = r"^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$"
#: Nova forbids the first two; PostgreSQL keeps no text with the third.
TAG = r"^[^,/\u0000]*$"


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
        inner = PatternField(36, 36, UUID, "Must be the cloud's id of a server.")
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

    network = TextField("id or name of a network: Nova makes a port in it, and deletes it with the server")
    port = TextField("id or name of a port that you made: it stays yours when the VM is gone")
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

    group = TextField("a server group, as `server_group`")
    same_host = Servers("servers of the project, by the cloud's ids: only a host with one of them will do")
    different_host = Servers("servers of the project, by the cloud's ids: no host with one of them will do")


class BlockDeviceSchema(Schema):
    """A disk in Cinder, as Nova's `block_device_mapping_v2` has it."""

    class Meta:
        """A misspelt name is an error."""

        unknown = RAISE

    error_messages = {"unknown": "vmsvc takes no such member of a block device."}

    source_type = fields.String(
        required=True,
        validate=validate.OneOf(("volume", "image", "blank")),
        metadata={"description": "a `volume` that is there, or a new one: of an `image`, or `blank`"},
    )
    uuid = TextField("the id of the volume; id or name of the image")
    destination_type = fields.String(
        validate=validate.OneOf(("volume",)), metadata={"description": "`volume`, which is the default here"}
    )
    boot_index = StrictInteger(
        allow_none=True,
        validate=validate.Range(-1, 0),
        metadata={"description": "0 for the one that the server boots from; -1 or null for the others"},
    )
    volume_size = StrictInteger(
        validate=validate.Range(1, 2**31 - 1), metadata={"description": "of a new volume, in GiB"}
    )
    delete_on_termination = StrictBoolean(
        metadata={"description": "true: the volume is deleted with the VM; default false"}
    )

    @validates_schema
    def _is_whole(self, data: dict[str, Any], **_: Any) -> None:
        source = data.get("source_type")
        if (source == "blank") == ("uuid" in data):
            raise ValidationError("Names what is on the disk; a blank one names nothing.", "uuid")
        if (source == "volume") == ("volume_size" in data):
            raise ValidationError("Is for a new volume, which needs it.", "volume_size")


def block_devices() -> fields.Field[Any]:
    """The field `block_device_mapping_v2`."""
    return fields.List(
        fields.Nested(BlockDeviceSchema),
        validate=validate.Length(1, MAX_DEVICES),
        metadata={"description": "where the cloud has Cinder: the disks, one of them with `boot_index` 0, no `image`"},
    )


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
        TextField("id or name"),
        50,
        "ids or names, for the ports that Nova makes; default: the project's group `default`. A port that you made has "
        "its own",
    )


def tags() -> fields.Field[Any]:
    """The field `tags`."""
    inner = PatternField(1, 60, TAG, "Must not have a comma or a slash.")
    return Strings(inner, MAX_TAGS, "of the server; vmsvc adds its own id of the VM")


def trusted_image_certificates() -> fields.Field[Any]:
    """The field `trusted_image_certificates`."""
    return Strings(
        TextField("the id of a certificate"), 50, "the certificates by which Nova checks the image's signature"
    )


def hostname() -> fields.Field[Any]:
    """The field `hostname`."""
    about = "the guest's name of itself; default: made of `name`"
    return PatternField(2, 63, HOSTNAME, "Must be a host name without a domain.", about)


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
    devices = data.get("block_device_mapping_v2") or []
    if devices and ("image" in data or "trusted_image_certificates" in data):
        raise ValidationError("Needs a create without image and certificates: its root disk is a volume.", DEVICES)
    if devices and [device.get("boot_index") for device in devices].count(0) != 1:
        raise ValidationError("Needs one device with boot_index 0.", DEVICES)
    volumes = [device["uuid"] for device in devices if device["source_type"] == "volume"]
    if len(set(volumes)) < len(volumes):
        raise ValidationError("Must not name a volume twice.", DEVICES)
    hints = data.get("scheduler_hints") or {}
    if both := set(hints.get("same_host", ())) & set(hints.get("different_host", ())):
        raise ValidationError(f"The server {min(both)} is in same_host and in different_host.", "scheduler_hints")
