"""Files: the dashboard at `/` and `/static/`, and Swagger UI at `/api/v1/`. Nothing comes from anywhere else."""

import re
from pathlib import Path
from typing import Any

from swagger_ui_bundle import swagger_ui_path
from tornado.web import HTTPError, StaticFileHandler

from vmsvc.web.base import Handler
from vmsvc.web.settings import WebSettings

#: Scripts and styles are files of ours: an injected one does not run. Swagger UI's icons are data: URLs.
PAGE_POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
               "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
#: Swagger UI writes HTML from strings; the dashboard writes text only, and a browser that knows how holds it to that.
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
#: What is longer than a file system takes raises, instead of not being there.
_LONGEST_PATH = 255
_PATH = re.compile(r"(?:[0-9A-Za-z_-][0-9A-Za-z_.-]*/)*[0-9A-Za-z_-][0-9A-Za-z_.-]*")
SWAGGER = Path(__file__).parent / "swagger"


class Files(Handler, StaticFileHandler):
    """The files of one folder. They have no version in their names, so a browser asks each time and mostly hears
    304."""

    address = "files"
    csp = PAGE_POLICY
    max_age = 0     # seconds

    head = StaticFileHandler.head       # it does not read the file

    async def admit(self) -> None:
        """A folder, what is outside, or a name that no file of ours has, is simply not there."""
        await super().admit()
        path = self.path_args[0] or self.default_filename or ""
        if not (len(path) <= _LONGEST_PATH and _PATH.fullmatch(path) and Path(self.root, path).is_file()):
            raise HTTPError(404)

    def set_extra_headers(self, path: str) -> None:
        """How long a browser may keep it."""
        self.set_header("Cache-Control", f"public, max-age={self.max_age}" if self.max_age else "no-cache")

    def get_content_type(self) -> str:
        """By the name's suffix."""
        suffix = Path(self.absolute_path or "").suffix.lower()
        return MEDIA_TYPES.get(suffix, "application/octet-stream")


class Dashboard(Files):
    """The page itself."""

    csp = DASHBOARD_POLICY


class Released(Files):
    """The files of a released package: kept for a day."""

    max_age = 24 * 3600


class Here(Handler):
    """`/api/v1` without its slash: relative addresses of the page would miss."""

    address = "/api/v1"

    def get(self) -> None:
        """Add the slash."""
        self.redirect("/api/v1/", permanent=True)


def routes(settings: WebSettings) -> list[tuple[Any, ...]]:
    """The rules for files. Own files come before those of the package."""
    swagger = {"path": str(SWAGGER)}
    static = {"path": str(settings.static_path)}
    return [
        ("/()", Dashboard, static | {"default_filename": "index.html"}),
        ("/static/(.*)", Files, static),
        (r"/(favicon\.ico)", Files, static),
        ("/api/v1", Here),
        ("/api/v1/()", Files, swagger | {"default_filename": "index.html"}),
        (r"/api/v1/ui/(initializer\.js)", Files, swagger),
        ("/api/v1/ui/(.*)", Released, {"path": str(swagger_ui_path)}),
    ]
