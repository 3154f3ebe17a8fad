"""Any OpenStack cloud behind the port."""

import logging
from collections.abc import Callable

from vmsvc.cloud.openstack.calls import Calls
from vmsvc.cloud.openstack.catalog import CatalogCalls
from vmsvc.cloud.openstack.exchange import CloudRequest
from vmsvc.cloud.openstack.hosts import HostCalls
from vmsvc.cloud.openstack.ports import PortCalls
from vmsvc.cloud.openstack.servers import ServerCalls
from vmsvc.cloud.openstack.session import Session
from vmsvc.cloud.openstack.volumes import SERVICE, VolumeCalls
from vmsvc.domain.errors import Forbidden, NotFound

log = logging.getLogger(__name__)
#: The microversion that has `host` in the create.
PINS = (2, 74)
#: Fields of the create that came after the oldest Nova that vmsvc works with.
FIELDS_SINCE = {"trusted_image_certificates": (2, 63), "hostname": (2, 90)}
#: What an operator may read.
PROBES = (
    ("compute", "/os-services", {"binary": "nova-compute"}),
    ("compute", "/os-hypervisors", {"limit": "1"}),
    ("compute", "/servers", {"all_tenants": "1", "limit": "1"}),
    ("placement", "/resource_providers", None),
)


class OpenStack(ServerCalls, CatalogCalls, HostCalls, PortCalls, VolumeCalls):
    """A cloud and a set of credentials, as the port `Cloud` has it.

    `cloud` and `config_file` name an entry of a clouds.yaml; without a file OS_CLOUD, OS_CLIENT_CONFIG_FILE and the
    other OS_* variables are read as every OpenStack client does, when `connect()` is called. `workers` calls run at
    once, `rate` start in a second, and each has `timeout` seconds to be let out and as many for its answer.
    `on_call` is called with (operation, 'ok' or an error's slug, seconds) after every request, on the loop.
    """

    def __init__(
        self,
        *,
        cloud: str | None = None,
        config_file: str | None = None,
        workers: int = 32,
        rate: float = 50.0,
        timeout: float = 30.0,
        on_call: Callable[[str, str, float], None] | None = None,
    ):
        self._session = Session(cloud, config_file, workers, timeout)
        calls = Calls(self._session.exchange, workers=workers, rate=rate, timeout=timeout, on_call=on_call)
        super().__init__(calls)
        self.mode = "tenant"
        self.project_id = ""
        self.unsupported: frozenset[str] = frozenset()
        self.has_volumes = False

    async def connect(self) -> None:
        """Sign in, build the clients, find out mode and project. Raises CloudUnavailable, or CloudError when the
        settings cannot work; it may then be called again."""
        self.project_id = await self._calls.blocking("connect", self._session.open)
        self.has_volumes = SERVICE in self._session.services
        version = self._session.version("compute")
        self.unsupported = frozenset(name for name, since in FIELDS_SINCE.items() if version < since)
        self.mode = "operator" if await self._may_operate() else "tenant"
        log.info("connected to the cloud in %s mode, project %s", self.mode, self.project_id)

    @property
    def roles(self) -> frozenset[str]:
        """The roles of the credentials in their project, once it is connected."""
        return self._session.roles

    async def close(self) -> None:
        """Give back sockets and threads. Calls in flight end with their time-outs."""
        self._calls.close()
        self._session.close()

    async def _may_operate(self) -> bool:
        """Operator mode needs the compute services, the hypervisors, everybody's servers and Placement's providers:
        policies can grant each by itself, so each is asked for. And a Nova that can pin a server to a host."""
        if "placement" not in self._session.services or self._session.version("compute") < PINS:
            return False
        try:
            for service, path, params in PROBES:
                await self._calls.send(
                    CloudRequest("connect", service, "GET", path, params), lambda answer: answer.status
                )
        except (Forbidden, NotFound):
            return False
        return True
