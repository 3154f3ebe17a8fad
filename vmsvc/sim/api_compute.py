"""Nova over HTTP: microversions, the shape of errors, and what is the same for all of its handlers."""

import re

from tornado.web import Finish

from vmsvc.sim.handler import ServiceHandler
from vmsvc.sim.refusal import Refused, bad_request, not_allowed, not_found
from vmsvc.sim.servers import Server

MIN, MAX = (2, 1), (2, 100)
KINDS = {400: "badRequest", 401: "unauthorized", 403: "forbidden", 404: "itemNotFound", 405: "badMethod",
         409: "conflictingRequest", 413: "overLimit", 503: "serviceUnavailable"}


class ComputeHandler(ServiceHandler):
    """Base of Nova's handlers. `self.version` is the microversion in force."""

    service = "compute"
    version = MIN

    def negotiate(self) -> None:
        """OpenStack-API-Version, or the older header; 406 beyond what there is (measured)."""
        asked = self._asked()
        if asked == "latest":
            self.version = MAX
        elif asked is not None:
            if not re.fullmatch(r"\d+\.\d+", asked):
                raise bad_request(f"API Version String {asked} is of invalid format. Must be of format "
                                  "MajorNum.MinorNum.")
            self.version = tuple(int(part) for part in asked.split("."))
        text = f"{self.version[0]}.{self.version[1]}"
        self.set_header("OpenStack-API-Version", f"compute {text}")
        self.set_header("X-OpenStack-Nova-API-Version", text)
        self.set_header("Vary", "OpenStack-API-Version")
        self.set_header("x-compute-request-id", self.request_id)
        if not MIN <= self.version <= MAX:
            raise Refused(406, f"Version {text} is not supported by the API. Minimum is {MIN[0]}.{MIN[1]} and maximum "
                          f"is {MAX[0]}.{MAX[1]}.")

    def _asked(self) -> str | None:
        for part in self.request.headers.get("OpenStack-API-Version", "").split(","):
            service, _, version = part.strip().partition(" ")
            if service == "compute":
                return version.strip()
        return self.request.headers.get("X-OpenStack-Nova-API-Version")

    def refuse(self, status: int, message: str) -> None:
        self.content_type = "application/json; charset=UTF-8"
        self.reply(status, {KINDS.get(status, "computeFault"): {"code": status, "message": message}})

    @property
    def address(self) -> str:
        """Where Nova is."""
        return f"{self.base}/compute"

    def links(self, kind: str, key: str) -> list[dict]:
        """`self` and `bookmark`."""
        return [{"rel": "self", "href": f"{self.address}/v2.1/{kind}/{key}"},
                {"rel": "bookmark", "href": f"{self.address}/{kind}/{key}"}]

    def need_admin(self, rule: str) -> None:
        """403 by policy for who is no admin (measured, section 5)."""
        if not self.token.is_admin:
            raise not_allowed(rule)

    def need_uuid(self, text: str) -> None:
        """400 for an id that is none, from 2.53 on (measured)."""
        if self.version >= (2, 53) and not re.fullmatch(r"[0-9a-fA-F-]{32,36}", text):
            raise bad_request(f"Invalid uuid {text}")

    def server(self, server_id: str) -> Server:
        """A server that the caller may see; 404 in Nova's words otherwise."""
        server = self.cloud.servers.all.get(server_id)
        if server is None or server.gone or (not self.token.is_admin and server.project_id != self.token.project_id):
            raise not_found(f"Instance {server_id} could not be found.")
        return server


class Versions(ComputeHandler):
    """The discovery documents."""

    needs_token = False

    def get(self, version: str | None = None) -> None:
        """/ has both versions, /v2.1 the one (measured; the bed's maximum is 2.104)."""
        current = {"id": "v2.1", "status": "CURRENT", "version": f"{MAX[0]}.{MAX[1]}", "min_version": "2.1",
                   "updated": "2013-07-23T11:33:21Z",
                   "links": [{"rel": "self", "href": f"{self.address}/v2.1/"}]}
        if version:
            current["links"].append({"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"})
            current["media-types"] = [{"base": "application/json",
                                       "type": "application/vnd.openstack.compute+json;version=2.1"}]
            self.reply(200, {"version": current})
            return
        old = {"id": "v2.0", "status": "DEPRECATED", "version": "", "min_version": "",
               "updated": "2011-01-21T11:33:21Z", "links": [{"rel": "self", "href": f"{self.address}/v2/"}]}
        self.reply(200, {"versions": [old, current]})


class Missing(ComputeHandler):
    """Everything else: 404 as plain text (measured)."""

    def missing(self) -> None:
        """For any method."""
        self.set_status(404)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish("404 Not Found\n\nThe resource could not be found.\n\n   ")
        raise Finish()

    get = post = put = delete = head = missing


routes = [(r"/compute/?", Versions), (r"/compute/(v2\.1)/?", Versions)]
last_routes = [(r"/compute/.*", Missing)]
