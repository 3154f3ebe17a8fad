"""A receiver of webhooks: a real HTTP server that answers as a test says, and notes what came."""

import asyncio
import json
from collections.abc import Callable

from standardwebhooks import Webhook
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler


class Receiver:
    """`answer(event, headers)` is the status of each POST, or an awaitable of it; `consents` is what OPTIONS says."""

    def __init__(self, answer: Callable = lambda event, headers: 204, consents: str | None = "*", tls=None):
        self.answer, self.consents = answer, consents
        self.posts: list[tuple[dict, dict]] = []  # the event and the headers of each
        self.raw: list[bytes] = []
        self.taken: list[dict] = []  # the events that got 2xx, in that order
        self.asked: list[dict] = []
        self.in_flight = self.most_in_flight = 0
        routes = [(".*", _Handler, {"receiver": self})]
        self._server = HTTPServer(Application(routes, log_function=lambda handler: None), ssl_options=tls)
        sockets = bind_sockets(0, "127.0.0.1")
        self.port = sockets[0].getsockname()[1]
        self._server.add_sockets(sockets)

    def url(self, path: str = "/hook", host: str = "127.0.0.1", scheme: str = "http") -> str:
        """Where it receives."""
        return f"{scheme}://{host}:{self.port}{path}"

    def seqs(self) -> list[int]:
        """The seqs of the events that it took, in that order."""
        return [event["data"]["seq"] for event in self.taken]

    def verify(self, *secrets: str) -> None:
        """Fail unless each of these secrets signed each POST."""
        for raw, (_, headers) in zip(self.raw, self.posts, strict=True):
            for secret in secrets:
                Webhook(secret).verify(raw, headers)

    async def close(self) -> None:
        """Stop."""
        self._server.stop()
        await self._server.close_all_connections()


class _Handler(RequestHandler):  # pylint: disable=abstract-method  # of streamed bodies alone
    _receiver: Receiver

    def initialize(self, receiver: Receiver) -> None:
        """Tornado's constructor."""
        self._receiver = receiver  # pylint: disable=attribute-defined-outside-init

    def options(self) -> None:
        """Consent."""
        self._receiver.asked.append(dict(self.request.headers))
        if self._receiver.consents is None:
            self.set_status(405)
        else:
            self.set_header("WebHook-Allowed-Origin", self._receiver.consents)

    async def post(self) -> None:
        """An event."""
        receiver, event, headers = self._receiver, json.loads(self.request.body), dict(self.request.headers)
        receiver.posts.append((event, headers))
        receiver.raw.append(self.request.body)
        receiver.in_flight += 1
        receiver.most_in_flight = max(receiver.most_in_flight, receiver.in_flight)
        try:
            status = receiver.answer(event, headers)
            if asyncio.iscoroutine(status):
                status = await status
        finally:
            receiver.in_flight -= 1
        if 200 <= status < 300:
            receiver.taken.append(event)
        self.set_status(status)
        if status == 302:
            self.set_header("Location", "http://169.254.169.254/")
