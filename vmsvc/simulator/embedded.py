"""A PostgreSQL and a simulated cloud in one data folder, for a service that has no database or no cloud configured."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vmsvc.simulator.postgres import Postgres
from vmsvc.simulator.process import CloudProcess


class DataFolderUnusable(Exception):
    """The data folder cannot be made or written to. The message says why."""


@dataclass(frozen=True)
class Started:
    """What was started; None for what was not wanted. `clouds` is the cloud's clouds.yaml, whose cloud sim-admin has an
    operator's rights and sim-demo a tenant's."""

    database_url: str | None = None
    cloud_url: str | None = None
    clouds: Path | None = None


class Embedded:
    """The embedded parts of a data folder. Several processes may use one folder; the last one to stop ends the
    parts."""

    def __init__(self, folder: Path, *, database: bool, cloud: Mapping[str, int] | None):
        """`database`: whether one is wanted. `cloud`: the size of a new cloud (hosts, vcpus, ram_mb), or None when no
        cloud is wanted."""
        self._folder = folder
        self._postgres = Postgres(folder) if database else None
        self._cloud = CloudProcess(folder / "cloud", **cloud) if cloud is not None else None

    def start(self) -> Started:
        """Start what is wanted, or join what another process has started.

        Raises PostgresFailed, StartFailed and DataFolderUnusable. The caller has to call `stop()` in any case.
        """
        with _usable(self._folder):
            url = self._postgres.start() if self._postgres else None
            if not self._cloud:
                return Started(url)
            clouds = self._cloud.start()
            return Started(url, self._cloud.url, clouds)

    def stop(self) -> None:
        """Stop what no other process uses."""
        if self._cloud:
            self._cloud.stop()
        if self._postgres:
            self._postgres.stop()


@contextlib.contextmanager
def existing_database(folder: Path) -> Iterator[str | None]:
    """The URL of the embedded database in a data folder, None when there is none yet. The server is started if it does
    not run, and stopped at the end. Raises PostgresFailed, and DataFolderUnusable."""
    postgres = Postgres(folder)
    try:
        with _usable(folder):
            url = postgres.start() if (postgres.data / "PG_VERSION").exists() else None
            if url is None:
                _require_writable(folder)
        yield url
    finally:
        postgres.stop()


def _require_writable(folder: Path) -> None:
    """Raise OSError when the folder could not be made, or written to."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise NotADirectoryError(0, "it is not a folder", str(existing))
    if not os.access(existing, os.W_OK | os.X_OK) or os.statvfs(existing).f_flag & os.ST_RDONLY:
        raise PermissionError(0, "it cannot be written to", str(existing))


@contextlib.contextmanager
def _usable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataFolderUnusable(
            f"the data folder {folder} cannot be used: {error.strerror} "
            f"({error.filename or folder}). VMSVC_DATA_DIR names another"
        ) from None
