"""Cinder v3 over HTTP (read in its API reference)."""

from typing import Any

from vmsvc.simulator.cinder.model import Volume
from vmsvc.simulator.clock import micros_text
from vmsvc.simulator.errors import bad_request, not_found
from vmsvc.simulator.http import ServiceHandler

_NAMES = {400: "badRequest", 401: "unauthorized", 403: "forbidden", 404: "itemNotFound", 413: "overLimit"}


class VolumeHandler(ServiceHandler):
    """Base of Cinder's handlers."""

    service = "volume"

    def refuse(self, status: int, message: str) -> None:
        self.reply(status, {_NAMES.get(status, "computeFault"): {"code": status, "message": message}})

    def volume(self, volume_id: str) -> Volume:
        """A volume of the project. Raises ApiError 404."""
        found = self.cloud.volumes.all.get(volume_id)
        if found is None or not (self.token.is_admin or found.project_id == self.token.project_id):
            raise not_found(f"Volume {volume_id} could not be found.")
        return found

    def view(self, volume: Volume) -> dict[str, Any]:
        """A volume as Cinder shows it."""
        attachments = [{"server_id": volume.server_id, "device": volume.device}] if volume.server_id else []
        view: dict[str, Any] = {
            "id": volume.id,
            "name": volume.name,
            "status": volume.status,
            "size": volume.size,
            "bootable": "true" if volume.bootable else "false",
            "multiattach": False,
            "encrypted": False,
            "user_id": volume.user_id,
            "os-vol-tenant-attr:tenant_id": volume.project_id,
            "availability_zone": "nova",
            "created_at": micros_text(volume.created),
            "attachments": attachments,
            "metadata": {},
        }
        return {**view, **({"volume_image_metadata": volume.image} if volume.image else {})}


class Versions(VolumeHandler):
    """The discovery document."""

    requires_token = False

    def get(self) -> None:
        links = [{"rel": "self", "href": f"{self.base}/volume/v3/"}]
        self.reply(200, {"versions": [{"id": "v3.0", "status": "CURRENT", "version": "3.0", "links": links}]})


class Volumes(VolumeHandler):
    """GET and POST /volumes."""

    def get(self) -> None:
        mine = [one for one in self.cloud.volumes.all.values() if one.project_id == self.token.project_id]
        self.reply(200, {"volumes": [self.view(one) for one in mine]})

    def post(self) -> None:
        """Make a volume; it is available at once."""
        values = self.body()["volume"]
        image = None
        if values.get("imageRef"):
            image = self.cloud.images.get(values["imageRef"])
            if image is None:
                raise bad_request(f"Invalid image identifier or unable to access requested image {values['imageRef']}.")
        made = self.cloud.volumes.add(
            self.token.project_id or "",
            self.token.user_id,
            self.cloud.clock.now(),
            int(values["size"]),
            values.get("name") or "",
            {"image_id": image.id, "image_name": image.name, "min_ram": str(image.min_ram), **image.properties}
            if image
            else None,
        )
        self.reply(202, {"volume": self.view(made)})


class OneVolume(VolumeHandler):
    """/volumes/{id}."""

    def get(self, volume_id: str) -> None:
        self.reply(200, {"volume": self.view(self.volume(volume_id))})

    def delete(self, volume_id: str) -> None:
        """Answers 400 while a server uses it."""
        volume = self.volume(volume_id)
        if volume.server_id:
            raise bad_request(
                "Invalid volume: Volume status must be available or error or error_restoring or error_extending or "
                "error_managing and must not be migrating, attached, belong to a group or have snapshots."
            )
        self.cloud.volumes.all.remove(volume.id)
        self.reply(202)


class Limits(VolumeHandler):
    """GET /limits."""

    def get(self) -> None:
        project = self.token.project_id or ""
        limits, used = self.cloud.volumes.limits(project), self.cloud.volumes.used(project)
        absolute = {
            "maxTotalVolumes": limits["volumes"],
            "maxTotalVolumeGigabytes": limits["gigabytes"],
            "totalVolumesUsed": used["volumes"],
            "totalGigabytesUsed": used["gigabytes"],
        }
        self.reply(200, {"limits": {"rate": [], "absolute": absolute}})


class QuotaSets(VolumeHandler):
    """PUT /os-quota-sets/{project}, for admins."""

    def put(self, project_id: str) -> None:
        if not self.token.is_admin:
            raise bad_request("Policy doesn't allow volume_extension:quotas:update to be performed.")
        values = {
            name: int(most) for name, most in self.body()["quota_set"].items() if name in ("volumes", "gigabytes")
        }
        self.cloud.volumes.set_limits(project_id, values)
        self.reply(200, {"quota_set": self.cloud.volumes.limits(project_id)})


class Missing(VolumeHandler):
    """Any other path: 404."""

    def missing(self) -> None:
        raise not_found("The resource could not be found.")

    get = post = put = delete = missing


_PREFIX = r"/volume/v3(?:/[0-9a-f]{32})?"
routes = [
    (r"/volume/?", Versions),
    (_PREFIX + r"/volumes(?:/detail)?", Volumes),
    (_PREFIX + r"/volumes/([^/]+)", OneVolume),
    (_PREFIX + r"/limits", Limits),
    (_PREFIX + r"/os-quota-sets/([^/]+)", QuotaSets),
]
last_routes = [(r"/volume/.*", Missing)]
