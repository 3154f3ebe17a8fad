"""Tornado's WebSocket protocol, with two things more that a server needs.

What comes has to be masked. RFC 6455, 5.1: a client masks each of its frames, and a server closes the connection at one
that is not. A script in a browser then cannot write bytes of its choice to the wire, to be taken for HTTP by a proxy on
the way. Tornado has one class for both ends and reads either.

And what Tornado says itself (pings, pongs, the close) goes through one method, of which the outlet has to hear.
"""

import asyncio
from typing import Any

from tornado.websocket import WebSocketProtocol, WebSocketProtocol13

from vmsvc.web import closing


class Protocol(WebSocketProtocol13):
    """For handlers with an `outlet` (None until there is one) and `hang_up()`."""

    @classmethod
    def instead_of(cls, protocol: WebSocketProtocol | None) -> WebSocketProtocol | None:
        """The same for the same handler; None, for a version that is not known, stays None."""
        return cls(protocol.handler, False, protocol.params) if isinstance(protocol, WebSocketProtocol13) else protocol

    async def _receive_frame(self) -> None:
        """Take one frame. Tornado notes the mask of each that has one, and goes on while the client is not gone."""
        self._frame_mask = None
        await super()._receive_frame()
        if self._frame_mask is None and not self.client_terminated:
            self.client_terminated = True       # nothing more is read: the close goes out, and then the stream ends
            self.handler.hang_up(closing.NOT_MASKED)

    def _write_frame(self, *args: Any, **kwargs: Any) -> asyncio.Future[None]:
        written = super()._write_frame(*args, **kwargs)
        if self.handler.outlet is not None:
            self.handler.outlet.give_way()
        return written
