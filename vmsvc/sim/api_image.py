"""Glance v2 over HTTP: images of whose bytes only the number is kept (measured)."""

import hashlib
import json
import uuid
from urllib.parse import urlencode

from vmsvc.sim.catalog import Image
from vmsvc.sim.clock import seconds_text
from vmsvc.sim.handler import ServiceHandler
from vmsvc.sim.refusal import forbidden, not_found

TITLES = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}


class ImageHandler(ServiceHandler):
    """Glance speaks of errors in plain text."""

    service = "image"

    def refuse(self, status: int, message: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(f"{status} {TITLES.get(status, 'Error')}\n\n{message}\n\n   ")

    def unauthorized(self) -> None:
        self.set_header("WWW-Authenticate", f'Keystone uri="{self.base}/identity/v3"')
        self.refuse(401, "This server could not verify that you are authorized to access the document you requested. "
                    "Either you supplied the wrong credentials (e.g., bad password), or your browser does not "
                    "understand how to supply the credentials required.")

    def visible(self, image: Image) -> bool:
        """True when the caller may see it."""
        return image.usable_by(self.token)

    def listed(self, image: Image) -> bool:
        """True when a list shows it that asks for nothing special: not a community image of others, nor one that is
        shared and was not accepted, nor a hidden one, not to its owner either (measured)."""
        return not image.hidden and (image.visibility == "public" or image.owner == self.token.project_id
                                     or self.token.is_admin and image.visibility != "community")


class Versions(ImageHandler):
    """The discovery document."""

    needs_token = False

    def get(self) -> None:
        """300 with all versions."""
        minors = (15, 13, 12, 11, 10, 9, 8, 17, 7, 6, 5, 4, 3, 2, 1, 0)
        self.reply(300, {"versions": [{"id": f"v2.{minor}", "status": "CURRENT" if minor == 17 else "SUPPORTED",
                                       "links": [{"rel": "self", "href": f"{self.base}/image/v2/"}]}
                                      for minor in minors]})


class Images(ImageHandler):
    """GET /v2/images."""

    def get(self) -> None:
        """A page; filters name, status, visibility, owner, id."""
        images = [image for image in self.cloud.catalog.images.values() if self.listed(image)]
        for name in ("name", "status", "visibility", "owner", "id"):
            if name in self.query:
                wanted = self.query[name].removeprefix("in:").split(",")
                images = [image for image in images if getattr(image, name) in wanted]
        images.sort(key=lambda image: (-image.created, image.id))
        if "marker" in self.query:
            ids = [image.id for image in images]
            images = images[ids.index(self.query["marker"]) + 1:] if self.query["marker"] in ids else []
        limit = int(self.query.get("limit", 25))
        first = {name: value for name, value in self.query.items() if name != "marker"}
        body = {"images": [view(image) for image in images[:limit]], "schema": "/v2/schemas/images",
                "first": "/v2/images" + (f"?{urlencode(first)}" if first else "")}
        if len(images) > limit:
            body["next"] = f"/v2/images?{urlencode({**first, 'marker': images[limit - 1].id})}"
        self.reply(200, body)

    def post(self) -> None:
        """A new one, without bytes: queued. What is not Glance's own is a property."""
        asked = self.body()
        image = Image(str(uuid.uuid4()), asked.pop("name", ""), self.cloud.clock.now(), "queued", self.token.project_id,
                      asked.pop("visibility", "shared"), int(asked.pop("min_ram", 0)), int(asked.pop("min_disk", 0)),
                      None, asked.pop("disk_format", "raw"), bool(asked.pop("os_hidden", False)))
        image.properties = {name: str(value) for name, value in asked.items() if name != "container_format"}
        self.cloud.catalog.add_image(image)
        self.reply(201, view(image))


class OneImage(ImageHandler):
    """/v2/images/{id}."""

    def _image(self, image_id: str) -> Image:
        image = self.cloud.catalog.images.get(image_id)
        if image is None or not self.visible(image):
            raise not_found(f"No image found with ID {image_id}")
        return image

    def get(self, image_id: str) -> None:
        """The image."""
        self.reply(200, view(self._image(image_id)))

    def delete(self, image_id: str) -> None:
        """Forget one's own."""
        image = self._image(image_id)
        if image.owner != self.token.project_id and not self.token.is_admin:
            raise forbidden("You are not permitted to delete this image.")
        self.cloud.catalog.drop_image(image_id)
        self.reply(204)

    def patch(self, image_id: str) -> None:
        """JSON patch: min_ram, min_disk, and properties."""
        image = self._image(image_id)
        for change in json.loads(self.request.body):
            name = change["path"].removeprefix("/").replace("~1", "/").replace("~0", "~")
            if name in ("min_ram", "min_disk"):
                setattr(image, name, int(change["value"]))
            elif change["op"] == "remove":
                image.properties.pop(name, None)
            else:
                image.properties[name] = str(change["value"])
        self.cloud.catalog.add_image(image)
        self.reply(200, view(image))


class ImageFile(OneImage):
    """PUT /v2/images/{id}/file."""

    def put(self, image_id: str) -> None:
        """Its bytes, of which only the number is kept."""
        image = self._image(image_id)
        image.status, image.size = "active", len(self.request.body)
        self.cloud.catalog.add_image(image)
        self.reply(204)


class ImageAction(OneImage):
    """POST /v2/images/{id}/actions/{deactivate|reactivate}: the admin's."""

    def post(self, image_id: str, action: str) -> None:
        """Nobody downloads it, or all do again."""
        image = self._image(image_id)
        if not self.token.is_admin:
            raise forbidden("You are not authorized to complete this action.")
        image.status = "deactivated" if action == "deactivate" else "active"
        self.cloud.catalog.add_image(image)
        self.reply(204)


class Members(OneImage):
    """POST /v2/images/{id}/members."""

    def post(self, image_id: str) -> None:
        """Share it with a project."""
        image = self._image(image_id)
        image.members.append(self.body()["member"])
        self.cloud.catalog.add_image(image)
        self.reply(200, {"image_id": image_id, "member_id": image.members[-1], "status": "pending"})


class Missing(ImageHandler):
    """Everything else."""

    def missing(self) -> None:
        """404 for any method."""
        raise not_found("The resource could not be found.")

    get = post = put = delete = patch = missing


def view(image: Image) -> dict:
    """An image as JSON."""
    made = seconds_text(image.created)
    active = image.status != "queued"
    return {**image.properties, "id": image.id, "name": image.name, "status": image.status,
            "visibility": image.visibility,
            "owner": image.owner, "disk_format": image.disk_format, "container_format": "bare",
            "size": image.size if active else None, "virtual_size": image.size if active else None,
            "checksum": "fcd6bcb56c1689fcef28b57c22475bad" if active else None, "protected": False,
            "min_ram": image.min_ram, "min_disk": image.min_disk, "os_hidden": image.hidden,
            "os_hash_algo": "sha512" if active else None,
            "os_hash_value": hashlib.sha512(image.id.encode()).hexdigest() if active else None, "stores": "disk",
            "created_at": made, "updated_at": made, "tags": [], "self": f"/v2/images/{image.id}",
            "file": f"/v2/images/{image.id}/file", "schema": "/v2/schemas/image"}


routes = [(r"/image/?", Versions), (r"/image/versions", Versions), (r"/image/v2/images", Images),
          (r"/image/v2/images/([^/]+)", OneImage), (r"/image/v2/images/([^/]+)/file", ImageFile),
          (r"/image/v2/images/([^/]+)/actions/(deactivate|reactivate)", ImageAction),
          (r"/image/v2/images/([^/]+)/members", Members), (r"/image/.*", Missing)]
