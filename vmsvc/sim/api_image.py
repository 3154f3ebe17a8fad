"""Glance v2 over HTTP: images without bytes (measured)."""

import hashlib
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
        return image.visibility == "public" or image.owner == self.token.project_id or self.token.is_admin


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
        images = [image for image in self.cloud.catalog.images.values() if self.visible(image)]
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


class Missing(ImageHandler):
    """Everything else."""

    def missing(self) -> None:
        """404 for any method."""
        raise not_found("The resource could not be found.")

    get = post = put = delete = patch = missing


def view(image: Image) -> dict:
    """An image as JSON."""
    made = seconds_text(image.created)
    active = image.status == "active"
    return {"id": image.id, "name": image.name, "status": image.status, "visibility": image.visibility,
            "owner": image.owner, "disk_format": "raw", "container_format": "bare", "size": 65536 if active else None,
            "virtual_size": 65536 if active else None,
            "checksum": "fcd6bcb56c1689fcef28b57c22475bad" if active else None, "protected": False, "min_ram": 0,
            "min_disk": 0, "os_hidden": False, "os_hash_algo": "sha512" if active else None,
            "os_hash_value": hashlib.sha512(image.id.encode()).hexdigest() if active else None, "stores": "disk",
            "created_at": made, "updated_at": made, "tags": [], "self": f"/v2/images/{image.id}",
            "file": f"/v2/images/{image.id}/file", "schema": "/v2/schemas/image"}


routes = [(r"/image/?", Versions), (r"/image/versions", Versions), (r"/image/v2/images", Images),
          (r"/image/v2/images/([^/]+)", OneImage), (r"/image/.*", Missing)]
