"""A bare Tornado handler that writes bytes: `python -m tests.bench.list_peer FILE`. It prints its port.

`/tagged` is Tornado as it comes, which makes an entity tag of every body; `/plain` is the least that it can do.
"""

import asyncio
import sys
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler


class Tagged(RequestHandler):  # pylint: disable=abstract-method; of request bodies
    """The bytes."""

    def get(self) -> None:
        """Write them."""
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        self.finish(self.settings["body"])


class Plain(Tagged):  # pylint: disable=abstract-method; of request bodies
    """The bytes, without a tag."""

    def compute_etag(self) -> None:
        """None."""


async def main(path: str) -> None:
    """Serve until the standard input ends."""
    sockets = bind_sockets(0, "127.0.0.1")
    rules = [("/tagged", Tagged), ("/plain", Plain)]
    HTTPServer(Application(rules, body=Path(path).read_bytes(), log_function=lambda _: None)).add_sockets(sockets)
    print(sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, ended.set)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
