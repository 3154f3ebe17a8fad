"""What stands in for a real installation where none is configured: a PostgreSQL, a simulated cloud."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from vmsvc.config import ConfigError, Settings
from vmsvc.sim.cloud_process import CloudProcess
from vmsvc.sim.postgres import Postgres

log = logging.getLogger(__name__)

#: The cloud's entry when OS_CLOUD or the OS_* variables name it.
FROM_ENVIRONMENT: Mapping[str, str | None] = {"cloud": None, "config_file": None}


def names_cloud(environ: Mapping[str, str]) -> bool:
    """True when a real cloud is configured."""
    return any(environ.get(name) for name in ("OS_CLOUD", "OS_AUTH_URL"))


class Embedded:
    """The parts that stand in for what is not configured: a PostgreSQL, a simulated cloud."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], *, database: bool = True):
        self._settings = settings
        self._postgres = Postgres(settings.folder) if database and not settings.database_url else None
        self._cloud = CloudProcess(settings.folder / "cloud", hosts=settings.sim_hosts, vcpus=settings.sim_vcpus,
                                   ram_mb=settings.sim_ram_mb) if not names_cloud(environ) else None

    def start(self) -> tuple[Settings, str, dict[str, str | None]]:
        """Start them; returns the settings with the stand-ins' defaults, the database's URL and the cloud's entry.

        Raises PostgresFailed, StartFailed, and ConfigError for a data folder that cannot be used; `stop()` is to be
        called all the same.
        """
        with _usable(self._settings):
            return self._start()

    def _start(self) -> tuple[Settings, str, dict[str, str | None]]:
        settings, url = self._settings, self._settings.database_url
        entry: dict[str, str | None] = {**FROM_ENVIRONMENT}
        if self._postgres:
            url = self._postgres.start()
            log.info("database: embedded PostgreSQL in %s (VMSVC_DATABASE_URL names another)", settings.folder)
        if self._cloud:
            entry = {"cloud": "sim-admin", "config_file": str(self._cloud.start())}
            # The simulated cloud has four flavors as the real ones have: a bare request gets the smallest.
            settings = replace(settings, flavor=settings.flavor or "m1.tiny")
            log.info("cloud: simulated, at %s (OS_CLOUD names a real one); to look at it: "
                     "OS_CLIENT_CONFIG_FILE=%s OS_CLOUD=sim-admin openstack server list",
                     self._cloud.url, entry["config_file"])
        return settings, url, entry

    def stop(self) -> None:
        """Stop what nobody else uses."""
        if self._cloud:
            self._cloud.stop()
        if self._postgres:
            self._postgres.stop()


@contextlib.contextmanager
def existing_database(settings: Settings) -> Iterator[str | None]:
    """The URL of the embedded database in the data folder, None when none was made yet. Unless its server runs it is
    started, and stopped again in the end. Raises PostgresFailed, and ConfigError for a folder that cannot be used."""
    postgres = Postgres(settings.folder)
    try:
        with _usable(settings):
            url = postgres.start() if (postgres.data / "PG_VERSION").exists() else None
            if url is None:
                _require_writable(settings.folder)
        yield url
    finally:
        postgres.stop()


def _require_writable(folder: Path) -> None:
    """Raises OSError when the folder could not be made, or written to."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(0, "it is not a folder", str(there))
    if not os.access(there, os.W_OK | os.X_OK) or os.statvfs(there).f_flag & os.ST_RDONLY:
        raise PermissionError(0, "it cannot be written to", str(there))


@contextlib.contextmanager
def _usable(settings: Settings) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"the data folder {settings.folder} cannot be used: {error.strerror} "
                          f"({error.filename or settings.folder}). VMSVC_DATA_DIR names another") from None
