"""A process that starts services by fork: it has imported everything already, so that a start costs a tenth of a
second. One order a line on stdin, as JSON; the answer is the new process's id. What it starts it neither watches nor
stops: that is the business of who ordered it (`tests.chaos.fleet`).

An order: `environ` of the service, `log` (a file), `folder` and `deadly` (see `points`; null: no points), `timing` (the
fields of a `Timing`), `constants` (module attribute -> value).
"""

import functools
import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path

import requests

from tests.chaos.points import Points, WatchedCloud, watch_commits
from tests.system.warm_start import LATE_IMPORTS
from vmsvc import bootstrap, cli
from vmsvc.cloud.openstack import http_session
from vmsvc.domain.timing import Timing


def serve(order: dict) -> int:
    """In the new process: be the service."""
    for name, value in order["constants"].items():
        module, _, attribute = name.rpartition(".")
        setattr(importlib.import_module(module), attribute, value)
    timing = Timing(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in order["timing"].items()}
    )
    bootstrap.service_of = functools.partial(bootstrap.service_of, timing=timing)
    os.environ.update(order["environ"])  # the SDK reads it itself
    if "http_proxy" in order["environ"]:
        # The cloud of a test is on loopback, where the service asks no proxy. Faults of the wire come by one.
        http_session.HttpSession.merge_environment_settings = requests.Session.merge_environment_settings
    if order["folder"]:
        points = Points(Path(order["folder"]), order["deadly"])
        watch_commits(points)
        cloud_of = bootstrap.cloud_of
        bootstrap.cloud_of = lambda *args, **kwargs: WatchedCloud(cloud_of(*args, **kwargs), points)
    return cli.main(["serve"], order["environ"])


def fork(order: dict) -> int:
    """The id of the new process, which does not return from here."""
    pid = os.fork()
    if not pid:
        be_a_service(order)
    return pid


def be_a_service(order: dict) -> None:
    """In a session of its own, to the end."""
    status = 70
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(order["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDWR)
        for source, target in ((nothing, 0), (nothing, 1), (log, 2)):
            os.dup2(source, target)
        status = serve(order)
    except BaseException:  # pylint: disable=broad-exception-caught
        traceback.print_exc()
    finally:
        os._exit(status)  # pylint: disable=protected-access


def main() -> None:
    """Until stdin ends."""
    for name in LATE_IMPORTS:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        print(fork(json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
