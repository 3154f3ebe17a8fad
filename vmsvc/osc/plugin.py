"""The plugin as python-openstackclient finds it: its API, its options, and the client for its commands.

Every start of `openstack` imports this module, so the rest is imported when a command needs it.
"""

import argparse
import os
import ssl
from collections.abc import Callable
from typing import Any

API_NAME = "preemptible"
API_VERSION_OPTION = "os_preemptible_api_version"
API_VERSIONS = ("1",)
DEFAULT_API_VERSION = "1"
#: In the cloud's catalogue.
SERVICE_TYPE = "preemptible"
#: Where the program keeps the address of a service; `preemptible_endpoint_override` of clouds.yaml comes there too.
OVERRIDE = "preemptible_endpoint_override"
#: Seconds for which a command tries to reach a service that is away: somebody waits at the terminal.
PATIENCE = 5.0


def build_option_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The program's hook: add the global options of the plugin."""
    parser.add_argument(
        "--os-preemptible-api-version",
        metavar="<preemptible-api-version>",
        default=os.environ.get("OS_PREEMPTIBLE_API_VERSION"),
        help=f"vmsvc API version, default={DEFAULT_API_VERSION} (Env: OS_PREEMPTIBLE_API_VERSION)",
    )
    parser.add_argument(
        "--os-preemptible-endpoint",
        dest=OVERRIDE,
        metavar="<preemptible-endpoint>",
        default=os.environ.get("OS_PREEMPTIBLE_ENDPOINT") or None,
        help="address of vmsvc, default: that of the service type preemptible in the catalogue (Env: "
        "OS_PREEMPTIBLE_ENDPOINT)",
    )
    return parser


def needs_token(config: dict[str, Any]) -> bool:
    """True unless the configuration has the address of a vmsvc, and no credentials: then it is asked without a
    token."""
    auth = config.get("auth") or {}
    return not config.get(OVERRIDE) or any(auth.get(name) for name in ("auth_url", "endpoint", "token"))


def make_client(instance: Any) -> Any:
    """The program's hook: the client of a command, which finds it as `app.client_manager.preemptible`. Raises
    CommandError when nobody says where vmsvc is."""
    from osc_lib.exceptions import CommandError  # pylint: disable=import-outside-toplevel

    from vmsvc.client import Client  # pylint: disable=import-outside-toplevel

    config = instance.get_configuration()
    try:
        return Client(
            _endpoint(instance, config),
            token=_token_source(instance.session) if needs_token(config) else "",
            patience=PATIENCE,
            verify=_verification(instance.verify, instance.cert),
        )
    except ValueError as error:
        raise CommandError(str(error)) from None


def _endpoint(instance: Any, config: dict[str, Any]) -> str:
    """The address of vmsvc. Raises ValueError."""
    where = {"region_name": instance.region_name, "interface": instance.interface}
    found = config.get(OVERRIDE)
    if not found and instance.is_service_available(SERVICE_TYPE, **where) is not False:
        found = instance.get_endpoint_for_service_type(SERVICE_TYPE, **where)
    if not found:
        raise ValueError(
            f"the cloud's catalogue has no service of the type {SERVICE_TYPE} here: register vmsvc, or name its "
            "address in OS_PREEMPTIBLE_ENDPOINT"
        )
    return str(found)


def _token_source(session: Any) -> Callable[[str], str]:
    """Gives the token of the program's session, which gets a new one shortly before the old one ends."""

    def token(refused: str) -> str:
        if refused:
            session.invalidate()
        return str(session.get_token() or "none")

    return token


def _verification(verify: bool | str, certificate: Any) -> bool | ssl.SSLContext:
    """How the certificate of vmsvc is checked: as the program checks that of the cloud."""
    if not certificate and isinstance(verify, bool):
        return verify
    context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    if certificate:
        context.load_cert_chain(*([certificate] if isinstance(certificate, str) else certificate))
    if verify is False:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
