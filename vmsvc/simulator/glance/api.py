"""Glance v2 over HTTP (measured)."""

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NoReturn
from urllib.parse import urlencode

from tornado.web import Finish

from vmsvc.simulator.clock import seconds_text
from vmsvc.simulator.errors import bad_request, forbidden, not_found
from vmsvc.simulator.glance.model import Image
from vmsvc.simulator.http import ServiceHandler
from vmsvc.simulator.paging import next_page, page


class ImageHandler(ServiceHandler):
    """Base of Glance's handlers, whose errors are plain text."""

    service = "image"

    def refuse(self, status: int, message: str) -> None:
        self.plain_error(status, message, with_lead=False)

    def unauthorized(self) -> NoReturn:
        self.set_header("WWW-Authenticate", f'Keystone uri="{self.base}/identity/v3"')
        self.refuse(
            401,
            "This server could not verify that you are authorized to access the document you requested. "
            "Either you supplied the wrong credentials (e.g., bad password), or your browser does not "
            "understand how to supply the credentials required.",
        )
        raise Finish()

    def visible(self, image: Image) -> bool:
        """True when the user may see it."""
        return image.usable_by(self.token)

    def listed(self, image: Image) -> bool:
        """True when a list without filters has the image: never a hidden one, a community image for its owner alone,
        and any other that is not public for its owner and for admins (measured)."""
        return not image.hidden and (
            image.visibility == "public"
            or image.owner == self.token.project_id
            or self.token.is_admin
            and image.visibility != "community"
        )


class Versions(ImageHandler):
    """The discovery document."""

    requires_token = False

    def get(self) -> None:
        """Answers 300 with all versions."""
        minors = (15, 13, 12, 11, 10, 9, 8, 17, 7, 6, 5, 4, 3, 2, 1, 0)
        self.reply(
            300,
            {
                "versions": [
                    {
                        "id": f"v2.{minor}",
                        "status": "CURRENT" if minor == 17 else "SUPPORTED",
                        "links": [{"rel": "self", "href": f"{self.base}/image/v2/"}],
                    }
                    for minor in minors
                ]
            },
        )


#: Sort key -> what is compared.
SORTS: dict[str, Callable[[Image], Any]] = {
    "name": lambda image: image.name or "",
    "status": lambda image: image.status,
    "container_format": lambda image: "bare",
    "disk_format": lambda image: image.disk_format,
    "size": lambda image: image.size or 0,
    "id": lambda image: image.id,
    "created_at": lambda image: image.created,
    "updated_at": lambda image: image.created,
}
#: Parameters that are no filter by a property.
NO_FILTERS = (
    *("limit", "marker", "sort", "sort_key", "sort_dir", "member_status", "os_hidden", "visibility", "name", "status"),
    *("owner", "id", "disk_format", "size_min", "size_max", "created_at", "updated_at", "container_format"),
)
VISIBILITIES = ("community", "public", "private", "shared", "all")


class Images(ImageHandler):
    """/v2/images: a page with the filters name, status, visibility, owner and id; POST makes an image."""

    def get(self) -> None:
        if self.query.get("visibility", "all") not in VISIBILITIES:
            raise bad_request(f"Invalid visibility value: {self.query['visibility']}")
        if self.query.get("member_status", "all") not in ("pending", "accepted", "rejected", "all"):
            raise bad_request(f"Invalid status: {self.query['member_status']}")
        images = [image for image in self.cloud.images.values() if self.listed(image)]
        for name, value in self.query.items():
            if name in ("name", "status", "visibility", "owner", "id", "disk_format") and value != "all":
                wanted = value.removeprefix("in:").split(",")
                images = [image for image in images if getattr(image, name) in wanted]
            elif name not in NO_FILTERS:
                images = [image for image in images if image.properties.get(name) == value]
        shown, full = self._page(images)
        first = {name: value for name, value in self.query.items() if name != "marker"}
        body = {
            "images": [view(image) for image in shown],
            "schema": "/v2/schemas/images",
            "first": "/v2/images" + (f"?{urlencode(first)}" if first else ""),
        }
        if full:
            body["next"] = next_page("/v2/images", first, shown[-1].id)
        self.reply(200, body)

    def _page(self, images: list[Image]) -> tuple[Sequence[Image], bool]:
        """A page in the order that the query asks for. Raises ApiError 400 (measured)."""
        query = self.query
        limit = query.get("limit", "25")
        if not limit.lstrip("-").isdigit():
            raise bad_request("limit param must be an integer")
        if int(limit) < 0:
            raise bad_request("limit param must be positive")
        pairs = [part.partition(":")[::2] for part in query.get("sort", "").split(",") if part]
        pairs = pairs or [(query.get("sort_key", "created_at"), query.get("sort_dir", "desc"))]
        for key, way in pairs:
            if way not in ("", "asc", "desc"):
                raise bad_request(f"Invalid sort direction: {way}")
            if key not in SORTS:
                raise bad_request(f"Invalid sort key: {key}. It must be one of the following: {', '.join(SORTS)}.")
        images.sort(key=lambda image: image.id)
        for key, way in reversed(pairs):
            images.sort(key=SORTS[key], reverse=way != "asc")
        if limit == "0":
            return [], False
        unknown = "No image found with ID {}".format
        return page(images, {**query, "limit": limit}, lambda image: image.id, unknown=unknown)

    def post(self) -> None:
        """Make an image without bytes, in the status queued. A field that Glance does not know is a property."""
        body = self.body()
        image = Image(
            str(uuid.uuid4()),
            body.pop("name", ""),
            self.cloud.clock.now(),
            "queued",
            self.token.project_id,
            body.pop("visibility", "shared"),
            int(body.pop("min_ram", 0)),
            int(body.pop("min_disk", 0)),
            None,
            body.pop("disk_format", "raw"),
            bool(body.pop("os_hidden", False)),
        )
        image.properties = {name: str(value) for name, value in body.items() if name != "container_format"}
        self.cloud.images.save(image.id, image)
        self.reply(201, view(image))


class OneImage(ImageHandler):
    """/v2/images/{id}."""

    def _image(self, image_id: str) -> Image:
        image = self.cloud.images.get(image_id)
        if image is None or not self.visible(image):
            raise not_found(f"No image found with ID {image_id}")
        return image

    def get(self, image_id: str) -> None:
        self.reply(200, view(self._image(image_id)))

    def delete(self, image_id: str) -> None:
        """For admins, and for members of the owning project."""
        image = self._image(image_id)
        if image.owner != self.token.project_id and not self.token.is_admin:
            raise forbidden("You are not permitted to delete this image.")
        self.cloud.images.remove(image_id)
        self.reply(204)

    def patch(self, image_id: str) -> None:
        """A JSON patch of min_ram, min_disk and properties."""
        image = self._image(image_id)
        for change in json.loads(self.request.body):
            name = change["path"].removeprefix("/").replace("~1", "/").replace("~0", "~")
            if name in ("min_ram", "min_disk"):
                setattr(image, name, int(change["value"]))
            elif change["op"] == "remove":
                image.properties.pop(name, None)
            else:
                image.properties[name] = str(change["value"])
        self.cloud.images.save(image.id, image)
        self.reply(200, view(image))


class ImageFile(OneImage):
    """PUT /v2/images/{id}/file."""

    def put(self, image_id: str) -> None:
        """Take the bytes, of which only the number is stored."""
        image = self._image(image_id)
        image.status, image.size = "active", len(self.request.body)
        self.cloud.images.save(image.id, image)
        self.reply(204)


class ImageAction(OneImage):
    """POST /v2/images/{id}/actions/{deactivate|reactivate}, for admins."""

    def post(self, image_id: str, action: str) -> None:
        image = self._image(image_id)
        if not self.token.is_admin:
            raise forbidden("You are not authorized to complete this action.")
        image.status = "deactivated" if action == "deactivate" else "active"
        self.cloud.images.save(image.id, image)
        self.reply(204)


class Members(OneImage):
    """POST /v2/images/{id}/members: share an image with a project."""

    def post(self, image_id: str) -> None:
        image = self._image(image_id)
        image.members.append(self.body()["member"])
        self.cloud.images.save(image.id, image)
        self.reply(200, {"image_id": image_id, "member_id": image.members[-1], "status": "pending"})


class Missing(ImageHandler):
    """Any other path: 404."""

    def missing(self) -> None:
        raise not_found("The resource could not be found.")

    get = post = put = delete = patch = missing


def view(image: Image) -> dict[str, Any]:
    """An image as Glance shows it."""
    created = seconds_text(image.created)
    active = image.status != "queued"
    return {
        **image.properties,
        "id": image.id,
        "name": image.name,
        "status": image.status,
        "visibility": image.visibility,
        "owner": image.owner,
        "disk_format": image.disk_format,
        "container_format": "bare",
        "size": image.size if active else None,
        "virtual_size": image.size if active else None,
        "checksum": "fcd6bcb56c1689fcef28b57c22475bad" if active else None,
        "protected": False,
        "min_ram": image.min_ram,
        "min_disk": image.min_disk,
        "os_hidden": image.hidden,
        "os_hash_algo": "sha512" if active else None,
        "os_hash_value": hashlib.sha512(image.id.encode()).hexdigest() if active else None,
        "stores": "disk",
        "created_at": created,
        "updated_at": created,
        "tags": [],
        "self": f"/v2/images/{image.id}",
        "file": f"/v2/images/{image.id}/file",
        "schema": "/v2/schemas/image",
    }


routes = [
    (r"/image/?", Versions),
    (r"/image/versions", Versions),
    (r"/image/v2/images", Images),
    (r"/image/v2/images/([^/]+)", OneImage),
    (r"/image/v2/images/([^/]+)/file", ImageFile),
    (r"/image/v2/images/([^/]+)/actions/(deactivate|reactivate)", ImageAction),
    (r"/image/v2/images/([^/]+)/members", Members),
    (r"/image/.*", Missing),
]
