"""The SDK's side: one Connection, its proxies, and how one request goes through them. All of it blocks.

The only module that touches openstacksdk, keystoneauth and requests; they are imported when `open()` runs, for it takes
a while. The rules below were measured on openstacksdk 4.22 and keystoneauth 5.18; no document promises thread safety.
"""

import importlib
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from vmsvc.cloud.openstack import connection_errors
from vmsvc.cloud.openstack.exchange import Answer, CloudRequest, NoAnswer, NotSent, without
from vmsvc.cloud.openstack.limits import Attempt
from vmsvc.domain.errors import CloudError

if TYPE_CHECKING:
    from keystoneauth1.adapter import Adapter
    from openstack.config.cloud_region import CloudRegion
    from openstack.config.loader import OpenStackConfig
    from openstack.connection import Connection
    from requests import Response

    from vmsvc.cloud.openstack.http_session import HttpSession

log = logging.getLogger(__name__)
SERVICES = ("compute", "image", "network", "placement")
VOLUMES = "block-storage"
#: What the parsers were written for. Newer ones are not asked for: they may change an answer's shape.
NEWEST = {"compute": (2, 93), "placement": (1, 36)}
#: 2.53: hypervisors by uuid (and tags in a create, 2.52). 1.19: providers' aggregates as they look now.
OLDEST = {"compute": (2, 53), "placement": (1, 19)}
CONNECT_SECONDS = 10.0
#: What OpenStack takes as a request id from outside.
REQUEST_ID = re.compile(r"^req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


class Session:
    """A signed-in connection to one cloud. `open()` first; then `exchange()` from any number of threads."""

    def __init__(self, cloud: str | None, config_file: str | None, workers: int, timeout: float):
        self._cloud, self._config_file = cloud, config_file
        self._workers, self._timeout = workers, timeout
        self._opening, self._renewing = threading.Lock(), threading.Lock()
        self._http: "HttpSession | None" = None
        self._keystone: Any = None  # keystoneauth's session, whose types know nothing of what its `auth` can do
        self._settings: "CloudRegion | None" = None  # of the cloud, as the SDK has read them
        self._proxies: "dict[str, Adapter]" = {}
        self._endpoints: tuple[str, dict[str, str | None]] = "", {}  # by the token of their catalogue
        self._versions: dict[str, tuple[int, int]] = {}
        self._roles: frozenset[str] = frozenset()

    @property
    def roles(self) -> frozenset[str]:
        """The roles of the credentials in their project."""
        return self._roles

    @property
    def services(self) -> frozenset[str]:
        """The services that the catalogue shows us."""
        return frozenset(self._proxies)

    def version(self, service: str) -> tuple[int, int]:
        """The microversion that requests to this service carry."""
        return self._versions[service]

    def open(self, _attempt: Attempt) -> str:
        """Sign in and build everything that threads share; returns the project's id. Raises NotSent when the cloud
        does not answer or does not accept our sign-in, CloudError when the settings cannot work; either says why."""
        with self._opening, self._sdk_errors():
            self.close()
            with self._settings_errors():
                connection = self._connection()
                self._keystone = connection.session
                project_id: str | None = self._keystone.get_project_id()
            if not project_id:
                raise CloudError("the credentials are not for a project: name one in clouds.yaml or OS_PROJECT_NAME")
            self._roles = frozenset(self._keystone.auth.get_access(self._keystone).role_names)
            # Built in one thread, before there are others: a first touch by 16 threads built 16 proxies.
            proxies = {name: getattr(connection, name) for name in SERVICES if _in_catalog(connection, name)}
            if "compute" not in proxies:
                raise CloudError(self._no_compute(connection.config))
            proxies["identity"] = self._identity()
            if _in_catalog(connection, VOLUMES):
                proxies[VOLUMES] = self._volumes(connection)
            self._versions = {name: _negotiate(name, proxies[name]) for name in NEWEST if name in proxies}
            self._proxies = proxies
            return project_id

    def exchange(self, request: CloudRequest, attempt: Attempt, request_id: str | None) -> Answer:
        """Send it once; a 401 did nothing, so it is answered with a new token and one more try. Raises NotSent when
        nothing left, NoAnswer when it may have been done."""
        if request.service not in self._proxies:
            raise NotSent(f"there is no {request.service} service, or it is not connected yet")
        token, answer = self._send(request, attempt, request_id)
        if answer.status == 401 and request.token is None:
            self._renew(token)
            _, answer = self._send(request, attempt, request_id)
        return answer

    def close(self) -> None:
        """Close the sockets that are idle; those in use are closed by their threads."""
        if self._http is not None:
            self._http.close()

    @contextmanager
    def _settings_errors(self) -> Iterator[None]:
        """Raise CloudError for settings that cannot work. The SDK raises any kind of error for a malformed file, and
        keystoneauth a plain Exception for a login without a password."""
        exceptions, keystone = map(importlib.import_module, ("openstack.exceptions", "keystoneauth1.exceptions"))
        self._settings = None
        try:
            yield
        except CloudError:
            raise
        except Exception as error:  # pylint: disable=broad-exception-caught
            ours = exceptions.ConfigException, keystone.MissingRequiredOptions, keystone.NoMatchingPlugin
            if isinstance(error, (*_failures(), OSError)) and not isinstance(error, ours):
                raise
            raise CloudError(
                f"the settings for the cloud (OS_* variables, clouds.yaml) cannot be used: "
                f"{self._without_secrets(error)}"
            ) from None

    def _connection(self) -> "Connection":
        # The SDK warns about its own code.
        warnings.filterwarnings("ignore", message="Support for InfluxDB")
        warnings.filterwarnings("ignore", message="The 'service_type' parameter is unnecesary")
        # What these log also comes as an error, in our words. The first one would log lines of a file that is not
        # YAML, and with them perhaps a password.
        for name in ("openstack.config", "keystoneauth.identity", "stevedore"):
            logging.getLogger(name).setLevel(logging.ERROR)
        loader = importlib.import_module("openstack.config.loader")
        keystoneauth = importlib.import_module("keystoneauth1.session")
        config = loader.OpenStackConfig(
            config_files=[self._config_file] if self._config_file else None,
            load_envvars=self._config_file is None,
            app_name="vmsvc",
            session_constructor=lambda **given: keystoneauth.Session(session=self._http, **given),
        )
        _require_cloud(self._cloud or config.default_cloud, config)
        # As in the `openstack` command, the environment's TLS variables count for a cloud of a file too.
        given = config.cloud_config["clouds"].get(config.envvar_key, {})
        tls = {name: given[name] for name in ("cacert", "cert", "key", "insecure") if given.get(name)}
        # Without a time-out the SDK waits for ever.
        self._settings = config.get_one(cloud=self._cloud, api_timeout=self._timeout, **tls)
        http_session: "type[HttpSession]" = importlib.import_module("vmsvc.cloud.openstack.http_session").HttpSession
        direct = bool(self._settings.config.get("direct"))
        self._http = http_session(self._workers, len(SERVICES) + 2, direct)
        connection: "Connection" = importlib.import_module("openstack.connection").Connection(config=self._settings)
        return connection

    def _identity(self) -> "Adapter":
        """Keystone where we sign in: what the catalogue has may be for others."""
        adapter, plugin = map(importlib.import_module, ("keystoneauth1.adapter", "keystoneauth1.plugin"))
        proxy: "Adapter" = adapter.Adapter(
            self._keystone,
            service_type="identity",
            interface=plugin.AUTH_INTERFACE,
            min_version="3",
            max_version="3.latest",
        )
        return proxy

    def _volumes(self, connection: "Connection") -> "Adapter":
        """Cinder as the catalogue has it. The SDK's own proxy would ask it for its versions, and a Cinder that does not
        answer would keep vmsvc from the rest of the cloud."""
        config = connection.config
        proxy: "Adapter" = importlib.import_module("keystoneauth1.adapter").Adapter(
            self._keystone,
            service_type=VOLUMES,
            interface=config.get_interface(VOLUMES),
            region_name=config.get_region_name(VOLUMES),
        )
        return proxy

    def _send(self, request: CloudRequest, attempt: Attempt, request_id: str | None) -> tuple[str, Answer]:
        """Returns the token that was used, and the answer."""
        with self._sdk_errors():
            # Apart from the request, so that a failure to sign in has sent nothing.
            endpoint = self._endpoint(request.service, self._keystone.get_token())
        if not attempt.begin():
            raise NotSent("its time was up before it could go out")
        seconds = max(0.1, attempt.remaining)
        version: tuple[int, ...] = request.version or self._versions.get(request.service) or ()
        options = {
            "params": request.params,
            "json": request.body,
            "microversion": ".".join(map(str, version)) or None,
            "global_request_id": request_id if REQUEST_ID.match(request_id or "") else None,
            **(_in_the_name_of(request.token) if request.token else {}),
        }
        try:
            response = self._proxies[request.service].request(
                request.path,
                request.method,
                endpoint_override=endpoint,
                raise_exc=False,
                # keystoneauth takes a read time-out for a failure to connect: with retries a POST went out 3 times.
                connect_retries=0,
                status_code_retries=0,
                # When 32 threads get a 401 at once, its own renewal helped 2 of them.
                allow_reauth=False,
                # Its log shows bodies, and so adminPass and user data.
                log=False,
                stream=True,
                timeout=(min(CONNECT_SECONDS, seconds), seconds),
                **{name: value for name, value in options.items() if value is not None},
            )
            text = _body(response, attempt).decode("utf-8", "replace")
        except _failures() as error:
            raise _meaning(error) from None
        token = str(response.request.headers.get("X-Auth-Token", ""))
        return token, request.answered(response.status_code, response.headers, text, token)

    def _endpoint(self, service: str, token: str) -> str | None:
        """Where it is by the catalogue that came with this token. The SDK copies and searches all of the catalogue for
        every request, which is a fifth of what a request costs."""
        known, endpoints = self._endpoints
        if known != token:
            self._endpoints = token, endpoints = token, {}
        if service not in endpoints:
            found = self._proxies[service].get_endpoint()
            endpoints[service] = found and found.replace("%", "%%")  # the SDK formats it
        return endpoints[service]

    def _renew(self, refused: str) -> None:
        """Drop the refused token, unless another thread has a new one already: one sign-in serves them all."""
        with self._renewing, self._sdk_errors():
            if self._keystone.get_token() == refused:
                self._keystone.invalidate()
                self._keystone.get_token()

    @contextmanager
    def _sdk_errors(self) -> Iterator[None]:
        """Turn errors of sign-in and discovery into NotSent: no request of ours was sent yet."""
        try:
            yield
        except _failures() as error:
            raise NotSent(self._why_not_in(error)) from None
        except OSError as error:  # a file of certificates that is not there
            raise NotSent(self._why_not_in(error)) from None

    def _why_not_in(self, error: Exception) -> str:
        """Why the sign-in failed, as a sentence without secrets."""
        auth = self._settings.config.get("auth", {}) if self._settings else {}
        address = auth.get("auth_url") or ""
        if not address.startswith(("http://", "https://")):
            return (
                f"the address of Keystone (OS_AUTH_URL, auth_url in clouds.yaml) is no URL: "
                f"{address.rpartition('@')[2]!r}"
            )
        if said := connection_errors.connection_trouble(error, address):
            return self._without_secrets(said)
        status, keystone = getattr(error, "http_status", None), connection_errors.place_of(address)
        said = self._without_secrets(getattr(error, "message", None) or error)
        if status in (401, 403):
            return (
                f"Keystone at {keystone} does not accept the service's credentials ({said}): the user, its "
                "domain, the password, or the project is wrong"
            )
        if status == 404 or "versioned identity endpoints" in said:
            return (
                f"there is no Keystone at {keystone}{urlsplit(address).path} ({said}): look at OS_AUTH_URL, or "
                "auth_url in clouds.yaml"
            )
        if status == 400 and address.startswith("http://"):
            return f"signing in failed: {said}; does the address of Keystone, {keystone}, begin with https://?"
        return f"signing in at {keystone} failed ({type(error).__name__}): {said}"

    def _without_secrets(self, said: object) -> str:
        """The text as one line without our secrets: the peer may have repeated what we sent."""
        auth = self._settings.config.get("auth", {}) if self._settings else {}
        secrets = [str(value) for name, value in auth.items() if value and connection_errors.is_secret(name)]
        access = getattr(getattr(self._keystone, "auth", None), "auth_ref", None)
        text = without(str(said), secrets + ([access.auth_token] if access else []))
        for secret in secrets:  # a short one too
            text = text.replace(secret, "***")
        return " ".join(text.split())[:500]

    def _no_compute(self, settings: "CloudRegion") -> str:
        """Why the catalogue has no compute service for our settings."""
        catalog = self._keystone.auth.get_access(self._keystone).service_catalog.catalog
        found = {
            f"{one.get('region')} ({one.get('interface')})"
            for service in catalog
            if service.get("type") == "compute"
            for one in service.get("endpoints", ())
        }
        wanted = (
            f"region {settings.get_region_name('compute') or 'any'}, interface "
            f"{settings.get_interface('compute') or 'public'}"
        )
        return (
            f"the cloud's catalogue has no compute service for {wanted} (OS_REGION_NAME, OS_INTERFACE, or "
            f"region_name and interface in clouds.yaml); it has: {', '.join(sorted(found)) or 'none at all'}"
        )


def _in_the_name_of(token: str) -> dict[str, Any]:
    """A client's token instead of ours; no redirect carries it elsewhere."""
    return {"headers": {"X-Auth-Token": token, "X-Subject-Token": token}, "authenticated": False, "redirect": False}


def _body(response: "Response", attempt: Attempt) -> bytes:
    """The whole body, taken as it comes. The socket's time-out is for each piece: a cloud that drips its answer
    would hold the thread for as long as it likes."""
    parts = []
    with response:
        while part := response.raw.read1(65536, decode_content=True):
            parts.append(part)
            if not attempt.remaining:
                raise NoAnswer("its answer did not end in time")
    return b"".join(parts)


def _in_catalog(connection: "Connection", service: str) -> bool:
    config = connection.config
    try:
        return (
            connection.session.get_endpoint(
                service_type=service,
                interface=config.get_interface(service),
                region_name=config.get_region_name(service),
            )
            is not None
        )
    except importlib.import_module("keystoneauth1.exceptions").EndpointNotFound:
        return False


def _negotiate(service: str, proxy: "Adapter") -> tuple[int, int]:
    """The newest microversion that both sides know; raises CloudError when the cloud is too old."""
    endpoint = proxy.get_endpoint_data()
    if endpoint is None:
        raise NotSent(f"the {service} service does not answer")
    if not endpoint.max_microversion:
        try:  # without microversions: is the service old, or does it not answer?
            proxy.session.get(endpoint.url or "", authenticated=False, raise_exc=False, log=False)
        except _failures() as error:
            why = connection_errors.connection_trouble(error, endpoint.url or "") or type(error).__name__
            raise NotSent(f"the {service} service does not answer: {why}") from None
    common = min(cast(tuple[int, int], tuple(endpoint.max_microversion or (0, 0))), NEWEST[service])
    if common < OLDEST[service]:
        raise CloudError(
            f"the cloud's {service} service speaks microversion {common[0]}.{common[1]}; "
            f"{OLDEST[service][0]}.{OLDEST[service][1]} or later is needed"
        )
    return common


def _failures() -> tuple[type[Exception], ...]:
    """The trees of errors: connections fail with keystoneauth's, bodies with urllib3's, much else with the SDK's."""
    return (
        importlib.import_module("keystoneauth1.exceptions").ClientException,
        importlib.import_module("openstack.exceptions").SDKException,
        importlib.import_module("urllib3.exceptions").HTTPError,
    )


def _require_cloud(name: str | None, config: "OpenStackConfig") -> None:
    """Raise CloudError when no file has the named cloud; the message lists the files."""
    clouds = config.cloud_config["clouds"]
    if name != "defaults" and (name is None or name in clouds):  # `defaults`: the SDK found no settings at all
        return
    has = sorted(set(clouds) - {config.envvar_key, "defaults"})
    read = " and ".join(filter(None, (config.config_filename, config.secure_config_filename)))
    if read and name == "defaults":
        raise CloudError(f"there are no clouds in {read}")
    if read:
        raise CloudError(f"there is no cloud {name!r} in {read} (OS_CLOUD); it has: {', '.join(has) or 'none'}")
    raise CloudError(
        "OS_CLOUD names a cloud of a clouds.yaml, and none was read: "
        f"{connection_errors.unread(getattr(config, '_config_files'))}"
    )


def _meaning(error: Exception) -> NotSent | NoAnswer:
    """Whether a failed request had left. Only when no connection came about is it sure that it had not."""
    requests = importlib.import_module("requests.exceptions")
    pool = importlib.import_module("urllib3.exceptions")
    found = list(connection_errors.causes(error))
    if any(
        isinstance(cause, (requests.ConnectTimeout, pool.NewConnectionError, pool.ConnectTimeoutError))
        for cause in found
    ):
        return NotSent(connection_errors.connection_trouble(error) or "no connection")
    if any(isinstance(cause, (requests.Timeout, pool.ReadTimeoutError)) for cause in found):
        return NoAnswer("it timed out")
    if any(isinstance(cause, (requests.RequestException, pool.HTTPError)) for cause in found):
        return NoAnswer("the connection broke")
    return NotSent(type(error).__name__)  # no endpoint, no token: the SDK gave up before the socket
