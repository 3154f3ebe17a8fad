"""Cinder without HTTP: volumes, whose bytes are not stored."""

import uuid
from dataclasses import dataclass, field

from vmsvc.simulator.errors import ApiError
from vmsvc.simulator.store import Store, Table


@dataclass
class Volume:
    """A volume. `server_id`: the server that it is attached to, '' for none; `image`: the metadata of the image that it
    was made of."""

    id: str
    name: str
    size: int
    project_id: str
    user_id: str
    created: float
    bootable: bool = False
    server_id: str = ""
    device: str = ""
    image: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        return "in-use" if self.server_id else "available"


class Volumes:
    """All volumes, by id. `limits`: by project, how many volumes and GiB it may have; -1 is no limit."""

    def __init__(self, store: Store):
        self.all = Table(store, "volume", Volume)
        self._store = store
        self._limits: dict[str, dict[str, int]] = dict(store.load("volume_limit"))

    def limits(self, project_id: str) -> dict[str, int]:
        """The limits of a project."""
        return {"volumes": -1, "gigabytes": -1, **self._limits.get(project_id, {})}

    def set_limits(self, project_id: str, limits: dict[str, int]) -> None:
        """Change limits of a project."""
        self._limits[project_id] = {**self._limits.get(project_id, {}), **limits}
        self._store.put("volume_limit", project_id, Limits(**self.limits(project_id)))

    def used(self, project_id: str) -> dict[str, int]:
        """What a project uses of its limits."""
        mine = [volume for volume in self.all.values() if volume.project_id == project_id]
        return {"volumes": len(mine), "gigabytes": sum(volume.size for volume in mine)}

    def add(
        self, project_id: str, user_id: str, now: float, size: int, name: str = "", image: dict[str, str] | None = None
    ) -> Volume:
        """Make a volume, of an image if there is one. Raises ApiError 413 beyond the limits."""
        used, limits = self.used(project_id), self.limits(project_id)
        for item, more in (("volumes", 1), ("gigabytes", size)):
            if 0 <= limits[item] < used[item] + more:
                raise ApiError(413, f"VolumeLimitExceeded: Maximum number of {item} allowed ({limits[item]}) exceeded")
        volume = Volume(str(uuid.uuid4()), name, size, project_id, user_id, now, bool(image), image=image or {})
        self.all.save(volume.id, volume)
        return volume

    def of_server(self, server_id: str) -> list[Volume]:
        """The volumes that are attached to a server."""
        return [volume for volume in self.all.values() if volume.server_id == server_id]

    def attach(self, volume: Volume, server_id: str, device: str = "") -> None:
        """A server uses the volume from now on; '' for none."""
        volume.server_id, volume.device = server_id, device
        self.all.save(volume.id, volume)


@dataclass
class Limits:
    """The limits of a project, as they are stored."""

    volumes: int = -1
    gigabytes: int = -1
