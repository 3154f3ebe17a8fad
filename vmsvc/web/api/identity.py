"""`/api/v1/me`: whom the service takes the client for."""

from marshmallow import fields, validate

from vmsvc.domain.principal import MEMBER, READER, ROLES
from vmsvc.web.api.handler import ApiHandler
from vmsvc.web.http.handler import route
from vmsvc.web.openapi.operations import Response, describe
from vmsvc.web.openapi.responses import OpenObject


class PrincipalView(OpenObject):
    """A principal."""

    name = fields.String(
        required=True, metadata={"description": "as the `owner` of its VMs; `anonymous` where authentication is off"}
    )
    role = fields.String(
        required=True,
        validate=validate.OneOf(ROLES),
        metadata={"description": "a `reader` may read; a `member` may create, change and delete too"},
    )


class MeHandler(ApiHandler):
    """The client's own principal."""

    address = "/api/v1/me"
    tag = "status"
    free_reads = True

    @describe(Response(200, "The principal.", PrincipalView, {"name": "ann", "role": MEMBER}))
    async def get(self) -> None:
        """Show whom the service takes you for, and what you may do."""
        principal = self.principal
        self.finish({"name": principal.name, "role": MEMBER if principal.may_write else READER})


routes = [route(MeHandler)]
