"""What a guest reads of its own server's metadata."""

from vmsvc.sim.clock import Clock
from vmsvc.sim.servers import Server
from vmsvc.sim.settings import Settings


class Guests:
    """The cache of the metadata service: a guest may read what was true up to `metadata_cache_seconds` ago."""

    def __init__(self, clock: Clock, settings: Settings):
        self._clock = clock
        self._settings = settings
        self._cached: dict[str, tuple[float, dict[str, str]]] = {}

    def meta(self, server: Server) -> dict[str, str]:
        """The server's metadata as its guest sees it now."""
        now = self._clock.now()
        read_at, meta = self._cached.get(server.id, (float("-inf"), {}))
        if now - read_at >= self._settings.metadata_cache_seconds:
            read_at, meta = now, dict(server.metadata)
            if self._settings.metadata_cache_seconds:
                self._cached[server.id] = read_at, meta
        return meta
