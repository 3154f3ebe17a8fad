"""The command line: serve, or one of the smaller jobs."""

import argparse
import asyncio
import contextlib
import errno
import functools
import json
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from vmsvc import COMMAND, __version__, access, adopt as adopting, bootstrap, check as report, config, tuning
from vmsvc.domain.errors import VmsvcError
from vmsvc.domain.principal import MEMBER, ROLES
from vmsvc.log import configure
from vmsvc.replicas import Supervisor
from vmsvc.service.identity import tokens
from vmsvc.simulator.embedded import DataFolderUnusable
from vmsvc.simulator.postgres import PostgresFailed
from vmsvc.simulator.process import StartFailed
from vmsvc.store.schema import Unfit

log = logging.getLogger("vmsvc")

#: Errors that end a job with their message and without a traceback.
REFUSALS = (config.ConfigError, DataFolderUnusable, PostgresFailed, StartFailed, VmsvcError, Unfit)

_OPEN_FILES = 65536

_JOBS = {
    "serve": "run the service (the default)",
    "migrate": "bring the database's schema up to date and end",
    "adopt": "make rows for servers that a restored database does not know; --dry-run shows them",
    "check": "say what is wrong with settings, database, credentials, rights, quota and clocks; start nothing",
    "openapi": "print the OpenAPI document",
    "token": "token new --name NAME --role member|reader: make a token, print it once, keep its hash",
    "sim": "run the simulated cloud alone and say how to reach it",
    "demo": "play the story on a running service, until Ctrl-C (demo --help)",
}


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do the job that the arguments name. Returns the exit status: that of the job, or 2 after one line on stderr that
    says why the job cannot be done."""
    known = parser()
    flags = vars(known.parse_args(arguments))
    job, verb, name, role = (flags.pop(key) for key in ("job", "verb", "name", "role"))
    if job == "demo":
        known.error("the demo has flags of its own, and comes before them: demo --help")
    if (job == "token") != bool(verb and name):
        known.error("it is: token new --name NAME --role member|reader")
    adoption = {key: flags.pop(key) for key in ("dry_run", "owner", "restored")}
    if job != "adopt" and any(adoption.values()):
        known.error("--dry-run, --owner and --restored belong to adopt")
    jobs: dict[str, Callable[[config.Settings, Mapping[str, str]], int]] = {
        "serve": serve,
        "migrate": migrate,
        "check": check,
        "openapi": openapi,
        "sim": simulate,
        "adopt": functools.partial(adopt, **adoption),
        "token": functools.partial(token, name, role),
    }
    try:
        settings = config.load(environ, flags)
        configure(settings.log_format)
        return jobs[job](settings, environ)
    except KeyboardInterrupt:
        return 130
    except REFUSALS as error:
        print(f"vmsvc: {error}", file=sys.stderr)
    except BrokenPipeError:
        return 128 + signal.SIGPIPE  # the reader of the output has closed the pipe
    except OSError as error:
        print(f"vmsvc: {_start_message(error, settings)}", file=sys.stderr)
    return 2


def _start_message(error: OSError, settings: config.Settings) -> str:
    """The message for a system error at a start. Raises the error itself when it is none of those that a start
    expects."""
    where = f"{settings.address}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use; stop who listens there or set VMSVC_PORT"
    if error.filename:
        return f"{error.filename}: {error.strerror}"
    if error.errno in (errno.EADDRNOTAVAIL, errno.EACCES, errno.EAFNOSUPPORT) or isinstance(error, socket.gaierror):
        return f"cannot listen on {where}: {error.strerror}"
    raise error


def parser() -> argparse.ArgumentParser:
    """The parser of the command line: the jobs, their flags, and a flag for each setting."""
    flags = argparse.ArgumentParser(
        prog=COMMAND,
        parents=[config.parser()],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Preemptible VMs for any OpenStack cloud.\n\n"
        + "\n".join(f"  {job:8} {what}" for job, what in _JOBS.items()),
    )
    flags.add_argument("job", nargs="?", choices=_JOBS, default="serve", help="what to do (default: serve)")
    flags.add_argument("verb", nargs="?", choices=["new"], default=None, help=argparse.SUPPRESS)
    flags.add_argument("--name", default=None, help="of the token's holder: what events and the log call him")
    flags.add_argument("--role", default=MEMBER, choices=ROLES, help="of the token (default: %(default)s)")
    flags.add_argument("--dry-run", action="store_true", help="adopt: show what it would do, and change nothing")
    flags.add_argument("--owner", default=None, help="adopt: the owner of the adopted VMs (default: adopted)")
    flags.add_argument(
        "--restored",
        action="store_true",
        help="adopt: after a restore, before the service is started; see docs/how-to/runbook.md",
    )
    flags.add_argument("--version", action="version", version=f"vmsvc {__version__}")
    return flags


def serve(settings: config.Settings, environ: Mapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT. A SIGINT during the stop ends it at once; a SIGTERM then changes nothing."""
    access.require(settings)
    _allow_many_sockets()
    tuning.share_heap()
    with bootstrap.backends(settings, environ) as backends:
        settings = backends.settings
        _prepare(backends.database_url)

        def replica(listening: bootstrap.Listening = bootstrap.Listening(), parent: int | None = None) -> int:
            service = bootstrap.service_of(settings, backends.database_url, backends.cloud, listening)
            asyncio.run(_serve(service, parent))
            return 0

        if settings.replicas == 1:
            return replica()
        sockets = bootstrap.listening_sockets(settings)
        Supervisor(settings.replicas, sockets, functools.partial(_run_one_of_several, replica, sockets)).run()
    return 0


def _prepare(database_url: str) -> None:
    """Wait for the database, refuse it or bring its schema up to date, before there are threads or replicas. SIGTERM
    ends the wait."""
    with _ending_on(signal.SIGTERM):
        if applied := bootstrap.migrate(database_url):
            log.info("database: applied %s", ", ".join(applied))


@contextlib.contextmanager
def _ending_on(*numbers: signal.Signals) -> Iterator[None]:
    """In this context these signals raise SystemExit, so that everything that was started is stopped in order. SIGINT
    does so even when the process inherited it as ignored, as background jobs of a shell do."""

    def end(_number: int, _frame: object) -> None:
        raise SystemExit(0)

    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_one_of_several(
    replica: Callable[[bootstrap.Listening, int], int], sockets: list[socket.socket], parent: int, number: int
) -> int:
    """Run one of several replicas and return its exit status. When it cannot start, the supervisor tries again."""
    try:
        return replica(bootstrap.Listening(sockets, number), parent)
    except REFUSALS as error:
        log.error("%s", error)
        return 2


def _allow_many_sockets() -> None:
    """Raise the soft limit of open files. The usual 1024 is for programs that use select(); this one does not."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (min(hard, _OPEN_FILES) if hard != resource.RLIM_INFINITY else _OPEN_FILES, hard)
    )


async def _serve(service: bootstrap.Service, parent: int | None) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_on_signal, number, stop)
    if parent is not None:
        loop.add_reader(parent, _stop_without_parent, parent, stop)
    try:
        starting, stopping = asyncio.ensure_future(service.start()), asyncio.ensure_future(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            return
        await starting
        log.info(
            "listening on %s://%s/",
            "https" if service.settings.tls_cert else "http",
            service.settings.authority(service.port),
        )
        await stopping
        log.info("stopping")
    finally:
        await service.stop()


def _stop_without_parent(parent: int, stop: asyncio.Event) -> None:
    """Stop this replica, because its supervisor has died: nothing would restart or stop it any more."""
    asyncio.get_running_loop().remove_reader(parent)
    stop.set()


def _stop_on_signal(number: int, stop: asyncio.Event) -> None:
    # An orderly stop can send SIGTERM twice: systemd sends it to every process, and the supervisor passes its own on.
    if stop.is_set() and number == signal.SIGINT:
        raise KeyboardInterrupt
    stop.set()


def migrate(settings: config.Settings, environ: Mapping[str, str]) -> int:
    """Apply the migrations that the database lacks, and print their names."""
    with bootstrap.backends(settings, environ, cloud=False) as backends:
        applied = bootstrap.migrate(backends.database_url, patience=0)  # the caller can run `migrate` again
        print("applied: " + ", ".join(applied) if applied else "the schema is up to date")
    return 0


def adopt(
    settings: config.Settings, environ: Mapping[str, str], *, dry_run: bool, owner: str | None, restored: bool
) -> int:
    """Make rows for our servers that have none and print what was done; 1 when some cannot be adopted as they are."""
    with bootstrap.backends(settings, environ) as backends:

        async def work() -> bool:
            cloud = bootstrap.cloud_of(backends.settings, backends.cloud)
            try:
                await cloud.connect()
                return await adopting.adopt(
                    backends.database_url,
                    cloud,
                    owner=owner,
                    dry_run=dry_run,
                    restored=restored,
                    say=functools.partial(print, flush=True),
                )
            finally:
                await cloud.close()

        return 0 if asyncio.run(work()) else 1


def check(settings: config.Settings, environ: Mapping[str, str]) -> int:
    """Check settings, database and cloud, and print each finding. Returns 0 when nothing is wrong, else 1."""

    async def report_findings() -> bool:
        cloud = bootstrap.cloud_of(settings, bootstrap.FROM_ENVIRONMENT) if bootstrap.names_cloud(environ) else None
        found = []
        try:
            async for finding in report.findings(settings, cloud):
                print(finding, flush=True)
                found.append(finding)
        finally:
            if cloud:
                await cloud.close()
        return report.passed(found)

    log.setLevel(logging.WARNING)  # the findings say the same in clearer words
    return 0 if asyncio.run(report_findings()) else 1


def openapi(_settings: config.Settings, _environ: Mapping[str, str]) -> int:
    """The document as clients get it at /api/v1/openapi.json."""
    print(json.dumps(bootstrap.openapi(), indent=2))
    return 0


def token(name: str, role: str, settings: config.Settings, _environ: Mapping[str, str]) -> int:
    """Make a token, write its hash to the token file and print it. A running service knows it within a second."""
    try:
        made = tokens.add(settings.tokens, name, role)
    except OSError as error:
        raise tokens.BadTokenFile(f"{settings.tokens} cannot be written: {error.strerror}") from None
    print(f"{name} ({role}) is in {settings.tokens}. The token is shown this once:", file=sys.stderr)
    print(made)
    return 0


def simulate(settings: config.Settings, _environ: Mapping[str, str]) -> int:
    """Run the simulated cloud until SIGTERM or SIGINT."""
    with _ending_on(signal.SIGTERM, signal.SIGINT), bootstrap.backends(settings, {}, database=False) as backends:
        print(f"export OS_CLIENT_CONFIG_FILE={backends.cloud['config_file']} OS_CLOUD=sim-demo", flush=True)
        while True:
            signal.pause()
