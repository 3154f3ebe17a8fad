"""Files of one folder: the dashboard at `/` and its parts under `/static/`. Nothing comes from another site."""

import re
from pathlib import Path
from typing import Any

from tornado.web import HTTPError, StaticFileHandler

from vmsvc.web.http.handler import Handler

#: Scripts and styles are files of the service: an injected one does not run. Swagger UI's icons are data: URLs.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: Swagger UI writes HTML from strings. The dashboard writes text only, and a browser that can enforces that.
DASHBOARD_POLICY = f"{PAGE_POLICY}; require-trusted-types-for 'script'; trusted-types 'none'"

#: Not left to the machine's own table of types, which may call a script text/plain.
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/vnd.microsoft.icon",
    ".woff2": "font/woff2",
}
#: For a longer path the file system raises an error instead of finding no file.
_LONGEST_PATH = 255
_PATH = re.compile(r"(?:[0-9A-Za-z_-][0-9A-Za-z_.-]*/)*[0-9A-Za-z_-][0-9A-Za-z_.-]*")


class Files(Handler, StaticFileHandler):
    """The files of one folder. Their names have no version, so a browser asks each time and mostly gets 304."""

    address = "files"
    csp = PAGE_POLICY
    max_age = 0  # seconds that a browser may keep a file

    async def head(self, *args: str) -> None:
        """As StaticFileHandler's, which does not read the file."""
        await StaticFileHandler.head(self, *args)

    async def admit(self) -> None:
        """Raises HTTPError 404 for a folder, for a path that leads out of this one, and for a name that no file of the
        service can have."""
        await super().admit()
        path = self.path_args[0] or self.default_filename or ""
        if not (len(path) <= _LONGEST_PATH and _PATH.fullmatch(path) and Path(self.root, path).is_file()):
            raise HTTPError(404)

    def set_extra_headers(self, path: str) -> None:
        """Tornado's hook: how long a browser may keep the file."""
        self.set_header("Cache-Control", f"public, max-age={self.max_age}" if self.max_age else "no-cache")

    def get_content_type(self) -> str:
        """Tornado's hook: the media type, by the name's suffix."""
        suffix = Path(self.absolute_path or "").suffix.lower()
        return MEDIA_TYPES.get(suffix, "application/octet-stream")


class Dashboard(Files):
    """The page itself."""

    csp = DASHBOARD_POLICY


class PackageFiles(Files):
    """The files of a released package: browsers keep them for a day."""

    max_age = 24 * 3600


def routes(folder: Path) -> list[tuple[Any, ...]]:
    """The rules for the dashboard, whose files are in `folder`."""
    files = {"path": str(folder)}
    return [
        ("/()", Dashboard, files | {"default_filename": "index.html"}),
        ("/static/(.*)", Files, files),
        (r"/(favicon\.ico)", Files, files),
    ]
