"""Nova's record of a move of a server."""

from dataclasses import dataclass


@dataclass
class Migration:  # pylint: disable=too-many-instance-attributes
    """A move. `kind` is resize, migration, live-migration or evacuation; its `uuid` holds the source's room."""

    id: int
    uuid: str
    instance_uuid: str
    kind: str
    status: str
    source_compute: str
    source_node: str
    old_flavor: str
    new_flavor: str
    user_id: str
    project_id: str
    created: float
    updated: float
    dest_compute: str | None = None
    dest_node: str | None = None
    dest_host: str | None = None
